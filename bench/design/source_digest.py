"""Source digest: which files make an experiment what it is, and are two versions the same code?"""

import ast
import contextlib
import hashlib
import json
import sys
import sysconfig
import tempfile
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType

import bench
import bench.analysis as analysis
import bench.experiments as experiments
from bench.experiment import BadExperiment

PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def own_files(modules: Iterable[str]) -> dict[str, Path]:
    """Return the files of a user's own modules among some that are loaded.

    Own is what no version number stands for: not the standard library, not what is installed from
    an index, not what a compiler generated, not bench. Installed from a folder or a repository is
    own too, and so are the experiments that come with bench.

    Returns
    -------
    files by their path within their project, as `mylib/model.py` for the module mylib.model
    """
    found = {}
    for name in sorted(modules):
        module = sys.modules.get(name)
        path = _file_of(module)
        if path is not None and _is_own(name, path):
            above = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
            found["/".join([*above, path.name])] = path
    return found


def _file_of(module: ModuleType | None) -> Path | None:
    """Return a module's file; some have none, or one that does not exist (`_ops.py`)."""
    file = _names_in(module).get("__file__") if issubclass(type(module), ModuleType) else None
    path = Path(file) if isinstance(file, str) else None
    return path if path is not None and path.is_absolute() and path.is_file() else None


def _names_in(module: object) -> dict[str, object]:
    """Return what a module defines; one that loads itself when it is first used stays unloaded."""
    names: dict[str, object] = object.__getattribute__(module, "__dict__")
    return names


def _is_own(name: str, path: Path) -> bool:
    top = name.partition(".")[0]
    if any(path.is_relative_to(folder) for folder in experiments.__path__):
        return True
    if set(PACKAGE_FOLDERS) & set(path.parts):
        return top in _installed_from_source()
    if any(path.is_relative_to(folder) for folder in _foreign()):
        return False
    temporary = path.is_relative_to(Path(tempfile.gettempdir()).resolve())
    return not temporary or any(path.is_relative_to(folder) for folder in _import_path())


@lru_cache(maxsize=1)
def _foreign() -> tuple[Path, ...]:
    mine = [Path(bench.__file__).parent, *(Path(folder) for folder in analysis.__path__)]
    stdlib = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return (*mine, *stdlib, *(path.resolve() for path in (*mine, *stdlib)))


def _import_path() -> list[Path]:
    return [Path(entry).resolve() for entry in sys.path if entry]


@lru_cache(maxsize=1)
def _installed_from_source() -> frozenset[str]:
    """Return the top-level modules that were installed from a folder or a repository."""
    found = set[str]()
    for folder in {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}:
        for origin in folder.glob("*.dist-info/direct_url.json"):
            record = origin.with_name("RECORD")
            said = json.loads(origin.read_text("utf-8"))
            if ("dir_info" in said or "vcs_info" in said) and record.is_file():
                files = (line.partition(",")[0] for line in record.read_text("utf-8").splitlines())
                found |= {file.partition("/")[0].removesuffix(".py") for file in files}
    return frozenset(found - {"bench"})


def on_import_path(names: Iterable[str]) -> dict[str, Path]:
    """Return the files of modules by their path within their project, where an import finds them.

    Nothing is imported; what no folder of the import path has is left out.
    """
    each = ((name, Path(entry) / name) for name in names for entry in reversed(sys.path) if entry)
    return {name: path for name, path in each if path.is_file()}


def input_files(inputs: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return the files that an experiment declares, folders with all that is in them.

    Parameters
    ----------
    inputs : paths, relative to the experiment's own folder

    Raises
    ------
    BadExperiment : one is not there
    """
    found = dict[str, Path]()
    for name in inputs:
        path = folder / Path(name).expanduser()
        if not path.exists():
            raise BadExperiment(
                f"the input {name} is not there.",
                facts=[f"Experiment(inputs=…) names it; that would be {path}."],
                fix=f"put it there, or take {name} out of inputs",
            )
        below = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        found |= {f"inputs/{Path(name) / each.relative_to(path)}": each for each in below}
    return found


def text_of(path: Path) -> str:
    """Return a module's text as Python reads it: coding line, byte order mark, line ends."""
    with tokenize.open(path) as handle:
        return handle.read()


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file: of a module's text, of other files' bytes."""
    return {name: _sha256(path) for name, path in files.items()}


def _sha256(path: Path) -> str:
    if path.suffix == ".py":
        with contextlib.suppress(SyntaxError, UnicodeDecodeError):  # Python cannot read it either
            return hashlib.sha256(text_of(path).encode()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(files: Mapping[str, str]) -> str:
    """Return one digest of files by name and digest."""
    text = "\0".join(f"{name}\0{sha}" for name, sha in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names of the files that differ between two versions."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def same_code(old: str, new: str) -> bool:
    """Tell whether two texts of a module differ in comments, docstrings and layout alone."""
    try:
        return ast.dump(_without_docstrings(old)) == ast.dump(_without_docstrings(new))
    except (SyntaxError, ValueError, RecursionError):
        return False


def _without_docstrings(text: str) -> ast.AST:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return tree


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages whose names some own modules use."""
    found: dict[str, str] = {}
    for name in modules:
        for value in list(_names_in(sys.modules[name]).values()) if name in sys.modules else ():
            top = sys.modules.get(_home(value).partition(".")[0])
            version = _names_in(top).get("__version__") if top is not None else None
            if top is not None and isinstance(version, str) and _is_package(top):
                found[top.__name__] = version
    return found


def _is_package(module: ModuleType) -> bool:
    return module.__name__ != "bench" and module.__name__ not in sys.stdlib_module_names


def _home(value: object) -> str:
    """Return the module that a module, class or function comes from; of other things nothing."""
    if issubclass(type(value), ModuleType):  # isinstance asks the value, and some of them warn
        return str(_names_in(value).get("__name__", ""))
    if issubclass(type(value), type | FunctionType | BuiltinFunctionType):
        return str(value.__module__)
    return ""
