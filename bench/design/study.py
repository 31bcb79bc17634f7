"""Study as an experiment: commands become arms, whose trainings run a program."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.analysis.data.metric_names import lower_by_name
from bench.analysis.data.metrics import METRICS
from bench.design import source_digest
from bench.design.option_values import amount, in_metric_units
from bench.experiment import BadExperiment, Experiment
from bench.programs import command, git_arms, template
from bench.programs.code_files import code_files, is_code, named_files
from bench.programs.lines import Reader
from bench.programs.study_file import Placed

STUDY = "how the study runs and reads them"
TEXTS = 4 * 2**20  # bytes of code whose text is kept with a benchmark


def experiment_of(placed: Placed) -> Experiment:
    """Return the experiment that a study describes.

    Raises
    ------
    BadExperiment : an arm without a command, a field that nobody fills in, and what Experiment says
    """
    study = placed.study
    arms, settings = {}, dict(study.settings)
    for reserved in command.RESERVED:
        if reserved in settings:
            raise BadExperiment(
                f'"{reserved}" is no setting.', fix=f"{reserved} = … above [settings]"
            )
    for name, own in study.arms.items():
        arms[name] = {k: v for k, v in own.items() if k not in ("command", "git")}
        arms[name] |= {"command": own["command"]} if "command" in own else {}
    if study.command is not None:
        settings = {"command": study.command, **settings}
    if len(arms) < 2:
        raise BadExperiment(
            f"{name_of(placed)} has {len(arms) or 'no'} arm{'' if len(arms) == 1 else 's'}; "
            "a comparison needs two.",
            facts=["The first arm is the baseline."],
            fix="[arms.baseline] and [arms.mine] with what differs, or --arm main@git:main "
            "--arm change@git:.",
        )
    for name in arms:
        _require_command({**settings, **arms[name]}, name)
    if all("command" in own for own in arms.values()):
        settings.pop("command", None)
    arms = {n: _appended(own, study.append) for n, own in arms.items()}
    settings = _appended(settings, study.append)
    for name, text in study.read.items():
        Reader.of(name, text)
    metric = command.metric_of(placed)
    names = study.datasets.names if study.datasets else ()
    _require_fields(arms, settings)
    if not study.shell:
        for name, own in arms.items():
            _require_no_shell({**settings, **own}["command"], name)
    return Experiment(
        name=study.name or name_of(placed),
        question=study.question or f"Does {' or '.join([*arms][1:])} change {metric}?",
        arms=arms,
        settings=settings,
        train=partial(command.train, placed),
        prepare=partial(command.ready, placed),
        metric=metric,
        higher_is_better=_higher_is_better(placed, metric),
        margin=_amount("margin", study.margin, metric),
        claim=_amount("claim", study.claim, metric),
        cluster=study.cluster,
        datasets=names,
        inputs=study.inputs,
        device=study.device,
        devices=study.devices,
    )


def _higher_is_better(placed: Placed, metric: str) -> bool:
    """Return the direction that is said, or else that of the metric's name."""
    if placed.study.higher_is_better is not None:
        return placed.study.higher_is_better
    known = METRICS.get(metric)
    return not lower_by_name(metric) if known is None else known.higher_is_better


def _amount(option: str, value: float | str | None, metric: str) -> float | None:
    return in_metric_units(amount(option, value), metric)


def name_of(placed: Placed) -> str:
    """Return the name of a study that says none: that of its file, else of its first script."""
    if placed.file:
        stem = Path(placed.file).stem
        return Path(placed.folder).name if stem == "study" else stem
    first = commands_of(placed)
    for text in first.values():
        scripts = [p for p in named_files(text, Path(placed.folder)) if p.suffix]
        return (scripts[0].stem if scripts else Path(template.split(text)[0]).stem) or "study"
    return "study"


def commands_of(placed: Placed) -> dict[str, str]:
    """Return the command of each arm, as it will be split into words."""
    study = placed.study
    found = {name: own.get("command", study.command) for name, own in study.arms.items()}
    return {n: f"{text} {study.append}".strip() for n, text in found.items() if text}


def files_of(placed: Placed) -> dict[str, Path]:
    """Return the files that make its runs what they are; those of a commit are in the commit."""
    commits = {name for name, own in placed.study.arms.items() if "commit" in own}
    here = {n: text for n, text in commands_of(placed).items() if n not in commits}
    return code_files(placed, here)


def changed_since(placed: Placed, then: Mapping[str, str]) -> dict[str, bool]:
    """Return which files differ now, and whether a run without them would be another one.

    Programs read their files when they run, not when they are imported. Files that are new are
    not asked for, because trainings write some; configuration that is not named in a command may
    have been written by them too.

    Parameters
    ----------
    then : digests of the files, by name, when the plan was made
    """
    now = files_of(placed)
    inputs = source_digest.input_files(placed.study.inputs, Path(placed.folder))
    digests = source_digest.digests({**now, **inputs})
    texts = commands_of(placed).values()
    named = {path for text in texts for path in named_files(text, Path(placed.folder))}
    changed = {
        name: is_code(name) or name in inputs or now.get(name) in named
        for name, digest in then.items()
        if name != STUDY and digests.get(name) != digest
    }
    return changed | dict.fromkeys(git_arms.moved_on(placed), True)


def own_digest(placed: Placed) -> str:
    """Return a digest of what the study says beside its arms and settings and the analysis."""
    study = placed.study
    said = [sorted(study.read.items()), study.shell, study.setup, study.link, study.cluster]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def texts_of(files: Mapping[str, Path]) -> dict[str, str]:
    """Return the text of the Python files among some, as long as they are not too many."""
    found: dict[str, str] = {}
    for name, path in files.items():
        if path.suffix == ".py" and path.stat().st_size + sum(map(len, found.values())) < TEXTS:
            try:
                found[name] = source_digest.text_of(path)
            except (SyntaxError, UnicodeDecodeError, OSError):  # Python cannot read it either
                continue
    return found


def _appended(settings: Mapping[str, Any], words: str) -> dict[str, Any]:
    if not words or "command" not in settings:
        return dict(settings)
    return {**settings, "command": f"{settings['command']} {words}"}


def _require_command(settings: Mapping[str, Any], arm: str) -> None:
    text = settings.get("command")
    if not isinstance(text, str):
        raise BadExperiment(
            f"arm {arm!r} has no command.",
            fix='command = "python train.py --seed {seed} --out {out}", for all arms or its own',
        )
    template.split(text)


def _require_no_shell(text: str, arm: str) -> None:
    """Refuse what only a shell understands: the first program would get all of it as words."""
    odd = template.of_a_shell(text)
    if odd:
        raise BadExperiment(
            f"{odd} in the command of {arm!r} is for a shell, and none is started.",
            facts=["shell = true in a study.toml starts one."],
            fix="write these lines into a script, and name it: sh train.sh --seed {seed}",
        )
    first = template.split(text)[0]
    if re.fullmatch(r"[A-Za-z_]\w*=.*", first, re.DOTALL):
        raise BadExperiment(
            f"the command of {arm!r} begins with {first[:80]}, which only a shell understands.",
            fix=f"env {text[:200]}",
        )


def _require_fields(arms: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt field, which would reach the program as it is, and one of two values."""
    for arm, own in arms.items():
        each = {**settings, **own}
        for name in template.fields_in(each["command"], template.FIELDS):
            if name in each:
                raise BadExperiment(
                    f"{{{name}}} in the command of {arm!r} is filled in by bench, and a setting "
                    "has that name too.",
                    facts=[f"By bench: {', '.join(template.FIELDS)}."],
                    fix=f"call the setting my_{name}, in the command too",
                )
        known = [*template.FIELDS, *(k for k in each if k not in command.RESERVED)]
        for odd in template.odd_fields(each["command"], known):
            near = difflib.get_close_matches(odd, known, n=1, cutoff=0.75)
            if near:
                raise BadExperiment(
                    f"{{{odd}}} in the command of {arm!r} is no field.",
                    facts=[f"Known: {', '.join(known)}.", "Other braces stay as they are."],
                    fix=f"{{{near[0]}}}",
                )
