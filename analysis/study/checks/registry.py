"""A check is one function of the evidence; the decorator gives it its number and its level."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.data.tables import Design
from bench.analysis.study.findings import Arm, Check, Level, State, Treatment
from bench.analysis.study.summary import Summary


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks read. `words` are the verdict words of other analyses, by their name."""

    summary: Summary
    design: Design  # the summary's, with the runs that are still to be trained
    best: Mapping[str, pd.DataFrame]  # arm to what `best_epochs` returns
    arms: tuple[Arm, ...]
    comparisons: tuple[Treatment, ...]
    words: Mapping[str, Mapping[str, str]]  # treatment to analysis to word
    worst_case: Mapping[str, str | None]  # treatment to word with failures at chance
    without_seed: Mapping[str, Sequence[int]]  # treatment to seeds that alone change the word
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A check's state and its words."""

    state: State
    text: str
    why: str = ""


Ask = Callable[[Evidence], Answer | None]
REGISTERED: dict[str, tuple[Level, Ask]] = {}


def check(name: str, level: Level) -> Callable[[Ask], Ask]:
    """Register a function under a check's number, such as `C9`. None: it does not apply."""

    def register(ask: Ask) -> Ask:
        if name in REGISTERED:
            raise ValueError(f"two checks are called {name}")
        REGISTERED[name] = (level, ask)
        return ask

    return register


def answer_all(e: Evidence) -> list[Check]:
    """Answer every registered check: blockers, then cautions, each in the order of its number."""
    answered = []
    for name in sorted(REGISTERED, key=lambda name: (name[0], int(name[1:]))):
        level, ask = REGISTERED[name]
        if (answer := ask(e)) is not None:
            found = Check(
                id=name, level=level, state=answer.state, text=answer.text, why=answer.why
            )
            answered.append(found)
    return answered


def passed(text: str) -> Answer:
    """Answer that all is well."""
    return Answer("passed", text)


def not_checked(text: str) -> Answer:
    """Answer that what is stored cannot say."""
    return Answer("not checked", text)


def passed_if(good: bool, text: str, otherwise: str, why: str) -> Answer:
    """Answer with `text` if `good`, else fail with `otherwise` and why it matters."""
    return passed(text) if good else Answer("failed", otherwise, why)
