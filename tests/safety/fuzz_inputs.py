"""Inputs of the fuzzer: for each kind a function that writes files and returns a command line."""

import gzip
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
Make = Callable[[Rng, Path, Path], Sequence[str]]  # (rng, valid files, this input's folder) → words

WORDS = ("run", "report", "compare", "plan", "verify", "doctor", "status", "ui")
NUMBERS = (0, 1, -1, 2, 0.5, 1e-320, 1e61, 1e308, -1e308, 2**31, 2**63, 2**64, 10**30, 10**9,
           float("nan"), float("inf"), -0.0, 0.1 + 0.2, 1e-12)  # fmt: skip
TEXTS = ("", " ", "a", "b", "c", "seed", "arm", "m", "nan", "NA", "inf", "1e999", "0x10", "1_000",
         "1,5", "٣", "True", '"', "'", "=1+1", "\t", "null", "None", "-", "--", "..", "/", "a/b",
         "a=b", "a:b=c", "0-5", "0-", "²", "x" * 300, "Größe", "é" * 70, "\x1b[2J", "\x1b]0;x\x07",
         "\u202e", "\u2028", "\x9b1m", "\r", "\n", "{}", "[]", "%s%n", "{0}", "{{x}}", "$HOME",
         "<script>", "](x)", "\\", "|", "0.5", "9" * 400, "nap=1", "epochs=2", "strength=0.2",
         "weak:strength=2", "0:weak", "9:strong", "cpu", "auto", "0,1", "tiny", "tiny.py", "valid",
         "seeds", "worse,none", "init,order", "html,json", "csv,md,tex", "anytime", "group",
         "percent", "plain", "r.csv", "sqlite:///", "sqlite:///x/y.db", "sqlite:////dev/null/x",
         "http://me:s3cret@127.0.0.1:9/", "file:///x", "postgresql://x", "mlflow:x",
         "tcp://127.0.0.1:9", "2026-01-01", "C:\\x", "~", "~x", "con")  # fmt: skip
SURROGATES = ("\udcff", "x\udc80.csv")  # what a command line, but no UTF-8 file, may hold
TEMPLATE = """import numpy as np
from bench import Experiment, Outcome, Predictions

LABELS = np.arange(40) % 2

def train(trial):
    z = (2 * LABELS - 1) * trial.settings["strength"] + trial.rng("init").normal(size=40)
    return Outcome(test=Predictions(np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], 1), LABELS))

nan, inf = float("nan"), float("inf")
EXPERIMENT = Experiment(train=train, {fields})
"""  # noqa: E501
FIELDS: Mapping[str, Any] = {
    "name": "tiny",
    "question": "Does more strength raise test accuracy?",
    "arms": {"weak": {"strength": 0.5}, "strong": {"strength": 1.0}},
    "settings": {"epochs": 3, "nap": 0.0},
    "margin": 0.02,
}
MORE_FIELDS = ("claim", "metric", "higher_is_better", "prepare", "train_pack", "pack_seeds",
               "inputs", "device", "devices", "reuse_process")  # fmt: skip
COMPARE = ("--margin", "--claim", "--unit", "--pair", "--metric", "--fail-on", "--baseline",
           "--treatment", "--arm")  # fmt: skip
RUN = ("--seeds", "--set", "--arm", "--margin", "--claim", "--stop", "--max-seeds", "--scope")
FLAGS = ("--json", "-q", "--no-color")


# -- values -----------------------------------------------------------------------------------


def pick(rng: Rng, some: Sequence[Any]) -> Any:
    return some[int(rng.integers(len(some)))]


def odd_text(rng: Rng) -> str:
    if rng.random() < 0.7:
        return str(pick(rng, TEXTS))
    points = rng.integers(1, [128, 0x300, 0xD800][int(rng.integers(3))], size=rng.integers(1, 12))
    return "".join(map(chr, points))


def odd(rng: Rng, depth: int = 2) -> Any:
    """Return a JSON value, mostly one that is out of the ordinary."""
    kind = int(rng.integers(8 if depth else 6))
    if kind < 2:
        return pick(rng, NUMBERS)
    if kind < 5:
        return odd_text(rng) if kind < 4 else float(rng.normal())
    if kind == 5:
        return pick(rng, (None, True, False, [], {}))
    inner = [odd(rng, depth - 1) for _ in range(rng.integers(4))]
    return inner if kind == 6 else {odd_text(rng): value for value in inner}


def spoiled(rng: Rng, content: bytes) -> bytes:
    """Return bytes with one to three of them, or of their parts, changed, moved or gone."""
    for _ in range(rng.integers(1, 4)):
        at, end = sorted(int(n) for n in rng.integers(0, len(content) + 1, size=2))
        end = min(end, at + int(rng.integers(1, 40)))
        new = (rng.bytes(end - at), b"", content[at:end] * 3, odd_text(rng).encode(), b"\0")
        content = content[:at] + pick(rng, new) + content[end:]
    return content[: int(rng.integers(len(content) + 1))] if rng.random() < 0.1 else content


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [here, *(path for key, item in inner for path in places(item, (*here, key)))]


def reshaped(rng: Rng, value: Any) -> Any:
    """Return a JSON value with one to three of its parts replaced, repeated, renamed or gone."""
    for _ in range(rng.integers(1, 4)):
        *path, last = pick(rng, places(value)[1:] or [(0,)])
        inside = value
        for key in path:
            inside = inside[key]
        if not isinstance(inside, (dict, list)):
            continue
        what = int(rng.integers(6))
        if what < 4:
            inside[last] = odd(rng)
        elif what == 4:
            del inside[last]
        elif isinstance(inside, list):
            inside.append(inside[last])
        else:
            inside[odd_text(rng)] = inside.pop(last)
    return value


def options(rng: Rng, names: Sequence[str], often: float = 0.5) -> list[str]:
    """Return some options with odd values, and some flags."""
    words = []
    while rng.random() < often:
        words.append(f"{pick(rng, names)}={pick(rng, (odd_text(rng), pick(rng, NUMBERS)))}")
    return [*words, *(flag for flag in FLAGS if rng.random() < 0.15)]


def without_nul(words: Sequence[str]) -> list[str]:
    """Return what a shell can hand over: no NUL."""
    return [word.replace("\0", "?") for word in words]


# -- tables -----------------------------------------------------------------------------------


def _rows(rng: Rng, *, long: bool) -> list[dict[str, Any]]:
    n = int(rng.integers(1, 25))
    scores = rng.normal(0.5, 0.1, size=(n, 2)).round(int(rng.integers(1, 9)))
    if long:
        return [{"seed": i, "arm": "ab"[k], "m": scores[i, k]} for i in range(n) for k in (0, 1)]
    return [{"seed": i, "a": a, "b": b} for i, (a, b) in enumerate(scores)]


def _text_table(rows: Sequence[Mapping[str, Any]], separator: str) -> bytes:
    lines = [separator.join(rows[0])]
    lines += [separator.join(str(value) for value in row.values()) for row in rows]
    return "\n".join(lines).encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pandas as pd

    file, frame = io.BytesIO(), pd.DataFrame(rows)
    try:
        frame.to_parquet(file)
    except Exception:  # columns of several kinds
        file = io.BytesIO()
        frame.astype(str).to_parquet(file)
    return file.getvalue()


TABLES: Mapping[str, Callable[[Any], bytes]] = {
    "csv": lambda rows: _text_table(rows, ","),
    "tsv": lambda rows: _text_table(rows, "\t"),
    "jsonl": lambda rows: "\n".join(map(json.dumps, rows)).encode(),
    "json": lambda rows: json.dumps(rows).encode(),
    "parquet": _parquet,
    "txt": lambda rows: _text_table(rows, ","),
}


def tables(rng: Rng, valid: Path, folder: Path) -> list[str]:
    long = bool(rng.random() < 0.4)
    rows = _rows(rng, long=long)
    for _ in range(rng.integers(3)):
        row = pick(rng, rows)
        row[pick(rng, [*row, odd_text(rng)])] = odd(rng)
    kind = pick(rng, [*TABLES])
    content, name = TABLES[kind](rows), f"r.{kind}"
    if rng.random() < 0.5:
        content = spoiled(rng, content)
    if rng.random() < 0.1:
        content, name = gzip.compress(content, mtime=0), f"{name}.gz"
        content = spoiled(rng, content) if rng.random() < 0.3 else content
    if rng.random() < 0.01:
        name = pick(rng, sorted(path.name for path in valid.glob("large.*")))
        content = (valid / name).read_bytes()
    (folder / name).write_bytes(content)
    words = ["compare", name, "--baseline", "a"]
    words += ["--arm", "arm", "--metric", "m", "--pair", "seed"] if long else ["--treatment", "b"]
    words += ["--out", pick(rng, ("out", name, "a/b", "/dev/null"))] if rng.random() < 0.02 else []
    words += ["--allow-missing"] if rng.random() < 0.2 else []
    words += ["--lower-is-better"] if rng.random() < 0.2 else []
    return words + options(rng, COMPARE, 0.4)


def _make_large(folder: Path) -> None:
    """Write small files that are large in memory."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers, texts = np.ones(1_000_000), ["x" * 100_000] * 1000
    for name, values, groups in (("parquet", numbers, 60), ("pq", texts, 30)):
        table = pa.table({"seed": values, "a": numbers[: len(values)], "b": values})
        with parquet.ParquetWriter(folder / f"large.{name}", table.schema) as writer:
            for _ in range(groups):
                writer.write_table(table)
    keys = (json.dumps({"seed": i, "a": 1, "b": 2, f"k{i}": 1}) for i in range(20_000))
    (folder / "large.jsonl").write_text("\n".join(keys))
    (folder / "large.csv.gz").write_bytes(gzip.compress(b"seed,a,b\n" + b"1,2,3\n" * 20_000_000))


# -- reports and stores -------------------------------------------------------------------------


def reports(rng: Rng, valid: Path, folder: Path) -> list[str]:
    name = pick(rng, ("report.html", "results.json"))
    given = valid / "store" / "reports" / "tiny"
    content, data = (given / name).read_bytes(), (given / "results.json").read_bytes()
    if rng.random() < 0.3:
        content = spoiled(rng, content)
    else:
        new = json.dumps(reshaped(rng, json.loads(data))).replace("</", "<\\/").encode()
        start = content.find(b'id="bench-data">') + len(b'id="bench-data">')
        end = content.find(b"</script>", start)
        content = content[:start] + new + content[end:] if name == "report.html" else new
    (folder / name).write_bytes(content)
    rerun = ["--rerun", str(pick(rng, (0, 1, 9, -1)))] if rng.random() < 0.05 else []
    return ["verify", name, *rerun, *options(rng, ("--experiment",), 0.05)]


def stored(rng: Rng, valid: Path, folder: Path) -> list[str]:
    """Spoil one text, file, tag or pending result of a copy of the store, and mostly its digest."""
    from bench.store import artifacts

    store = folder / "store"
    shutil.copytree(valid / "store", store, ignore=shutil.ignore_patterns("reports"))
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        what = rng.random()
        if what < 0.5:
            kind = pick(rng, ("plan", "provenance"))
            (path,) = store.glob(f"artifacts/*/*/artifacts/{kind}/0001.json")
            path.write_bytes(_other(rng, path.read_bytes()))
            if rng.random() < 0.8:
                tag = f"bench.sha256/{kind}/0001.json"
                sql = "update tags set value = ? where key = ?"
                database.execute(sql, (artifacts.sha256(path), tag))
        elif what < 0.8:
            _spoil_row(rng, database)
        elif what < 0.9:
            path = pick(rng, [p for p in sorted(store.glob("artifacts/**/*")) if p.is_file()])
            path.write_bytes(spoiled(rng, path.read_bytes()))
        else:
            _spoil_pending(rng, store)
    words = pick(rng, [["status"], ["status", "tiny"], ["status"], ["report", "tiny"], ["report"],
                       ["plan", "--pilot", "tiny"], ["status", "--json"],
                       ["report", "--format", "csv,md,tex", "--out", "o"]])  # fmt: skip
    return [*words, "--store", "sqlite:///store/mlflow.db", *options(rng, (), 0)]


def _other(rng: Rng, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return spoiled(rng, content)
    return json.dumps(reshaped(rng, json.loads(content))).encode()


def _spoil_row(rng: Rng, database: sqlite3.Connection) -> None:
    table, column = pick(rng, [("tags", "value"), ("tags", "value"), ("params", "value"),
                               ("metrics", "value"), ("latest_metrics", "step"), ("runs", "name"),
                               ("runs", "status"), ("runs", "start_time"), ("runs", "end_time"),
                               ("runs", "lifecycle_stage"), ("experiments", "name")])  # fmt: skip
    rows = database.execute(f"select rowid from {table} order by 1").fetchall()
    value = odd(rng, 0)
    text = column in ("value", "name") and table != "metrics"
    value = str(value) if text or not isinstance(value, (int, float)) else min(value, 2**62)
    database.execute("pragma ignore_check_constraints = on")
    sql = f"update or ignore {table} set {column} = ? where rowid = ?"
    try:
        database.execute(sql, (value, pick(rng, rows)[0]))
    except sqlite3.IntegrityError:  # a null where none may be: unchanged is an input too
        pass


def _spoil_pending(rng: Rng, store: Path) -> None:
    from bench.design.plan import digest
    from bench.store import spool

    entry: Any = {
        "parent": "p", "trial": "t", "key": {"arm": "weak", "seed": 1}, "attempt": 1,
        "status": "FINISHED", "tags": {spool.DIGESTS: "{}"}, "scores": {}, "epochs": [],
        "ended_at": 0.0,
    }  # fmt: skip
    plan = next(store.glob("artifacts/*/*/artifacts/plan"))
    entry["parent"] = pick(rng, (plan.parent.parent.name, "p"))
    entry["tags"][spool.SEAL] = spool.seal("t", entry["tags"])
    entry = reshaped(rng, entry)
    content = json.dumps({"sha256": digest(entry), "entry": entry}).encode()
    place = store / "pending" / "b1" / "1"
    place.mkdir(parents=True)
    (place / "entry.json").write_bytes(spoiled(rng, content) if rng.random() < 0.1 else content)


# -- experiments, settings, command lines, environments ------------------------------------------


def experiments(rng: Rng, valid: Path, folder: Path) -> list[str]:
    """Change the literals of an experiment: nothing in it calls anything."""
    fields = reshaped(rng, json.loads(json.dumps(FIELDS))) if rng.random() < 0.6 else dict(FIELDS)
    fields |= {name: odd(rng) for name in MORE_FIELDS if rng.random() < 0.1}
    named = ", ".join(f"{name}={value!r}" for name, value in fields.items() if name.isidentifier())
    (folder / "mine.py").write_text(TEMPLATE.format(fields=named), errors="replace")
    return _asked(rng, "mine.py", options(rng, RUN, 0.2))


def settings(rng: Rng, valid: Path, folder: Path) -> list[str]:
    shutil.copyfile(valid / "tiny.py", folder / "tiny.py")
    name = pick(rng, ("epochs", "nap", "strength", odd_text(rng)))
    value = pick(rng, (odd_text(rng), json.dumps(odd(rng))))
    option = pick(rng, (["--set", f"{name}={value}"], ["--arm", f"new:{name}={value}"]))
    return _asked(rng, "tiny.py", [*option, *options(rng, RUN, 0.3)])


def _asked(rng: Rng, file: str, words: Sequence[str]) -> list[str]:
    how = [["plan", file], ["plan", file, "--freeze"], ["run", file, "--dry-run"], ["run", file]]
    return [*pick(rng, how), *words, "--store", "sqlite:///store/mlflow.db"]


def command_lines(rng: Rng, valid: Path, folder: Path) -> list[str]:
    from typer.main import get_command

    from bench import cli

    commands = get_command(cli.app).commands.values()  # type: ignore[attr-defined]
    opts = {name for command in commands for param in command.params for name in param.opts}
    names = sorted(name for name in opts - {"-v", "--verbose"} if name.startswith("-"))
    os.symlink(valid / "tiny.py", folder / "tiny.py")
    first = pick(rng, WORDS) if rng.random() < 0.9 else odd_text(rng)
    words = [first, *(["tiny.py"] if rng.random() < 0.5 else [])]
    for _ in range(rng.integers(7)):
        value = pick(rng, SURROGATES) if rng.random() < 0.03 else odd_text(rng)
        name = pick(rng, names)
        words += pick(rng, ([name], [value], [f"{name}={value}"], [name, value]))
    return words


def environments(rng: Rng, valid: Path, folder: Path) -> list[str]:
    """Ask for something plain, in odd surroundings: see `odd_environment`."""
    (folder / "r.csv").write_bytes(TABLES["csv"](_rows(rng, long=False)))
    shutil.copyfile(valid / "tiny.py", folder / "tiny.py")
    compare = ["compare", "r.csv", "--baseline", "a", "--treatment", "b"]
    return list(pick(rng, (["status"], compare, ["--help"], ["plan"], ["report"], ["nothing"],
                           ["run", "tiny.py", "--dry-run"])))  # fmt: skip


VARIABLES: Mapping[str, Sequence[str]] = {
    "COLUMNS": ("0", "-1", "1", "9" * 30, "x", ""),
    "LINES": ("0", "x"),
    "NO_COLOR": ("", "1", "x"),
    "FORCE_COLOR": ("1", ""),
    "TERM": ("dumb", "", "x" * 99),
    "LANG": ("C", "tr_TR.UTF-8", "xx", "", "de_DE.ISO-8859-1"),
    "LC_ALL": ("C", "POSIX", "tr_TR.UTF-8", "C.UTF-8", "x", ""),
    "TZ": ("x", ":/nowhere", "", "UTC+99"),
    "HOME": ("", "/nowhere", "x", "/dev/null"),
    "XDG_CACHE_HOME": ("", "/dev/null", "x"),
    "BENCH_CACHE": ("", "/dev/null/x", "x"),
    "BENCH_OFFLINE": ("", "1", "x"),
    "MLFLOW_TRACKING_URI": (*TEXTS, "sqlite:///store/mlflow.db"),
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-8:strict", "ascii:strict"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONWARNINGS": ("error", "x", "default"),
    "OMP_NUM_THREADS": ("0", "-1", "x", "9" * 30),
    "MPLBACKEND": ("x", "agg", ""),
    "MPLCONFIGDIR": ("/dev/null", "x"),
    "CUDA_VISIBLE_DEVICES": ("", "-1", "x", "0,0"),
}


def odd_environment(rng: Rng) -> dict[str, str]:
    """Return some variables with odd values."""
    names = [name for name in VARIABLES if rng.random() < 0.15]
    return {name: pick(rng, VARIABLES[name]) for name in names}


KINDS: Mapping[str, tuple[Make, float]] = {  # and how many of all inputs are of this kind
    "score tables": (tables, 0.55),
    "reports": (reports, 0.06),
    "stored records": (stored, 0.05),
    "command lines": (command_lines, 0.24),
    "experiment files": (experiments, 0.03),
    "settings": (settings, 0.05),
    "environments": (environments, 0.02),
}


def make_valid_files(folder: Path, program: Path) -> None:
    """Write what the inputs are mutations of: an experiment, a store with its report, tables."""
    fields = ", ".join(f"{name}={value!r}" for name, value in FIELDS.items())
    (folder / "tiny.py").write_text(TEMPLATE.format(fields=fields))
    words = ["run", "tiny.py", "--seeds", "3", "--workers", "1", "-q"]
    store = ["--store", "sqlite:///store/mlflow.db"]
    subprocess.run([program, *words, *store], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    _make_large(folder)
    rows = [{"seed": i, "a": i % 3 / 10, "b": i % 4 / 10} for i in range(12)]
    (folder / "r.csv").write_bytes(_text_table(rows, ","))


if __name__ == "__main__":
    make_valid_files(Path(sys.argv[1]), Path(sys.argv[2]))
