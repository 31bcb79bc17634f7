"""MLflow's files: the metrics and epochs of a run that the program logged by itself.

While a program runs, MLFLOW_TRACKING_URI is a folder in {out}, so that the parameters and artifacts
are kept with the run's other files. Format: a metric is a file
with a line `timestamp value step` for each value.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.programs.refusals import NoResults

FOLDER = "mlflow"
OF_A_STORE = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")  # name what the folder does not have


def environment(folder: Path, around: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which MLflow writes there; newer versions have to be allowed to."""
    return {
        **{name: value for name, value in around.items() if name not in OF_A_STORE},
        "MLFLOW_TRACKING_URI": (folder / FOLDER).as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }


def last_values(folder: Path, metric: str) -> dict[str, float]:
    """Return each metric's last value, by step, then by time, then as it was logged.

    Parameters
    ----------
    metric : that decides, where nothing else has it; of the others those are left out that two
        runs of the program have, and not the same

    Raises
    ------
    NoResults : two runs have the metric that decides, and not the same
    """
    found: dict[str, set[float]] = {}
    for name, values in _metrics(folder):
        found.setdefault(name, set()).add(values[-1][2])
    if len(several := sorted(found.get(metric, ()))) > 1:
        raise NoResults(
            f"the program logged {metric} in {len(several)} MLflow runs: "
            f"{', '.join(f'{value:g}' for value in several[:5])}.",
            facts=["Which of them is the result is not known."],
            fix="log the result in one of them alone, under a name of its own",
        )
    return {name: value for name, (value, *others) in found.items() if not others}


def epochs(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return what was logged at each step."""
    found: dict[int, dict[str, float]] = {}
    for name, values in _metrics(folder):
        for step, _, value in values:
            if step >= 0:
                found.setdefault(step, {})[name] = value
    return sorted(found.items())


def _metrics(folder: Path) -> Iterator[tuple[str, list[tuple[int, int, float]]]]:
    """Yield each metric of each run with its values: step, time and value, the last one last."""
    for place in sorted((folder / FOLDER).glob("*/*/metrics")):
        for path in sorted(p for p in place.rglob("*") if p.is_file()):
            values = []
            for line in path.read_text("utf-8", errors="replace").splitlines():
                parts = line.split()
                try:
                    values.append((int(parts[2]), int(parts[0]), float(parts[1])))
                except (ValueError, IndexError):  # still being written
                    continue
            if values:
                yield str(path.relative_to(place)), sorted(values, key=lambda each: each[:2])
