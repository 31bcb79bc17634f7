"""Style: how figures are drawn so that one SVG fits light, dark and print."""

import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

_backend = os.environ.pop("MPLBACKEND", None)
try:  # with a backend that matplotlib does not know its import fails; drawing files needs none
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Drawn in the colours of the light theme on white paper, so that an exported file is right as it
# is; in the page each becomes the CSS variable of its name.
COLOURS = {
    "bg": "#ffffff",
    "ink": "#1b1e23",
    "muted": "#555c66",
    "rule": "#c9c6be",
    "grid": "#ebe8e1",
    "a": "#767067",
    "b": "#0b5f9e",
    "t2": "#a65c00",
    "t3": "#901f5a",
    "t4": "#24135f",
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
ARMS = tuple(COLOURS[name] for name in ("a", "b", "t2", "t3", "t4"))  # by place in the plan
# What is laid out for it fits the narrower fonts of other readers too; matplotlib brings it along.
FAMILY = ["DejaVu Sans"]

_STYLE: Any = {
    **sns.axes_style("ticks"),
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": FAMILY,
    "font.size": 8.4,
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
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
    """One figure: what it shows, in words and as SVG that follows the page's theme."""

    name: str
    title: str
    description: str
    caption: str
    svg: str
    figure: Figure = field(repr=False, compare=False)

    def png(self) -> bytes:
        """Return it as a picture of 300 dots an inch, on white."""
        return picture(self.figure)


def picture(figure: Figure) -> bytes:
    """Return a figure as PNG of 300 dots an inch, on white; nothing of the machine is in it."""
    buffer = io.BytesIO()
    with _drawn():
        figure.savefig(
            buffer, format="png", dpi=300, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


@contextmanager
def _drawn() -> Iterator[None]:
    """Set the house style, in which a sign that our font lacks is left to the reader's."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


@contextmanager
def axes(width: float = 4.75, height: float = 3.15) -> Iterator["Axes"]:
    """Give axes in the house style; width and height in inches."""
    with panels(height, width=width) as (ax,):
        yield ax


@contextmanager
def panels(*heights: float, width: float = 4.75) -> "Iterator[Sequence[Axes]]":
    """Give axes one above the other that share their x; sizes in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        grid = figure.subplots(
            len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        yield list(grid[:, 0])


def band(ax: "Axes", margin: float) -> None:
    """Shade what is too small to matter, behind everything."""
    ax.axhspan(-margin, margin, color=BAND, lw=0, zorder=0)


def signed_ticks(ax: "Axes") -> None:
    """Print a plus where a difference is above zero, as everywhere."""
    ax.yaxis.set_major_formatter(_Signed())


class _Signed(ScalarFormatter):
    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos)
        return f"+{text}" if x > 0 else text


def finish(ax: "Axes", *, name: str, title: str, description: str, caption: str) -> Drawing:
    """Return the drawing with CSS colours, its own ids, a title and a description."""
    buffer = io.StringIO()
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    with _drawn():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # a picture of it has the same layout, whenever it is drawn
    svg = _themed(buffer.getvalue(), name, title, description)
    return Drawing(name, title, description, caption, svg, figure)


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
    tag = re.sub(r"font: ([a-z0-9 ]*)\b([0-9.]+)px [^;\"]*", _font, tag)
    tag = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{name}-{found[1]}"' if found[1] in keep else "",
        tag,
    )
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r"href=\"#([^\"]+)\"", rf'href="#{name}-\1"', tag)
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)  # a hundredth of a point is enough


def _font(found: re.Match[str]) -> str:
    """Keep size and boldness; the page has its own family."""
    weight = "; font-weight: 650" if "700" in found[1] else ""
    return f"font-size: {found[2]}px{weight}"


def standalone(svg: str, accent: str = COLOURS["none"]) -> str:
    """Return a figure of the page as a file of its own: light colours, white paper, our fonts.

    Parameters
    ----------
    svg : as it stands in the page
    accent : the verdict's colour, which the page sets around the figure
    """
    colours = {**COLOURS, "v": accent}
    svg = re.sub(
        r"<[^>]+>",
        lambda tag: re.sub(r"var\(--([\w-]+)\)", lambda name: colours[name[1]], tag[0]),
        svg,
    )
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        raise ValueError("a figure without a viewBox has no size")
    root = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{box[1]}" height="{box[2]}" '
        "font-family=\"Inter, 'DejaVu Sans', Helvetica, Arial, sans-serif\" "
    )
    head = r"<svg ([^>]*>(?:<title.*?</title>)?(?:<desc.*?</desc>)?)"
    paper = f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>'
    return re.sub(head, lambda found: f"{root}{found[1]}{paper}", svg, count=1, flags=re.S) + "\n"
