"""Study: commands to compare, as study.toml says them or as they were typed."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.analysis.errors import text_of
from bench.experiment import BadExperiment

CODE = (".py", ".pyx", ".ipynb", ".sh", ".bash", ".r", ".R", ".jl", ".m", ".lua", ".c", ".cc",
        ".cpp", ".cu", ".h", ".hpp", ".rs", ".go", ".java", ".js", ".ts", ".pl", ".rb")  # fmt: skip
CONFIGURATION = (".yaml", ".yml", ".toml", ".json", ".ini", ".cfg", ".gin", ".conf", ".properties")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Datasets(_Table):
    """Data sets, on each of which every arm and seed is trained."""

    names: list[str] = Field(min_length=2, description="What {dataset} and BENCH_DATASET are.")


class Study(_Table):
    """A study of commands; the keys of study.toml, and where it lies."""

    name: str = Field("", description="What `bench status` lists; by default the script's name.")
    question: str = Field("", description="One sentence with a question mark.")
    command: str | None = Field(
        None, description="What trains, for arms without a command of their own."
    )
    append: str = Field("", description="Words that every command ends with.")
    metric: str = Field("", description="The name of the score that decides.")
    higher_is_better: bool | None = Field(
        None, description="Its direction; by default its name says it."
    )
    margin: float | str | None = Field(
        None, description='Smallest difference worth having: in metric units, or "0.1pp".'
    )
    claim: float | str | None = Field(None, description='A claimed gain: the same, "0.3pp".')
    goal: Literal["better", "equivalent", "not-worse"] | None = Field(
        None, description="What --goal is where it is not typed."
    )
    seeds: int | str | None = Field(None, description="What --seeds is where it is not typed.")
    settings: dict[str, Any] = Field(default_factory=dict, description="What all arms share.")
    arms: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of each arm, the first is the baseline; `command` and `git` too.",
    )
    datasets: Datasets | None = None
    read: dict[str, str] = Field(
        default_factory=dict,
        description="Scores by a regular expression, line by line, of what is printed.",
    )
    cluster: str = Field("", description="The column of examples that belong together.")
    setup: str | None = Field(None, description="Run once in the worktree of each commit.")
    link: list[str] = Field(
        default_factory=list, description="Ignored files and folders to link into worktrees."
    )
    shell: bool = Field(False, description="Hand the command to /bin/sh.")
    inputs: list[str] = Field(default_factory=list, description="Further files that make a run.")
    ignore: list[str] = Field(default_factory=list, description="Files that do not, as globs.")
    suffixes: list[str] = Field(
        default_factory=lambda: [*CODE, *CONFIGURATION],
        description="Of files that make a run what it is.",
    )
    device: Literal["cpu", "gpu", "any"] = "any"
    devices: int = Field(1, ge=1, description="How many GPUs one training gets.")
    timeout_min: float | None = Field(None, gt=0, description="What --timeout is.")


@dataclass(frozen=True)
class Placed:
    """A study and where it runs, as every process that trains can rebuild it.

    Attributes
    ----------
    study : what is compared
    folder : where its commands run
    file : the study.toml; "" where commands were typed
    worktrees : arm to the folder in which its commit is checked out
    """

    study: Study
    folder: str
    file: str = ""
    worktrees: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """What `of_reference` reads again."""
        said = self.study.model_dump(exclude_unset=True, mode="json")
        return json.dumps({**vars(self), "study": said})

    def of_arm(self, arm: str) -> Path:
        """Return the folder in which an arm's command runs: in a worktree, the same place there."""
        return Path(self.worktrees.get(arm) or self.folder)


def is_study(name: str) -> bool:
    """Tell whether a name is that of a study.toml, or the reference of a placed study."""
    return name.endswith(".toml") or name.startswith("{")


def placed(name: str) -> Placed:
    """Return the study of a file, or of a reference.

    Raises
    ------
    BadExperiment : no such file, no TOML, or a key or value that a study does not have
    """
    if name.startswith("{"):
        said = json.loads(name)
        return Placed(**{**said, "study": Study.model_validate(said["study"])})
    path = Path(name).expanduser().resolve()
    return Placed(read(path), str(path.parent), str(path))


def read(path: Path) -> Study:
    """Return the study of a file; see `placed`."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return checked(tomllib.loads(text), path.name, text)
    except FileNotFoundError:
        beside = sorted(each.name for each in path.parent.glob("*.toml"))[:5]
        raise BadExperiment(
            f"there is no file {path.name}.",
            facts=[f"In its folder: {', '.join(beside)}."] if beside else [],
            fix="write one from a script:",
            command=["bench", "init", "train.py"],
        ) from None
    except OSError as error:
        raise BadExperiment(f"{path.name} cannot be read: {text_of(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadExperiment(
            f"{path.name} is no TOML: {text_of(error)}", fix="mend that line, then the same command"
        ) from None


def checked(said: Mapping[str, Any], where: str, text: str = "") -> Study:
    """Return a study of its keys and values.

    Parameters
    ----------
    where : what the refusal calls it
    text : the file, to name the line

    Raises
    ------
    BadExperiment : a key that is none, a value of another kind
    """
    try:
        return Study.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        key = next((str(k) for k in first["loc"] if isinstance(k, str)), "")
        line = _line_of([str(part) for part in first["loc"]], text)
        at = f"{where}{f', line {line}' if line else ''}"
        if first["type"] == "extra_forbidden":
            last = str(first["loc"][-1])
            near = difflib.get_close_matches(last, Study.model_fields, n=1)
            raise BadExperiment(
                f'{at}: there is no key "{last[:60]}".',
                facts=[
                    *(f"Closest: {each}." for each in near),
                    f"Known: {', '.join(Study.model_fields)}.",
                ],
                fix="settings of the program belong below [settings]",
            ) from None
        raise BadExperiment(
            f"{at}: {key} is {str(first['input'])[:60]!r}: {first['msg'].lower()}.",
            facts=[f"{key}: {Study.model_fields[key].description}"]
            if key in Study.model_fields and Study.model_fields[key].description
            else [],
        ) from None


def _line_of(keys: Sequence[str], text: str) -> int | None:
    """Return the line in which a key of a TOML file stands, as far as a look at it can tell."""
    for key in reversed(keys):
        at = re.compile(rf'^\s*\[?\[?[\w."-]*?"?{re.escape(key)}"?\s*(=|\]|\.)')
        for number, line in enumerate(text.splitlines(), 1):
            if at.match(line):
                return number
    return None


def schema() -> dict[str, Any]:
    """Return the JSON schema of study.toml."""
    return Study.model_json_schema()
