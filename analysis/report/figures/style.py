"""Style: how figures are drawn so that one SVG fits light, dark and print."""

import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from bench.analysis.report.figures.axis import short, text_width

_first = "matplotlib" not in sys.modules
_backend = os.environ.pop("MPLBACKEND", None)
try:  # with a backend that matplotlib does not know its import fails; drawing files needs none
    import matplotlib as mpl
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
if _first and _backend is not None:
    with suppress(ValueError):  # a notebook's own figures are shown by the backend that it names
        mpl.rcParams["backend"] = _backend

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
VARIABLES = {code: f"var(--{name})" for name, code in COLOURS.items()}
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

NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_STYLE: Any = {
    **sns.axes_style("ticks"),
    "text.parse_math": False,  # a dollar sign in an arm's name is a dollar sign
    "svg.fonttype": "none",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it along; the page has its own
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
    "figure.facecolor": BACKGROUND,
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Drawing:
    """One figure: what it shows, in words and as SVG."""

    name: str
    title: str
    description: str
    caption: str
    file: str  # SVG that opens anywhere: our colours on white paper
    figure: Figure = field(repr=False, compare=False)

    @property
    def svg(self) -> str:
        """The figure as it stands in the page, whose theme its colours follow."""
        # Only tags are rewritten: a name that looks like a colour, an id or a number stays.
        return re.sub(r"<[^>]+>", _themed, self.file)

    def png(self) -> bytes:
        """Return it as a picture of 300 dots an inch; nothing of the machine is in it."""
        buffer = io.BytesIO()
        with _drawn():
            self.figure.savefig(buffer, format="png", dpi=300, metadata={"Software": None})
        return buffer.getvalue()


@contextmanager
def _drawn(salt: str = "bench") -> Iterator[None]:
    """Set the house style, in which a sign that our font lacks is left to the reader's."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
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


@contextmanager
def canvas(width: float, height: float) -> Iterator["Axes"]:
    """Give axes that fill the figure and count points from its upper left corner."""
    with mpl.rc_context(_STYLE):
        ax = Figure(figsize=(width / 72, height / 72)).add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.set_axis_off()
        yield ax


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


def name_lines(
    ax: "Axes",
    ends: Sequence[tuple[float, str, str, float]],
    names: Sequence[str],
    *,
    room: float = 0.032,
) -> None:
    """Name lines at their ends, moved apart where they would overlap.

    Parameters
    ----------
    ends : of each line its last y, its name, its colour and its last x
    names : for the longest of which there is to be room
    room : share of the width that a letter takes, more where the axis is narrow
    """
    low, high = ax.get_ylim()
    gap, last = (high - low) / 16, float("-inf")
    for y, name, colour, x in sorted(ends):
        last = max(y, last + gap)
        ax.annotate(
            short(name, 16),
            (x, last),
            (5, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    low, high = ax.get_xlim()
    longest = max(text_width(short(name, 16), 1) for name in names)
    ax.set_xlim(low, high + (high - low) * room * longest)


def finish(ax: "Axes", *, name: str, title: str, description: str, caption: str) -> Drawing:
    """Return the drawing with a title, a description and ids of its own."""
    buffer = io.StringIO()
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    with _drawn(salt=name):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    figure.set_layout_engine("none")  # a picture of it has the same layout, whenever it is drawn
    _, attributes, body = re.split(r"<svg ([^>]*)>", buffer.getvalue(), maxsplit=1)
    head = (
        f'<svg class="plot" role="img" aria-labelledby="{name}-t {name}-d" {attributes}>'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>'
    )
    bare = re.sub(r"<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.S)
    return Drawing(name, title, description, caption, f"{head}{bare}", figure)


def _themed(tag: re.Match[str]) -> str:
    """Return a tag with CSS colours, short numbers, and no id but those that something names."""
    text = re.sub(r' id="[A-Za-z.]+(?:2d)?_\d+"', "", tag[0])
    text = re.sub("#[0-9a-f]{6}", lambda code: VARIABLES.get(code[0], code[0]), text)
    return re.sub(r"(\.\d\d)\d+", r"\1", text)  # a hundredth of a point is enough
