"""`bench list`: what can be run here."""

import json
from pathlib import Path

from bench.commands.options import Output, expanded
from bench.terminal import label, show, wrapped


@expanded
def list_(*, output: Output) -> None:
    """List the experiments that are built in, and those of this folder.

    \b
      bench list                  then: bench run NAME

    Files are read, not run. What is recorded is listed by bench status.
    """
    from bench.design.listing import Listed, beside, built_in

    mine, ours = beside(Path.cwd()), built_in()
    if output.as_json:
        print(json.dumps({"experiments": [each.as_dict() for each in (*mine, *ours)]}, indent=1))
        return
    width = max(len(label(each.run)) for each in (*mine, *ours))

    def line(each: Listed) -> str:
        arms = f"  ({', '.join(map(label, each.arms))})" if each.arms else ""
        text = f"  {label(each.run):<{width}}  {each.question or label(each.name)}{arms}"
        return wrapped(text, hang=width + 4)

    show("\n".join(["in this folder", *(map(line, mine) if mine else ["  none"])]))
    show("\n".join(["built in", *map(line, ours)]))
    show(f"run one: bench run {label((mine or ours)[0].run)} --seeds 20")
