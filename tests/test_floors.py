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
    "bench.experiment": 0,
    "bench": 0,  # hands out the contract
    "experiments": 1,
    "bench.experiments.data.augment": 1,
    "bench.experiments.data.cifar_pickles": 1,
    "bench.experiments.data.download_cache": 1,
    "bench.experiments.cifar10": 1,
    "bench.experiments.data.datasets": 1,
    "bench.experiments.digits": 1,
    "bench.experiments.training.epochs": 1,
    "bench.experiments.training.frozen_features": 1,
    "bench.experiments.training.label_smoothing": 1,
    "bench.experiments.training.precision": 1,
    "bench.experiments.data.readers": 1,
    "bench.experiments.training.reproducible": 1,
    "bench.experiments.training.resnet": 1,
    "bench.experiments.training.selection": 1,
    "bench.experiments.training.setting_rules": 1,
    "bench.experiments.shuffled": 1,
    "bench.experiments.training.small": 1,
    "bench.experiments.training.stacked": 1,
    "bench.experiments.training.transfer": 1,
    "bench.experiments.trees": 1,
    "bench.experiments.training.pretrained_weights": 1,
    "bench.store.address": 2,
    "bench.store.artifacts": 2,
    "bench.execution.dask_cluster": 2,
    "bench.store.sqlite": 2,
    "bench.design": 2,
    "bench.design.source_digest": 2,
    "bench.design.loading": 2,
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
    "bench.store.run_folder": 2,
    "bench.execution.server": 2,
    "bench.execution.signals": 2,
    "bench.execution.slot_lines": 2,
    "bench.execution.worker": 2,
    "bench.store.mlflow_sql": 2,
    "bench.display.live": 2,
    "bench.store.locks": 2,
    "bench.store.names": 2,
    "bench.store.spool": 2,
    "bench.plan": 2,
    "bench.store.private": 2,
    "bench.display.progress": 2,
    "bench.execution.provenance": 2,
    "bench.store.writer": 2,
    "bench.redaction": 2,
    "bench.store.resume_command": 2,
    "bench.store.records": 2,
    "bench.display.status": 2,
    "bench.terminal": 2,
    "bench.store.mlflow_store": 2,
    "bench.store.mlflow_ui": 2,
    "bench.execution.runner": 3,
    "bench.reports.compare": 4,
    "bench.execution.doctor": 4,
    "bench.commands.drafting": 4,
    "bench.reports.files": 4,
    "bench.design.sample_size": 4,
    "bench.reports.build": 4,
    "bench.execution.dry_run": 4,
    "bench.commands.session": 4,
    "bench.commands.showing": 4,
    "bench.execution.stopping": 4,
    "bench.reports.verify": 4,
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
    "bench.analysis.inference.distributions": 0,
    "bench.analysis.errors": 0,
    "bench.analysis.data.format": 0,
    "bench.analysis.data.metrics": 0,
    "bench.analysis.inference.comparison": 0,
    "bench.analysis.data.tables": 0,
    "bench.analysis.calibration.errors": 1,
    "bench.analysis.study.claim": 1,
    "bench.analysis.inference": 1,
    "bench.analysis.inference.variance_components": 1,
    "bench.analysis.inference.effect_size": 1,
    "bench.analysis.study.findings": 1,
    "bench.analysis.inference.multiplicity": 1,
    "bench.analysis.inference.power": 1,
    "bench.importers.tables": 1,
    "bench.analysis.inference.sequential": 1,
    "bench.analysis.study.verdict": 1,
    "bench.analysis.study.checks": 2,
    "bench.analysis.study.per_class": 2,
    "bench.analysis.study.curves": 2,
    "bench.analysis.report.figures": 2,
    "bench.analysis.study.secondary": 2,
    "bench.analysis.study.verdict_interval": 2,
    "bench.analysis.study.claim_protocol": 2,
    "bench.analysis.study.robustness": 2,
    "bench.analysis.inference.variance_sources": 2,
    "bench.analysis.study.compare_arm": 2,
    "bench.analysis.study.recompute": 3,
    "bench.analysis.study.study": 3,
    "bench.analysis.report": 4,
}

# What points up or across all the same, and why that is all right.
BRIDGES = {
    (
        "bench.display.progress",
        "bench.execution.runner",
    ): "it shows the runner's Look; the runner knows no display",
}

# From the left tower into the right: tracking returns its tables, trainings score themselves,
# and the files on the two top floors call it. Refusals and metrics are everybody's.
GROUND = (
    "bench.analysis.errors",
    "bench.analysis.data.metrics",
    "bench.analysis.data.tables",
    "bench.analysis.data.format",
)
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
    allowed = (
        "bench",
        "bench.experiment",
        "bench.analysis.errors",
        "bench.analysis.data.metrics",
        "experiments",
    )
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
        ("mlflow", {"bench.store.mlflow_store"}),
        ("joblib", {"bench.execution.processes"}),
        ("distributed", {"bench.execution.dask_cluster"}),
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
    assert {i.importer for i in elsewhere} == {"bench.experiment", *children}
    assert all(i.lazy for i in elsewhere), [str(i) for i in elsewhere if not i.lazy]


def test_only_the_processes_of_trainings_import_an_experiment():
    importers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "bench.design.loading"
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
    first = {"bench", "bench.cli", "bench.commands.session", "bench.commands.showing"}
    first |= {name for name in TRAINS if is_under(name, "bench.commands")}
    eager = {i.module: str(i) for i in HOUSE if i.importer in first and not i.lazy}
    assert not [text for module, text in eager.items() if module.partition(".")[0] in heavy]
    inside = {m for m in eager if m.partition(".")[0] in ("bench", "analysis", "experiments")}
    assert inside - first == {"bench.analysis.errors", "bench.terminal"}


def test_the_reader_of_imports_sees_what_it_should():
    text = (
        "import torch.nn\nfrom bench import plan\n"
        "if TYPE_CHECKING:\n    import mlflow\n"
        "def f():\n    from bench.analysis.study.study import study\n"
        "    importlib.import_module('torch')\n"
    )
    seen = [(i.module, i.lazy) for i in imports_of("x", text)]
    assert seen == [
        ("torch.nn", False),
        ("bench.plan", False),
        ("mlflow", True),
        ("bench.analysis.study.study", True),
        ("torch", True),
    ]
