"""The house: which folder may know which, without circles, and who alone imports what is heavy.

Every rule is a function from imports to breaches, and is proved by a planted breach.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each folder may import from itself and from those below it.
BENCH = (
    {"__main__"},
    {"cli", "python_api"},
    {"commands"},
    {"reports"},
    {"display"},
    {"execution"},
    {"importers", "adapters"},
    {"store"},
    {"design"},
    {"programs"},
    {"experiment", ""},  # "": what `import bench` gives
    {"redaction", "terminal", "cache", "estimators"},
)
ANALYSIS = ({"report"}, {"study"}, {"calibration"}, {"inference"}, {"data"}, {"errors", ""})

# What costs so much that it is imported where it is used, and not before.
HEAVY = {
    *("distributed", "matplotlib", "mlflow", "numpy", "pandas", "pydantic", "rich", "scipy"),
    *("seaborn", "sklearn", "sqlalchemy", "torch", "torchvision", "markupsafe"),
    *("pyarrow", "pynvml", "threadpoolctl"),
    *("openpyxl", "submitit", "wandb", "yaml"),  # installed by whoever needs them
    *("pwd", "resource"),  # not on every system
}
IMPORTS_MLFLOW = "bench.store.mlflow_store"  # whoever looks at no store is spared it
# Files that start before it is known what they will need: they import the house itself late.
LATE = ("bench", "bench.cli", "bench.commands", "bench.reports", "bench.display.choose")

OWNERS = {
    "mlflow": {"bench.store.mlflow_reader", "bench.store.mlflow_store"},
    "joblib": {"bench.execution.processes"},
    "distributed": {"bench.execution.dask_cluster"},
    "submitit": {"bench.execution.slurm"},
    "pynvml": {"bench.execution.nvml"},
    "typer": {"bench.commands.parser"},
}
DOOR = "bench"  # names what lies above it, for type checkers; it is imported when asked for
LOADERS = {"bench.execution.fork_server", "bench.execution.worker"}  # import an experiment
TORCH = {"bench.experiment", "bench.execution.fork_server", "bench.execution.nvml"}
WORDED = {"what", "fix", "facts", "without"}  # of a refusal: told, never taken apart
TAKE_APART = {
    *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition"),
    *("split", "rsplit", "splitlines", "replace", "index", "find", "rfind"),
}


@dataclass(frozen=True)
class Import:
    """One imported module: by whom, where, and whether only when a function runs."""

    importer: str
    module: str
    line: int = 0
    late: bool = False
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.importer} imports {self.module} (line {self.line})"


# -- reading the house -------------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Return every module of the house and its file; bench/analysis and /experiments are links."""
    found = {}
    for package, above in (("bench", ""), ("analysis", "bench."), ("experiments", "bench.")):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[:2] not in (("bench", "analysis"), ("bench", "experiments")):
                name = ".".join(part for part in parts if part != "__init__")
                found[above + name] = path
    return found


FILES = modules()


@cache
def trees() -> dict[str, ast.Module]:
    """Return every file of the source, parsed."""
    return {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def imports_of(name: str, tree: ast.AST, known: Iterable[str]) -> Iterator[Import]:
    """Yield what a module imports, as the modules of the house where it names one."""
    known = set(known)

    def walk(node: ast.AST, late: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            types = typing or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, child.lineno, inside, types)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}: a relative import hides its folder"
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    module = full if full in known else str(child.module)
                    yield Import(name, module, child.lineno, inside, types)
            elif isinstance(child, ast.Call) and "import_module" in ast.unparse(child.func):
                if isinstance(child.args[0], ast.Constant):
                    yield Import(name, str(child.args[0].value), child.lineno, inside, types)
            yield from walk(child, inside, types)

    yield from walk(tree, False, False)


@cache
def house() -> list[Import]:
    """Return every import of the source."""
    return [i for name, tree in trees().items() for i in imports_of(name, tree, FILES)]


def is_under(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def part_of(module: str) -> tuple[str, str]:
    """Return the tower of a module and its folder there, by the folder's name alone."""
    top, *rest = module.split(".")
    if top != "bench":
        return "elsewhere", top
    if rest[:1] in (["analysis"], ["experiments"]):
        tower = rest[0]
        return tower, rest[1] if len(rest) > 1 else ""
    return "bench", rest[0] if rest else ""


def height(layers: tuple[set[str], ...], folder: str) -> int:
    """Return how high a folder lies, the ground being 1; 0 where nobody has placed it."""
    return next((len(layers) - i for i, layer in enumerate(layers) if folder in layer), 0)


# -- the rules ---------------------------------------------------------------------------------


def unplaced(names: Iterable[str]) -> list[str]:
    """Return folders and files of bench and analysis that stand in no layer."""
    parts = {part_of(name) for name in names}
    layers = {"bench": BENCH, "analysis": ANALYSIS}
    return sorted(
        f"{tower}/{folder}"
        for tower, folder in parts
        if tower in layers and not height(layers[tower], folder)
    )


def upward(imports: Iterable[Import]) -> list[str]:
    """Return imports of a higher folder, and those that analysis and experiments may not have."""
    wrong = []
    for i in (i for i in imports if not (i.importer == DOOR and i.typing)):
        (tower, mine), (other, theirs) = part_of(i.importer), part_of(i.module)
        if tower == other == "bench":
            bad = height(BENCH, theirs) > height(BENCH, mine)
        elif tower == other == "analysis":
            bad = height(ANALYSIS, theirs) > height(ANALYSIS, mine)
        elif tower == "analysis":
            bad = other in ("bench", "experiments")
        elif tower == "experiments":
            bad = other == "bench" and theirs not in ("", "experiment", "cache")
        else:
            bad = other == "experiments" and theirs != ""  # by name: the loader alone, and not so
        wrong += [str(i)] if bad else []
    return wrong


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """Return groups of files that import each other, imports for type checking counted too."""
    below: dict[str, set[str]] = {}
    for i in (i for i in imports if not (i.importer == DOOR and i.typing)):
        if i.module in FILES or is_under(i.module, "planted"):
            below.setdefault(i.importer, set()).add(i.module)
    reach: dict[str, set[str]] = {}
    for name in below:
        seen, left = set[str](), [*below[name]]
        while left:
            each = left.pop()
            if each not in seen:
                seen.add(each)
                left += below.get(each, ())
        reach[name] = seen
    loops = {frozenset({n, *(m for m in reach[n] if n in reach.get(m, ()))}) for n in below}
    return sorted(sorted(loop) for loop in loops if len(loop) > 1)


def late(imports: Iterable[Import]) -> list[str]:
    """Return imports inside a function that are not of what is declared heavy."""
    return [
        str(i)
        for i in imports
        if i.late and i.module.partition(".")[0] not in HEAVY and i.module != IMPORTS_MLFLOW
        if not (
            is_under(i.module, "bench")
            and any(
                i.importer == n or is_under(i.importer, n)
                for n in LATE
                if n != "bench" or i.importer == "bench"
            )
        )
    ]


def strangers(imports: Iterable[Import], owners: Mapping[str, set[str]]) -> list[str]:
    """Return imports of a package by a file that is not its one owner."""
    return [
        str(i)
        for i in imports
        for package, allowed in owners.items()
        if is_under(i.module, package) and i.importer not in allowed
    ]


def eager_torch(imports: Iterable[Import]) -> list[str]:
    """Return imports of torch outside the experiments that are not late, or not a child's."""
    return [
        str(i)
        for i in imports
        if is_under(i.module, "torch") and part_of(i.importer)[0] != "experiments"
        if not (i.late or i.typing) or i.importer not in TORCH
    ]


def impure(imports: Iterable[Import]) -> list[str]:
    """Return what analysis imports of trainings, stores, the clock and chance."""
    forbidden = ("torch", "mlflow", "joblib", "typer", "time", "random")
    return [
        str(i)
        for i in imports
        if part_of(i.importer)[0] == "analysis" and any(is_under(i.module, f) for f in forbidden)
    ]


def draws_globally(trees: Mapping[str, ast.AST]) -> list[str]:
    """Return uses of numpy's global generator in analysis."""
    allowed = ("np.random.Generator", "np.random.default_rng", "np.random.SeedSequence")
    return [
        f"{name}: {text}"
        for name, tree in trees.items()
        if part_of(name)[0] == "analysis"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (text := ast.unparse(node)).startswith("np.random.")
        and text not in allowed
    ]


def takes_apart(trees: Mapping[str, ast.AST]) -> list[str]:
    """Return calls that take a refusal's words apart: facts travel as fields."""
    wrong = []
    for name, tree in trees.items():
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            subject: list[ast.expr] = []
            if isinstance(node.func, ast.Attribute):
                if node.func.attr in TAKE_APART:
                    subject = [node.func.value]
                elif ast.unparse(node.func.value) == "re":
                    subject = node.args
            inside = (n for each in subject for n in ast.walk(each))
            if any(isinstance(n, ast.Attribute) and n.attr in WORDED for n in inside):
                wrong.append(f"{name}, line {node.lineno}: {ast.unparse(node)}")
    return wrong


def commands_named(trees: Mapping[str, ast.AST]) -> list[str]:
    """Return texts of analysis that name a command or an option: whoever asks may be Python.

    The report alone names the command that a reader can type: it is made for the terminal's user.
    """
    spoken = re.compile(r"(^|[\s`])--[a-z]|\bbench (run|compare|plan|report|verify|doctor|ui)\b")
    return [
        f"{name}, line {node.lineno}: {node.value[:60]}"
        for name, tree in trees.items()
        if part_of(name)[0] == "analysis" and part_of(name)[1] != "report"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if spoken.search(node.value)
    ]


# -- the house keeps them ----------------------------------------------------------------------


def test_every_folder_has_its_place():
    assert unplaced(FILES) == []
    layers = [folder for layer in BENCH for folder in layer if folder]
    there = {part_of(name)[1] for name in FILES if part_of(name)[0] == "bench"}
    assert sorted(set(layers) - there) == [], "in the layers, and not in the house"


def test_arrows_between_folders_point_one_way():
    assert upward(house()) == []


def test_there_are_no_circles():
    assert circles(house()) == []


def test_only_what_is_heavy_is_imported_inside_a_function():
    assert late(house()) == []


def test_one_file_alone_imports_what_could_be_replaced():
    assert strangers(house(), OWNERS) == []
    used = {
        package: {i.importer for i in house() if is_under(i.module, package)} for package in OWNERS
    }
    assert used == OWNERS


def test_torch_is_imported_by_experiments_and_by_the_processes_that_train():
    assert eager_torch(house()) == []


def test_analysis_is_pure():
    assert impure(house()) == []
    assert draws_globally(trees()) == []


def test_only_the_processes_of_trainings_import_an_experiment():
    importers = {
        name
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "bench.design.loading"
        if {"discover", "load"} & {alias.name for alias in node.names}
    }
    assert importers == LOADERS
    children = LOADERS | {"bench.execution.guard"}
    wrong = [str(i) for i in house() if i.module in LOADERS and i.importer not in children]
    assert wrong == []


def test_no_words_of_a_refusal_are_taken_apart():
    assert takes_apart(trees()) == []


def test_analysis_does_not_speak_the_command_line():
    assert commands_named(trees()) == []


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "mlflow", "joblib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from bench import cli
sys.exit(cli._run(sys.argv[1:]))
"""
COMMANDS = {
    "help": ["--help"],
    "help of run": ["run", "--help"],
    "plan": ["plan", "--detect", "0.5"],
    "compare": ["compare", "TABLE", "--baseline", "a", "--treatment", "b", "--out", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_train_nothing_need_neither_torch_nor_mlflow(name: str, tmp_path: Path):
    table = tmp_path / "t.csv"
    table.write_text("seed,a,b\n" + "".join(f"{i},0.{i},0.{i + 1}\n" for i in range(1, 9)))
    places = {"TABLE": str(table), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word) for word in COMMANDS[name]]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode in (0, 10), done.stderr


def test_the_command_line_imports_nothing_heavy_before_it_knows_the_command():
    code = "import sys; from bench import cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & HEAVY - {"resource", "markupsafe", "rich"} == set(), done.stderr


# -- and every rule finds a breach -------------------------------------------------------------


def planted(text: str, name: str = "bench.store.planted") -> dict[str, ast.AST]:
    return {name: ast.parse(text)}


def arrows(text: str, name: str = "bench.store.planted") -> list[Import]:
    return list(imports_of(name, ast.parse(text), FILES))


def test_the_reader_of_imports_sees_what_it_should():
    text = (
        "import torch.nn\nfrom bench.design import plan\n"
        "if TYPE_CHECKING:\n    import mlflow\n"
        "def f():\n    from bench.analysis.study.study import study\n"
        "    importlib.import_module('torch')\n"
    )
    assert [(i.module, i.late, i.typing) for i in arrows(text)] == [
        ("torch.nn", False, False),
        ("bench.design.plan", False, False),
        ("mlflow", False, True),
        ("bench.analysis.study.study", True, False),
        ("torch", True, False),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bench.store.planted", "from bench.execution import runner"),
        ("bench.execution.planted", "from bench.reports import build"),
        ("bench.store.planted", "from bench.experiments import digits"),
        ("bench.experiments.planted", "from bench.store.base import Run"),
        ("bench.analysis.data.planted", "from bench.analysis.study import verdict"),
        ("bench.analysis.data.planted", "from bench.design import plan"),
    ],
)
def test_an_arrow_upward_is_found(name: str, text: str):
    assert len(upward(arrows(text, name))) == 1


def test_a_folder_that_nobody_placed_is_found():
    assert unplaced(["bench.attic.file", "bench.store.base"]) == ["bench/attic"]


def test_a_circle_is_found_though_one_arrow_is_for_types_alone():
    one = Import("planted.a", "planted.b")
    other = Import("planted.b", "planted.a", typing=True)
    assert circles([one, other]) == [["planted.a", "planted.b"]] and circles([one]) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (late, "def f():\n    import json"),
        (late, "def f():\n    from bench.design import plan"),
        (lambda found: strangers(found, OWNERS), "import mlflow.entities"),
        (eager_torch, "import torch"),
        (eager_torch, "def f():\n    import torch"),
    ],
)
def test_a_breach_of_the_rules_on_packages_is_found(rule, text: str):
    assert len(rule(arrows(text))) == 1


def test_an_impure_analysis_is_found():
    name = "bench.analysis.data.planted"
    assert len(impure(arrows("import time", name))) == 1
    assert len(draws_globally(planted("np.random.normal()", name))) == 1
    assert len(commands_named(planted("x = 'type --seeds 3'", name))) == 1
    assert len(commands_named(planted("x = 'bench run digits'", name))) == 1


@pytest.mark.parametrize(
    "text", ["e.what.replace('a', 'b')", "(e.fix or '').startswith('-')", "re.search('x', e.what)"]
)
def test_words_that_are_taken_apart_are_found(text: str):
    assert len(takes_apart(planted(text))) == 1
