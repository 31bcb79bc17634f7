"""The command line: the commands, and how whatever ends one becomes a message and a status."""

import contextlib
import difflib
import errno
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.analysis.errors import DiskFull, Refusal, is_disk_full
from bench.commands.common import Usage
from bench.commands.compare import compare
from bench.commands.doctor import doctor
from bench.commands.init import init
from bench.commands.list import list_
from bench.commands.parser import Interrupted, ReaderGone, application, parser
from bench.commands.plan import plan
from bench.commands.report import report
from bench.commands.run import run
from bench.commands.status import status
from bench.commands.streams import OutputLost, discard, prepare_streams
from bench.commands.ui import ui
from bench.commands.verify import verify
from bench.commands.wording import worded
from bench.redaction import redacted
from bench.store.typed_command import going_on
from bench.terminal import cut, end_waiting, printable, tell, wait_for

app = application((run, report, compare, plan, verify, doctor, list_, init, status, ui))


def main() -> None:
    """Run the command line and turn refusals into `error[code]`, facts, a fix and a status."""
    words = sys.argv[1:]
    if "--no-color" in words:
        os.environ["NO_COLOR"] = "1"
    prepare_streams()
    sys.excepthook = _bug
    wait_for("loading")
    status = _run(words)
    end_waiting()
    try:
        sys.stdout.flush()
    except OutputLost as lost:
        status = _refused(lost, words, verbose=False)
    except BrokenPipeError:
        discard(sys.stdout)
    sys.exit(status)


def _bug(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """Show the traceback of a bug, without the passwords that it may quote."""
    end_waiting()
    text = "".join(traceback.format_exception(kind, error, where))
    if "--json" in sys.argv:
        facts = {"code": "bug", "message": redacted(f"{kind.__name__}: {error}"), "fix": None}
        _print_error(facts)
    print(printable(redacted(text)), end="", file=sys.stderr)


def _run(words: Sequence[str]) -> int:
    verbose = "-v" in words or "--verbose" in words
    command = parser(app)
    try:
        with _signals(words):
            code = int(command.main(list(words), prog_name="bench", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except Refusal as refusal:
        if lacks_descriptors(refusal):
            refusal.facts = (*refusal.facts, _descriptor_limit())
        return _refused(refusal, words, verbose)
    except (KeyboardInterrupt, Interrupted):
        return _interrupted(words, 130)
    except (BrokenPipeError, ReaderGone):
        discard(sys.stdout)  # nothing more at exit
        return 0
    except OSError as error:
        trouble = _file_trouble(error)
        if trouble is None:
            raise
        return _refused(trouble, words, verbose)
    except BaseException as error:
        if type(error).__name__ == "Terminated":
            return _interrupted(words, 143)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(getattr(error, "ctx").get_help())  # noqa: B009
            return 2
        usage = _usage(error, words, command)
        if usage is None:
            raise
        return _refused(usage, words, verbose)


def _signals(words: Sequence[str]) -> contextlib.AbstractContextManager[object]:
    """Let Ctrl-C and SIGTERM end `bench run` in order, in its imports and its report too."""
    if words[:1] != ["run"]:
        return contextlib.nullcontext()
    from bench.execution.signals import ended_by_signals

    return ended_by_signals()


def _refused(refusal: Refusal, words: Sequence[str], verbose: bool) -> int:
    if verbose:
        trace = redacted("".join(traceback.format_exception(refusal)))
        print(printable(trace), end="", file=sys.stderr)
    remedy = worded(refusal, words, parser(app))
    if "--json" in words:
        told = {**refusal.as_dict(), "fix": remedy}
        _print_error({key: text and redacted(str(text)) for key, text in told.items()})
    refusal.what, refusal.facts = cut(refusal.what), tuple(map(cut, refusal.facts))
    tell(redacted(refusal.render(remedy)))
    return refusal.exit_status


def _interrupted(words: Sequence[str], status: int) -> int:
    if words[:1] == ["ui"]:
        return 0
    code = "interrupted" if status == 130 else "terminated"
    what = "everything that had finished is recorded."
    again = shlex.join(["bench", *map(redacted, going_on(words))])
    if "--json" in words:
        _print_error({"code": code, "message": what, "fix": again})
    tell(f"\n{code}: {what}")
    if words[:1] == ["run"]:
        tell(f"  resume: {again}")
    return status


def _print_error(error: Mapping[str, object]) -> None:
    try:
        print(json.dumps({"error": error}, indent=1), flush=True)
    except (BrokenPipeError, OutputLost):  # stderr says it too
        discard(sys.stdout)


class FileTrouble(Refusal):
    """A file or folder that cannot be read or written."""

    code = "file"
    exit_status = 4


class TooManyFiles(FileTrouble):
    """A limit of open files that is too low."""


def lacks_descriptors(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is a lack of file descriptors."""
    codes = (errno.EMFILE, errno.ENFILE)
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return True
        if any(os.strerror(code) in f"{error} {getattr(error, 'facts', '')}" for code in codes):
            return True
        error = error.__cause__ or error.__context__
    return False


def _descriptor_limit() -> str:
    """Return a sentence with the limit of open files, where the system has one."""
    try:
        import resource
    except ImportError:
        return "The system limits the files that a process has open."
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = ("unlimited" if n == resource.RLIM_INFINITY else f"{n:,}" for n in (soft, hard))
    return "A process may have {} files open at once (ulimit -n), at most {}.".format(*shown)


def _file_trouble(error: OSError) -> Refusal | None:
    """Return the refusal for what only the machine's owner can mend, or None for a bug."""
    if is_disk_full(error):
        return DiskFull(
            f"no space left on the disk while writing {error.filename or 'the store'}.",
            facts=["No finished run was harmed."],
            fix="free some space, then the same command",
        )
    if lacks_descriptors(error):
        return TooManyFiles(
            "this process, or the machine, can open no more files.",
            facts=[_descriptor_limit(), "No finished run was harmed."],
            fix="ulimit -n 1024, then the same command",
        )
    ours = isinstance(error, (PermissionError, *_WRONG_KIND)) or error.errno == errno.EROFS
    if error.filename is None or not ours:
        return None
    return FileTrouble(
        f"{error.filename}: {(error.strerror or type(error).__name__).lower()}.",
        fix="name a folder that you may write to, or put this one right",
    )


_WRONG_KIND = (FileExistsError, IsADirectoryError, NotADirectoryError)


def _usage(error: BaseException, words: Sequence[str], command: Any) -> Usage | None:
    """Turn the parser's complaint into ours, with the nearest name."""
    say: Callable[[], str] | None = getattr(error, "format_message", None)
    if say is None:
        return None
    ctx = getattr(error, "ctx", None)
    named = next((w for w in words if w in getattr(command, "commands", {})), None)
    # The command whose words were wrong: `bench -v run` is a mistake before `run`, not in it.
    asked = ctx.command if ctx is not None else command.commands[named] if named else command
    sub = None if asked is command else asked.name
    shown = f"bench {sub}" if sub else "bench"
    option = getattr(error, "option_name", None)
    if option is not None and type(error).__name__ == "NoSuchOption":
        known = _options(asked)
        close = difflib.get_close_matches(option, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        return Usage(f"{shown} has no option {option}.{hint}", fix=f"{shown} -h")
    message = " ".join(say().split()).rstrip(".")
    if sub is None and words and not words[0].startswith("-"):
        close = difflib.get_close_matches(words[0], list(command.commands), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        listed = ", ".join(command.commands)
        return Usage(
            f'bench has no command "{words[0]}".{hint}',
            facts=[f"Commands: {listed}."],
            fix=f"bench {close[0] if close else 'run'} -h",
        )
    return Usage(f"{message[:1].lower()}{message[1:]}.", fix=f"{shown} -h")


def _options(command: Any) -> list[str]:
    return [name for param in command.params for name in getattr(param, "opts", ())]
