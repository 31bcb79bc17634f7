"""The page in a real browser: at every width and theme, on paper, and with nothing to fetch."""

import re

import pytest

from bench.analysis.report import html as page

pytestmark = pytest.mark.browser
WIDTHS = (1280, 861, 800, 500)
# Which fonts a reader has is not known: the machine's own, a narrow one, the widest of the usual
# ones, and one that is wider than those, which every text is set in.
FONTS = (None, "Liberation Sans", "DejaVu Sans", "DejaVu Sans Bold")
POLICY = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
LIGHT, DARK = "rgb(253, 252, 250)", "rgb(20, 23, 27)"

# What sticks out of the page's width, and is not inside something that scrolls by itself.
STICKS_OUT = """() => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  const wide = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > wide) out.push("the page scrolls sideways");
  for (const node of document.querySelectorAll("body *")) {
    if (node.closest(".scroll, nav, .skip")) continue;
    if (node.closest("svg") && node.tagName != "text") continue;  // figures clip what they draw
    const box = node.getBoundingClientRect();
    if (box.width && (box.right > wide + 1 || box.left < -1)) out.push(node.outerHTML.slice(0, 90));
  }
  return out;
}"""

# The labels that leave their picture, which clips nothing, for what stands beside it.
LEAVES = """() => [...document.querySelectorAll("main svg")].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].filter(text => text.getClientRects().length);
  return texts.filter(text => {
    const {left, right} = text.getBoundingClientRect();
    return left < box.left - 1 || right > box.right + 1;
  }).map(text => text.outerHTML);
})"""

# Each figure's labels: their size as seen, and the pairs of them that lie on each other.
LABELS = """() => [...document.querySelectorAll("main svg")].map(svg => {
  const texts = [...svg.querySelectorAll("text")].filter(text => text.getClientRects().length);
  const boxes = texts.map(text => text.getBoundingClientRect());
  const over = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b, j) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 2 && high > a.height / 2) over.push([i, i + 1 + j].map(k => texts[k].textContent));
  }));
  const scale = matrix => Math.hypot(matrix.a, matrix.b);
  const size = text => parseFloat(getComputedStyle(text).fontSize) * scale(text.getScreenCTM());
  const sizes = texts.map(size);
  return {name: svg.textContent.trim().slice(0, 60), over, smallest: Math.min(99, ...sizes)};
})"""


def background(tab):
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


# -- widths and themes -----------------------------------------------------------------------


def set_in(tab, font):
    """Set every text in a font that is installed here."""
    if font is None:
        return
    tab.add_style_tag(
        content=f'@font-face {{ font-family: Reader; src: local("{font}") }}'
        "body, code, pre, .mono { font-family: Reader, monospace !important }"
    )
    if not tab.evaluate("document.fonts.load('16px Reader').then(() => true, () => false)"):
        pytest.skip(f"{font} is not installed")


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize(
    "name",
    ["rule3_better", "three_treatments", "rule0_few_pairs", "rule1_equivalent",
     "group_first_look", "nll"],
)  # fmt: skip
def test_nothing_sticks_out_or_overlaps_at_any_width(show, report, name, font):
    tab = show(report(name))
    set_in(tab, font)
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate(STICKS_OUT) == [], width
        assert tab.evaluate(LEAVES) == [], width
        figures = tab.evaluate(LABELS)
        assert len(figures) > 3
        assert [figure for figure in figures if figure["over"]] == [], width
        assert [figure for figure in figures if figure["smallest"] < 9] == [], width


def test_long_names_break_instead_of_sticking_out(show, simulate):
    long = "W" * 300
    f = simulate(
        n_seeds=6, n_test=60, n_epochs=3, baseline=long, treatments=(f"{long}W",),
        experiment=long, claim=None, question=long, scores={long: 0.01},
        settings={long: {long: 0}, f"{long}W": {long: long}},
    ).findings()  # fmt: skip
    tab = show(page.render(f, version="1"))
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate(STICKS_OUT) == [], width


@pytest.mark.thorough
def test_a_report_over_1000_pairs_opens(show, simulate):
    f = simulate(
        n_seeds=1000, n_test=400, noise=0.03, n_classes=3, n_epochs=2, validation=False
    ).findings()
    html = page.render(f, version="1")
    assert len(html.encode()) < 4_000_000
    tab = show(html)
    assert tab.locator("h1").is_visible()
    assert tab.locator("h1").inner_text() == f.comparisons[0].verdict.headline
    assert tab.locator("#audit tbody tr").count() == 2000
    for width in (1280, 500):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate(STICKS_OUT) == [], width


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_one_is_chosen(show, report, system):
    tab = show(report("rule3_better"), color_scheme=system)
    assert background(tab) == {"light": LIGHT, "dark": DARK}[system]
    for choice, colour in (("Dark", DARK), ("Light", LIGHT)):
        tab.get_by_text(choice, exact=True).click()
        assert background(tab) == colour


def test_the_first_screen_holds_the_whole_verdict(show, report):
    tab = show(report("rule3_better"), width=1280)
    assert tab.locator("#verdict").bounding_box()["height"] < 1000
    box = tab.locator(".facts").bounding_box()
    assert box["y"] + box["height"] < 900  # the answer, its four facts, without scrolling


def test_forced_colours_keep_what_only_a_colour_showed(show, report):
    tab = show(report("rule3_better"), forced_colors="active")
    style = "e => getComputedStyle(e)"
    assert tab.locator(".chip").first.evaluate(f"{style}.borderStyle") == "solid"
    segment = tab.locator(".ci .seg").first
    paper = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert segment.evaluate(f"{style}.stroke") not in ("none", paper)


# -- paper -----------------------------------------------------------------------------------


A4_PX = 1039  # of a page, inside its margins


def test_it_prints_on_six_pages_of_a4_with_details_open_in_light_colours(show, report):
    tab = show(report("rule3_better"), color_scheme="dark")
    tab.get_by_text("Dark", exact=True).click()
    paper = tab.pdf(prefer_css_page_size=True)
    sheets = re.findall(rb"/MediaBox\s*\[0 0 (\d+)[.\d]* (\d+)", paper)
    assert set(sheets) <= {(b"594", b"841"), (b"595", b"842"), (b"595", b"841")}
    assert 4 <= len(sheets) <= 6  # the first of which stands alone
    tab.emulate_media(media="print")
    assert background(tab) == "rgb(255, 255, 255)"
    assert not tab.locator(".bar").is_visible()
    assert tab.locator("details:not([open]) > :not(summary)").count() > 5
    skipped = "parts => parts.filter(part => !part.checkVisibility()).length"
    assert tab.locator("details:not(.sources) > *").evaluate_all(skipped) == 0
    assert tab.locator("#checks .checks").first.bounding_box()["y"] < A4_PX - 80


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("name", ["rule3_better", "three_treatments", "nll"])
def test_every_table_and_label_fits_the_paper(show, report, name, font):
    tab = show(report(name), width=688)  # A4 less its margins
    set_in(tab, font)
    tab.emulate_media(media="print")
    assert tab.evaluate(STICKS_OUT) == []
    assert tab.evaluate(LEAVES) == []
    assert [figure for figure in tab.evaluate(LABELS) if figure["over"]] == []


# -- nothing to fetch, nothing to run --------------------------------------------------------

INJECT = """async () => {
  const broken = [];
  addEventListener("securitypolicyviolation", event => broken.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.ran = true";
  document.body.append(script);
  document.body.insertAdjacentHTML("beforeend",
    '<img src="http://report.test/a.png" onerror="window.handled = true">' +
    '<iframe src="http://report.test/frame"></iframe>' +
    '<link rel="stylesheet" href="http://report.test/a.css">');
  const fetched = await fetch("http://report.test/data").then(() => true, () => false);
  await new Promise(resolve => setTimeout(resolve, 300));
  return {ran: Boolean(window.ran), handled: Boolean(window.handled), fetched, broken};
}"""


@pytest.mark.parametrize("with_policy", [True, False])
def test_what_is_put_into_the_page_neither_runs_nor_asks(browser, report, tmp_path, with_policy):
    """Without the policy the same page does both: the test can fail."""
    html = report("rule0_few_pairs")
    source = tmp_path / "report.html"
    source.write_text(html if with_policy else re.sub(POLICY, "", html), "utf-8")
    with browser.new_context() as context:
        asked = []
        context.route(
            "http://report.test/**",
            lambda route: (
                asked.append(route.request.url),
                route.fulfill(body="", headers={"Access-Control-Allow-Origin": "*"}),
            ),
        )
        tab = context.new_page()
        tab.goto(source.as_uri())
        done = tab.evaluate(INJECT)
    assert done["ran"] == done["fetched"] == (not with_policy)
    if with_policy:
        assert asked == []
        assert {"script-src-elem", "img-src", "connect-src", "frame-src"} <= set(done["broken"])
    else:
        assert len(asked) == 4 and done["broken"] == []


# -- inside somebody else's page -------------------------------------------------------------


def framed(browser, html: str, sandbox: str):
    """Show a page as MLflow's viewer does: a Blob's address in a sandboxed frame."""
    tab = browser.new_page(viewport={"width": 1000, "height": 800})
    tab.set_content(f'<iframe sandbox="{sandbox}" width="900" height="700"></iframe>')
    tab.evaluate(
        """html => { const blob = new Blob([html], {type: "text/html"});
                     document.querySelector("iframe").src = URL.createObjectURL(blob); }""",
        html,
    )
    return tab, tab.frame_locator("iframe")


@pytest.mark.parametrize("sandbox", ["allow-scripts", "allow-scripts allow-same-origin"])
def test_it_shows_in_a_sandboxed_frame(browser, known, report, sandbox):
    tab, inside = framed(browser, report("rule3_better"), sandbox)
    inside.locator("h1").wait_for()
    assert (
        inside.locator("h1").inner_text() == known("rule3_better").comparisons[0].verdict.headline
    )
    assert inside.locator(".strip svg").is_visible()
    inside.get_by_text("Dark", exact=True).click()
    colour = inside.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    tab.close()
    assert colour == DARK


def test_its_links_lead_to_their_sections_in_a_frame_of_the_same_origin(browser, report):
    tab, inside = framed(browser, report("rule3_better"), "allow-scripts allow-same-origin")
    tops = {}
    for link in inside.locator("nav a").all():
        link.click()
        section = inside.locator(link.get_attribute("href"))
        tops[link.inner_text()] = section.evaluate("e => e.getBoundingClientRect().top")
    tab.close()
    assert len(tops) == 8
    last = tops.pop("Audit")  # the page may end before it reaches the top
    assert all(0 <= top < 120 for top in tops.values()), tops
    assert last < 700
