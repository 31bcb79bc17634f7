"""Listing: the experiments that can be run here, read without importing any of them."""

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bench.experiments as experiments

CALLS = ("Experiment", "bench.Experiment", "Experiment.from_estimators")
MOST_BYTES = 2**20


@dataclass(frozen=True)
class Listed:
    """What a file says of its experiment, as far as it stands there in plain words."""

    run: str  # what `bench run` takes
    built_in: bool
    name: str
    question: str
    arms: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def built_in() -> list[Listed]:
    """Return the experiments that come with bench."""
    files = [path for folder in experiments.__path__ for path in Path(folder).glob("*.py")]
    return [*_found(sorted(files), built_in=True)]


def beside(folder: Path) -> list[Listed]:
    """Return the experiments and studies that lie in a folder itself."""
    files = sorted(path for kind in ("*.py", "*.toml") for path in folder.glob(kind))
    return [*_found(files, built_in=False)]


def _found(files: Sequence[Path], *, built_in: bool) -> Iterator[Listed]:
    for path in files:
        said = _read(path)
        if said is not None:
            arms = said.get("arms")
            yield Listed(
                run=path.stem if built_in else path.name,
                built_in=built_in,
                name=str(said.get("name") or path.stem),
                question=str(said.get("question") or ""),
                arms=tuple(map(str, arms)) if isinstance(arms, Mapping) else (),
            )


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return what a file says; None where it holds no experiment."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        text = path.read_text("utf-8")
        return _of_toml(text) if path.suffix == ".toml" else _of_python(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _of_toml(text: str) -> Mapping[str, Any] | None:
    said = tomllib.loads(text)
    commands = isinstance(said.get("command"), str) and "project" not in said
    return said if commands or isinstance(said.get("arms"), dict) else None


def _of_python(text: str) -> Mapping[str, Any] | None:
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named = any(isinstance(t, ast.Name) and t.id == "EXPERIMENT" for t in targets)
            if named and ast.unparse(node.value.func) in CALLS:
                return {k.arg: _plain(k.value) for k in node.value.keywords if k.arg}
    return None


def _plain(node: ast.expr) -> Any:
    """Return a literal; of a dictionary its keys, whatever their values are."""
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if isinstance(key, ast.Constant)]
        return {key.value: None for key in keys}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
