"""Canvas: how figures are drawn so that one SVG fits light, dark and print."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Drawn in the colours of the light theme, so that an exported file is right as it is; in the page
# each becomes the CSS variable of its name.
COLOURS = {
    "bg": "#fdfcfa",
    "ink": "#1b1e23",
    "muted": "#555c66",
    "rule": "#c9c6be",
    "grid": "#ebe8e1",
    "a": "#767067",
    "b": "#0b5f9e",
    "band": "#ece7d9",
    "better": "#0b6e5f",
    "worse": "#a93a16",
    "equal": "#4b4f9c",
    "open": "#805b00",
    "none": "#5a6069",
}
VERDICT_COLOUR = {
    "better": "better",
    "worse": "worse",
    "equivalent": "equal",
    "inconclusive": "open",
    "none": "none",
}
BACKGROUND, INK, MUTED, GRID = (COLOURS[name] for name in ("bg", "ink", "muted", "grid"))
BASELINE, TREATMENT, BAND = COLOURS["a"], COLOURS["b"], COLOURS["band"]
FURTHER = (COLOURS["equal"], COLOURS["better"], COLOURS["worse"], COLOURS["open"])

_STYLE: Any = {
    **sns.axes_style("ticks"),
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "DejaVu Sans"],
    "font.size": 8.4,
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """One figure: what it shows, in words and as SVG."""

    name: str
    title: str
    description: str
    caption: str
    svg: str


@contextmanager
def axes(width: float = 4.75, height: float = 3.15) -> Iterator["Axes"]:
    """Give axes in the house style; width and height in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()


def finish(ax: "Axes", *, name: str, title: str, description: str, caption: str) -> Drawing:
    """Return the drawing with CSS colours, its own ids, a title and a description."""
    buffer = io.StringIO()
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name's sign that our font lacks is drawn by the reader's browser.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = _themed(buffer.getvalue(), name, title, description)
    return Drawing(name, title, description, caption, svg)


def _themed(svg: str, name: str, title: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>",
        "",
        svg,
        flags=re.S,
    )
    svg = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", svg)  # XML has no such signs
    used = set(re.findall(r"<[^>]*?(?:url\(#([^)]+)\)|href=\"#([^\"]+)\")", svg))
    keep = {left or right for left, right in used}
    # Only tags are rewritten: a name that looks like a colour, an id or a long number stays.
    svg = re.sub(r"<[^>]+>", lambda tag: _themed_tag(tag[0], name, keep), svg)
    svg = re.sub(r"[ \t]*\n[ \t]*", "\n", svg)
    view = re.search(r'viewBox="([^"]+)"', svg)
    box = view[1] if view else "0 0 342 227"
    head = (
        f'<svg class="plot" viewBox="{box}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: head, svg, count=1)


def _themed_tag(tag: str, name: str, keep: set[str]) -> str:
    for colour, code in COLOURS.items():
        tag = re.sub(code, f"var(--{colour})", tag, flags=re.I)
    tag = re.sub(r"font: (?:[a-z0-9]+ )*([0-9.]+)px [^;\"]*", r"font-size: \1px", tag)
    tag = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{name}-{found[1]}"' if found[1] in keep else "",
        tag,
    )
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r"href=\"#([^\"]+)\"", rf'href="#{name}-\1"', tag)
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)  # a hundredth of a point is enough
