"""Study: tables and plan in, Findings out, in two stages."""

from collections.abc import Mapping
from typing import Any

from bench.analysis.data.tables import Design, Tables
from bench.analysis.study.conclude import conclude
from bench.analysis.study.findings import Findings
from bench.analysis.study.summarise import summarise


def study(
    tables: Tables,
    design: Design,
    *,
    provenance: Mapping[str, Any] | None = None,
    families: Mapping[str, Tables] | None = None,
    seed: int = 0,
) -> Findings:
    """Analyse one benchmark: `conclude` on what `summarise` returns, which takes the same."""
    return conclude(summarise(tables, design, provenance=provenance, families=families, seed=seed))
