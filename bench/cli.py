"""The command line: parse, call, print."""

import difflib
import json
import os
import re
import shlex
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from analysis.errors import DiskFull, Refusal, is_disk_full

if TYPE_CHECKING:
    from analysis.findings import Findings
    from bench.discover import Discovered
    from bench.plan import Plan, TrialKey
    from bench.records import Benchmark
    from bench.runner import Ran
    from bench.tracking import Store

EXIT_CODES = (
    "Exit codes: 0 done, whatever the verdict; 2 usage; 3 incomplete, resumable; "
    "4 environment (memory, disk, data set, lock); 5 damaged or mismatched data; "
    "10 --fail-on matched; 130 interrupted, 143 terminated."
)
COLUMNS, DESIGN, DEVICES = "Columns", "Design", "Devices"
OUTPUT, STORE = "Output", "Store"
PREREGISTER = "Freeze"


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
            raise ReaderGone from error


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


class Grouped(TyperCommand):
    """A command whose help lists what it takes by group: design, devices, store, output."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a group, in the order in which the groups occur."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            panel = getattr(param, "rich_help_panel", None) or "Options"
            if not param.opts[0].startswith("-"):
                name, says = getattr(param, "metavar", None), getattr(param, "help", None)
                panel, record = "Arguments", (name or str(param.name), says or "")
            groups.setdefault(panel, []).append(record)
        for name in sorted(groups, key=lambda group: group == "Options"):
            with formatter.section(name):
                formatter.write_dl(groups[name])


class Usage(Refusal):
    """A command line that cannot be understood."""

    code = "option"
    exit_status = 2


def _built_in(incomplete: str) -> list[str]:
    """Return the built-in experiments that begin so; where none does, the shell offers files."""
    from bench.discover import built_in

    return [name for name in built_in() if name.startswith(incomplete)]


def _one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        autocompletion=_built_in,
        show_default=False,
        help="Built-in experiment, file or module.",
    ),
]
StoreUri = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        rich_help_panel=STORE,
        help="MLflow store (default: $MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db).",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print one JSON object on stdout.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="No progress, errors only.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Show tracebacks.")
]
NoColor = Annotated[
    bool, typer.Option("--no-color", rich_help_panel=OUTPUT, help="No colour (also NO_COLOR).")
]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on",
        metavar="WORDS",
        rich_help_panel=OUTPUT,
        help="Exit 10 on worse, inconclusive, none, equivalent or better (a list).",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from bench import __version__

        print(f"bench {__version__}")
        raise typer.Exit


@app.callback()
def bench(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Does my training trick really help? Paired trainings over seeds, honest intervals."""


# -- bench run -------------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def run(
    name: Name = None,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", "-s", metavar="N|LIST", rich_help_panel=DESIGN, help="20, 0-19 or 0,3,7."
        ),
    ] = "20",
    margin: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=DESIGN,
            metavar="X",
            help="Smallest difference worth having, pp for accuracies (default: the experiment's).",
        ),
    ] = None,
    claim: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=DESIGN,
            metavar="PP",
            help="Gain to check, e.g. 0.30 (default: the experiment's).",
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            rich_help_panel=DESIGN,
            metavar="WHAT",
            autocompletion=_one_of("seeds-and-examples", "seeds"),
            help="seeds-and-examples, or seeds (this test set only).",
        ),
    ] = "seeds-and-examples",
    stop: Annotated[
        str,
        typer.Option(
            rich_help_panel=DESIGN,
            metavar="RULE",
            autocompletion=_one_of("fixed", "group", "anytime"),
            help="fixed, group (three planned looks) or anytime: when to stop.",
        ),
    ] = "fixed",
    max_seeds: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=DESIGN, metavar="N", help="Most seeds under group and anytime."
        ),
    ] = None,
    aa: Annotated[
        bool,
        typer.Option(
            "--aa",
            rich_help_panel=DESIGN,
            help="The baseline against itself: nothing should be found.",
        ),
    ] = False,
    vary: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=DESIGN,
            metavar="LIST",
            help="Also vary one source alone, e.g. subset,init,order: where the spread is from.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            rich_help_panel=DESIGN,
            help="Change a setting of every arm; repeatable.",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:K=V",
            rich_help_panel=DESIGN,
            help="Add a treatment arm; repeatable.",
        ),
    ] = None,
    devices: Annotated[
        str,
        typer.Option(metavar="LIST", rich_help_panel=DEVICES, help="auto, cpu, or GPUs 0,1."),
    ] = "auto",
    per_device: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=DEVICES, help="Runs at once on each GPU."),
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel=DEVICES,
            help="CPU workers, one thread each (default: one a core).",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(metavar="NAME", rich_help_panel=DEVICES, help="loky (this machine) or dask."),
    ] = "loky",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URI", rich_help_panel=DEVICES, help="The dask scheduler's: tcp://HOST:8786."
        ),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=DEVICES, help="After out-of-memory or a crash."),
    ] = 1,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="MIN", rich_help_panel=DEVICES, help="A run that takes longer has failed."
        ),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            metavar="H", rich_help_panel=DEVICES, help="Start nothing new after so many hours."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=STORE, help="Folder with the data set."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", rich_help_panel=STORE, help="Download nothing.")
    ] = False,
    store: StoreUri = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", rich_help_panel=STORE, help="Start anew; nothing is overwritten."),
    ] = False,
    redo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SEED:ARM",
            rich_help_panel=STORE,
            help="Repeat one run; the old one is kept and marked.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=DEVICES,
            help="Say what is left to train and what it costs; record nothing.",
        ),
    ] = False,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind", rich_help_panel=OUTPUT, help="Hide the running difference until the end."
        ),
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", rich_help_panel=OUTPUT, help="Train and record only.")
    ] = False,
    fail_on: FailOn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Train the arms on the same seeds and report whether they differ.

    \b
      bench run                                  digits, or cifar10 where it can
      bench run digits --seeds 20                20 pairs on every core
      bench run cifar10 --claim 0.30             check a claimed +0.30 pp
      bench run cifar10 --dry-run                what it costs, first
      bench run digits --stop anytime            as few seeds as it takes
      bench run my_experiment.py --seeds 0-9     an experiment of your own

    The same command again goes on where it stopped, and trains nothing twice.
    """
    from bench.devices import slots
    from bench.drafting import Typed, draft, seeds_of, varied

    if offline:
        os.environ["BENCH_OFFLINE"] = "1"
    words = _fail_words(fail_on)
    typed = Typed(
        seeds=seeds,
        margin=margin,
        claim=claim,
        scope=scope,
        stop=stop,
        max_seeds=max_seeds,
        aa=aa,
        settings=setting or (),
        arms=arm or (),
    )
    wanted = seeds_of(typed)
    _require_backend(backend, address)
    if timeout is not None and not timeout > 0:
        raise Usage(f"--timeout {timeout:g} leaves no time to train.", fix="--timeout 60")
    if max_hours is not None and not max_hours > 0:
        raise Usage(f"--max-hours {max_hours:g} leaves no time to train.", fix="--max-hours 8")
    deadline = time.monotonic() + 3600 * (max_hours or float("inf"))
    if retries < 0:
        raise Usage(f"--retries {retries} is below 0.", fix="--retries 1")
    folder = _data_folder(data)
    places = slots(devices, per_device=per_device, workers=workers)
    chosen, note = _choose(name, folder)
    session = _Session(store, quiet=quiet or as_json, cluster=address)
    with session.warmed(chosen, places[: 4 * len(wanted)], retries):
        found, plan = draft(chosen, folder, typed, {place.device for place in places})
        plans = [*(varied(plan, vary) if vary is not None else ()), plan]
        repeated = _keys(redo or (), plan)
        session.say(_first_line(plan, note, len(places)))
        if dry_run:
            return session.rehearse(found, plan, places, folder=folder, as_json=as_json)
        for each in plans:
            ran = session.train(
                found,
                each,
                places,
                folder=folder,
                retries=retries,
                timeout_s=None if timeout is None else 60 * timeout,
                deadline=deadline,
                redo=repeated if each is plan else frozenset(),
                fresh=fresh,
                blind=blind,
                notes=[note] if note else [],
            )
            if ran.failures or ran.lost or ran.unstarted:
                break
    findings, missing = None, bool(ran.failures or ran.lost or ran.unstarted)
    if not no_report and not ran.unstarted:  # the verdict waits for what was planned
        findings = session.report(ran.benchmark, as_json=as_json, failures=missing)
    elif as_json and not missing:
        facts = {"experiment": plan.experiment, "benchmark_id": plan.benchmark_id}
        print(json.dumps({**facts, "run_id": ran.benchmark.run_id, "trained": ran.trained}))
    _end(ran, findings, words, command=_again(chosen))


def _require_backend(backend: str, address: str | None) -> None:
    if backend not in ("loky", "dask"):
        raise Usage(f'--backend "{backend}" is not loky or dask.', fix="--backend dask")
    if (backend == "dask") != (address is not None):
        lacking = "--address" if address is None else "--backend dask"
        raise Usage(
            f"{lacking} is missing: a dask scheduler has an address.",
            fix="--backend dask --address tcp://HOST:8786",
        )


class _Session:
    """One `bench run`: the store, the workers and what is said meanwhile."""

    def __init__(self, uri: str | None, *, quiet: bool, cluster: str | None = None) -> None:
        self.uri, self.quiet, self.cluster = uri, quiet, cluster
        self.store: Store | None = None
        self.pool: Any = None

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warmed(self, name: str, places: Sequence[Any], retries: int) -> Any:
        """Start the workers at once where nothing can be finished yet: imports take seconds."""
        import contextlib

        from bench.address import may_hold_runs
        from bench.discover import reference_of

        reference = reference_of(name)  # a name that does not exist starts no workers
        stack = contextlib.ExitStack()
        if self.cluster is None and not may_hold_runs(self.uri):
            from bench.pool import Pool

            self.pool = stack.enter_context(Pool(places, retries=retries))
            self.pool.warm(reference)
        return stack

    def train(
        self,
        found: "Discovered",
        plan: "Plan",
        places: Sequence[Any],
        *,
        folder: Path | None,
        retries: int,
        timeout_s: float | None,
        deadline: float,
        redo: "frozenset[TrialKey]",
        fresh: bool,
        blind: bool,
        notes: list[str],
    ) -> "Ran":
        from bench import provenance, runner
        from bench.discover import file_of
        from bench.progress import progress
        from bench.status import begins_anew
        from bench.stopping import looker
        from bench.tracking import Store

        self.store = _opened(Store(self.uri), self.say)
        if (news := begins_anew(self.store, plan)) and not fresh:
            self.say(textwrap.fill(news, 80, subsequent_indent="  "))
            notes = [*notes, news]
        options = runner.Options(
            slots=places,
            data_dir=folder,
            retries=retries,
            timeout_s=timeout_s,
            deadline=deadline,
            redo=redo,
            fresh=fresh,
        )
        pool, self.pool = self.pool, None  # a second plan starts its own workers
        workers = len(places)
        if self.cluster is not None:
            from bench.cluster import Cluster

            pool = Cluster(self.cluster, retries=retries)
            workers = pool.workers
        command = ["bench", *sys.argv[1:]]
        facts = provenance.collect(command, file_of(found.reference), places)
        return runner.run(
            plan,
            found,
            store=self.store,
            options=options,
            provenance={**facts, "notes": notes},
            watcher=progress(quiet=self.quiet, workers=workers, blind=blind),
            look=looker(plan),
            pool=pool,
        )

    def rehearse(
        self,
        found: "Discovered",
        plan: "Plan",
        places: Sequence[Any],
        *,
        folder: Path | None,
        as_json: bool,
    ) -> None:
        """Say what the plan costs; nothing is recorded."""
        from bench.address import may_hold_runs
        from bench.rehearsal import rehearse
        from bench.runner import Options
        from bench.tracking import Store

        finished, durations = [], []
        if may_hold_runs(self.uri):
            store = Store(self.uri)
            benchmark = store.find(plan.benchmark_id, plan.experiment)
            if benchmark is not None:
                finished = list(store.finished(benchmark))
                trials = store.tables(benchmark).trials
                durations = [s for s in trials.duration_s if s == s and s is not None]
        options = Options(slots=places, data_dir=folder)
        cost = rehearse(plan, found, options, finished=finished, durations=durations)
        print(json.dumps(cost.as_dict()) if as_json else cost.text())

    def report(self, benchmark: "Benchmark", *, as_json: bool, failures: bool) -> "Findings | None":
        from analysis.table import BadTables

        if self.store is None:
            raise RuntimeError("a report was asked for before anything was recorded")
        try:
            silent = as_json and failures  # stdout is one object, and that is the error
            return _report(self.store, benchmark, as_json=as_json, silent=silent)
        except BadTables:
            if failures:  # nothing to compare yet; the failures themselves are shown instead
                return None
            raise


def _opened(store: "Store", say: Callable[[str], None]) -> "Store":
    """Return a store, saying so if it lies elsewhere than when it was written last."""
    if store.moved_from is not None:
        say(f"The store was moved here from {store.moved_from}; its addresses were corrected.")
    return store


def _data_folder(data: Path | None) -> Path | None:
    if data is None:
        return None
    folder = data.expanduser().absolute()
    if not folder.exists():
        raise DataTrouble(
            f"there is no folder {data}.",
            facts=["--data names the folder that holds the data set."],
            fix="--data FOLDER",
        )
    return folder


class DataTrouble(Refusal):
    """A data set that is not where it should be."""

    code = "dataset"
    exit_status = 4


def _choose(name: str | None, folder: Path | None) -> tuple[str, str | None]:
    """Return the experiment, and the reason where no NAME was typed."""
    if name is not None:
        return name, None
    if folder is not None:
        return "cifar10", "No NAME was given; --data means cifar10."
    from bench.devices import accelerators

    if not accelerators():
        return "digits", "No NAME was given and there is no GPU, so the embedded digits are used."
    from experiments.cifar10 import ready

    reason = ready(None)
    if reason is None:
        return "cifar10", "No NAME was given; there is a GPU, data and weights, so cifar10."
    return "digits", f"No NAME was given and {reason.rstrip('.')}: the embedded digits are used."


def _first_line(plan: "Plan", note: str | None, workers: int) -> str:
    """Say which gain these seeds can detect, before anything is trained."""
    from analysis.format import magnitude, suffix
    from analysis.metrics import METRICS
    from analysis.power import detectable, seeds_for
    from bench.planning import ASSUMED_SD

    n, known = len(plan.seeds), METRICS.get(plan.metric)
    prefix = f"{note} " if note else ""
    if n < 2:
        first = f"{prefix}{plan.experiment}: one pair cannot tell luck from gain."
    elif known is None or known.unit != "fraction":
        gain = detectable(1.0, n)
        first = (
            f"{prefix}{plan.experiment}: {n} seeds can detect {gain:.2g} paired SDs (80% power)."
        )
    else:
        gain = detectable(ASSUMED_SD, n)
        first = (
            f"{prefix}{plan.experiment}: {n} seeds can detect {100 * gain:.2f} pp "
            f"(80% power at a paired SD of {100 * ASSUMED_SD:g} pp)"
        )
        target = plan.claim or plan.margin
        needed = seeds_for(abs(target), ASSUMED_SD) if target else None
        if target and needed:
            first += f"; {magnitude(target, known.unit)}{suffix(known.unit)} takes {needed:,}"
        first += "."
    data = plan.data.get("name")
    parts = [plan.experiment, *([str(data)] if data else [])]
    parts += [f"{n} seeds × {len(plan.arms)} arms", f"{workers} workers", f"plan {plan.hash[:7]}"]
    first = textwrap.fill(first, 80, subsequent_indent="  ", break_on_hyphens=False)
    second = "   ".join(part.replace(" ", "\xa0") for part in parts)  # a part stays in one piece
    second = textwrap.fill(second, 80, subsequent_indent="  ", break_on_hyphens=False)
    return f"{first}\n{second}".replace("\xa0", " ")


def _keys(texts: Sequence[str], plan: "Plan") -> "frozenset[TrialKey]":
    from bench.plan import TrialKey

    keys = set()
    for text in texts:
        seed, colon, arm = text.partition(":")
        if not colon or not re.fullmatch(r"\s*\d{1,12}\s*", seed) or arm not in plan.arms:
            raise Usage(
                f'--redo "{text}" is not SEED:ARM.',
                facts=[f"Arms: {', '.join(plan.arms)}."],
                fix=f"--redo {plan.seeds[0]}:{plan.baseline}",
            )
        keys.add(TrialKey(arm, int(seed)))
    return frozenset(keys)


def _again(name: str) -> str:
    """Return the command that goes on: the one that was typed, at its safest."""
    words = sys.argv[1:] if sys.argv[1:2] == ["run"] else ["run", name]
    return shlex.join(["bench", *words])


def _end(ran: "Ran", findings: "Findings | None", words: frozenset[str], *, command: str) -> None:
    """Choose the exit status and say what is missing."""
    if ran.failures:
        failure = ran.failures[0]
        more = len(ran.failures) - 1
        facts = [*failure.facts, "The run is kept as failed and counts in the report."]
        if more:
            facts.append(f"{more} more {'run' if more == 1 else 'runs'} failed.")
        if ran.unstarted:
            facts.append(f"The time of --max-hours is up; {_left(ran)}.")
        fix = (
            f"change the experiment in both arms, then {command} --fresh"
            if failure.code == "nan"
            else f"mend the cause, then {command}"
        )
        raise Incomplete.of(
            failure.code,
            f"seed {failure.key.seed:02d}, {failure.key.arm}: {failure.what}",
            facts=facts,
            fix=fix,
        )
    if ran.lost:
        key = ran.lost[0]
        raise Incomplete.of(
            "nan",
            f"seed {key.seed:02d}, {key.arm}, diverged when it was trained, and would again.",
            facts=["It is kept as failed, counts in the report, and is not trained again."],
            fix=f"change the experiment in both arms, then {command} --fresh",
        )
    if ran.unstarted:
        raise Incomplete(
            f"the time of --max-hours is up; {_left(ran)}.",
            facts=["Everything that had finished is recorded; nothing was cut short."],
            fix=command,
        )
    if findings is not None:
        _fail_if(findings, words)


def _left(ran: "Ran") -> str:
    """Say how many runs were not started; plans that vary one source are followed by others."""
    n = len(ran.unstarted)
    least = "at least " if ran.benchmark.plan.vary else ""
    return f"{least}{n} {'run is' if n == 1 else 'runs are'} left"


class Incomplete(Refusal):
    """Some pairs are missing; the same command goes on."""

    code = "incomplete"
    exit_status = 3

    @classmethod
    def of(cls, code: str, what: str, *, facts: Sequence[str], fix: str) -> "Incomplete":
        """Return one that carries the failure's own code."""
        refusal = cls(what, facts=facts, fix=fix)
        refusal.code = code
        return refusal


# -- bench report ----------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def report(
    name: Name = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", rich_help_panel=OUTPUT, help="Where (default: mlruns/reports/NAME)."
        ),
    ] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            rich_help_panel=OUTPUT,
            help="html, json, csv, md, tex, svg, png, or several of them.",
        ),
    ] = "html,json",
    anonymous: Annotated[
        bool,
        typer.Option(
            "--anonymous",
            rich_help_panel=OUTPUT,
            help="Hide users, hosts, paths and addresses, for double-blind review.",
        ),
    ] = False,
    open_it: Annotated[
        bool, typer.Option("--open", rich_help_panel=OUTPUT, help="Open it in the browser.")
    ] = False,
    fail_on: FailOn = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Rebuild the report of a recorded benchmark; trains nothing.

    \b
      bench report                          the latest benchmark
      bench report digits                   the latest one of an experiment
      bench report --format csv --out DIR   every value, for your own analysis
      bench report --format md,tex,png      tables and figures for a paper
      bench report --json                   results.json on stdout
    """
    from bench.files import parse_formats
    from bench.tracking import Store

    words, wanted = _fail_words(fail_on), parse_formats(formats)
    if open_it and "html" not in wanted:
        raise Usage(
            f"--open opens report.html, which --format {formats} does not write.",
            fix=f"--format html,{','.join(wanted)} --open",
        )
    place = _opened(Store(store), lambda text: print(text, file=sys.stderr))
    benchmark = place.benchmark(_experiment_name(name))
    findings = _report(
        place,
        benchmark,
        out=out,
        formats=wanted,
        anonymous=anonymous,
        as_json=as_json,
        open_it=open_it,
    )
    _fail_if(findings, words)


def _report(
    store: "Store",
    benchmark: "Benchmark",
    *,
    as_json: bool,
    silent: bool = False,
    open_it: bool = False,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
    anonymous: bool = False,
) -> "Findings":
    """Write a report, and print what was found; without the page, where the files are."""
    from bench.reporting import report

    done = report(store, benchmark, out=out, formats=formats, anonymous=anonymous)
    if as_json and not silent:
        facts = {**done.findings.as_dict(), "files": [str(path) for path in done.paths]}
        print(json.dumps(facts, allow_nan=False, indent=1))
    elif not silent:
        if done.html is not None:
            from analysis.report.terminal import summary

            print(summary(done.findings, report=_shown(done.html), unicode=_unicode()))
        named = () if done.html is None else ("report.html", "results.json")
        for path in done.paths:
            if path.name not in named:
                print(_shown(path))
    if open_it and done.html is not None:
        _open(done.html)
    return done.findings


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        print(f"no browser could be opened; the report is {_shown(path)}", file=sys.stderr)


def _shown(path: Path) -> str:
    """Return a path relative to the current folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf8sig")


def _experiment_name(name: str | None) -> str | None:
    """Return the recorded name: of an experiment's file, the name that the file gives itself."""
    if name is None or not name.endswith(".py"):
        return name
    from bench.discover import discover

    return discover(name).experiment.name


WORDS = ("better", "worse", "equivalent", "inconclusive", "none")


def _fail_words(text: str | None) -> frozenset[str]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in words:
        if word not in WORDS:
            close = difflib.get_close_matches(word, WORDS, n=1) or ["inconclusive"]
            raise Usage(
                f'--fail-on "{word}" is no verdict word.',
                facts=[f"Words: {', '.join(WORDS)}."],
                fix=f"--fail-on {close[0]}",
            )
    return frozenset(words)


def _fail_if(findings: "Findings", words: frozenset[str]) -> None:
    if any(c.verdict.word in words for c in findings.comparisons):
        raise typer.Exit(10)


# -- bench compare ---------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def compare(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="CSV, Parquet or JSON lines, or mlflow:EXPERIMENT."),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="COL", rich_help_panel=COLUMNS, help="Baseline's column; long form: its name."
        ),
    ] = None,
    treatment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            rich_help_panel=COLUMNS,
            help="Treatment's column (long form: its name); repeatable.",
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="COL", rich_help_panel=COLUMNS, help="What belongs together (default: seed)."
        ),
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option(metavar="COL", rich_help_panel=COLUMNS, help="Long form: names the arm."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            rich_help_panel=COLUMNS,
            help="Long form: values; repeatable, the first decides.",
        ),
    ] = None,
    unit: Annotated[
        str,
        typer.Option(
            metavar="UNIT", rich_help_panel=DESIGN, help="auto, fraction, percent or plain."
        ),
    ] = "auto",
    lower_is_better: Annotated[
        bool,
        typer.Option("--lower-is-better", rich_help_panel=DESIGN, help="A loss or an error."),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            rich_help_panel=DESIGN,
            help="Smallest difference worth having; pp for fractions and percentages.",
        ),
    ] = None,
    claim: Annotated[
        float | None, typer.Option(metavar="X", rich_help_panel=DESIGN, help="Gain to check.")
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            rich_help_panel=DESIGN,
            help="Leave incomplete pairs out; reported as a caution.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=OUTPUT, help="Write report.html there."),
    ] = None,
    fail_on: FailOn = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Analyse results from elsewhere in the same way; trains nothing.

    \b
      bench compare r.csv --baseline base --treatment new --pair seed
      bench compare r.csv --arm model --metric acc --pair seed --baseline base
      bench compare mlflow:my-exp --arm params.model --metric metrics.acc
                    --pair params.seed --baseline base
    """
    from bench.comparing import compared
    from bench.files import REPORT, contents, require_writable, write_files

    words = _fail_words(fail_on)
    if unit not in UNITS:
        raise Usage(f'--unit "{unit}" is not {", ".join(UNITS)}.', fix="--unit auto")
    if out is not None:
        require_writable(out)
    findings = compared(
        file,
        baseline=baseline,
        treatments=tuple(treatment or ()),
        pair=pair,
        arm=arm,
        metrics=tuple(metric or ()),
        unit=unit,
        lower_is_better=lower_is_better,
        margin=margin,
        claim=claim,
        allow_missing=allow_missing,
        store=store,
        command=sys.argv[1:],
    )
    if out is not None:
        write_files(out, contents(findings, REPORT))
    if as_json:
        print(json.dumps(findings.as_dict(), allow_nan=False, indent=1))
    else:
        from analysis.report.terminal import summary

        shown = None if out is None else _shown(out / "report.html")
        print(summary(findings, report=shown, unicode=_unicode()))
    _fail_if(findings, words)


UNITS = ("auto", "fraction", "percent", "plain")


# -- bench plan ------------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def plan(
    name: Name = None,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="PP",
            rich_help_panel=DESIGN,
            help="Gain to look for (default: the experiment's margin).",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=DESIGN, help="Also: the gain that N detect."),
    ] = None,
    power: Annotated[
        float, typer.Option(metavar="P", rich_help_panel=DESIGN, help="Wanted chance to see it.")
    ] = 0.8,
    sd: Annotated[
        float | None,
        typer.Option(
            metavar="PP",
            rich_help_panel=DESIGN,
            help="SD of the paired differences (default: 0.8 for accuracies).",
        ),
    ] = None,
    pilot: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=DESIGN,
            help="A recorded benchmark; its SD's upper 80% limit is used.",
        ),
    ] = None,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze",
            rich_help_panel=PREREGISTER,
            help="Write NAME's plan into the store, before anything is trained.",
        ),
    ] = False,
    margin: Annotated[
        float | None, typer.Option(metavar="X", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    claim: Annotated[
        float | None, typer.Option(metavar="PP", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    scope: Annotated[
        str, typer.Option(metavar="WHAT", rich_help_panel=PREREGISTER, help="As of run.")
    ] = "seeds-and-examples",
    stop: Annotated[
        str, typer.Option(metavar="RULE", rich_help_panel=PREREGISTER, help="As of run.")
    ] = "fixed",
    max_seeds: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", rich_help_panel=PREREGISTER, help="As of run."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:K=V", rich_help_panel=PREREGISTER, help="As of run."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", rich_help_panel=PREREGISTER, help="As of run.")
    ] = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Say how many seeds a gain takes, or what seeds can detect.

    \b
      bench plan --detect 0.3                    seeds for +0.30 pp
      bench plan --seeds 40 --sd 0.5             the gain that 40 seeds detect
      bench plan --detect 0.3 --pilot digits     from what was seen
      bench plan digits --seeds 30 --freeze      preregister; then bench run
    """
    from bench.planning import advise

    if freeze:
        typed = {
            "seeds": str(20 if seeds is None else seeds),
            "margin": margin,
            "claim": claim,
            "scope": scope,
            "stop": stop,
            "max_seeds": max_seeds,
            "settings": setting or (),
            "arms": arm or (),
        }
        return _freeze(name, typed, _data_folder(data), store, as_json=as_json)
    metric, margin = _planned_metric(name)
    unit, factor = _unit_and_factor(metric)
    seen = None
    if pilot is not None:
        from bench.reporting import pilot_from
        from bench.tracking import Store

        seen, unit, factor = pilot_from(Store(store), pilot)
    wanted = margin if detect is None else detect * factor
    found = advise(
        unit=unit,
        sd=None if sd is None else sd * factor,
        pilot=seen,
        detect=wanted,
        seeds=seeds,
        power=power,
    )
    print(json.dumps(found.as_dict(), indent=1) if as_json else found.text())


def _freeze(
    name: str | None, typed: dict[str, Any], folder: Path | None, uri: str | None, *, as_json: bool
) -> None:
    from bench import provenance
    from bench.devices import slots
    from bench.discover import file_of
    from bench.drafting import Typed, described, draft, freeze
    from bench.tracking import Store

    if name is None:
        raise Usage("--freeze needs the NAME of an experiment.", fix="bench plan digits --freeze")
    found, plan = draft(name, folder, Typed(**typed))
    facts = provenance.collect(["bench", *sys.argv[1:]], file_of(found.reference), slots())
    benchmark = freeze(Store(uri), found, plan, facts)
    if as_json:
        print(json.dumps(benchmark.plan.as_dict(), default=str))
    else:
        asked = ["bench", "run", *(word for word in sys.argv[2:] if word != "--freeze")]
        print(f"{described(benchmark)}\n  next     {shlex.join(asked)}")


def _planned_metric(name: str | None) -> tuple[str, float | None]:
    """Return the metric that a plan is for, and its margin; without NAME an accuracy."""
    if name is None:
        return "accuracy", None
    from bench.discover import discover

    experiment = discover(name).experiment
    return experiment.metric, experiment.margin


def _unit_and_factor(metric: str) -> tuple[Any, float]:
    """Return a metric's unit, and what turns a typed number into metric units."""
    from analysis.metrics import METRICS

    unit = METRICS[metric].unit if metric in METRICS else "score"
    return unit, 0.01 if unit == "fraction" else 1.0


# -- bench status ----------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def verify(
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="A report.html or results.json of bench.")
    ],
    rerun: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            rich_help_panel=DEVICES,
            help="Train this seed's pair again and compare; records nothing.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=DEVICES,
            help="Experiment or file to train (default: the report's).",
        ),
    ] = None,
    devices: Annotated[
        str, typer.Option(metavar="LIST", rich_help_panel=DEVICES, help="auto, cpu or 0,1.")
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=STORE, help="Folder with the data set."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Recompute every number of a report from the data embedded in it.

    \b
      bench verify report.html               numbers and words against the data
      bench verify report.html --rerun 3     and train seed 3 of both arms again

    A changed digit, anywhere, ends it with exit code 5. results.json is read too.
    """
    from bench.verifying import Unverified, check, retrain

    found = check(report)
    f, again = found.findings, []
    if rerun is not None:
        from bench.devices import slots

        places = slots(devices, per_device=1, workers=None)
        again = retrain(f, rerun, experiment, folder=_data_folder(data), places=places)
    differ = [run for run in again if not run.same]
    if as_json and not differ:
        facts = {"report": str(report), "values": found.n_values, "words": found.n_words}
        print(json.dumps({**facts, "note": found.note, "rerun": [asdict(run) for run in again]}))
    elif not quiet and not as_json:
        print(f"{_shown(report.absolute())} says what its data say.")
        print(f"  numbers  {found.n_values:,} computed again from the embedded data: all equal")
        if found.n_words is not None:
            print(f"  page     {found.n_words:,} pieces of text written again: all equal")
        if found.note:
            print(f"  note     {found.note}")
        for run in again:
            print(f"  seed {rerun}   {run.arm}: {run.trouble or run.again}, stated {run.stated}")
    if differ:
        raise Unverified(
            f"seed {rerun} did not train to the values of the report.",
            facts=[f"{r.arm}: {r.trouble or repr(r.again)}, stated {r.stated!r}." for r in differ]
            + ["Another device or other versions may change the last bits; bits repeat on one."],
        )


@app.command(cls=Grouped, epilog=EXIT_CODES)
def doctor(
    name: Name = None,
    devices: Annotated[
        str, typer.Option(metavar="LIST", rich_help_panel=DEVICES, help="auto, cpu or 0,1.")
    ] = "auto",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", rich_help_panel=STORE, help="Folder with the data set."),
    ] = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Check this machine; with NAME also that its runs can be paired.

    \b
      bench doctor               this machine
      bench doctor digits        also: same seed, same bits; both arms, same draws

    With NAME two seeds are trained twice in both arms; nothing is recorded.
    """
    from bench import doctor as looks
    from bench.devices import slots
    from bench.drafting import Typed, draft

    places, findings = slots(devices, per_device=1, workers=None), []

    def show(found: Any) -> None:
        findings.append(found)
        if not as_json and not quiet:
            print(found.line(unicode=_unicode()), flush=True)

    for found in looks.machine(store, places):
        show(found)
    if name is not None:
        folder = _data_folder(data)
        experiment, plan = draft(name, folder, Typed())
        for found in looks.experiment(experiment, plan, places, folder=folder):
            show(found)
        show(looks.pairing(store, plan.experiment))
    bad = [found for found in findings if found.state == "bad"]
    if as_json and not bad:
        print(json.dumps({"findings": [asdict(found) for found in findings]}))
    if bad:
        raise looks.Unwell(
            f"{len(bad)} of {len(findings)} checks failed.",
            facts=[f"{found.name}: {found.text}." for found in bad],
            fix="mend these before training; bench doctor -h",
        )


@app.command(cls=Grouped, epilog=EXIT_CODES)
def status(
    name: Name = None,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """List what is recorded, or one experiment's pairs seed by seed.

    \b
      bench status                every recorded experiment
      bench status digits         its pairs, seed by seed
    """
    from bench.glance import glance
    from bench.status import Listing, State, at_a_glance, listing, one

    found: Listing | State
    seen = glance(store) if name is None else None
    if seen is not None:
        found = at_a_glance(seen)
    else:
        from bench.tracking import Store

        place = Store(store)
        found = listing(place) if name is None else one(place, _experiment_name(name) or name)
    print(json.dumps(found.as_dict(), indent=1) if as_json else found.text(unicode=_unicode()))


# -- bench ui --------------------------------------------------------------------------------


@app.command(cls=Grouped, epilog=EXIT_CODES)
def ui(
    port: Annotated[int, typer.Option(metavar="PORT", help="On 127.0.0.1; 0 takes any.")] = 5000,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Open the MLflow UI on the store, for this machine only.

    \b
      bench ui                    http://127.0.0.1:5000
      bench ui --port 5001        another port

    Prints links to the latest benchmark: its runs by arm, the verdicts, the report.
    """
    import threading

    from bench.runner import ended_by_signals
    from bench.tracking import Store
    from bench.ui import free_port, links, served, views

    if not 0 <= port <= 65535:
        raise Usage(f"--port {port} is not a port (0 to 65535).", fix="bench ui --port 5000")
    free_port(port)
    place = Store(store)
    latest = place.benchmark()
    place.share_views(latest, views(latest))
    if not quiet:
        print("starting MLflow …", file=sys.stderr, flush=True)
    with ended_by_signals(), served(place.uri, port) as address:
        named = links(latest, address)
        if as_json:
            print(json.dumps({"experiment": latest.name, "links": named}), flush=True)
        else:
            text = "\n".join(f"  {name:<10}{link}" for name, link in named.items())
            print(f"{latest.name}\n{text}", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr, flush=True)
        threading.Event().wait()


# -- errors ----------------------------------------------------------------------------------


def main() -> None:
    """Run the command line and turn refusals into `error[code]`, facts, a fix and a status."""
    words = sys.argv[1:]
    if "--no-color" in words:
        os.environ["NO_COLOR"] = "1"
    sys.excepthook = _bug
    sys.exit(_run(words))


def _bug(kind: type[BaseException], error: BaseException, where: Any) -> None:
    """Show the traceback of a bug, without the passwords that it may quote."""
    from bench.address import redacted

    text = "".join(traceback.format_exception(kind, error, where))
    if "--json" in sys.argv:
        facts = {"code": "bug", "message": redacted(f"{kind.__name__}: {error}"), "fix": None}
        print(json.dumps({"error": facts}, indent=1))
    print(redacted(text), end="", file=sys.stderr)


def _run(words: Sequence[str]) -> int:
    verbose = "-v" in words or "--verbose" in words
    command = typer.main.get_command(app)
    try:
        status = int(command.main(list(words), prog_name="bench", standalone_mode=False) or 0)
        sys.stdout.flush()
        return status
    except Refusal as refusal:
        return _refused(refusal, words, verbose)
    except (KeyboardInterrupt, Interrupted):
        return _interrupted(words, 130)
    except (BrokenPipeError, ReaderGone):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more at exit
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


def _refused(refusal: Refusal, words: Sequence[str], verbose: bool) -> int:
    from bench.address import redacted
    from bench.names import printable

    if verbose:
        print(redacted("".join(traceback.format_exception(refusal))), end="", file=sys.stderr)
    if refusal.fix is not None and refusal.fix.startswith("--"):
        refusal.fix = f"{_command(words)} {refusal.fix}"
    if "--json" in words:
        error = {k: v and redacted(str(v)) for k, v in refusal.as_dict().items()}
        print(json.dumps({"error": error}, indent=1))
    print(printable(redacted(refusal.render())), file=sys.stderr)
    return refusal.exit_status


def _command(words: Sequence[str]) -> str:
    """Return the command and its NAME, so that a fix works as it is typed."""
    named = len(words) > 1 and not words[1].startswith("-")
    return shlex.join(["bench", *words[: 2 if named else 1]])


def _interrupted(words: Sequence[str], status: int) -> int:
    if words[:1] == ["ui"]:
        return 0
    from bench.address import redacted

    code = "interrupted" if status == 130 else "terminated"
    what = "everything that had finished is recorded."
    again = shlex.join(["bench", *map(redacted, words)])
    if "--json" in words:
        print(json.dumps({"error": {"code": code, "message": what, "fix": again}}, indent=1))
    print(f"\n{code}: {what}", file=sys.stderr)
    if words[:1] == ["run"]:
        print(f"  resume: {again}", file=sys.stderr)
    return status


class FileTrouble(Refusal):
    """A file or folder that cannot be read or written."""

    code = "file"
    exit_status = 4


def _file_trouble(error: OSError) -> Refusal | None:
    """Return the refusal for what only the machine's owner can mend, or None for a bug."""
    if is_disk_full(error):
        return DiskFull(
            f"no space left on the disk while writing {error.filename or 'the store'}.",
            facts=["No finished run was harmed."],
            fix="free some space, then the same command",
        )
    if error.filename is None or not isinstance(error, (PermissionError, *_WRONG_KIND)):
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
