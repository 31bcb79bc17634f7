"""The page for everybody: axe-core's rules, the keyboard, contrast, and all kinds of eyes."""

import itertools

import numpy as np
import pytest

pytestmark = pytest.mark.browser
VERDICTS = (
    "rule3_better",
    "rule5_worse",
    "rule1_equivalent",
    "rule7_inconclusive",
    "rule0_few_pairs",
    "three_treatments",
)
THEMES = ("light", "dark")
OPEN_ALL = 'document.querySelectorAll("details").forEach(closed => { closed.open = true; })'
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
CONTRASTS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

# -- axe-core --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VERDICTS)
def test_axe_finds_no_violation_in_any_verdict(show, report, name):
    """All rules on two verdicts; on the others, whose markup is the same, those of colour."""
    from axe_playwright_python.sync_playwright import Axe

    tab = show(report(name), color_scheme="light")
    tab.evaluate(OPEN_ALL)
    light = RULES if name in (VERDICTS[0], VERDICTS[-1]) else CONTRASTS
    for theme, rules in (("light", light), ("dark", CONTRASTS)):  # others see no theme
        tab.emulate_media(color_scheme=theme)
        found = Axe().run(tab, options={"runOnly": rules, "resultTypes": ["violations"]})
        assert "color-contrast" in {rule["id"] for rule in found.response["passes"]}
        assert found.violations_count == 0, (theme, found.generate_report())


# -- the keyboard ----------------------------------------------------------------------------

# What has the focus, and whether an outline shows it: round itself, or round a radio's label.
FOCUSED = """() => {
  const node = document.activeElement;
  const seen = getComputedStyle(node.type == "radio" ? node.nextElementSibling : node);
  const place = [...document.querySelectorAll("*")].indexOf(node);
  return {tag: node.tagName.toLowerCase(), place, href: node.getAttribute("href"),
          outlined: seen.outlineStyle != "none" && parseFloat(seen.outlineWidth) >= 2};
}"""
PLACES = """selector => [...document.querySelectorAll(selector)].map(
  node => [...document.querySelectorAll("*")].indexOf(node))"""


def test_the_keyboard_reaches_and_opens_everything_and_shows_where_it_is(show, report):
    tab = show(report("rule3_better"))
    reached, keys = {}, itertools.cycle(["Enter", "Space"])
    while True:
        tab.keyboard.press("Tab")
        focus = tab.evaluate(FOCUSED)
        if focus["tag"] == "body" or focus["place"] in reached:
            break
        reached[focus["place"]] = focus
        if focus["tag"] == "summary":
            tab.keyboard.press(next(keys))
    assert [focus for focus in reached.values() if not focus["outlined"]] == []
    assert next(iter(reached.values()))["href"] == "#verdict"  # the skip link comes first
    assert tab.locator("details:not([open])").count() == 0
    for selector in (".skip", "nav a", "summary", ".scroll", ".paste", "main a", "#th-a"):
        places = tab.evaluate(PLACES, selector)
        assert places and set(places) <= set(reached), selector


def test_arrow_keys_choose_the_theme(show, report):
    tab = show(report("rule3_better"), color_scheme="light")
    tab.locator("#th-a").focus()
    tab.keyboard.press("ArrowLeft")  # from Auto round to Dark
    assert tab.locator("#th-d").is_checked()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_the_skip_link_shows_when_it_is_reached(show, report):
    tab = show(report("rule3_better"))
    assert tab.locator(".skip").bounding_box()["x"] < 0
    tab.keyboard.press("Tab")
    assert tab.locator(".skip").bounding_box()["x"] > 0


# -- colours ---------------------------------------------------------------------------------

VERDICT = ("better", "worse", "equal", "open", "none")
ARMS = ("a", "b", "t2", "t3", "t4")
TEXT = ("ink", "muted", "caution", *ARMS, *VERDICT)
COLOURS = """names => { const style = getComputedStyle(document.documentElement);
  return names.map(name => style.getPropertyValue("--" + name).trim()); }"""

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
EYES = {
    "all three cones": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Ottosson (2020): linear RGB to OKLab, in which equal distances look about equally different.
TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@pytest.fixture
def palette(show, report):
    """Return what gives the page's colours in a theme, linear RGB by name."""

    def colours(theme):
        system = "light" if theme == "light" else "dark"
        tab = show(report("rule0_few_pairs"), color_scheme=system)
        tab.emulate_media(media="print" if theme == "print" else "screen")
        names = (*TEXT, "bg", "panel", "band", "focus")
        return dict(zip(names, map(linear, tab.evaluate(COLOURS, names)), strict=True))

    return colours


def linear(code):
    """Return a colour's linear RGB; a short code says each sign once."""
    signs = code[1:] if len(code) == 7 else "".join(2 * sign for sign in code[1:])
    share = np.array([int(signs[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """Return WCAG 2.1's contrast ratio."""
    light, dark = sorted((float(c @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def distance(one, other, eyes):
    """Return how different two colours look to such eyes, in hundredths of OKLab's black-white."""
    seen = (TO_LAB @ np.cbrt(TO_CONES @ np.clip(eyes @ c, 0, 1)) for c in (one, other))
    return 100 * float(np.linalg.norm(np.subtract(*seen)))


def test_the_measures_themselves():
    white, black = linear("#fff"), linear("#000000")
    assert contrast(white, black) == pytest.approx(21)
    assert contrast(linear("#767676"), white) == pytest.approx(4.54, abs=0.005)  # WebAIM's checker
    assert distance(white, black, np.eye(3)) == pytest.approx(100, abs=0.1)
    rust, olive = linear("#a93a16"), linear("#805b00")
    assert distance(rust, olive, np.eye(3)) > 10
    assert distance(rust, olive, np.array(EYES["deuteranopia"])) < 2


@pytest.mark.parametrize("theme", [*THEMES, "print"])
def test_text_and_figures_stand_out_from_their_ground(palette, theme):
    colours = palette(theme)
    low = {n: contrast(colours[n], colours["bg"]) for n in (*TEXT, "focus")}
    assert {n: ratio for n, ratio in low.items() if ratio < 4.5} == {}
    for ground, names in (("panel", ("ink", "muted")), ("band", ("ink", "muted", *VERDICT))):
        low = {n: contrast(colours[n], colours[ground]) for n in names}
        assert {n: ratio for n, ratio in low.items() if ratio < 4.5} == {}, ground
    assert min(contrast(colours[n], colours["band"]) for n in ARMS) > 3  # lines and dots


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("eyes", EYES)
def test_arms_and_opposite_verdicts_look_different_to_all_eyes(palette, theme, eyes):
    colours = palette(theme)
    for one, other in (*itertools.combinations(ARMS, 2), ("better", "worse")):
        apart = distance(colours[one], colours[other], np.array(EYES[eyes]))
        assert apart > 9, (one, other)  # 2 is about the least that can be seen
