"""Script options: what a script can be given, read from its text; nothing of it is run.

argparse, click, typer, fire and hydra are known by the calls that declare options.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.programs.refusals import BadArms

SEEDS = ("seed", "random_seed", "rng_seed", "manual_seed", "random_state", "seed_everything")
OUTPUTS = ("out", "output", "outfile", "out_file", "output_file", "out_dir", "outdir", "output_dir",
           "save_dir", "savedir", "log_dir", "logdir", "workdir", "work_dir", "metrics", "results",
           "result_file", "results_file", "save_path", "output_path", "exp_dir")  # fmt: skip
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
REQUIRED = object()  # in the place of a default


@dataclass(frozen=True)
class Option:
    """One option of a script."""

    name: str  # a name that a setting can have
    typed: str  # --lr, or lr of hydra; "" where it has no name but a place
    default: Any  # a number or a text; REQUIRED; None where there is none, or no plain one

    @property
    def words(self) -> str:
        """How it is given in a command, with its value as a field."""
        if not self.typed:  # by its place
            return f"{{{self.name}}}"
        joined = f"{self.typed}={{{self.name}}}"
        return joined if not self.typed.startswith("-") else f"{self.typed} {{{self.name}}}"


def options_of(path: Path) -> list[Option]:
    """Return the options of a script that take a value, in the order in which they stand there.

    Raises
    ------
    BadArms : there is no such script, or it is no Python
    """
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}."
        raise BadArms(what, fix="name a Python script: bench init train.py") from None
    except (SyntaxError, ValueError) as error:
        raise BadArms(f"{path} is no Python: {error}.", fix=f"python {path}") from None
    found = [*_declared(tree), *_of_functions(tree), *_of_hydra(tree, path.parent)]
    return list({option.name: option for option in found}.values())


def first_of(options: list[Option], names: tuple[str, ...]) -> Option | None:
    """Return the option that has one of some names, the earlier name first."""
    by_name = {option.name.lower(): option for option in options}
    return next((by_name[name] for name in names if name in by_name), None)


def _declared(tree: ast.Module) -> Iterator[Option]:
    """Yield what argparse's add_argument and click's option declare."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        called = ast.unparse(call.func).rpartition(".")[2]
        names = [a.value for a in call.args if isinstance(a, ast.Constant)]
        typed = next((n for n in names if isinstance(n, str) and n.startswith("--")), None)
        given = {k.arg: k.value for k in call.keywords if k.arg}
        if called == "add_argument" and _is_place(names):
            yield Option(
                str(names[0]).replace("-", "_"), "", _plain(given.get("default"), REQUIRED)
            )
            continue
        if called not in ("add_argument", "option") or typed is None or "/" in typed:
            continue
        if _plain(given.get("is_flag")) or _plain(given.get("action")) not in (None, "store"):
            continue
        needs = bool(_plain(given.get("required")))
        default = REQUIRED if needs else _plain(given.get("default"))
        yield Option(typed.lstrip("-").replace("-", "_"), typed, default)


def _is_place(names: list[Any]) -> bool:
    """Tell whether an argument of argparse is given by its place: data, not --data."""
    return len(names) == 1 and isinstance(names[0], str) and not names[0].startswith("-")


def _of_functions(tree: ast.Module) -> Iterator[Option]:
    """Yield the parameters of what typer or fire turns into a command."""
    handed = {
        ast.unparse(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in ("typer.run", "fire.Fire", "Fire")
        and call.args
    }
    fire = "fire" in _modules(tree)
    handed |= _of_fire(tree) if fire else set()
    for node in ast.walk(tree):
        if isinstance(node, FUNCTION) and (node.name in handed or _is_typer_command(node)):
            for argument, default in _parameters(node.args):
                named = argument.arg if fire else argument.arg.replace("_", "-")
                if default is not None and not isinstance(_value(default), bool):
                    typed = _typed(argument, default) or f"--{named}"
                    yield Option(argument.arg, typed, _value(default))


def _of_fire(tree: ast.Module) -> set[str]:
    """Return the one function that fire makes a command of, where it is not named in its call."""
    functions = [
        n.name for n in tree.body if isinstance(n, FUNCTION) and not n.name.startswith("_")
    ]
    named = next((name for name in ("train", "main", "run") if name in functions), None)
    return {named} if named else set(functions[-1:])


def _typed(argument: ast.arg, default: ast.expr) -> str:
    """Return the name that typer.Option(…) gives a parameter; "" where it is its own."""
    calls = [n for n in ast.walk(argument) if isinstance(n, ast.Call)]
    calls += [default] if isinstance(default, ast.Call) else []
    words = [_plain(a) for call in calls for a in call.args]
    return next((w for w in words if isinstance(w, str) and w.startswith("--")), "")


def _is_typer_command(node: FUNCTION) -> bool:
    named = [ast.unparse(d.func) for d in node.decorator_list if isinstance(d, ast.Call)]
    click = [ast.unparse(d) for d in node.decorator_list if "click" in ast.unparse(d)]
    return not click and any(name.endswith(".command") for name in named)


def _modules(tree: ast.Module) -> set[str]:
    each = (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom))
    return {getattr(n, "module", None) or n.names[0].name for n in each}


def _parameters(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [None] * missing + [*arguments.defaults]
    return [
        *zip(plain, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]


def _value(default: ast.expr) -> Any:
    """Return a default; of typer.Option(0.1, …) its first argument."""
    if isinstance(default, ast.Call):
        return _plain(default.args[0]) if default.args else REQUIRED
    return _plain(default)


def _of_hydra(tree: ast.Module, folder: Path) -> Iterator[Option]:
    """Yield the numbers and texts at the top of hydra's configuration."""
    for node in ast.walk(tree):
        for each in getattr(node, "decorator_list", ()):
            if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("hydra.main"):
                said = {k.arg: _plain(k.value) for k in each.keywords if k.arg}
                place = folder / str(said.get("config_path") or ".")
                yield from _of_yaml(place / f"{said.get('config_name') or 'config'}.yaml")


def _of_yaml(path: Path) -> Iterator[Option]:
    import yaml

    try:
        said = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    for name, value in (said if isinstance(said, dict) else {}).items():
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            if str(name).isidentifier():
                yield Option(str(name), str(name), value)


def _plain(node: ast.expr | None, otherwise: Any = None) -> Any:
    if node is None:
        return otherwise
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
