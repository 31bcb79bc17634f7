"""Planning: what this design can see (F3), and how the pairs came in (F4)."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from bench.analysis.data import format as form
from bench.analysis.data.units import SEED
from bench.analysis.inference.power import detectable, power
from bench.analysis.report.figures import style
from bench.analysis.study.findings import Findings, Treatment

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sensitivity(f: Findings, c: Treatment) -> style.Drawing:
    """Draw the chance of p < alpha against the true difference, for few, some and all seeds."""
    unit, sd, gain = f.measure.unit, c.power.sd, c.power.detectable_at_80
    noun = f.design.units.pair
    factor = form.scale(unit)
    if not sd or gain is None:
        raise ValueError("without a spread over seeds there is no sensitivity to draw")
    planned = c.n_pairs
    counts = [n for n in (5, 10) if n <= planned / 1.5] + [planned]  # closer curves would overlap
    alpha = 1 - c.primary.level
    # What a sample of test examples adds to the error is the same for few seeds and for many.
    fixed = max(0.0, (gain / detectable(1.0, planned, alpha=alpha)) ** 2 - sd**2) / planned
    spreads = {n: float(np.sqrt(sd**2 + n * fixed)) for n in counts}
    xs = np.linspace(1e-9, 1.3 * detectable(spreads[counts[0]], counts[0], alpha=alpha), 90)
    with style.axes() as ax:
        ax.axhline(80, color=style.COLOURS["rule"], lw=0.9, ls=(0, (3, 3)))
        for n, dashes in zip(reversed(counts), ("-", "--", ":"), strict=False):
            ys = [100 * power(float(x), spreads[n], n, alpha=alpha) for x in xs]
            main = n == planned
            colour, weight = (style.TREATMENT, "bold") if main else (style.MUTED, "normal")
            ax.plot(xs * factor, ys, color=colour, lw=1.9 if main else 1.1, ls=dashes)
            # The main label stands left of its curve, the others right, on paper that hides lines.
            at = int(np.argmin(np.abs(np.array(ys) - (50 if main else 64 if n == 10 else 36))))
            ax.annotate(
                form.count(n, "pair") if noun is SEED else noun.counted(n),
                (xs[at] * factor, ys[at]),
                (-6, 0) if main else (5, 0),
                textcoords="offset points",
                color=colour,
                weight=weight,
                ha="right" if main else "left",
                va="center",
                bbox={"facecolor": style.BACKGROUND, "edgecolor": "none", "pad": 1.2},
            )
        _mark(ax, gain * factor, form.spread(gain, unit))
        ax.set_ylim(0, 102)
        ax.set_xlim(0, None)
        ax.set_xlabel(
            f"true difference{f' ({form.suffix(unit).strip()})' if form.suffix(unit) else ''}"
        )
        ax.set_ylabel(f"chance of p < {alpha:.3g} (%)")
        return style.finish(
            ax,
            name=f"f3-{f.design.treatments.index(c.treatment)}",
            title=f"Sensitivity of this number of {noun.many}",
            description=(
                f"With {noun.counted(planned)} and an SD of {form.spread(sd, unit)} over "
                f"them the chance is 80% at a true difference of {form.spread(gain, unit)}."
            ),
            caption=(
                f"Chance that the verdict’s analysis gives p < {alpha:.3g} if this were the true "
                "difference and the pairs spread as these did. The dot: 80%. “Observed power” is "
                "not reported: it only restates p."
            ),
        )


def _mark(ax: "Axes", gain: float, text: str) -> None:
    """Mark the difference that is found in 80 % of cases."""
    ax.plot([gain, gain], [0, 80], color=style.TREATMENT, lw=0.9)
    ax.plot([gain], [80], "o", color=style.TREATMENT, ms=4.5)
    ax.annotate(
        text,
        (gain, 3),
        (3, 0),
        textcoords="offset points",
        color=style.TREATMENT,
        weight="bold",
        va="bottom",
    )


def as_they_came(f: Findings, c: Treatment) -> style.Drawing:
    """Draw the running mean with its anytime-valid band, and the final interval beside it."""
    unit = f.measure.unit
    factor = form.scale(unit)
    known = [step for step in c.anytime.path if step[2] is not None and step[3] is not None]
    n = np.array([step[0] for step in known])
    mean = np.array([step[1] for step in known]) * factor
    low = np.array([step[2] for step in known], dtype=np.float64) * factor
    high = np.array([step[3] for step in known], dtype=np.float64) * factor
    p, colour = c.primary, style.COLOURS[style.VERDICT_COLOUR[c.verdict.word]]
    with style.axes() as ax:
        if f.design.margin is not None:
            style.band(ax, f.design.margin * factor)
        ax.axhline(0, color=style.INK, lw=0.9)
        ax.fill_between(n, low, high, color=style.TREATMENT, alpha=0.15, lw=0)
        for edge in (low, high):
            ax.plot(n, edge, color=style.TREATMENT, lw=0.6, alpha=0.6)
        ax.plot(n, mean, color=style.TREATMENT, lw=1.6, marker="o", ms=2.6 if n.size <= 40 else 0)
        # The first intervals are huge; the picture shows those of the second third on in full.
        late = n >= n[-1] / 3
        shown = [0.0, *mean[late], *low[late], *high[late]]
        if f.design.margin is not None:
            shown += [f.design.margin * factor, -f.design.margin * factor]
        for look in c.anytime.planned:
            if look.low is not None and look.high is not None:
                ends = [look.low * factor, look.high * factor]
                ax.plot([look.n, look.n], ends, color=style.INK, lw=1.2)
                ax.plot([look.n, look.n], ends, "_", color=style.INK, ms=7)
                shown += ends
        judged = c.verdict.word != "none"
        if judged and p.low is not None and p.high is not None and p.difference is not None:
            shown += [p.low * factor, p.high * factor]
            x = n[-1] + max(0.7, 0.05 * n[-1])
            ax.plot([x, x], [p.low * factor, p.high * factor], color=colour, lw=2.6)
            ax.plot([x], [p.difference * factor], "o", ms=5.5, color=colour)
        room = 0.08 * (max(shown) - min(shown))
        ax.set_ylim(min(shown) - room, max(shown) + room)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.signed_ticks(ax)
        ax.set_xlabel("completed pairs")
        ax.set_ylabel(
            f"running mean{f' ({form.suffix(unit).strip()})' if form.suffix(unit) else ''}"
        )
        return style.finish(
            ax,
            name=f"f4-{f.design.treatments.index(c.treatment)}",
            title="As the pairs came in",
            description=(
                f"After {form.count(int(n[-1]), 'pair')} the mean is "
                f"{form.number(known[-1][1], unit)} with an anytime-valid interval of "
                f"{form.interval(known[-1][2], known[-1][3], unit, guards=f.design.guards)}."
            ),
            caption=(
                f"Line: running mean in plan order. Band: {form.level(p.level)} anytime-valid "
                "interval, which stays honest however often one looks."
                + (
                    " Thin: the intervals of the planned looks, as wide as their boundary asks."
                    if c.anytime.planned
                    else ""
                )
                + (" Right: the verdict’s interval." if judged else "")
            ),
        )
