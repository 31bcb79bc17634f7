"""What an experiment consists of: own modules wherever they lie, declared inputs, nothing else."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.design import source_digest
from bench.design.source_digest import changed, digests, input_files, own_files, same_code, versions
from bench.execution.server import Server
from bench.experiment import BadExperiment

SOURCE = """
from bench import Experiment, Outcome
{imports}

def train(trial):
    {body}
    return Outcome(scores={{"r": float(trial.rng("x").normal())}})

EXPERIMENT = Experiment(name="mine", question="?", arms={{"a": {{"k": 0}}, "b": {{"k": 1}}}},
                        train=train, metric="r", {extra})
"""


@pytest.fixture
def files_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, str], str]]:
    """Return what describes an experiment in a process of its own: its files and their digest."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))

    def files(imports: str = "", body: str = "pass", extra: str = "") -> tuple[dict[str, str], str]:
        path = tmp_path / "runs" / "exp.py"
        path.write_text(SOURCE.format(imports=imports, body=body, extra=extra))
        with Server(str(path)) as server:
            return dict(server.found.files), server.found.source_digest

    return files


def package(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"__init__": "", **files}.items():
        (folder / f"{name}.py").write_text(text)


def test_modules_elsewhere_on_the_import_path_belong_to_it(tmp_path: Path, files_of):
    package(tmp_path / "src" / "mylib", model="GAIN = 0.0\n", unused="X = 1\n")
    files, before = files_of("from mylib.model import GAIN")
    assert sorted(files) == ["exp.py", "mylib/__init__.py", "mylib/model.py"]
    package(tmp_path / "src" / "mylib", model="GAIN = 5.0\n", unused="X = 2\n")
    after, digest = files_of("from mylib.model import GAIN")
    assert digest != before and changed(files, after) == ["mylib/model.py"]


def test_frameworks_and_the_standard_library_stand_for_themselves_by_version(files_of):
    files, _ = files_of("import torch, numpy, scipy.stats, json, pandas")
    assert sorted(files) == ["exp.py"]


def test_generated_modules_in_the_temporary_folder_do_not_count(tmp_path: Path, files_of):
    generated = tmp_path / "cache" / "cabcdef.py"
    generated.parent.mkdir()
    generated.write_text("X = 1\n")
    load = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cabcdef", {str(generated)!r})
module = sys.modules["cabcdef"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["odd"] = type(sys)("odd"); sys.modules["odd"].__file__ = "_ops.py"
"""
    assert sorted(files_of(load)[0]) == ["exp.py"]


def test_what_was_installed_from_a_folder_is_own_and_from_an_index_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site = tmp_path / "site-packages"
    for name, origin in (("fromfolder", '{"url": "file:///x", "dir_info": {}}'), ("fromindex", "")):
        package(site / name)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "RECORD").write_text(f"{name}/__init__.py,,\n{name}-1.0.dist-info/RECORD,,\n")
        if origin:
            (info / "direct_url.json").write_text(origin)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(site))
    monkeypatch.syspath_prepend(site)
    source_digest._installed_from_source.cache_clear()
    try:
        for name in ("fromfolder", "fromindex"):
            __import__(name)
        assert list(own_files(["fromfolder", "fromindex"])) == ["fromfolder/__init__.py"]
    finally:
        source_digest._installed_from_source.cache_clear()
        for name in ("fromfolder", "fromindex"):
            sys.modules.pop(name, None)


def test_declared_inputs_are_part_of_it(tmp_path: Path, files_of):
    (tmp_path / "runs" / "tool.py").write_text("X = 1\n")
    (tmp_path / "runs" / "conf" / "deep").mkdir(parents=True)
    (tmp_path / "runs" / "conf" / "deep" / "a.yaml").write_text("lr: 1\n")
    extra = 'inputs=["tool.py", "conf"]'
    files, before = files_of(extra=extra)
    assert sorted(files) == ["exp.py", "inputs/conf/deep/a.yaml", "inputs/tool.py"]
    (tmp_path / "runs" / "conf" / "deep" / "a.yaml").write_text("lr: 2\n")
    assert files_of(extra=extra)[1] != before


def test_an_input_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(BadExperiment, match=r"the input tool\.py is not there\.") as caught:
        input_files(["tool.py"], tmp_path)
    assert caught.value.fix == "put it there, or take tool.py out of inputs"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("x = 1\n", "# a comment\nx  =  1\n", True),
        ('def f():\n    "one"\n    return 1\n', 'def f():\n    "two"\n    return 1\n', True),
        ('def f():\n    "one"\n', "def f():\n    'two'\n", True),
        ("class A:\n    'doc'\n    x = 1\n", "class A:\n    x = 1\n", True),
        ("x = 1\n", "x = 2\n", False),
        ("def f():\n    return 'one'\n", "def f():\n    return 'two'\n", False),
        ("x = 1\n", "x = (\n", False),
        ("x = 1\n", "x = 1\n" + "(" * 5000, False),
    ],
)
def test_comments_docstrings_and_layout_change_no_code(old: str, new: str, same: bool):
    assert same_code(old, new) is same


def test_the_digest_of_a_module_is_that_of_its_text_and_of_others_that_of_their_bytes(
    tmp_path: Path,
):
    for name, data in {"a.py": b"x = 1\r\n", "b.py": b"x = 1\n", "c.txt": b"1\r\n"}.items():
        (tmp_path / name).write_bytes(data)
    found = digests({name: tmp_path / name for name in ("a.py", "b.py", "c.txt")})
    assert found["a.py"] == found["b.py"] != found["c.txt"]
    (tmp_path / "d.py").write_bytes(b"\xff\xfe")  # which Python cannot read either
    assert len(digests({"d.py": tmp_path / "d.py"})["d.py"]) == 64


def test_versions_are_those_of_packages_whose_names_are_used():
    import numpy

    assert versions(["bench.design.source_digest"]) == {}
    assert versions(["bench.analysis.data.metrics"])["numpy"] == numpy.__version__


def test_only_comments_changed_goes_on_with_the_old_runs(
    tmp_path: Path, tiny_text: Callable[..., str], bench: Callable[..., object]
):
    path, store = tmp_path / "tiny_comments.py", f"sqlite:///{tmp_path}/store/mlflow.db"
    path.write_text(tiny_text())
    words = ("run", path, "--seeds", 2, "--store", store, "--no-report", "--json")
    assert bench(*words).json["trained"] == 4
    path.write_text("# a comment\n" + tiny_text())
    assert bench(*words).json["trained"] == 0
    path.write_text(tiny_text("noise = 1"))
    said = bench(*words[:-1])
    assert "Different: the experiment's source (tiny_comments.py)." in " ".join(said.err.split())


def test_modules_that_a_training_loads_itself_are_recorded_with_it(tmp_path: Path):
    from bench.design.option_values import arms_with
    from bench.design.plan import make_plan
    from bench.execution.base import Options
    from bench.execution.devices import cpu_slots
    from bench.execution.processes import Processes
    from bench.execution.resume import jobs

    (tmp_path / "lazy.py").write_text("X = 1\n")
    path = tmp_path / "exp.py"
    path.write_text(SOURCE.format(imports="", body="import lazy", extra=""))
    with Server(str(path)) as server, Processes(server, cpu_slots(1)) as executor:
        plan = make_plan(server.found, data={}, arms=arms_with(server.found), seeds=(0,))
        results = [
            r for some in executor.run(jobs(plan, server.found, Options(), ())) for r in some
        ]
    late = {r.key.arm: r.outcome.facts["late_modules"] for r in results}
    assert late["a"] == late["b"] == digests({"lazy.py": tmp_path / "lazy.py"})


def test_a_module_that_only_trainings_load_begins_a_new_benchmark_when_it_changes(
    tmp_path: Path, tiny_text: Callable[..., str], bench: Callable[..., object]
):
    path, store = tmp_path / "tiny_late.py", f"sqlite:///{tmp_path}/store/mlflow.db"
    late = tmp_path / "late_model.py"
    late.write_text("X = 1\n")
    path.write_text(tiny_text("import late_model"))
    words = ("run", path, "--seeds", 2, "--store", store, "--no-report")
    assert bench(*words, "--json").json["trained"] == 4
    assert bench(*words, "--json").json["trained"] == 0
    late.write_text("X = 2\n")
    assert bench(*words, "--dry-run", "--json").json["runs_left"] == 4
    said = bench(*words)
    assert "late_model.py changed since tiny was benchmarked" in " ".join(said.err.split())
    assert bench(*words, "--json").json["trained"] == 0
    assert bench("report", "tiny", "--store", store, "--json").json["checks"]


LOOKED_AT = """
import importlib.util, sys, warnings
from pathlib import Path


class Deprecated:
    def __getattribute__(self, name):
        warnings.warn(f"{name} of it is deprecated", FutureWarning)
        return object.__getattribute__(self, name)


def lazily(name):
    spec = importlib.util.find_spec(name)
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


old, later = Deprecated(), lazily("mine_lazy")
"""


def test_looking_at_an_experiment_neither_warns_nor_loads_what_is_lazy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mine_lazy.py").write_text("raise RuntimeError('loaded')")
    (tmp_path / "mine_looked.py").write_text(LOOKED_AT)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mine_looked")
    assert versions(["mine_looked"]) == {}  # warnings are errors here
    found = own_files({"mine_looked", "mine_lazy"})
    assert set(found) == {"mine_looked.py", "mine_lazy.py"}
