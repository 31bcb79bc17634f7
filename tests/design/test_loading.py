"""Discovery: a name becomes an experiment, and what cannot is refused with the line."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.design.loading import (
    UnknownExperiment,
    built_in,
    discover,
    file_of,
    known_names,
    load,
    reference_of,
)
from bench.experiment import BadExperiment
from bench.store.mlflow_store import Store


def refused(path: Path) -> BadExperiment:
    with pytest.raises(BadExperiment) as caught:
        discover(str(path))
    assert (caught.value.code, caught.value.exit_status) == ("experiment", 2)
    return caught.value


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_found_wherever_it_lies(
    tmp_path: Path, write_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    path = write_tiny(tmp_path, name="from a file")
    monkeypatch.chdir(tmp_path)
    found = discover(path.name)
    assert found.experiment.name == "from a file"
    assert found.reference == str(path.resolve())  # a worker may stand in another folder
    assert found.source == {path.name: path.read_text()}


def test_an_experiment_is_described_in_plain_values(
    tmp_path: Path, write_tiny: Callable[..., Path]
):
    packed = "train_pack=lambda trials: [train(t) for t in trials],\n    pack_seeds={},"
    said = [
        discover(str(write_tiny(tmp_path, extra=extra))).experiment
        for extra in ("device='gpu',\n    devices=2,", "pack_seeds=3,", packed.format(3),
                      packed.format("lambda settings, device: 4"))
    ]  # fmt: skip
    assert [(each.device, each.devices) for each in said[:2]] == [("gpu", 2), ("any", 1)]
    assert [each.pack_seeds for each in said] == [0, 0, 3, None]
    first = said[0]
    assert [*first.arms] == ["weak", "strong"] and first.arms["strong"]["strength"] == 1.0
    json.dumps(vars(first))


def test_a_module_is_found_by_its_dotted_name(
    tmp_path: Path, tiny_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, "mine_pkg/__init__.py", "")
    path = write(tmp_path, "mine_pkg/one.py", tiny_text(name="a module"))
    monkeypatch.syspath_prepend(tmp_path)
    found = discover("mine_pkg.one")
    assert (found.experiment.name, found.reference) == ("a module", "mine_pkg.one")
    assert file_of(found.reference) == path


def test_a_module_on_the_import_path_is_found_by_its_name(
    tmp_path: Path, tiny_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "path"
    path = write(folder, "mine_quick.py", tiny_text(name="quick"))
    write(tmp_path, "mine_here.py", tiny_text())
    write(folder, "mine_other.py", "raise RuntimeError('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    found = discover("mine_quick")
    assert (found.experiment.name, found.reference) == ("quick", "mine_quick")
    assert found.file == str(path) and set(found.files) == {"mine_quick.py"}
    for name in ("json", "numpy", "mine_other", "mine_here"):  # no experiment, or not on that path
        with pytest.raises(UnknownExperiment, match="no experiment called"):
            discover(name)


def test_the_built_in_experiments_are_those_that_define_one():
    assert built_in() == ["cifar10", "digits", "shuffled", "trees"]
    assert reference_of("digits") == "bench.experiments.digits"


def test_a_module_of_the_first_edition_is_built_in_unless_the_user_has_one_and_is_reported_on(
    tmp_path: Path, tiny_text: Callable[..., str], copy_store: Callable[[Path], str],
    bench: Callable[..., object], monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    assert reference_of("experiments.digits") == "bench.experiments.digits"
    store, page = copy_store(tmp_path / "store"), tmp_path / "out" / "report.html"
    write(tmp_path, "experiments/__init__.py", "")
    write(tmp_path, "experiments/digits.py", tiny_text(name="digits"))
    with monkeypatch.context() as there:
        there.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        words = ("--seeds", 6, "--workers", 1, "--no-report", "-q", "--store", store)
        assert bench("run", "experiments.digits", *words).status == 0  # type: ignore[attr-defined]
    recorded = Store(store).benchmark("digits").plan.files
    assert "experiments/digits.py" in recorded  # as of the first edition
    said = bench("report", "experiments.digits", "--store", store, "--out", page.parent)
    assert said.status == 0, said.err  # type: ignore[attr-defined]
    assert bench("verify", page).status == 0  # type: ignore[attr-defined]


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownExperiment, match='no experiment called "digts"') as caught:
        discover("digts")
    assert caught.value.facts[0] == "Closest: digits. Known: cifar10, digits, shuffled, trees."
    assert caught.value.replace[0][1] == "digits"
    assert caught.value.exit_status == 2


def test_a_file_of_that_name_in_this_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "my forest.py", "")
    with pytest.raises(UnknownExperiment, match='no experiment called "my forest"') as caught:
        discover("my forest")
    assert caught.value.facts == ("There is a file my forest.py in this folder.",)
    assert caught.value.replace == (("my forest", "my forest.py"),)


def test_a_name_like_no_other_is_answered_with_all_names():
    assert known_names("zzz", ["alpha", "beta"]) == "Known: alpha, beta."
    assert known_names("zzz", []) == "None is recorded here yet."


@pytest.mark.parametrize("name", ["nowhere.py", "some/folder", "a\\b.py"])
def test_a_file_that_is_not_there_is_refused(name: str):
    with pytest.raises(UnknownExperiment, match="there is no file") as caught:
        discover(name)
    assert caught.value.facts == ("Built-in experiments: cifar10, digits, shuffled, trees.",)
    assert caught.value.replace[0][1] == "digits"


@pytest.mark.parametrize("name", [".", "..", "a.", "..x", "no.such.module", "", "-"])
def test_what_is_no_name_at_all_is_refused_as_unknown(name: str):
    with pytest.raises(UnknownExperiment, match="no experiment called"):
        discover(name)


def test_a_syntax_error_is_shown_with_its_line(tmp_path: Path):
    path = write(tmp_path, "mine_syntax.py", "x = 1\nx = = 2\n")
    refusal = refused(path)
    assert "mine_syntax.py does not import: SyntaxError: invalid syntax" in refusal.what
    assert refusal.facts == ("In line 2: x = = 2",)
    assert refusal.fix == "python mine_syntax.py"


def test_an_import_that_fails_is_shown_with_its_line(tmp_path: Path):
    path = write(tmp_path, "mine_import.py", "x = 1\n\nimport no_such_package_here\n")
    refusal = refused(path)
    assert "ModuleNotFoundError: No module named 'no_such_package_here'" in refusal.what
    assert refusal.facts == ("In line 3: import no_such_package_here",)


def test_a_name_that_does_not_exist_is_shown_with_its_line(tmp_path: Path):
    path = write(tmp_path, "mine_name.py", "x = 1\n\ny = undefined_name\n")
    assert refused(path).facts == ("In line 3: y = undefined_name",)


def test_a_file_that_exits_does_not_end_bench(tmp_path: Path):
    path = write(tmp_path, "mine_exit.py", "import sys\nsys.exit(3)\n")
    refusal = refused(path)
    assert "does not import: SystemExit: 3" in refusal.what
    assert refusal.facts == ("In line 2: sys.exit(3)",)


def test_a_file_without_an_experiment_is_refused(tmp_path: Path):
    refusal = refused(write(tmp_path, "mine_empty.py", "x = 1\n"))
    assert "mine_empty.py defines no EXPERIMENT" in refusal.what
    assert "bench looks for a module-level name EXPERIMENT" in refusal.facts[0]
    assert "EXPERIMENT = Experiment(" in (refusal.fix or "")


def test_an_experiment_of_another_type_is_refused(tmp_path: Path):
    refusal = refused(write(tmp_path, "mine_type.py", "EXPERIMENT = {'name': 'x'}\n"))
    assert "has an EXPERIMENT of another type" in refusal.what


def test_an_experiment_that_refuses_itself_keeps_its_own_words(tmp_path: Path):
    text = "from bench import Experiment\nEXPERIMENT = Experiment(name='x', question='?', "
    refusal = refused(write(tmp_path, "mine_arms.py", text + "arms={'a': {}}, train=print)\n"))
    assert "has 1 arm; a comparison needs two" in refusal.what


# -- what it leaves alone --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["bench", "analysis", "json", "wave", "__main__", "my file", "a.b"]
)
def test_a_file_named_like_a_module_does_not_take_its_place(
    name: str, tmp_path: Path, tiny_text: Callable[..., str]
):
    before = sys.modules.get(name)
    found = discover(str(write(tmp_path, f"{name}.py", tiny_text(name="mine"))))
    assert found.experiment.name == "mine" and sys.modules.get(name) is before
    assert load(found.reference).train.__module__ in sys.modules  # for pickles and dataclasses


def test_a_file_keeps_its_name_where_it_is_free(tmp_path: Path, tiny_text: Callable[..., str]):
    (first, second) = (write(tmp_path, f"{i}/mine_own.py", tiny_text(name=i)) for i in "ab")
    assert load(str(first)).train.__module__ == "mine_own"
    other = load(str(second))
    assert other.name == "b" and other.train.__module__.startswith("mine_own_")
    assert sys.modules["mine_own"].__file__ == str(first)


@pytest.mark.parametrize("name", ["mine_half", "json"])
def test_a_file_that_fails_leaves_no_half_of_itself(name: str, tmp_path: Path):
    import json

    before = set(sys.modules)
    assert refused(write(tmp_path, f"{name}.py", "x = 1\nraise ValueError('no')\n")).facts == (
        "In line 2: raise ValueError('no')",
    )
    assert set(sys.modules) == before and sys.modules["json"] is json


def test_packages_named_like_ours_shadow_nothing_here_nor_in_workers(
    tmp_path: Path, tiny_text: Callable[..., str], copy_store: Callable[[Path], str],
    bench: Callable[..., object],
):  # fmt: skip
    for package in ("experiments", "analysis", "bench"):
        write(tmp_path, f"{package}/__init__.py", "raise ValueError('not the one you want')\n")
    write(tmp_path, "wave.py", "raise ValueError('nor this')\n")
    path = write(tmp_path, "mine_crowded.py", tiny_text())
    words = ("--seeds", 2, "--workers", 1, "--no-report", "-q", "--store")
    assert bench("run", path, *words, copy_store(tmp_path / "store")).status == 0  # type: ignore[attr-defined]
    assert importlib.import_module("wave").__file__ != str(tmp_path / "wave.py")


def test_modules_beside_the_file_come_first_as_for_a_script_and_are_found_later_too(
    tmp_path: Path, tiny_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    write(tmp_path, "colorsys.py", "MINE = 1\n")
    write(tmp_path, "mine_later.py", "LATER = 2\n")
    lazily = "def later():\n    from mine_later import LATER\n    return LATER\n"
    path = write(tmp_path, "mine_first.py", f"from colorsys import MINE\n{lazily}{tiny_text()}")
    discover(str(path))
    del sys.modules["colorsys"]
    assert sys.modules["mine_first"].later() == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_package_that_does_not_import_is_named_with_its_error(
    body: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, "mine_bad/__init__.py", body)
    write(tmp_path, "mine_bad/one.py", "")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadExperiment) as caught:
        discover("mine_bad.one")
    assert caught.value.what.startswith(f"mine_bad.one does not import: {error}")


# -- what belongs to the source --------------------------------------------------------------


def test_modules_beside_the_file_are_found_and_part_of_its_digest(
    tmp_path: Path, tiny_text: Callable[..., str]
):
    sibling = write(tmp_path, "mine_helper.py", "import mine_deeper\nX = 1\n")
    deeper = write(tmp_path, "mine_deeper.py", "Y = 1\n")
    write(tmp_path, "mine_unused.py", "Z = 1\n")
    path = write(tmp_path, "mine_main.py", "from mine_helper import X\n" + tiny_text())
    found = discover(str(path))
    assert sorted(found.source) == ["mine_deeper.py", "mine_helper.py", "mine_main.py"]
    for changed in (sibling, deeper, path):
        before = discover(str(path)).source_digest
        changed.write_text(changed.read_text() + "# changed\n")
        assert discover(str(path)).source_digest != before


def test_packages_beside_the_file_are_part_of_its_digest(
    tmp_path: Path, tiny_text: Callable[..., str]
):
    write(tmp_path, "mine_net/__init__.py", "A = 1\n")
    write(tmp_path, "mine_net/layers.py", "from . import init\nfrom .sub.deep import C\n")
    write(tmp_path, "mine_net/init.py", "B = 1\n")
    write(tmp_path, "mine_net/sub/__init__.py", "")
    write(tmp_path, "mine_net/sub/deep.py", "from ..other import D\nC = 1\n")
    write(tmp_path, "mine_net/other.py", "D = 1\n")
    path = write(tmp_path, "mine_packaged.py", "import mine_net.layers\n" + tiny_text())
    parts = ["__init__", "init", "layers", "other", "sub/__init__", "sub/deep"]
    expected = [*(f"mine_net/{part}.py" for part in parts), "mine_packaged.py"]
    assert sorted(discover(str(path)).source) == expected


def test_line_ends_and_a_byte_order_mark_do_not_change_the_digest(
    tmp_path: Path, tiny_text: Callable[..., str]
):
    digests = set()
    for i, (encoding, line_end) in enumerate(
        [("utf-8", b"\n"), ("utf-8", b"\r\n"), ("utf-8-sig", b"\r\n")]
    ):
        path = tmp_path / str(i) / "mine_ends.py"
        path.parent.mkdir()
        path.write_bytes(tiny_text().encode(encoding).replace(b"\n", line_end))
        digests.add(discover(str(path)).source_digest)
    assert len(digests) == 1


def test_a_file_in_another_encoding_is_read_as_python_reads_it(
    tmp_path: Path, tiny_text: Callable[..., str]
):
    path = tmp_path / "mine_latin.py"
    path.write_bytes(("# -*- coding: latin-1 -*-\n# Größe\n" + tiny_text()).encode("latin-1"))
    assert "# Größe" in discover(str(path)).source["mine_latin.py"]


def test_a_neighbour_that_does_not_parse_but_is_never_imported_does_no_harm(
    tmp_path: Path, tiny_text: Callable[..., str]
):
    write(tmp_path, "mine_broken.py", "def (:\n")
    lazily = "def unused():\n    import mine_broken\n"
    found = discover(str(write(tmp_path, "mine_lazy.py", lazily + tiny_text())))
    assert sorted(found.source) == ["mine_lazy.py"]


def test_a_file_is_imported_once_a_process(
    tmp_path: Path, tiny_text: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path, "mine_once.py", "import os\nos.mkdir('here once')\n" + tiny_text())
    monkeypatch.chdir(tmp_path)
    first, second = discover(path.name), discover(str(path))
    assert load(first.reference) is load(second.reference)
    assert first.experiment == second.experiment
    assert (tmp_path / "here once").is_dir()
