"""Options that several commands share, and the headings that help puts them under."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from bench.commands.parser import Argument, Option

COLUMNS, DESIGN, DEVICES = "Columns", "Design", "Devices"
OUTPUT, STORE = "Output", "Store"
PREREGISTER = "Freeze"


def built_in_names(incomplete: str) -> list[str]:
    """Return the built-in experiments that begin so; where none does, the shell offers files."""
    from bench.design.loading import built_in

    return [name for name in built_in() if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return what completes one of some words."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


Name = Annotated[
    str | None,
    Argument(
        metavar="NAME",
        autocompletion=built_in_names,
        show_default=False,
        help="Built-in experiment, file or module.",
    ),
]
StoreUri = Annotated[
    str | None,
    Option(
        "--store",
        metavar="URI",
        rich_help_panel=STORE,
        help="MLflow store (default: $MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db).",
    ),
]
AsJson = Annotated[
    bool, Option("--json", rich_help_panel=OUTPUT, help="Print one JSON object on stdout.")
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", rich_help_panel=OUTPUT, help="No progress, errors only.")
]
Verbose = Annotated[
    bool, Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Show tracebacks.")
]
NoColor = Annotated[
    bool, Option("--no-color", rich_help_panel=OUTPUT, help="No colour (also NO_COLOR).")
]
Devices = Annotated[
    str, Option("--devices", metavar="LIST", rich_help_panel=DEVICES, help="auto, cpu or 0,1.")
]
DataFolder = Annotated[
    Path | None,
    Option("--data", metavar="DIR", rich_help_panel=STORE, help="Folder with the data set."),
]
FailOn = Annotated[
    str | None,
    Option(
        "--fail-on",
        metavar="WORDS",
        rich_help_panel=OUTPUT,
        help="Exit 10 on worse, inconclusive, none, equivalent or better (a list).",
    ),
]
