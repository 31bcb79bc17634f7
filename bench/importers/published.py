"""Published summaries: means and spreads of two or more arms, as papers print them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.data.tables import Design
from bench.analysis.data.units import Units
from bench.analysis.errors import Refusal
from bench.analysis.inference.welch import Published
from bench.analysis.study.pairs import Paired
from bench.analysis.study.summary import Between, Summary, TreatmentSums
from bench.importers.numbers import GivenUnit, Shown, is_fraction, shares

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
FORM = re.compile(
    rf"(?P<arm>[^=]+)=(?P<mean>{NUMBER})%?\s*(?:±|\+-|\+/-)\s*(?P<spread>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)%?\s*"
    r"(?:\((?P<kind>sd|se)\))?\s*(?:,\s*n\s*=\s*(?P<n>\d+))?"
)


class BadSummary(Refusal):
    """A published summary that does not say what it has to."""

    code = "summary"
    exit_status = 2


def read(typed: str) -> tuple[str, Published]:
    """Read `ARM=82.1±0.8(sd),n=5`: the arm, and what is published of it.

    Raises
    ------
    BadSummary : another form; a spread that is not marked as sd or se; or no number of runs
    """
    example = [("summary", "base=82.1±0.8(sd),n=5")]
    match = FORM.fullmatch(typed.strip())
    if match is None:
        raise BadSummary(f"{typed[:60]!r} is no summary.", options=example)
    if match["kind"] is None:
        raise BadSummary(
            f"whether {match['spread']} of {match['arm']} is a standard deviation or a standard "
            "error is not said.",
            facts=["A standard error read as a deviation gave 18 to 52% false claims."],
            fix="mark it as one of them, for example:",
            replace=[
                (typed, f"{match['arm']}={match['mean']}±{match['spread']}(sd),n={match['n'] or 5}")
            ],
        )
    if match["n"] is None:
        raise BadSummary(
            f"of how many runs {match['mean']} is the mean is not said.",
            fix="say it, for example:",
            replace=[(typed, f"{typed.strip()},n=5")],
        )
    n, spread = int(match["n"]), float(match["spread"])
    sd = spread * math.sqrt(n) if match["kind"] == "se" else spread
    return match["arm"].strip(), Published(n=n, mean=float(match["mean"]), sd=sd)


def shown_in(arms: Sequence[Published], metric: str, unit: GivenUnit) -> Shown:
    """Return in which unit means are printed: as typed, or by the metric's whole-word name."""
    if unit != "auto":
        return unit
    means = [arm.mean for arm in arms]
    return shares(min(means), max(means)) if is_fraction(metric) else "plain"


def summary_of(
    arms: Sequence[tuple[str, Published]], *, provenance: Mapping[str, Any], **design: Any
) -> Summary:
    """Return published summaries as a study's: the first is the baseline, nothing is paired.

    Parameters
    ----------
    arms : as `read` gives them, two or more, in metric units
    provenance : what is known of them
    design : margin, direction and goal, as `Design` has them

    Raises
    ------
    BadSummary : one arm alone, or two of one name
    """
    names = [name for name, _ in arms]
    if len(arms) < 2 or len(set(names)) < len(names):
        raise BadSummary(
            f"{'one arm' if len(arms) < 2 else 'an arm that occurs twice'} is no comparison.",
            fix="give a summary of each arm, the baseline's first",
        )
    known = dict(arms)
    return Summary(
        design=Design(
            experiment="published",
            question=f"Does {' or '.join(names[1:])} differ from {names[0]}?",
            baseline=names[0],
            treatments=tuple(names[1:]),
            seeds=(),
            scope="seeds",
            units=Units(columns="none", paired=False),
            **design,
        ),
        seed=0,
        provenance=dict(provenance),
        runs=(),
        treatments=tuple(_treatment(name, known[names[0]], known[name]) for name in names[1:]),
        between=tuple(
            Between(first=a, second=b, pairs=_pairs(known[a], known[b]))
            for i, a in enumerate(names[1:], 1)
            for b in names[i + 1 :]
        ),
        classes=(),
        calibration=(),
        bins=(),
        curves=(),
        sources=(),
        late_modules=(),
        environments=None,
        n_classes=None,
        n_validation=None,
        logs_accuracy=False,
        published=known,
    )


def _pairs(baseline: Published, treatment: Published) -> Paired:
    return Paired(
        seeds=(), baseline=(), treatment=(), independent=True, published=(baseline, treatment)
    )


def _treatment(name: str, baseline: Published, treatment: Published) -> TreatmentSums:
    return TreatmentSums(
        treatment=name,
        pairs=_pairs(baseline, treatment),
        worst=None,
        outcomes=(),
        optimism=None,
        changed=None,
        streams={},
    )
