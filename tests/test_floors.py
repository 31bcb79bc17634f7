"""The house stands: arrows only point down, and one file alone imports what is heavy.

Every module has its floor in the tables below, so that a new file must be placed. The two towers
are DESIGN.md's; each floor here may use its own floor and those below it in the same tower.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The left tower trains. Its ground is the contract; nothing but the command line knows it all.
TRAINS = {
    "bench.contract": 0,
    "bench": 0,  # hands out the contract
    "experiments": 1,
    "experiments.augment": 1,
    "experiments.batches": 1,
    "experiments.cache": 1,
    "experiments.cifar10": 1,
    "experiments.data": 1,
    "experiments.digits": 1,
    "experiments.epochs": 1,
    "experiments.features": 1,
    "experiments.label_smoothing": 1,
    "experiments.precision": 1,
    "experiments.readers": 1,
    "experiments.reproducible": 1,
    "experiments.resnet": 1,
    "experiments.selection": 1,
    "experiments.settings": 1,
    "experiments.shuffled": 1,
    "experiments.small": 1,
    "experiments.stacked": 1,
    "experiments.transfer": 1,
    "experiments.trees": 1,
    "experiments.weights": 1,
    "bench.address": 2,
    "bench.artifacts": 2,
    "bench.cluster": 2,
    "bench.database": 2,
    "bench.design": 2,
    "bench.design.source_digest": 2,
    "bench.discover": 2,
    "bench.execution": 2,
    "bench.execution.answers": 2,
    "bench.execution.base": 2,
    "bench.execution.devices": 2,
    "bench.execution.failures": 2,
    "bench.execution.file_watch": 2,
    "bench.execution.fork_server": 2,
    "bench.execution.guard": 2,
    "bench.execution.leases": 2,
    "bench.execution.lines": 2,
    "bench.execution.nvml": 2,
    "bench.execution.places": 2,
    "bench.execution.processes": 2,
    "bench.execution.refusals": 2,
    "bench.execution.repeats": 2,
    "bench.execution.run_folder": 2,
    "bench.execution.server": 2,
    "bench.execution.signals": 2,
    "bench.execution.slot_lines": 2,
    "bench.execution.worker": 2,
    "bench.glance": 2,
    "bench.live": 2,
    "bench.locks": 2,
    "bench.names": 2,
    "bench.pending": 2,
    "bench.plan": 2,
    "bench.private": 2,
    "bench.progress": 2,
    "bench.provenance": 2,
    "bench.recorder": 2,
    "bench.redaction": 2,
    "bench.resuming": 2,
    "bench.records": 2,
    "bench.status": 2,
    "bench.terminal": 2,
    "bench.tracking": 2,
    "bench.ui": 2,
    "bench.runner": 3,
    "bench.comparing": 4,
    "bench.doctor": 4,
    "bench.drafting": 4,
    "bench.files": 4,
    "bench.planning": 4,
    "bench.reporting": 4,
    "bench.rehearsal": 4,
    "bench.session": 4,
    "bench.showing": 4,
    "bench.stopping": 4,
    "bench.verifying": 4,
    "bench.cli": 5,
    "bench.commands": 5,
    "bench.commands.common": 5,
    "bench.commands.compare": 5,
    "bench.commands.doctor": 5,
    "bench.commands.options": 5,
    "bench.commands.parser": 5,
    "bench.commands.plan": 5,
    "bench.commands.report": 5,
    "bench.commands.retyping": 5,
    "bench.commands.run": 5,
    "bench.commands.status": 5,
    "bench.commands.streams": 5,
    "bench.commands.ui": 5,
    "bench.commands.verify": 5,
}

# The right tower computes, from anybody's scores.
COMPUTES = {
    "analysis": 0,
    "analysis.distributions": 0,
    "analysis.errors": 0,
    "analysis.format": 0,
    "analysis.metrics": 0,
    "analysis.result": 0,
    "analysis.table": 0,
    "analysis.calibration": 1,
    "analysis.claim": 1,
    "analysis.comparisons": 1,
    "analysis.components": 1,
    "analysis.effect": 1,
    "analysis.findings": 1,
    "analysis.multiplicity": 1,
    "analysis.power": 1,
    "analysis.scores": 1,
    "analysis.sequential": 1,
    "analysis.verdict": 1,
    "analysis.checks": 2,
    "analysis.classes": 2,
    "analysis.curves": 2,
    "analysis.figures": 2,
    "analysis.outcomes": 2,
    "analysis.primary": 2,
    "analysis.protocol": 2,
    "analysis.robustness": 2,
    "analysis.sources": 2,
    "analysis.treatment": 2,
    "analysis.recompute": 3,
    "analysis.study": 3,
    "analysis.report": 4,
}

# What points up or across all the same, and why that is all right.
BRIDGES = {
    ("bench.progress", "bench.runner"): "it shows the runner's Look; the runner knows no display",
}

# From the left tower into the right: tracking returns its tables, trainings score themselves,
# and the files on the two top floors call it. Refusals and metrics are everybody's.
GROUND = ("analysis.errors", "analysis.metrics", "analysis.table", "analysis.format")
CALLERS = tuple(name for name, floor in TRAINS.items() if floor >= 4)

FORBIDDEN_BELOW_ANALYSIS = ("bench", "experiments", "torch", "mlflow", "joblib", "time", "random")


@dataclass(frozen=True)
class Import:
    """One imported module: by whom, where, and whether only when a function runs."""

    importer: str
    module: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.module} (line {self.line})"


def modules() -> dict[str, Path]:
    """Return every module of the house and its file."""
    found = {}
    for package in ("analysis", "bench", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(name: str, text: str) -> Iterator[Import]:
    """Yield what a module imports, as the modules of the house where it names one."""

    def walk(node: ast.AST, lazy: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inside = True
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, child.lineno, inside
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}: a relative import hides its floor"
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    known = full if full in modules() else str(child.module)
                    yield known, child.lineno, inside
            elif isinstance(child, ast.Call) and "import_module" in ast.unparse(child.func):
                if isinstance(child.args[0], ast.Constant):
                    yield str(child.args[0].value), child.lineno, inside
            yield from walk(child, inside)

    for module, line, lazy in walk(ast.parse(text), False):
        yield Import(name, module, line, lazy)


def all_imports() -> list[Import]:
    """Return every import of the house."""
    return [
        i for name, path in modules().items() for i in imports_of(name, path.read_text("utf-8"))
    ]


def floor_of(name: str) -> int | None:
    """Return a module's floor: its own, or that of the package it belongs to."""
    for table in (TRAINS, COMPUTES):
        if name in table:
            return table[name]
    parent = name.rpartition(".")[0]
    return COMPUTES.get(parent) if parent not in ("", "analysis") else None


def is_under(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


HOUSE = all_imports()


def test_every_file_has_its_floor_and_every_floor_its_file():
    files = set(modules())
    unplaced = sorted(name for name in files if floor_of(name) is None)
    assert not unplaced, f"give these a floor in the tables above: {unplaced}"
    gone = sorted((set(TRAINS) | set(COMPUTES)) - files)
    assert not gone, f"these are in the tables but not in the house: {gone}"


@pytest.mark.parametrize("tower", [TRAINS, COMPUTES], ids=["trains", "computes"])
def test_arrows_only_point_down(tower: dict[str, int]):
    wrong = [
        str(i)
        for i in HOUSE
        if (i.importer in TRAINS) == (tower is TRAINS)
        and (i.module in TRAINS) == (tower is TRAINS)
        and (mine := floor_of(i.importer)) is not None
        and (theirs := floor_of(i.module)) is not None
        and theirs > mine
        and (i.importer, i.module) not in BRIDGES
    ]
    assert not wrong, wrong


def test_every_bridge_is_still_in_use():
    used = {(i.importer, i.module) for i in HOUSE}
    assert set(BRIDGES) <= used


def test_experiments_know_only_the_contract_and_the_metrics():
    allowed = ("bench", "bench.contract", "analysis.errors", "analysis.metrics", "experiments")
    wrong = [
        str(i)
        for i in HOUSE
        if is_under(i.importer, "experiments")
        and is_under(i.module, i.module.partition(".")[0])
        and i.module.partition(".")[0] in ("bench", "analysis")
        and i.module not in allowed
    ]
    assert not wrong, wrong


def test_analysis_stands_alone_without_clock_or_chance():
    wrong = [
        str(i)
        for i in HOUSE
        if is_under(i.importer, "analysis")
        and any(is_under(i.module, name) for name in FORBIDDEN_BELOW_ANALYSIS)
    ]
    assert not wrong, wrong


def test_analysis_never_draws_from_numpys_global_generator():
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            allowed = ("np.random.Generator", "np.random.default_rng", "np.random.SeedSequence")
            if (
                is_under(name, "analysis")
                and text.startswith("np.random.")
                and (text not in allowed)
            ):
                wrong.append(f"{name}: {text}")
    assert not wrong, wrong


def test_the_left_tower_meets_the_right_only_on_the_ground_and_on_top():
    wrong = [
        str(i)
        for i in HOUSE
        if is_under(i.importer, "bench")
        and is_under(i.module, "analysis")
        and i.module not in GROUND
        and i.importer not in CALLERS
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("mlflow", {"bench.tracking"}),
        ("joblib", {"bench.execution.processes"}),
        ("distributed", {"bench.cluster"}),
        ("pynvml", {"bench.execution.nvml"}),
        ("typer", {"bench.commands.parser"}),
    ],
)
def test_one_file_alone_imports_what_could_be_replaced(package: str, owners: set[str]):
    assert {i.importer for i in HOUSE if is_under(i.module, package)} == owners


def test_torch_is_imported_by_experiments_and_elsewhere_only_when_it_is_needed():
    elsewhere = [
        i for i in HOUSE if is_under(i.module, "torch") and not is_under(i.importer, "experiments")
    ]
    children = {"bench.execution.fork_server", "bench.execution.nvml"}  # never this process
    assert {i.importer for i in elsewhere} == {"bench.contract", *children}
    assert all(i.lazy for i in elsewhere), [str(i) for i in elsewhere if not i.lazy]


def test_only_the_processes_of_trainings_import_an_experiment():
    importers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "bench.discover"
        if {"discover", "load"} & {alias.name for alias in node.names}
    }
    assert importers == {"bench.execution.fork_server", "bench.execution.worker"}
    children = {"bench.execution.fork_server", "bench.execution.worker", "bench.execution.guard"}
    wrong = [
        str(i)
        for i in HOUSE
        if i.module in {"bench.execution.fork_server", "bench.execution.worker"}
        and i.importer not in children
    ]
    assert not wrong, wrong


def test_the_command_line_imports_nothing_heavy_before_it_knows_the_command():
    heavy = ("numpy", "scipy", "pandas", "torch", "mlflow", "joblib", "matplotlib", "statsmodels")
    first = {"bench", "bench.cli", "bench.session", "bench.showing"}
    first |= {name for name in TRAINS if is_under(name, "bench.commands")}
    eager = {i.module: str(i) for i in HOUSE if i.importer in first and not i.lazy}
    assert not [text for module, text in eager.items() if module.partition(".")[0] in heavy]
    inside = {m for m in eager if m.partition(".")[0] in ("bench", "analysis", "experiments")}
    assert inside - first == {"analysis.errors", "bench.terminal"}


def test_the_reader_of_imports_sees_what_it_should():
    text = (
        "import torch.nn\nfrom bench import plan\n"
        "if TYPE_CHECKING:\n    import mlflow\n"
        "def f():\n    from analysis.study import study\n"
        "    importlib.import_module('torch')\n"
    )
    seen = [(i.module, i.lazy) for i in imports_of("x", text)]
    assert seen == [
        ("torch.nn", False),
        ("bench.plan", False),
        ("mlflow", True),
        ("analysis.study", True),
        ("torch", True),
    ]
