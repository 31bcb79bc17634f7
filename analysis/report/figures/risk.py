"""Risk and coverage: how often is an arm wrong when it answers only where it is surest (F9)?"""

import numpy as np

from bench.analysis.data.format import value
from bench.analysis.report.figures import style
from bench.analysis.study.findings import Findings, Reliability

QUOTED = (0.5, 0.8, 1.0)  # coverages whose risks the description states


def risk_coverage(f: Findings) -> style.Drawing:
    """Draw each arm's error rate against the share of test examples that it answers."""
    with style.axes(height=2.6) as ax:
        ends = []
        for of in f.reliability:
            i = f.design.arms.index(of.arm)
            colour, dashes = style.ARMS[i % len(style.ARMS)], "--" if i == 0 else "-"
            x = np.arange(1, len(of.risk) + 1) / len(of.risk) * 100
            mean, low, high = (
                np.array(values, dtype=np.float64) * 100
                for values in (of.risk, of.risk_low, of.risk_high)
            )
            ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            ax.plot(x, mean, color=colour, lw=1.6, ls=dashes)
            ends.append((float(mean[-1]), of.arm, colour, 100.0))
        ax.set_xlim(0, 100)
        ax.set_ylim(bottom=0)
        ax.set_xticks(range(0, 101, 20))
        style.name_lines(ax, ends, f.design.arms, room=0.042)
        ax.set_xlabel("test examples answered, surest first (%)")
        ax.set_ylabel("errors among them (%)")
        return style.finish(
            ax,
            name="f9",
            title="Risk and coverage",
            description="; ".join(map(_quoted, f.reliability)) + ".",
            caption=(
                "Error rate among the examples of which the model is surest. Line: mean of the "
                "seeds. Band: middle 95% of seeds. The mean height of a line is its AURC."
            ),
        )


def _quoted(of: Reliability) -> str:
    places = {share: round(share * len(of.risk)) - 1 for share in QUOTED}
    risks = ", ".join(
        f"{value(of.risk[at] or 0.0, 'fraction')} at {share:.0%} coverage"
        for share, at in places.items()
    )
    return f"{of.arm}: errors {risks}"
