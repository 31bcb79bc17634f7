"""Reliability: is an arm right as often as it says (F5)?"""

import numpy as np

from bench.analysis.data.format import value
from bench.analysis.report.figures import style
from bench.analysis.study.findings import Findings, Reliability

SMALLEST_SHARE = 0.002  # bins with less of the test examples are not drawn


def reliability(f: Findings, diagram: Reliability) -> style.Drawing:
    """Draw accuracy against confidence in 15 bins, with the share of examples below."""
    position = f.design.arms.index(diagram.arm)
    colour = style.ARMS[position % len(style.ARMS)]
    row = next(r for r in f.calibration if r.arm == diagram.arm and not r.scaled)
    drawn = [i for i, s in enumerate(diagram.share) if s >= SMALLEST_SHARE]
    x = np.array([diagram.confidence[i] for i in drawn], dtype=np.float64) * 100
    y = np.array([diagram.accuracy[i] for i in drawn], dtype=np.float64) * 100
    low = np.array([diagram.low[i] for i in drawn], dtype=np.float64) * 100
    high = np.array([diagram.high[i] for i in drawn], dtype=np.float64) * 100
    with style.panels(2.75, 0.75) as (ax, below):
        ax.plot([0, 100], [0, 100], color=style.MUTED, lw=0.9, ls=(0, (3, 3)))
        ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
        ax.plot(x, y, color=colour, lw=1.6, marker="o", ms=3.2)
        ax.set_ylim(0, 102)
        ax.set_ylabel("accuracy in bin (%)")
        bins = len(diagram.share)
        middle = (np.arange(bins) + 0.5) / bins * 100
        below.bar(
            middle, 100 * np.array(diagram.share), width=80 / bins, color=colour, alpha=0.6, lw=0
        )
        below.set_xlim(_start(f), 100.5)
        below.set_ylim(0, 100)
        below.set_yticks([0, 50, 100])
        below.set_xlabel("confidence (%)")
        below.set_ylabel("share (%)")
        side = "above" if row.gap > 0 else "below"
        return style.finish(
            ax,
            name=f"f5-{position}",
            title=f"Reliability of {diagram.arm}",
            description=(
                f"Expected calibration error {value(row.ece_debiased, 'fraction')}; mean "
                f"confidence is {value(abs(row.gap), 'fraction')} {side} accuracy."
            ),
            caption="",
        )


def _start(f: Findings) -> float:
    """Return where the confidences begin: the same for every arm, so that they compare."""
    first = min(
        i / len(r.share)
        for r in f.reliability
        for i, s in enumerate(r.share)
        if s >= SMALLEST_SHARE
    )
    return float(max(0, 10 * np.floor(10 * first) - 2))
