"""New study: the text of a study.toml for a script, from the options that it declares."""

import json
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.programs import template
from bench.programs.command import RESERVED
from bench.programs.refusals import BadArms
from bench.programs.script_options import OUTPUTS, REQUIRED, SEEDS, Option, first_of, options_of

# What a trick usually changes comes first; what only says how long or where comes last.
TRICKS = ("epsilon", "label_smoothing", "smoothing", "dropout", "weight_decay", "wd", "lr",
          "learning_rate", "momentum", "temperature", "alpha", "beta")  # fmt: skip
HOW_LONG = ("epochs", "max_epochs", "num_epochs", "steps", "max_steps", "batch_size", "workers",
            "num_workers", "gpu", "device")  # fmt: skip
MOST_SETTINGS = 16


def text_for(script: Path, folder: Path) -> str:
    """Return a study of two arms that differ in one option of a script.

    Parameters
    ----------
    folder : of the study, where its command will run

    Raises
    ------
    BadArms : no script, no option of its seed, or none that arms could differ in
    """
    options = options_of(script)
    seed, out = first_of(options, SEEDS), first_of(options, OUTPUTS)
    rest = [renamed(o) for o in options if o not in (seed, out)]
    numbers = [o for o in rest if isinstance(o.default, int | float)]
    if seed is None:
        raise BadArms(
            f"{script.name} has no option for its seed.",
            facts=[
                f"Its options: {', '.join(o.typed for o in options) or 'none that are known'}.",
                "Known are those of argparse, click, typer, fire and hydra.",
            ],
            fix='parser.add_argument("--seed", type=int), and seed every generator by it',
        )
    tricks = [o for o in numbers if o.name.lower() not in HOW_LONG] or numbers
    changed = first_of(tricks, TRICKS) or (tricks[0] if tricks else None)
    if changed is None:
        raise BadArms(
            f"{script.name} has no option with a number that two arms could differ in.",
            facts=[f"Its options: {', '.join(o.typed for o in options)}."],
        )
    kept = [o for o in rest if o is not changed and _is_plain(o.default)][:MOST_SETTINGS]
    needed = [o for o in rest if o.default is REQUIRED]
    path = os.path.relpath(script.resolve(), folder.resolve())
    words = ["python", shlex.quote(path), *(o.words for o in (changed, *kept, *needed))]
    words.append(seed.words.replace(f"{{{seed.name}}}", "{seed}"))
    if out is not None:
        words.append(out.words.replace(f"{{{out.name}}}", _place(out)))
    return _text(script, " ".join(words), changed, kept, needed, out)


def renamed(option: Option) -> Option:
    """Return an option whose setting is not called like a field that bench fills in."""
    taken = (*template.FIELDS, *RESERVED)
    return replace(option, name=f"own_{option.name}") if option.name in taken else option


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def another(value: float) -> float:
    """Return a value that another arm could have: between 0 and 1 it stays there."""
    if value == 0:
        return 0.1
    return value / 2 if 0.5 <= value < 1 else value * 2


def _place(out: Option) -> str:
    """Return what a script is told to write to: a file below {out} where it wants a file."""
    file = Path(out.default).suffix if isinstance(out.default, str) else ""
    return f"{{out}}/metrics{file}" if file in (".json", ".jsonl", ".csv") else "{out}"


def _text(
    script: Path,
    command: str,
    changed: Option,
    kept: list[Option],
    needed: list[Option],
    out: Option | None,
) -> str:
    other = another(changed.default)
    lines = [
        "# A study: bench run study.toml --seeds 20. Keys: docs/programs.md of bench.",
        f"name = {json.dumps(script.stem)}",
        f'question = "Does another {changed.name} make a difference?"',
        f"command = {json.dumps(command, ensure_ascii=False)}",
        'metric = "accuracy"       # a name in {out}/metrics.json, or one of [read] below',
    ]
    if out is None:
        lines.append(
            "# The script has no option for a folder: it may write to $BENCH_OUT, or print."
        )
    lines += ["", "[settings]                # what all arms share"]
    lines += [f"{o.name} = {_toml(o.default)}" for o in kept]
    lines += [f'{o.name} = ""  # the script needs it' for o in needed]
    lines += ["", "[arms.baseline]           # the first is the baseline"]
    lines += [f"{changed.name} = {_toml(changed.default)}"]
    lines += ["", "[arms.changed]            # what you want to know about"]
    lines += [f"{changed.name} = {_toml(other)}"]
    lines += ["", "# [read]                  # scores that the script prints"]
    lines += ["# accuracy = 'accuracy: ([0-9.]+)'", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # inf and nan, as TOML writes them too
    return json.dumps(value, ensure_ascii=False)
