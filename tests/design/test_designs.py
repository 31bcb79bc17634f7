"""Designs end to end: one source at a time, the baseline against itself, and sweeps of arms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.design.plan import PINNED
from bench.experiment import Trial

Bench = Callable[..., Any]

# Two streams of known scale; `body` runs at the start of every training.
STREAMS = '''"""Rewards of two streams."""
from bench import Experiment, Outcome, Trial


def train(trial: Trial) -> Outcome:
    {body}
    init, order = (float(trial.rng(name).normal()) for name in ("init", "order"))
    gain = trial.settings["strength"] * (1 + 0.5 * init)
    return Outcome(scores={{"reward": 3 * init + 0.1 * order + gain}})


EXPERIMENT = Experiment(
    name="streams",
    question="Does more strength raise the reward?",
    arms={{"weak": {{"strength": 0.0}}, "strong": {{"strength": 1.0}}}},
    train=train,
    metric="reward",
)
'''


def store_at(uri: str) -> Any:
    from bench.store.mlflow_store import Store

    return Store(uri)


def drawn(tables: Any, arm: str) -> dict[int, dict[str, str]]:
    """Return what every run of an arm drew from its streams."""
    rows = tables.trials[tables.trials.arm == arm]
    return {
        int(seed): json.loads(facts)["streams"]
        for seed, facts in zip(rows.seed, rows.facts, strict=True)
    }


# -- one source of randomness at a time --------------------------------------------------------


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "mine_streams.py"
    path.write_text(STREAMS.format(body="pass"))
    return path


def expected(source: str, seed: int) -> float:
    """Return the baseline's reward where one source follows the seed and the other is pinned."""
    trial = Trial(seed=PINNED, varied=source, drawn=seed, arm="weak", settings={})
    return float(3 * trial.rng("init").normal() + 0.1 * trial.rng("order").normal())


def test_each_source_brings_its_own_spread_and_the_others_stand_still(
    streams: Path, tmp_path: Path, copy_store: Callable[[Path], str], bench: Bench
):
    uri = copy_store(tmp_path / "store")
    words = ("run", streams, "--seeds", 6, "--store", uri, "--workers", 2)
    said = bench(*words, "--vary", "init,order", "--json")
    assert said.status == 0, said.err
    rows = [row for row in said.json["sources"] if row["arm"] == "weak"]
    sds = {(row["source"], row["treatment"]): row["sd"] for row in rows}
    for source in ("init", "order"):
        sd = np.std([expected(source, seed) for seed in range(6)], ddof=1)
        assert sds[source, None] == pytest.approx(sd)
    assert sds["init", None] > 10 * sds["order", None]
    assert sds["order", "strong"] == pytest.approx(0, abs=1e-12)  # the same gain at every seed
    assert said.json["plan"]["seeds_planned"] == list(range(6))
    page = (tmp_path / "store" / "reports" / "streams" / "report.html").read_text()
    assert "Spread by source of randomness" in page

    store = store_at(uri)
    main = store.benchmark("streams")
    families = store.families(main)
    assert set(families) == {"init", "order"} and not main.plan.vary
    of_init = drawn(store.tables(families["init"]), "weak")
    assert len({each["order"] for each in of_init.values()}) == 1
    assert len({each["init"] for each in of_init.values()}) == 6

    unknown = bench(*words, "--vary", "init,augment", "--no-report")
    assert unknown.status == 2 and "run done" not in unknown.err
    assert '--vary augment: the training never asks for trial.rng("augment").' in unknown.err
    assert (
        "It draws from init, order." in unknown.err and "--no-report --vary init\n" in unknown.err
    )
    assert set(store.families(main)) == {"init", "order"}


def test_a_source_that_is_never_drawn_from_is_refused_after_the_first_run(
    streams: Path, tmp_path: Path, copy_store: Callable[[Path], str], bench: Bench
):
    uri = copy_store(tmp_path / "store")
    words = ("--seeds", 50, "--store", uri, "--workers", 1, "--vary", "dropout", "-q")
    said = bench("run", streams, *words)
    assert said.status == 2 and "never asks for" in said.err and said.out == ""
    assert "--vary init,order" in said.err
    store = store_at(uri)
    assert 1 <= len(store.settled(store.benchmark("streams"))[0]) < 10


def test_a_source_that_fails_keeps_nothing_else_from_being_trained_and_reported(
    tmp_path: Path, copy_store: Callable[[Path], str], bench: Bench
):
    path, uri = tmp_path / "mine_failing.py", copy_store(tmp_path / "store")
    fails = 'if trial.varied == "init" and trial.drawn == 2: raise ValueError("no such layer")'
    path.write_text(STREAMS.format(body=fails))
    words = ("--seeds", 6, "--store", uri, "--workers", 2, "--vary", "init,order", "-q")
    said = bench("run", path, *words)
    assert said.status == 3
    assert "error[training]: seed 02, " in said.err and "no such layer" in said.err
    assert "It is one of the runs in which init varies alone." in said.err
    assert "1 more run failed." in said.err
    store = store_at(uri)
    main = store.benchmark("streams")
    done = {name: len(store.settled(b)[0]) for name, b in store.families(main).items()}
    assert done == {"init": 10, "order": 12}
    found = json.loads((tmp_path / "store/reports/streams/results.json").read_text())
    assert found["plan"]["hash"] == main.plan.hash
    assert found["comparisons"][0]["n_pairs"] == 6
    assert "streams" in said.out  # the report of the whole, not of a source


# -- the baseline against itself ---------------------------------------------------------------


def test_an_a_a_draws_anew_in_each_arm_and_leaves_the_real_report_alone(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    path, uri = write_tiny(tmp_path), copy_store(tmp_path / "store")
    where = ("--store", uri, "--workers", 2)
    said = bench("run", path, "--aa", "--seeds", 8, *where, "--json")
    assert said.status == 0, said.err
    found = said.json
    assert found["plan"]["aa"] and found["plan"]["treatments"] == ["weak again"]
    assert found["plan"]["unit"] == "fraction"
    states = {check["id"]: check["state"] for check in found["checks"]}
    assert "N5" in states and states["C17"] == "not checked"
    assert [c["n_pairs"] for c in found["comparisons"]] == [8]
    store = store_at(uri)
    tables = store.tables(store.benchmark("tiny"))
    one, other = drawn(tables, "weak"), drawn(tables, "weak again")
    assert not {s["init"] for s in one.values()} & {s["init"] for s in other.values()}

    page = tmp_path / "store/reports/tiny/aa/report.html"
    assert str(page) in found["files"] and not (page.parents[1] / "report.html").exists()
    again = bench("verify", page, "--rerun", 3, "--experiment", path, "--json")
    assert again.status == 0, again.err
    assert all(run["stated"] == run["again"] is not None for run in again.json["rerun"])

    pilot = ("plan", "--detect", 0.3, "--store", uri, "--pilot", "tiny")
    refused = bench(*pilot)
    assert refused.status == 2 and "all that is recorded of tiny is an A/A" in refused.err
    real = bench("run", path, "--seeds", 6, *where, "--json").json
    assert (page.parents[1] / "report.html").exists()
    kept = json.loads((page.parents[1] / "results.json").read_text())
    assert kept["plan"]["hash"] == real["plan"]["hash"]
    bench("run", path, "--aa", "--seeds", 8, *where, "-q", "--no-report")  # is active last
    assert "6 pairs of tiny" in bench(*pilot).out
    stored = ("--store", uri, "--json")
    assert not bench("report", "tiny", *stored).json["plan"]["aa"]
    assert bench("report", *stored).json["plan"]["aa"]  # the latest of all
    listed = bench("status", "--store", uri).out
    assert listed.count("tiny (A/A)") == 1 and listed.count("tiny ") == 2


# -- sweeps ------------------------------------------------------------------------------------


def test_a_sweep_compares_every_arm_with_the_baseline_at_a_shared_error_rate(
    tmp_path: Path, write_tiny: Callable[..., Path], copy_store: Callable[[Path], str], bench: Bench
):
    path, uri = write_tiny(tmp_path), copy_store(tmp_path / "store")
    arms = ("--arm", "stronger:strength=1.5", "--arm", "long one:strength=2,epochs=4")
    words = ("--seeds", 6, "--store", uri, "--workers", 2, "--json")
    said = bench("run", path, *arms, *words)
    assert said.status == 0, said.err
    found = said.json
    names = ["strong", "stronger", "long one"]
    assert found["plan"]["treatments"] == names
    assert [c["treatment"] for c in found["comparisons"]] == names
    store = store_at(uri)
    main = store.benchmark("tiny")
    assert len(store.settled(main)[0]) == 4 * 6
    metrics = store.client.get_run(main.run_id).data.metrics
    for c, end in zip(found["comparisons"], ("", "_2", "_3"), strict=True):
        p = c["primary"]
        assert p["level"] == pytest.approx(1 - 0.05 / 3)  # all three hold together
        assert (p["low"] <= 0 <= p["high"]) == (p["p_value"] >= 0.05 / 3)
        assert metrics[f"diff_pp{end}"] == pytest.approx(100 * p["difference"])
        assert metrics[f"ci_low{end}"] == pytest.approx(100 * p["low"])
        assert metrics[f"p{end}"] == pytest.approx(p["p_value"])
        assert c["secondary"]
        for row in c["secondary"]:
            if row["p_value"] is not None:
                assert row["p_adjusted"] >= row["p_value"]
    tags = store.client.get_run(main.run_id).data.tags
    assert len(tags["bench.verdict"].split(", ")) == 3
    again = bench("run", path, *arms, *words, "--no-report")
    assert again.json["trained"] == 0
