"""Reliability: is an arm right as often as it says (F5)?"""

import numpy as np

from analysis.figures.canvas import BASELINE, FURTHER, MUTED, TREATMENT, Drawing, axes, finish
from analysis.findings import Findings, Reliability
from analysis.format import value

SMALLEST_SHARE = 0.002  # bins with less of the test examples are not drawn


def reliability(f: Findings, diagram: Reliability) -> Drawing:
    """Draw accuracy against confidence in 15 bins, with the share of examples below."""
    position = f.design.arms.index(diagram.arm)
    colour = [BASELINE, TREATMENT, *FURTHER][position % 6]
    row = next(r for r in f.calibration if r.arm == diagram.arm and not r.scaled)
    drawn = [i for i, s in enumerate(diagram.share) if s >= SMALLEST_SHARE]
    x = np.array([diagram.confidence[i] for i in drawn], dtype=np.float64) * 100
    y = np.array([diagram.accuracy[i] for i in drawn], dtype=np.float64) * 100
    low = np.array([diagram.low[i] for i in drawn], dtype=np.float64) * 100
    high = np.array([diagram.high[i] for i in drawn], dtype=np.float64) * 100
    with axes(height=3.5) as ax:
        ax.plot([0, 100], [0, 100], color=MUTED, lw=0.9, ls=(0, (3, 3)))
        ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        ax.plot(x, y, color=colour, lw=1.6, marker="o", ms=3.2)
        bins = len(diagram.share)
        middle = (np.arange(bins) + 0.5) / bins * 100
        share = np.array(diagram.share)
        ax.bar(middle, 18 * share / share.max(), width=80 / bins, color=colour, alpha=0.35, lw=0)
        start = max(0.0, 100 / bins * (min(drawn) - 0.5)) if drawn else 0.0
        ax.set_xlim(start, 100.5)
        ax.set_ylim(0, 102)
        ax.set_xlabel("confidence (%)")
        ax.set_ylabel("accuracy in bin (%)")
        side = "above" if row.gap > 0 else "below"
        return finish(
            ax,
            name=f"f5-{position}",
            title=f"Reliability of {diagram.arm}",
            description=(
                f"Expected calibration error {value(row.ece, 'fraction')}; mean confidence is "
                f"{value(abs(row.gap), 'fraction')} {side} accuracy."
            ),
            caption="",
        )
