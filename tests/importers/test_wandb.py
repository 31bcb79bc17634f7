"""Weights & Biases: exported tables and charts, and a project through its API."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.analysis.errors import Refusal
from bench.importers import sources
from bench.importers.asked import Asked, At, BadRequest

FIELD = Path(__file__).parents[3] / "shared" / "cases" / "field"


def chart(path: Path, runs: dict[str, list[str]], metric: str = "val/acc") -> Path:
    """Write a chart as the export button does: a column a run with its twins, all quoted."""
    names = [f"{run} - {metric}{end}" for run in runs for end in ("", "__MIN", "__MAX")]
    rows = [["Step", *names]]
    for step, values in enumerate(zip(*runs.values(), strict=True)):
        rows.append([str(step), *(v for value in values for v in [value] * 3)])
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in rows))
    return path


def test_a_chart_gives_one_row_a_run_at_the_step_that_was_asked_for(tmp_path: Path):
    path = chart(tmp_path / "c.csv", {"base-s0": ["0.5", "0.7", "0.6"], "a - b": ["", "0.8", ""]})
    found = sources.read(f"wandb:{path}", Asked())
    assert found["run_name"].tolist() == ["base-s0", "a - b"]
    assert found["val/acc"].tolist() == [0.6, 0.8] and found["step"].tolist() == [2, 1]
    best = sources.read(f"wandb:{path}", Asked(at=At("max", "val/acc")))
    assert best["val/acc"].tolist() == [0.7, 0.8]


@pytest.mark.skipif(not FIELD.exists(), reason="there are no cases beside this clone")
def test_the_two_curves_of_the_field_are_one_pair_and_no_verdict(tmp_path: Path, bench: Any):
    said = bench(
        *("compare", f"wandb:{FIELD / 'curves_two_runs.csv'}", "--name", "{arm}-{n}"),
        *("--arm", "arm", "--metric", "val/acc", "--seed", "n", "--baseline", "wise-sun"),
    )
    assert said.status == 2 and "fits in two ways: wise-sun-3" in said.err
    found = sources.read(f"wandb:{FIELD / 'curves_two_runs.csv'}", Asked())
    assert found["val/acc"].round(4).tolist() == [0.7960, 0.8033]


def test_runs_of_a_chart_are_compared_by_their_names(tmp_path: Path, bench: Any):
    runs = {
        f"{arm}_s{seed}": ["0.1", str(0.5 + seed / 100 + (arm == "new") * (8 + seed) / 1000)]
        for seed in range(7)
        for arm in ("base", "new")
    }
    said = bench(
        *("compare", f"wandb:{chart(tmp_path / 'c.csv', runs)}", "--name", "{arm}_s{seed}"),
        *("--arm", "arm", "--metric", "val/acc", "--baseline", "base", "--json"),
    )
    assert said.status == 0, said.err
    (found,) = said.json["comparisons"]
    assert found["n_pairs"] == 7 and found["primary"]["difference"] == pytest.approx(0.011)


def test_a_table_of_runs_loses_the_scores_of_crashed_ones(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text('"Name","State","seed","acc"\n"a-1","finished","1","0.5"\n"a-2","crashed","2",'
                    '"0.4"\n')  # fmt: skip
    found = sources.read(f"wandb:{path}", Asked(values=("acc",), name="{arm}-{n}"))
    assert found["acc"].isna().tolist() == [False, True] and found["n"].tolist() == ["1", "2"]
    with pytest.raises(BadRequest, match="has no steps to choose from"):
        sources.read(f"wandb:{path}", Asked(at=At("max", "acc")))


def test_a_chart_of_grouped_runs_is_refused(tmp_path: Path):
    path = chart(tmp_path / "c.csv", {"Group: base": ["0.5"], "Group: new": ["0.6"]})
    with pytest.raises(Refusal, match="is a mean over runs, not a run"):
        sources.read(f"wandb:{path}", Asked())


def test_without_wandb_a_project_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadRequest, match="not installed") as refusal:
        sources.read("wandb:me/project", Asked())
    assert "pip install wandb" in (refusal.value.fix or "")
    with pytest.raises(Refusal, match="there is no file x.csv"):
        sources.read("wandb:x.csv", Asked())


class FakeRun(SimpleNamespace):
    def scan_history(self) -> list[dict[str, Any]]:
        return [{"_step": i, "step": 77, "acc": a} for i, a in enumerate(self.history)]


def project(*runs: FakeRun, trouble: Exception | None = None) -> SimpleNamespace:
    def listed(path: str) -> list[FakeRun]:
        assert path == "me/project"
        if trouble is not None:
            raise trouble
        return list(runs)

    return SimpleNamespace(Api=lambda: SimpleNamespace(runs=listed))


def test_a_project_is_read_through_its_api(monkeypatch: pytest.MonkeyPatch):
    runs = [
        FakeRun(id="x1", name="one", state="finished", config={"seed": 1, "_wandb": {}, "m": "a"},
                summary={"acc": 0.5, "_step": 9, "image": {"_type": "i"}}, history=[0.1, 0.9, 0.5]),
        FakeRun(id="x2", name="two", state="crashed", config={"seed": 2, "m": "a"},
                summary={}, history=[]),
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", project(*runs))
    found = sources.read("wandb:me/project", Asked(values=("acc",)))
    assert found.columns.tolist() == [
        *("run_name", "state", "config.seed", "config.m", "acc", "run_id")
    ]
    assert found["acc"].isna().tolist() == [False, True]
    best = sources.read("wandb:me/project", Asked(at=At("max", "acc")))
    assert best["acc"].tolist()[0] == 0.9 and best["step"].tolist()[0] == 1
    assert best["acc"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (project(), "me/project has no runs"),
        (project(trouble=ValueError("could not find project")), "could not find project"),
    ],
)
def test_a_project_that_cannot_be_had_is_refused(module, said, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(Refusal, match=said):
        sources.read("wandb:me/project", Asked())
