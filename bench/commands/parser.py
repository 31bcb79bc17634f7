"""The parser: typer, behind a few names. No other file imports it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer import Argument, Exit, Option
from typer.core import TyperCommand, TyperGroup

from bench.commands.streams import reader_gone

__all__ = ["Argument", "Exit", "Interrupted", "Option", "ReaderGone", "application", "parser"]

EXIT_CODES = (
    "Exit codes: 0 done, whatever the verdict; 2 usage; 3 incomplete, resumable; "
    "4 environment (memory, disk, data set, lock); 5 damaged or mismatched data; "
    "10 --fail-on matched; 130 interrupted, 143 terminated."
)


class Interrupted(BaseException):
    """Ctrl-C. The parser would turn a KeyboardInterrupt into an exit of its own, without a word."""


class ReaderGone(BaseException):
    """What read our output (head, less) has seen enough."""


class Commands(TyperGroup):
    """The commands; what ends them early reaches `_run` as it is."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error
        except BrokenPipeError as error:
            if reader_gone():
                raise ReaderGone from error
            # The parser would take any other pipe for stdout, and exit without a word.
            raise RuntimeError("a pipe broke that is not the output") from error


# What `-h` shows of a command with many options: those that most use. `--help-all` shows all.
MOST_USED = {
    "run": {"seeds", "arms", "append", "metric", "settings", "margin", "stop", "devices",
            "data", "dry_run"},
    "compare": {"metric", "baseline", "treatment", "pair", "margin", "unit", "lower_is_better",
                "where", "out", "by"},
}  # fmt: skip
HELP_ALL = "--help-all"


class Grouped(TyperCommand):
    """A command whose help lists what it takes by group: design, devices, store, output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether all of the help is asked for."""
        ctx.meta[HELP_ALL] = HELP_ALL in args
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group, in the order in which the groups occur."""
        groups: dict[str, list[tuple[str, str]]] = {}
        used = MOST_USED.get(str(self.name)) if not ctx.meta.get(HELP_ALL) else None
        left_out = 0
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if used is not None and param.opts[0].startswith("-") and param.name not in used:
                left_out += param.name != "help"
                continue
            panel = getattr(param, "rich_help_panel", None) or "Options"
            if not param.opts[0].startswith("-"):
                name, says = getattr(param, "metavar", None), getattr(param, "help", None)
                panel, record = "Arguments", (name or str(param.name), says or "")
            groups.setdefault(panel, []).append(record)
        for name in sorted(groups, key=lambda group: group == "Options"):
            with formatter.section(name):
                formatter.write_dl(groups[name])
        if left_out:
            with formatter.section("More"):
                formatter.write_dl([(HELP_ALL, f"Show {left_out} more options.")])


def application(commands: Sequence[Callable[..., None]]) -> typer.Typer:
    """Return the command line that is made of some commands."""
    app = typer.Typer(
        cls=Commands,
        help="Does my training trick really help? Paired trainings over seeds, honest intervals.",
        epilog="bench COMMAND -h shows a command's options and examples.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    )
    app.callback()(_bench)
    for command in commands:
        more = [HELP_ALL] if command.__name__ in MOST_USED else []
        names = {"help_option_names": ["-h", "--help", *more]}
        called = command.__name__.rstrip("_")
        app.command(called, cls=Grouped, epilog=EXIT_CODES, context_settings=names)(command)
    return app


def parser(app: typer.Typer) -> Any:
    """Return what parses words for an application, and calls its commands."""
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from bench import __version__

        print(f"bench {__version__}")
        raise typer.Exit


def _bench(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Does my training trick really help? Paired trainings over seeds, honest intervals."""
