"""Training: learning curves (F6) and the paired difference by epoch (F7)."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from bench.analysis.data.format import difference, value
from bench.analysis.report.figures import style
from bench.analysis.study.findings import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curves(f: Findings) -> style.Drawing:
    """Draw each arm's validation accuracy: median and middle 90 % of seeds."""
    with style.axes() as ax:
        ends = []
        for i, curve in enumerate(f.curves):
            colour, dashes = style.ARMS[i % len(style.ARMS)], "--" if i == 0 else "-"
            x = np.array(curve.epochs) + 1
            low, high = np.array(curve.low) * 100, np.array(curve.high) * 100
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            ax.plot(x, np.array(curve.median) * 100, color=colour, lw=1.6, ls=dashes)
            ends.append((curve.median[-1] * 100, curve.arm, colour, x[-1]))
        style.name_lines(ax, ends, f.design.arms)
        _whole_epochs(ax, max(curve.epochs[-1] for curve in f.curves) + 1)
        ax.set_xlabel("epoch")
        ax.set_ylabel("validation accuracy (%)")
        last = "; ".join(
            f"{c.arm} {value(c.median[-1], 'fraction')} at epoch {c.epochs[-1] + 1}"
            for c in f.curves
        )
        return style.finish(
            ax,
            name="f6",
            title="Validation accuracy by epoch",
            description=f"Median over seeds: {last}.",
            caption="Line: median of the seeds. Band: middle 90%. Validation examples only.",
        )


def differences_by_epoch(f: Findings) -> style.Drawing:
    """Draw the mean paired difference at each epoch with pointwise limits."""
    shaded = f.design.metric == "accuracy" and f.design.margin is not None
    with style.axes() as ax:
        ends = []
        if shaded:
            style.band(ax, (f.design.margin or 0) * 100)
        ax.axhline(0, color=style.INK, lw=0.9)
        for i, gap in enumerate(f.gaps):
            colour = style.ARMS[1 + i % (len(style.ARMS) - 1)]
            x = np.array(gap.epochs) + 1
            ax.fill_between(
                x, np.array(gap.low) * 100, np.array(gap.high) * 100, color=colour, alpha=0.15, lw=0
            )
            ax.plot(x, np.array(gap.mean) * 100, color=colour, lw=1.6)
            ends.append((gap.mean[-1] * 100, gap.treatment, colour, x[-1]))
        if len(ends) > 1:
            style.name_lines(ax, ends, f.design.arms)
        style.signed_ticks(ax)
        _whole_epochs(ax, max(gap.epochs[-1] for gap in f.gaps) + 1)
        ax.set_xlabel("epoch")
        ax.set_ylabel("difference in validation accuracy (pp)")
        last = "; ".join(f"{g.treatment} {difference(g.mean[-1], 'fraction')}" for g in f.gaps)
        return style.finish(
            ax,
            name="f7",
            title="Paired difference in validation accuracy by epoch",
            description=f"At the last epoch: {last}.",
            caption=(
                "Mean with pointwise 95% CI over seeds. Descriptive: not a test at each epoch."
                + (" Shaded: inside the margin." if shaded else "")
            ),
        )


def _whole_epochs(ax: "Axes", last: int) -> None:
    """Put ticks at whole epochs, none beyond the last."""
    low, high = ax.get_xlim()
    ticks = MaxNLocator(nbins=8, integer=True).tick_values(1, last)
    ax.set_xticks([tick for tick in ticks if 1 <= tick <= last and tick == int(tick)])
    ax.set_xlim(low, high)
