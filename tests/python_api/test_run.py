"""`bench.run` and `bench.load` return the same findings; what importing bench costs."""

import ast
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import bench as door
from bench.design.loading import discover
from bench.design.option_values import arms_with
from bench.python_api.run import _arm, _pair

if TYPE_CHECKING:
    pass


ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "docs" / "compare.ipynb").read_text("utf-8"))
Refused = Callable[[Callable[[], object]], str]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_text: Callable[..., str],
    copy_store: Callable[[Path], str],
) -> tuple[door.Refusal | Any, str, Path]:
    """Return what `bench.run` found, where it is recorded, and the file."""
    folder = tmp_path_factory.mktemp("door")
    path, store = folder / "tiny_door.py", copy_store(folder / "mlruns")
    path.write_text(tiny_text(name="digits"))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        found = door.run(
            path, seeds=range(6), settings={"epochs": 2}, margin=0.03, store=store, workers=2
        )
        assert out.getvalue() == ""
    return found, store, path


def test_a_run_returns_what_it_found(trained: Any):
    f, _, path = trained
    assert (f.n, f.design.margin, f.design.experiment) == (6, 0.03, "digits")
    assert f.arm("weak").settings["epochs"] == 2
    assert f.provenance["command"] == (
        f"bench run {path} --seeds 6 --margin 3 --set epochs=2 --workers 2"
    )


def test_load_finds_the_same_and_so_does_the_command(
    refused: Refused, trained: Any, bench: Callable[..., Any]
):
    f, store, path = trained
    before = {p: p.stat().st_mtime_ns for p in path.parent.rglob("*") if p.is_file()}
    assert door.load("digits", store=store) == door.load(store=store) == f
    assert before.keys() == {p for p in path.parent.rglob("*") if p.is_file()}
    said = bench("report", "digits", "--store", store, "--json").json
    assert said["comparisons"] == f.as_dict()["comparisons"]
    assert "load" not in refused(lambda: door.load("digist", store=store))


def test_a_training_that_fails_is_an_error_and_the_same_call_goes_on(
    alone: Path,
    tiny_text: Callable[..., str],
    copy_store: Callable[[Path], str],
    refused: Refused,
):
    path = alone / "tiny_fails.py"
    path.write_text(tiny_text("if trial.seed == 1: raise ValueError('odd')", name="odd"))
    store = copy_store(alone / "mlruns")
    said = refused(lambda: door.run(path, seeds=[0, 1], store=store, workers=2, retries=0))
    assert "ValueError: odd" in said and "In tiny_fails.py, line" in said
    assert said.endswith("\n  fix: mend the cause, then the same call")
    f = door.load("odd", store=store)
    assert (f.verdict, f.n) == ("none", 1) and f.arm("weak").n_failed == 1


def test_the_notebook_runs_and_shows_what_stands_in_it(
    trained: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(trained[2].parent)
    names: dict[str, Any] = {"__name__": "__main__"}
    for code, shown in cells():
        said = executed(code, names)
        assert said == shown or "bench.load" in code
    assert said == repr(trained[0].verdict)


def test_nothing_recorded_is_said_and_no_store_made(refused: Refused, alone: Path):
    said = refused(lambda: door.load("digits"))
    assert "nothing is recorded in sqlite:///" in said and 'fix: bench.run("digits")' in said
    assert list(alone.iterdir()) == []


def test_settings_and_arms_are_read_as_they_were_given(tmp_path: Path, write_tiny: Any):
    changed = {"strength": 0.7, "nap": 1e-9}
    found = discover(str(write_tiny(tmp_path)))
    arms = arms_with(found, [_pair("epochs", np.int64(2))], [_arm("a b", changed)])
    assert arms["a b"] == {"epochs": 2, **changed} and arms["weak"]["epochs"] == 2
    assert _pair("k", "3") == 'k="3"' and _pair("k", {"a": True}) == 'k={"a": true}'


def test_options_that_no_run_has_are_refused(alone: Path, refused: Refused):
    assert "has no option sedes.\n  Closest: seeds." in refused(lambda: door.run("digits", sedes=3))
    assert "has no option dry_run" in refused(lambda: door.run("digits", dry_run=True))
    assert "stop=" in refused(lambda: door.run("digits", stop="never"))
    assert "seeds" in refused(lambda: door.run("digits", seeds=[]))


def test_an_experiment_that_no_file_holds_is_refused(refused: Refused):
    def train(trial: door.Trial) -> door.Outcome:
        return door.Outcome(scores={"return": 0.0})

    arms: dict[str, dict[str, Any]] = {"a": {"x": 1}, "b": {"x": 2}}
    experiment = door.Experiment(name="here", question="?", arms=arms, train=train, metric="return")
    said = refused(lambda: door.run(experiment))
    assert "here is not the EXPERIMENT of a file." in said and 'bench.run("FILE.py")' in said


def test_a_script_without_a_guard_is_refused_and_starts_no_end_of_processes(
    alone: Path, tiny_text: Callable[..., str]
):
    script = alone / "tiny_unguarded.py"
    script.write_text(f"{tiny_text()}\nimport bench\nbench.run(EXPERIMENT, seeds=6)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Refusal: tiny_unguarded.py calls bench.run while it is imported." in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert 'fix: put the call below: if __name__ == "__main__":' in done.stderr
    assert not (alone / "mlruns").exists()


def cells() -> Iterator[tuple[str, str]]:
    """Yield the code of the notebook, and what it shows."""
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            texts = [each.get("text") or each["data"]["text/plain"] for each in cell["outputs"]]
            yield "".join(cell["source"]), "".join("".join(text) for text in texts)


def executed(code: str, names: dict[str, Any]) -> str:
    """Run a cell and return what it shows."""
    tree, out = ast.parse(code), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(out):
        exec(compile(tree, "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return out.getvalue() + ("" if value is None else repr(value))


def test_importing_bench_costs_nothing_and_every_name_is_there():
    code = "import sys, bench; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "pandas", "scipy", "mlflow", "torch", "matplotlib", "typer"}
    assert all(getattr(door, name) for name in door.__all__)


@pytest.mark.thorough
def test_a_notebooks_backend_for_figures_is_kept():
    code = (
        "import bench.analysis.report.figures.style, matplotlib, os;"
        "print(matplotlib.rcParams['backend'], os.environ['MPLBACKEND'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"MPLBACKEND": "svg", "PATH": ""},
    )
    assert done.stdout.split() == ["svg", "svg"], done.stderr
