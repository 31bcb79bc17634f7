"""Studies: commands and commits as arms, from study.toml or as they were typed."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.analysis.data.metric_names import NOT_LOWER, lower_by_name, words
from bench.analysis.data.metrics import METRICS
from bench.commands.common import Usage
from bench.commands.options import Arms, Design, given
from bench.design.loading import UnknownExperiment, reference_of
from bench.design.study import commands_of
from bench.programs import git_arms
from bench.programs.command import RESERVED, metric_of
from bench.programs.study_file import Placed, Study, placed
from bench.programs.typed import TypedArm, with_typed
from bench.terminal import wait_for

OF_COMMANDS = {
    "--append": "append",
    "--metric": "metric",
    "--lower-is-better": "lower_is_better",
    "--dataset": "dataset",
}


@dataclass(frozen=True)
class AskedStudy:
    """What a NAME and the options of arms come to.

    Attributes
    ----------
    name : what the fork server imports: the NAME itself, or a study's reference
    arms : what is left to do to the experiment's settings and arms
    study : None where it is a Python experiment
    notes : what a reader of the report should know
    """

    name: str | None
    arms: Arms
    study: Study | None = None
    notes: tuple[str, ...] = ()

    def design(self, design: Design) -> Design:
        """Return the design with what the study says of it, where nothing else was typed."""
        if self.study is None:
            return design
        said = self.study
        seeds = design.seeds or (None if said.seeds is None else str(said.seeds))
        goal = said.goal if said.goal is not None and design.goal == "better" else design.goal
        return replace(design, seeds=seeds, goal=goal)


@contextlib.contextmanager
def asked_study(name: str | None, arms: Arms) -> Iterator[AskedStudy]:
    """Return what is asked for; commits are checked out as long as it is used.

    Raises
    ------
    Usage : options of commands for an experiment in Python, a single command
    BadArms : a commit that is not there
    """
    typed = [TypedArm.of(text) for text in arms.arms or ()]
    own = [arm for arm in typed if not arm.is_settings]
    is_file = name is not None and name.endswith(".toml")
    if not is_file and (not own or (name is not None and _is_experiment(name))):
        _require_no_commands(name, arms)
        yield AskedStudy(name, arms)
        return
    base = placed(str(name)) if is_file else None
    if base is None:
        _require_commands(own, arms)
    study = with_typed(
        base,
        own,
        name="" if is_file else name or "",
        append=arms.append or "",
        metrics=arms.metric or (),
        lower_is_better=arms.lower_is_better,
        datasets=arms.datasets or (),
        settings=() if is_file else arms.settings or (),
        folder=Path.cwd(),
    )
    left = Arms(
        settings=arms.settings if is_file else None,
        arms=[arm.text for arm in typed if arm.is_settings] or None,
    )
    _require_settings(arms.settings or (), left.arms or (), study)
    if any("git" in own for own in study.study.arms.values()):
        wait_for("checking out the commits")
    with git_arms.checked_out(study) as study:
        notes = (*git_arms.differences(study), *_left_out(study), *_direction(study))
        yield AskedStudy(study.reference, left, study.study, notes)


def _left_out(study: Placed) -> list[str]:
    """Say where the seed, or a setting, stands in no command."""
    odd: dict[str, list[str]] = {}
    for arm, text in commands_of(study).items():
        own = {**study.study.settings, **study.study.arms[arm]}
        for name in ["seed", *(name for name in own if name not in (*RESERVED, "git"))]:
            if f"{{{name}}}" not in text:
                odd.setdefault(name, []).append(arm)
    return [
        f"No {{{name}}} in the command of {', '.join(arms)}: it has "
        f"{'BENCH_SEED' if name == 'seed' else 'BENCH_SETTINGS'} alone."
        for name, arms in odd.items()
    ]


def _direction(study: Placed) -> list[str]:
    """Say which way is better, where neither the study nor the metric's name does."""
    metric = metric_of(study)
    said = study.study.higher_is_better is not None or metric in METRICS
    if said or lower_by_name(metric) or words(metric) & NOT_LOWER:
        return []
    return [f"Higher {metric} is taken to be better; else: --lower-is-better."]


def _require_settings(settings: Sequence[str], arms: Sequence[str], study: Placed) -> None:
    """Refuse a setting that says what runs, and an arm of settings that has no command."""
    each = [*settings, *(part for text in arms for part in text.partition(":")[2].split(","))]
    for key in (text.partition("=")[0].strip() for text in each):
        if key in RESERVED:
            how = "NAME='COMMAND'" if key == "command" else "NAME@git:REV in place of NAME"
            raise Usage(f"{key} is no setting.", fix=f"an arm says it: --arm {how}")
    texts = commands_of(study)
    if arms and all("command" in own for own in study.study.arms.values()):
        name, first = arms[0].partition(":")[0], next(iter(texts))
        raise Usage(
            f"--arm {arms[0]} names no command, and each arm here has its own.",
            facts=[f"That of {first}: {texts[first][:200]}"],
            fix=f"--arm {name}='COMMAND'",
        )


def _is_experiment(name: str) -> bool:
    try:
        reference_of(name)
    except UnknownExperiment:
        return name.endswith(".py") or "/" in name
    return True


def _require_no_commands(name: str | None, arms: Arms) -> None:
    """Refuse options that would change nothing."""
    odd = [option for option in given(arms) if option in OF_COMMANDS]
    if odd:
        raise Usage(
            f"{odd[0]} is for commands, and {name or 'what is built in'} is trained by Python.",
            facts=["Commands are arms: --arm base='python train.py --lr 0.1'."],
            without=[OF_COMMANDS[option] for option in odd],
        )


def _require_commands(own: list[TypedArm], arms: Arms) -> None:
    """Refuse one command alone, and commits without a command to run in them."""
    commits = [arm for arm in own if arm.rev is not None]
    if commits:
        raise Usage(
            f"--arm {commits[0].text}: what is run there is not said.",
            facts=['A study.toml says it: command = "python train.py --seed {seed}".'],
            fix="write one from the script:",
            command=["bench", "init", "train.py"],
        )
    if len(own) < 2:
        other = "another" if own[0].name != "another" else "treatment"
        raise Usage(
            f"one command, {own[0].name!r}, is no comparison: it takes two arms.",
            facts=["The first --arm is the baseline."],
            fix=f"add --arm {other}='{own[0].command} …'",
        )
