"""Studies: commands and commits as arms, from study.toml or as they were typed."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.commands.common import Usage
from bench.commands.options import Arms, Design, given
from bench.design.loading import UnknownExperiment, reference_of
from bench.design.study import commands_of
from bench.programs import git_arms
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
    if any("git" in own for own in study.study.arms.values()):
        wait_for("checking out the commits")
    with git_arms.checked_out(study) as study:
        notes = (*git_arms.differences(study), *_unseeded(study))
        yield AskedStudy(study.reference, left, study.study, notes)


def _unseeded(study: Placed) -> list[str]:
    """Say where a seed stands in no command."""
    texts = commands_of(study)
    odd = [arm for arm, text in texts.items() if "{seed}" not in text]
    if not odd:
        return []
    return [f"No {{seed}} in the command of {', '.join(odd)}: it has BENCH_SEED alone."]


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
