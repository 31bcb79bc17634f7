"""Typed options become a plan, or are refused with what to type instead."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.commands.drafting import draft, seeds_of, varied
from bench.commands.options import Arms, Design
from bench.design.plan import PINNED, Plan, TrialKey
from bench.execution import devices
from bench.execution.devices import Device, cpu_slots
from bench.execution.server import Server

Serve = Callable[[object], Server]


@pytest.fixture
def source(tmp_path: Path, write_tiny: Callable[..., Path]) -> str:
    return str(write_tiny(tmp_path))


@pytest.fixture
def server(source: str, serve: Serve) -> Server:
    return serve(source)


Typed = tuple[Design, Arms]


def typed(
    *, settings: list[str] | None = None, arms: list[str] | None = None, **options: Any
) -> Typed:
    return Design(**options), Arms(settings=settings, arms=arms)


def drafted(server: Server, options: Typed) -> Plan:
    return draft(server, None, *options, seeds_of(options[0]), cpu_slots(1))[1]


def test_what_is_not_typed_is_the_experiments(server: Server):
    plan = drafted(server, typed())
    assert plan.seeds == tuple(range(20)) and plan.margin == 0.02 and plan.stop == "fixed"
    assert (plan.scope, plan.aa, plan.vary) == ("seeds_and_examples", False, "")


def test_margins_and_claims_are_typed_in_percentage_points(server: Server):
    plan = drafted(server, typed(margin=0.5, claim=0.3, scope="seeds"))
    assert (plan.margin, plan.claim, plan.scope) == (0.005, pytest.approx(0.003), "seeds")


def test_the_most_seeds_of_a_rule_are_planned(server: Server):
    plan = drafted(server, typed(stop="anytime", max_seeds=60))
    assert plan.seeds == tuple(range(60)) and (plan.stop, plan.max_seeds) == ("anytime", 60)


@pytest.mark.parametrize(
    ("options", "says", "fix"),
    [
        (typed(stop="never"), "is not fixed, group or anytime", 'stop="anytime"'),
        (typed(max_seeds=40), "--stop fixed does not", 'stop="anytime"'),
        (typed(stop="anytime", max_seeds=0), '--max-seeds "0" is not between', "max_seeds=20"),
        (typed(stop="group", seeds="8"), "looks first at half of 8 seeds", "seeds=11"),
        (typed(stop="group", max_seeds=8), "looks first at half of 8 seeds", "max_seeds=11"),
        (typed(stop="anytime", seeds="3,4", max_seeds=9), "already lists", "without seeds"),
        (
            typed(scope="images"),
            "is not seeds-and-examples, seeds or new-datasets",
            'scope="seeds"',
        ),
        (typed(margin=-1.0), "is not a number above 0", "margin=0.3"),
        (typed(claim=float("nan")), "is not a number", "claim=0.3"),
        (typed(aa=True, claim=0.3), "takes no --arm and no --claim", "without arm, without claim"),
        (typed(aa=True, arms=["more:strength=2"]), "takes no --arm", "without arm"),
    ],
)
def test_options_that_do_not_fit_are_refused(server: Server, options: Typed, says: str, fix: str):
    with pytest.raises(Refusal) as caught:
        drafted(server, options)
    assert caught.value.exit_status == 2
    assert says in caught.value.what and fix in (caught.value.remedy() or "")


# -- the baseline against itself -------------------------------------------------------------


def test_an_a_a_trains_the_baseline_twice_on_separate_families_of_seeds(server: Server):
    plan = drafted(server, typed(aa=True, seeds="50"))
    assert list(plan.arms) == ["weak", "weak again"] and plan.claim is None
    assert plan.arms["weak"] == plan.arms["weak again"]
    first = {plan.draw(TrialKey("weak", s))["seed"] for s in plan.seeds}
    second = {plan.draw(TrialKey("weak again", s))["seed"] for s in plan.seeds}
    assert first == set(range(50)) and len(second) == 50 and not first & second
    assert plan.design().aa


def test_an_a_a_is_a_benchmark_of_its_own(source: str, server: Server):
    plans = [drafted(server, typed(aa=aa)) for aa in (False, True)]
    assert plans[0].benchmark_id != plans[1].benchmark_id
    weak = TrialKey("weak", 3)
    assert plans[0].trial_digest(weak) != plans[1].trial_digest(weak)


# -- one source alone ------------------------------------------------------------------------


def test_one_source_follows_the_seed_and_the_others_are_pinned(server: Server):
    plan = drafted(server, typed(seeds="3"))
    plans = varied(plan, "init, order")
    assert [p.vary for p in plans] == ["init", "order"]
    assert len({plan.benchmark_id, *(p.benchmark_id for p in plans)}) == 3
    assert plans[0].draw(TrialKey("strong", 2)) == {"seed": PINNED, "varied": "init", "drawn": 2}
    assert plan.draw(TrialKey("strong", 2)) == {"seed": 2}


@pytest.mark.parametrize("text", ["", "init,", "init,init", ","])
def test_a_list_of_sources_that_is_none_is_refused(server: Server, text: str):
    plan = drafted(server, typed(seeds="3"))
    with pytest.raises(Refusal, match="is no list of streams"):
        varied(plan, text)


@pytest.mark.parametrize("options", [typed(aa=True), typed(stop="anytime")])
def test_sources_are_not_varied_in_other_designs(server: Server, options: Typed):
    plan = drafted(server, options)
    with pytest.raises(Refusal, match="takes no --stop and no --aa"):
        varied(plan, "init")


# -- what the experiment says about its data ---------------------------------------------------


def facts_of(said: str) -> str:
    return f"prepare=lambda settings, folder: {said},"


def test_facts_that_all_arms_agree_in_are_recorded_once(
    tmp_path: Path, write_tiny: Callable[..., Path], serve: Serve
):
    path = write_tiny(tmp_path, extra=facts_of('{"name": "forty", "digest": "d1"}'))
    plan = drafted(serve(path), typed())
    assert plan.data == {"name": "forty", "digest": "d1"}


def test_facts_in_which_the_arms_differ_are_recorded_of_each(
    tmp_path: Path, write_tiny: Callable[..., Path], serve: Serve
):
    said = '{"name": "forty", "weights": "none" if settings["strength"] == 2 else "imagenet"}'
    server = serve(write_tiny(tmp_path, extra=facts_of(said)))
    plan = drafted(server, typed(arms=["x:strength=2"]))
    assert plan.data == {
        "name": "forty",
        "weights (weak)": "imagenet",
        "weights (strong)": "imagenet",
        "weights (x)": "none",
    }
    assert drafted(server, typed()).data == {"name": "forty", "weights": "imagenet"}


def test_what_goes_wrong_in_prepare_is_refused_with_its_line(
    tmp_path: Path, write_tiny: Callable[..., Path], serve: Serve
):
    server = serve(write_tiny(tmp_path, extra=facts_of('{"name": settings["no such"]}')))
    with pytest.raises(Refusal, match="prepare of experiment 'tiny' failed: KeyError") as caught:
        drafted(server, typed())
    assert (caught.value.code, caught.value.exit_status) == ("experiment", 2)
    assert 'settings["no such"]' in caught.value.facts[0] and ", line " in caught.value.facts[0]


def test_a_setting_that_only_one_typed_arm_has_is_mended_in_that_arm(serve: Serve):
    from bench.experiments import digits

    with pytest.raises(Refusal) as caught:
        options = typed(arms=["fine:epsilon=0.2", "bad one:lr=0.1,epochs=0"])
        drafted(serve("digits"), options)
    good = digits.EXPERIMENT.settings["epochs"]
    better = f"bad one:lr=0.1,epochs={good}"
    assert caught.value.replace == (("bad one:lr=0.1,epochs=0", better),)
    assert not caught.value.settings


# -- preregistering ---------------------------------------------------------------------------


def test_a_frozen_plan_is_the_one_that_runs(
    source: str, tmp_path: Path, copy_store: Callable[[Path], str], bench: Callable[..., Any]
):
    store = ("--store", copy_store(tmp_path / "store"))
    design = ("--seeds", "6", "--margin", "1.5", "--scope", "seeds")
    frozen = bench("plan", source, *design, *store, "--freeze")
    assert frozen.status == 0 and "6 seeds × 2 arms: weak, strong" in frozen.out
    assert "margin 1.50 pp" in frozen.out and "next     bench run" in frozen.out
    hash_ = frozen.out.split("hash")[1].split()[0]
    assert max(map(len, frozen.out.splitlines()[:-1])) <= 80  # the last is what was typed
    ran = bench("run", source, *design, *store, "--workers", "2", "--json", "-q").json
    assert ran["plan"]["hash"] == hash_ and ran["plan"]["frozen_before_first_run"]
    late = bench("plan", source, *design[:2], *store, "--freeze")
    assert late.status == 0 and "results could be seen before this" in late.out


def test_seeds_and_an_a_a_are_frozen_as_they_are_run(
    source: str,
    server: Server,
    tmp_path: Path,
    copy_store: Callable[[Path], str],
    bench: Callable[..., Any],
):
    design = ("--seeds", "0,3,7", "--aa", "--store", copy_store(tmp_path / "store"))
    frozen = bench("plan", source, *design, "--freeze", "--json").json
    assert frozen["batches"] == [[0, 3, 7]] and frozen["aa"]
    plan = drafted(server, typed(seeds="0,3,7", aa=True))
    assert frozen["hash"] == plan.hash


def test_a_plan_is_frozen_for_the_devices_that_would_train(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str],
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    extra = (
        "train_pack=lambda trials: [train(trial) for trial in trials],\n"
        "    pack_seeds=lambda settings, device: 4 if device == 'cuda:0' else 1,"
    )
    source = write_tiny(tmp_path, extra=extra)
    gpu = Device("cuda", 0, "GPU-8932f937", "NVIDIA A100")
    monkeypatch.setattr(devices, "source", SimpleNamespace(devices=lambda: [gpu]))
    monkeypatch.setattr("bench.execution.provenance.collect", lambda *args: {})
    words = ("--seeds", 8, "--store", copy_store(tmp_path / "store"))
    frozen = bench("plan", source, *words, "--freeze", "--json").json
    assert frozen["pack_seeds"] == 4 and [len(batch) for batch in frozen["batches"]] == [4, 4]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--margin", "1"], "--margin belongs to a plan that --freeze writes down."),
        (["--claim", "1", "--stop", "group"], "--claim, --stop belong to a plan that --freeze"),
        (["--set", "a=1", "--arm", "b:a=2", "--aa"], "--aa, --set, --arm belong to a plan"),
        (["--freeze", "--detect", "1", "--sd", "2"], "--detect, --sd belong to planning"),
        (["--freeze", "--pilot", "tiny"], "--pilot belongs to planning"),
        (["--freeze", "--power", "0.9"], "--power belongs to planning"),
    ],
)
def test_options_that_would_not_be_heeded_are_refused(
    words: list[str], says: str, source: str, bench: Callable[..., Any]
):
    said = bench("plan", source, *words)
    assert said.status == 2 and said.out == "" and says in said.err


def test_a_list_of_seeds_is_planned_as_their_number(bench: Callable[..., Any]):
    assert "   7 seeds detect" in bench("plan", "--seeds", "0-6").out


def test_only_an_experiment_can_be_frozen(bench: Callable[..., Any]):
    said = bench("plan", "--freeze")
    assert said.status == 2 and "needs the NAME" in said.err
