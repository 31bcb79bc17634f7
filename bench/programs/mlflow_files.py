"""MLflow's files: the metrics, parameters and epochs of a run that the program logged by itself.

While a program runs, MLFLOW_TRACKING_URI is a folder of the run's own. Format: a metric is a file
with a line `timestamp value step` for each value.
"""

from collections.abc import Iterator
from pathlib import Path

FOLDER = "mlflow"


def environment(folder: Path) -> dict[str, str]:
    """Return what makes MLflow write there; newer versions have to be allowed to."""
    return {
        "MLFLOW_TRACKING_URI": (folder / FOLDER).as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }


def last_values(folder: Path) -> dict[str, float]:
    """Return each metric's last value, by step and then by time."""
    return {name: max(values)[2] for name, values in _metrics(folder)}


def epochs(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return what was logged at each step."""
    found: dict[int, dict[str, float]] = {}
    for name, values in _metrics(folder):
        for step, _, value in sorted(values):
            if step >= 0:
                found.setdefault(step, {})[name] = value
    return sorted(found.items())


def _metrics(folder: Path) -> Iterator[tuple[str, list[tuple[int, int, float]]]]:
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
                yield str(path.relative_to(place)), values
