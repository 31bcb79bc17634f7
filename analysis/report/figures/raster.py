"""Raster: a strip that is written as SVG, drawn once more for PNG."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon, Rectangle

from bench.analysis.report.figures.style import FAMILY, picture

UNITS_PER_INCH = 110.0  # of the strip: its text is then set in 9 points
POINT = 72 / UNITS_PER_INCH
ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def raster(svg: str) -> bytes:
    """Return a standalone strip as PNG; it has lines, bands, dots, diamonds and words alone."""
    root = ET.fromstring(svg)
    width, height = (float(x) for x in root.attrib["viewBox"].split()[2:])
    figure = Figure(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    for place, node in enumerate(root):
        kind, a = node.tag.rpartition("}")[2], node.attrib
        match kind:
            case "line":
                ends = [[float(a[x]) for x in pair] for pair in (("x1", "x2"), ("y1", "y2"))]
                colour, alpha = a["stroke"], float(a.get("opacity", 1))
                line = Line2D(*ends, lw=_stroke(a), c=colour, alpha=alpha, solid_capstyle="butt")
                ax.add_line(line)
                line.set_zorder(place)
            case "rect" if "x" in a:  # the paper has no place of its own
                corner, size = (
                    (float(a["x"]), float(a["y"])),
                    (float(a["width"]), float(a["height"])),
                )
                ax.add_patch(Rectangle(corner, *size, fc=a["fill"], lw=0, zorder=place))
            case "circle":
                centre, edge = (float(a["cx"]), float(a["cy"])), a.get("stroke", "none")
                dot = Circle(centre, float(a["r"]), fc=a["fill"], ec=edge, lw=_stroke(a))
                ax.add_patch(dot).set_zorder(place)
            case "path":
                ax.add_patch(Polygon(_corners(a["d"]), fc=a["fill"], lw=0, zorder=place))
            case "text":
                ax.text(
                    float(a["x"]),
                    float(a["y"]),
                    node.text or "",
                    ha=ANCHORS[a["text-anchor"]],
                    va="baseline",
                    color=a["fill"],
                    size=float(a["font-size"]) * POINT,
                    weight="bold" if int(a["font-weight"]) > 500 else "normal",
                    zorder=place,
                    family=FAMILY,
                    parse_math=False,
                )
    return picture(figure)


def _stroke(attributes: Mapping[str, str]) -> float:
    return float(attributes.get("stroke-width", 0)) * POINT


def _corners(path: str) -> list[tuple[float, float]]:
    """Return the corners of a path that begins with M and goes on with l."""
    numbers = [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", path)]
    corners = [(numbers[0], numbers[1])]
    for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
        corners.append((corners[-1][0] + dx, corners[-1][1] + dy))
    return corners
