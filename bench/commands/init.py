"""`bench init`: write a study.toml for a script."""

import json
from pathlib import Path
from typing import Annotated

from bench.commands.common import Usage
from bench.commands.options import Output, expanded
from bench.commands.parser import Argument, Option
from bench.terminal import show

STUDY = "study.toml"


@expanded
def init(
    script: Annotated[Path, Argument(metavar="SCRIPT", help="A Python script.")],
    *,
    out: Annotated[Path, Option(metavar="FILE", help="What to write.")] = Path(STUDY),
    output: Output,
) -> None:
    """Write a study.toml for a script, from its options; runs nothing.

    \b
      bench init train.py         then look at study.toml, and: bench run study.toml

    Reads the options that argparse, click, typer, fire or hydra declare. Overwrites nothing.
    """
    from bench.programs.new_study import text_for

    if out.suffix != ".toml":
        raise Usage(f"--out {out} is no .toml file.", options=[("out", STUDY)])
    text = text_for(script, out.parent)
    try:
        with out.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        free = next(
            f"study-{i}.toml" for i in range(2, 999) if not Path(f"study-{i}.toml").exists()
        )
        raise Usage(
            f"{out} is there already; nothing was written.", options=[("out", free)]
        ) from None
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise Usage(f"{out} cannot be written: {why}.", options=[("out", STUDY)]) from None
    if output.as_json:
        print(json.dumps({"written": str(out)}))
        return
    show(f"wrote {out}: look at the arms and the metric, then\n  bench run {out} --dry-run")
