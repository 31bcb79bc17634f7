"""The first line of a run: the gain that its seeds can detect, before anything is trained."""

import dataclasses
from collections.abc import Callable

from bench.commands.session import first_line
from bench.design.description import Discovered
from bench.design.plan import Plan


def said(plan: Plan, note: str | None = None) -> list[str]:
    return first_line(plan, note, workers=2).splitlines()


def test_says_which_gain_the_seeds_detect_and_what_the_claim_takes(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    lines = said(plan_of(tiny, range(20), claim=0.003))
    assert " ".join(line.strip() for line in lines).startswith(
        "tiny: 20 seeds can detect 0.53 pp on this test set (80% power, SD 0.8 pp); "
        "0.30 pp takes 58."
    )
    assert max(map(len, lines)) <= 80


def test_says_why_another_experiment_was_taken_where_no_name_was_typed(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    note = "No NAME was given and there is no GPU, so the embedded digits are used."
    lines = said(plan_of(tiny, range(20)), note)
    assert " ".join(lines).startswith(note[:60])
    assert max(map(len, lines)) <= 80


def test_says_that_one_pair_is_not_enough(tiny: Discovered, plan_of: Callable[..., Plan]):
    assert "one pair cannot tell luck from gain" in said(plan_of(tiny, [0]))[0]
    assert "   1 seed × 2 arms   1 worker   " in first_line(plan_of(tiny, [0]), None, workers=1)


def test_a_metric_without_a_known_spread_is_counted_in_sds(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    plan = dataclasses.replace(plan_of(tiny, range(20)), metric="return")
    assert "20 seeds can detect 0.66 paired SDs" in said(plan)[0]


def test_a_long_name_moves_what_follows_to_the_next_line_in_one_piece(
    tiny: Discovered, plan_of: Callable[..., Plan]
):
    plan = dataclasses.replace(plan_of(tiny, range(20)), experiment="a name that says a lot " * 2)
    lines = said(plan)
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("  ") and lines[-1].endswith(f"plan {plan.hash[:7]}")
    assert sum("20 seeds × 2 arms" in line for line in lines) == 1
