"""Typed: arms, commands and readers of the command line, on top of a study or by themselves."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.analysis.errors import Refusal
from bench.programs.study_file import Placed, checked

OF_THE_METRIC = ("higher_is_better", "margin", "claim")  # say nothing of another metric


class BadArmText(Refusal):
    """An --arm, --metric or --set that cannot be read."""

    code = "option"
    exit_status = 2


@dataclass(frozen=True)
class TypedArm:
    """What one --arm says: NAME='COMMAND', NAME@git:REV or NAME:KEY=VALUE."""

    text: str
    name: str
    command: str | None = None
    rev: str | None = None

    @classmethod
    def of(cls, text: str) -> "TypedArm":
        """Read one: the first of @git:, : and = after the name decides."""
        found = re.match(r"(?s)([^:=@]*(?:@(?!git:)[^:=@]*)*)(@git:|:|=)(.*)", text)
        if found is None:
            return cls(text, text)
        name, sign, rest = found.groups()
        if sign == "=":
            return cls(text, name.strip(), command=rest.strip())
        return cls(text, name.strip(), rev=rest.strip() if sign == "@git:" else None)

    @property
    def is_settings(self) -> bool:
        """Whether it is one of settings, of any experiment."""
        return self.command is None and self.rev is None


def with_typed(
    base: Placed | None,
    arms: Sequence[TypedArm],
    *,
    name: str = "",
    append: str = "",
    metrics: Sequence[str] = (),
    lower_is_better: bool = False,
    datasets: Sequence[str] = (),
    settings: Sequence[str] = (),
    folder: Path,
) -> Placed:
    """Return a study with what was typed.

    Parameters
    ----------
    base : of a study.toml; None where all is typed
    arms : those with a command, which are added to a study's own, or with a commit: these stand
        in their place, each with the settings of the baseline or of the arm of its name
    metrics : NAME, or NAME=REGEX; the first decides
    settings : KEY=VALUE, where all is typed: each a field {KEY}

    Raises
    ------
    BadArmText : what cannot be read, an arm that is there twice
    BadExperiment : what makes no study
    """
    said: dict[str, Any] = {} if base is None else base.study.model_dump(exclude_unset=True)
    in_file: dict[str, dict[str, Any]] = said.get("arms", {})
    commits = any(arm.rev is not None for arm in arms)
    first = next(iter(in_file.values()), {})  # what commits are compared by
    known: dict[str, dict[str, Any]] = {} if commits else dict(in_file)
    for arm in arms:
        _require_new(arm, known)
        if arm.rev is None:
            known[arm.name] = {"command": arm.command}
        else:
            known[arm.name] = {**in_file.get(arm.name, first), "git": arm.rev}
    said["arms"] = known
    said |= {"name": name} if name else {}
    said |= {"append": f"{said.get('append', '')} {append}".strip()} if append else {}
    said |= {"datasets": {"names": [*datasets]}} if datasets else {}
    said = _with_metrics(said, metrics) if metrics else said
    said |= {"higher_is_better": False} if lower_is_better else {}
    if settings:
        said["settings"] = {**said.get("settings", {}), **dict(map(_setting, settings))}
    study = checked(said, "what was typed")
    if base is not None:
        return replace(base, study=study)
    return Placed(study, str(folder))


def _require_new(arm: TypedArm, known: Mapping[str, Any]) -> None:
    if not arm.name:
        raise BadArmText(
            f'--arm "{arm.text[:80]}" has no name.', replace=[(arm.text, f"base{arm.text}")]
        )
    if arm.command == "" or arm.rev == "":
        what = "command" if arm.rev is None else "commit"
        raise BadArmText(f'--arm "{arm.text[:80]}" names no {what}.')
    if arm.name in known:
        free = next(f"{arm.name}-{i}" for i in range(2, 99) if f"{arm.name}-{i}" not in known)
        new = free + arm.text.removeprefix(arm.name)
        raise BadArmText(f"arm {arm.name!r} is there already.", replace=[(arm.text, new)])


def _with_metrics(said: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """Return what a study says with typed metrics; what it says of another is left out."""
    readers: dict[str, str] = {}
    for text in metrics:
        name, pattern = _reader(text)
        if name in readers:
            raise BadArmText(
                f"--metric {name} is there twice.",
                fix=f"one expression for both: --metric '{name}=FIRST|SECOND'",
            )
        readers[name] = pattern
    decides = next(iter(readers))
    before = said.get("metric") or next(iter(said.get("read", {})), "accuracy")
    kept = {k: v for k, v in said.items() if decides == before or k not in OF_THE_METRIC}
    found = {name: pattern for name, pattern in readers.items() if pattern}
    return {**kept, "metric": decides, "read": {**said.get("read", {}), **found}}


def _reader(text: str) -> tuple[str, str]:
    """Return a metric's name and how it is read from what is printed, or "" where it is not."""
    name, _, pattern = text.partition("=")
    if not re.fullmatch(r"\w[\w .:/-]*", name.strip()):
        raise BadArmText(
            f'--metric "{text[:80]}" is neither NAME nor NAME=REGEX.',
            replace=[(text, r"accuracy=accuracy: ([\d.]+)")],
        )
    return name.strip(), pattern


def _setting(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", key.strip()):
        raise BadArmText(f'--set "{text[:80]}" is not KEY=VALUE.', replace=[(text, "lr=0.001")])
    try:
        value = tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw
    return key.strip(), value
