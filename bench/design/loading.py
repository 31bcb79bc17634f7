"""Loading: a name, a file or a module becomes an experiment, described in plain values.

Only the processes of `bench.execution` import an experiment; everybody else knows its description.
"""

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import bench.experiments as experiments
from bench.analysis.errors import text_of
from bench.design import source_digest, study
from bench.design.description import Discovered, described
from bench.experiment import BadExperiment, Experiment
from bench.programs.study_file import is_study, placed

BUILT_IN = experiments.__name__
_before: dict[str, set[str]] = {}  # modules that were loaded before an experiment
_loaded: dict[str, set[str]] = {}  # and by it
_importing: list[str] = []  # experiments that are being imported just now


class UnknownExperiment(BadExperiment):
    """A name that is no experiment."""


def built_in() -> list[str]:
    """Return the names of the experiments that come with bench."""
    files = [path for folder in experiments.__path__ for path in Path(folder).glob("*.py")]
    return sorted(p.stem for p in files if _defines_experiment(p))


def _defines_experiment(path: Path) -> bool:
    text = path.read_text("utf-8", errors="replace")
    return any(line.startswith("EXPERIMENT") for line in text.splitlines())


def discover(name: str) -> Discovered:
    """Import the experiment that a name stands for, in this process, and describe it.

    Parameters
    ----------
    name : a built-in experiment, a Python file, or a module

    Raises
    ------
    UnknownExperiment : no such experiment, file or module
    BadExperiment : the file does not import, or defines no valid EXPERIMENT
    """
    reference = reference_of(name)
    experiment = load(reference)
    if is_study(reference):
        return _discovered_study(reference, experiment)
    own = _loaded[reference]
    files, inputs = source_digest.own_files(own), _inputs(reference)
    return Discovered(
        described(experiment),
        reference,
        {name: source_digest.text_of(path) for name, path in files.items() if path.suffix == ".py"},
        source_digest.digests({**files, **inputs}),
        source_digest.versions(own),
        str(file_of(reference)),
    )


def _discovered_study(reference: str, experiment: Experiment) -> Discovered:
    said = placed(reference)
    files = study.files_of(said)
    inputs = source_digest.input_files(experiment.inputs, Path(said.folder))
    found = source_digest.digests({**files, **inputs})
    return Discovered(
        described(experiment),
        reference,
        study.texts_of(files),
        {**found, study.STUDY: study.own_digest(said)},
        file=said.file or str(next(iter(files.values()), Path(said.folder) / "study")),
    )


def _inputs(reference: str) -> dict[str, Path]:
    return source_digest.input_files(load(reference).inputs, file_of(reference).parent)


def own_paths(reference: str) -> list[Path]:
    """Return the files of an experiment that is loaded: its own modules and its inputs."""
    if is_study(reference):
        return [*study.files_of(placed(reference)).values(), *_inputs(reference).values()]
    return [*source_digest.own_files(_loaded[reference]).values(), *_inputs(reference).values()]


def late_files(reference: str) -> dict[str, Path]:
    """Return the files of own modules that were loaded after the experiment itself."""
    if is_study(reference):
        return {}
    return source_digest.own_files(set(sys.modules) - _before[reference] - _loaded[reference])


def reference_of(name: str) -> str:
    """Return the module or file that a name stands for, without importing it."""
    if name.startswith("{"):
        return name
    name = _of_first_edition(name)
    if name in built_in():
        return f"{BUILT_IN}.{name}"
    if is_study(name):
        return placed(name).reference
    if name.endswith(".py") or "/" in name or "\\" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise UnknownExperiment(
                f"there is no file {name}.",
                facts=[f"Built-in experiments: {', '.join(built_in())}."],
                replace=[(name, "digits")],
            )
        return str(path.resolve())
    if exists(name) if "." in name else _is_module(name):
        return name
    if Path(f"{name}.py").is_file():
        raise UnknownExperiment(
            f'no experiment called "{name}".',
            facts=[f"There is a file {name}.py in this folder."],
            replace=[(name, f"{name}.py")],
        )
    known = built_in()
    raise UnknownExperiment(
        f'no experiment called "{name}".',
        facts=[known_names(name, known), "A file of your own: bench run my_experiment.py"],
        replace=[(name, nearest(name, known))],
    )


def _of_first_edition(name: str) -> str:
    """Return the built-in experiment's name for `experiments.NAME`, its module until edition 2.

    It is still typed and stands in old records; a module of the user's own that is called so wins.
    """
    package, _, short = name.partition(".")
    if package != "experiments" or short not in built_in():
        return name
    built = [Path(folder) / f"{short}.py" for folder in experiments.__path__]
    if exists(name):
        with contextlib.suppress(Exception):  # of the user's own package: `load` tells of it
            spec = importlib.util.find_spec(name)
            origin = Path(spec.origin) if spec is not None and spec.origin else None
            return short if origin and any(map(origin.samefile, built)) else name
        return name
    return short


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the known name that somebody may have meant."""
    close = difflib.get_close_matches(name, known, n=1)
    return (close or (["digits"] if "digits" in known else known) or ["digits"])[0]


def known_names(name: str, known: Sequence[str]) -> str:
    """Return a sentence with the known names, the closest first."""
    close = difflib.get_close_matches(name, known, n=1)
    every = f"Known: {', '.join(known)}." if known else "None is recorded here yet."
    return f"Closest: {close[0]}. {every}" if close else every


def exists(name: str) -> bool:
    """Tell whether there is a module of this name."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:  # it, or something that its package imports
        return not f"{name}.".startswith(f"{error.name}.")
    except (ImportError, ValueError):
        return False
    except (Exception, SystemExit):  # from its package; `load` says which
        return True


def _is_module(name: str) -> bool:
    """Tell whether a name without a dot is that of a module with an experiment, on PYTHONPATH."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    origin = (spec.origin or "") if spec is not None else ""
    return origin.endswith(".py") and _defines_experiment(Path(origin))


@lru_cache(maxsize=8)
def load(reference: str) -> Experiment:
    """Import an experiment by its reference; once a process."""
    if is_study(reference):
        return study.experiment_of(placed(reference))
    before = set(sys.modules)
    _importing.append(reference)
    try:
        module = _import(reference)
    finally:
        _importing.pop()
    _before[reference], _loaded[reference] = before, set(sys.modules) - before
    if reference.startswith(f"{BUILT_IN}."):  # which another experiment may have imported
        _loaded[reference] |= {name for name in sys.modules if name.startswith(f"{BUILT_IN}.")}
    _loaded[reference].add(module.__name__)
    found = getattr(module, "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        what = "defines no EXPERIMENT" if found is None else "has an EXPERIMENT of another type"
        raise BadExperiment(
            f"{_short(reference)} {what}.",
            facts=["bench looks for a module-level name EXPERIMENT made with bench.Experiment."],
            fix='EXPERIMENT = Experiment(name="…", question="…", arms={…}, train=train)',
        )
    return found


def require_not_importing(what: str) -> None:
    """Refuse to train from a file that is imported for its own trainings: they would never end.

    Raises
    ------
    BadExperiment : this process imports an experiment just now
    """
    if _importing:
        raise BadExperiment(
            f"{_short(_importing[-1])} calls {what} while it is imported.",
            facts=["Each training is a process that imports this file, and would train anew."],
            fix='put the call below: if __name__ == "__main__":',
        )


def _import(reference: str) -> ModuleType:
    try:
        if not reference.endswith(".py"):
            return importlib.import_module(reference)
        return _import_file(Path(reference))
    except BadExperiment:
        raise
    except (Exception, SystemExit) as error:
        raise BadExperiment(
            f"{_short(reference)} does not import: {text_of(error)}",
            facts=[_where(error, reference)],
            fix=f"python {_short(reference)}"
            if reference.endswith(".py")
            else f"python -c 'import {reference}'",
        ) from error


def _import_file(path: Path) -> ModuleType:
    """Run a file as a module; what it replaces for that is put back."""
    name, folder = _module_name(path), str(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadExperiment(f"{path.name} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up here
    sys.path.insert(0, folder)  # as for a script: the modules beside it come first
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:  # for what it imports later; here and in the workers ours wins
            sys.path.append(folder)
    return module


def _module_name(path: Path) -> str:
    """Return the file's own name, by which other processes find it, or one that nobody has.

    An experiment in json.py must not take the place of json.
    """
    name = path.stem
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        spec = None if "." in name else importlib.util.find_spec(name)
        origin = str(path) if spec is None else spec.origin
    if origin is not None and Path(origin).resolve() == path and name.isidentifier():
        return name
    digest = hashlib.sha256(str(path).encode()).hexdigest()
    return f"{re.sub(r'[^0-9A-Za-z]', '_', name)}_{digest[:12]}"


def _short(reference: str) -> str:
    return Path(reference).name if reference.endswith(".py") else reference


def _where(error: BaseException, reference: str) -> str:
    if isinstance(error, SyntaxError):
        return f"In line {error.lineno}: {(error.text or '').strip()}"
    frames = traceback.extract_tb(error.__traceback__)
    name = Path(reference).name if reference.endswith(".py") else reference.rpartition(".")[2]
    own = [frame for frame in frames if Path(frame.filename).stem == Path(name).stem]
    if not own:
        return "The error came from a module that it imports; -v shows the traceback."
    return f"In line {own[-1].lineno}: {own[-1].line}"


def file_of(reference: str) -> Path:
    """Return the source file of an experiment; of a study what would be one."""
    if is_study(reference):
        said = placed(reference)
        return Path(said.file or Path(said.folder) / "study.toml")
    if reference.endswith(".py"):
        return Path(reference)
    spec = importlib.util.find_spec(reference)
    if spec is None or spec.origin is None:
        raise UnknownExperiment(f"module {reference} has no source file.")
    return Path(spec.origin)
