"""Anonymous: findings without what tells a reviewer whose they are."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from bench.analysis.data.metrics import METRICS
from bench.analysis.data.tables import Scope, Stop
from bench.analysis.report.names import mapped
from bench.analysis.report.sentences.common import METHOD
from bench.analysis.study.analyses import WAYS
from bench.analysis.study.conclude import conclude
from bench.analysis.study.findings import Findings, Level, State
from bench.analysis.study.verdict import Word

Kind = Literal["user", "host", "path", "address", "run", "commit"]

PRIVATE = (
    "user",
    "host",
    "platform",
    "commit",
    "diff_sha256",
    "mlflow",
    "source",
)  # of the provenance
# The words that findings are read by: no name, whoever has it.
OURS = {*METRICS, *WAYS, *METHOD, *get_args(Word), *get_args(Level), *get_args(State)}
OURS |= {*get_args(Scope), *get_args(Stop), "finished", "failed", "missing", "running", "seed"}
OURS |= {"fraction", "nats", "score", "ece", "debiased", "scaled", "ece_debiased"}
OURS |= {
    "ece_debiased_scaled",
    "ce2",
    "ce2_scaled",
    "gap",
    "compatible",
    "larger",
    "smaller",
    "contradicted",
}
# Accounts and hosts that tell nothing.
PLAIN = {"root", "user", "admin", "test", "guest", "nobody", "ubuntu", "debian", "runner", "docker"}
PLAIN |= {"jovyan", "vscode", "unknown", "localhost"}

_END = r"[^\s'\"`<>|,;()\[\]{}]*(?<![.:])"  # of a path or address, within a sentence
_START = r"(?:~[\w.-]*/|/|[A-Za-z]:[\\/]|\\\\)"  # of a path
_WHOLE = re.compile(rf"{_START}[^\n]+")
_QUOTED = re.compile(rf"(?<=['\"`]){_START}[^'\"`\n]+(?=['\"`])")
_PATH = re.compile(rf"(?<![\w.~)\]/\\]){_START}(?![\s/]){_END}")
_ADDRESS = re.compile(
    rf"[a-z][a-z0-9+.-]*://{_END}"  # a URL, a store
    r"|[\w.+-]+@(?:[\w-]+\.)+[a-z]{2,}(?::[\w./~-]+)?"  # an e-mail
    r"|[\w.+-]+@[a-z][\w.-]*:[\w./~-]+"  # a git remote
    r"|(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])",  # an IPv4 address
    re.IGNORECASE,
)


class Veil:
    """Replaces in a text what identifies: the same thing always by the same sign.

    Parameters
    ----------
    known : user and host names, folders, run ids and commits that were recorded, with their kind
    """

    def __init__(self, known: Mapping[str, Kind]) -> None:
        self._signs: dict[tuple[str, str], str] = {}
        self._paths: list[re.Pattern[str]] = []  # whole settings and names that were paths
        longest_first = sorted(known.items(), key=lambda item: -len(item[0]))
        words = [
            (_pattern(text, kind), kind)
            for text, kind in longest_first
            if len(text) > 2 and text.lower() not in OURS | PLAIN
        ]
        folders = [(pattern, kind) for pattern, kind in words if kind == "path"]
        names = [(pattern, kind) for pattern, kind in words if kind != "path"]
        self._patterns: list[tuple[re.Pattern[str], str]] = [
            (_ADDRESS, "address"),
            *folders,  # may hold spaces
            (_QUOTED, "path"),
            (_PATH, "path"),
            *names,
        ]

    def __call__(self, text: str) -> str:
        """Return the text with [path], [user], [host], … in place of what identifies."""
        if text in OURS or re.fullmatch(r"[BCN]\d{1,2}", text):  # a check's name
            return text
        for pattern in self._paths:
            text = self._hidden(pattern, "path", text)
        if _WHOLE.fullmatch(text):
            self._paths.append(_pattern(text, "path"))
            return self._sign("path", text)
        for pattern, kind in self._patterns:
            text = self._hidden(pattern, kind, text)
        return text

    def _hidden(self, pattern: re.Pattern[str], kind: str, text: str) -> str:
        return pattern.sub(lambda found: self._sign(kind, found[0]), text)

    def _sign(self, kind: str, text: str) -> str:
        """Return this thing's sign; others of its kind are numbered, so that they stay apart."""
        key = kind, text.lower()
        if key not in self._signs:
            n = 1 + sum(known == kind for known, _ in self._signs)
            self._signs[key] = f"[{kind}]" if n == 1 else f"[{kind} {n}]"
        return self._signs[key]


def _pattern(text: str, kind: Kind) -> re.Pattern[str]:
    below = {"path": rf"(?:[/\\]{_END})?", "commit": "[0-9a-f]*"}.get(kind, "")
    text = text[:7] if kind == "commit" else text  # it is often abbreviated
    return re.compile(rf"(?<![^\W_]){re.escape(text)}{below}(?![^\W_])", re.IGNORECASE)


def anonymous(f: Findings, veil: Veil) -> Findings:
    """Return the same findings without names, hosts, paths, addresses, runs and commits.

    No number changes; an arm whose name is a path keeps being the same arm everywhere.
    """
    public = replace(f.summary, provenance=_public(f.summary.provenance))
    return conclude(mapped(public, veil))


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items() if key not in PRIVATE}
    return value
