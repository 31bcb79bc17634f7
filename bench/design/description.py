"""Description: an experiment in plain values, for the processes that never import it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from bench.design import source_digest
from bench.experiment import Experiment, Settings


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an experiment says of itself; the fields are those of `Experiment`."""

    name: str
    question: str
    arms: Mapping[str, Settings]
    settings: Settings
    metric: str = "accuracy"
    higher_is_better: bool = True
    cluster: str = ""
    datasets: Sequence[str] = ()
    test_share: float | None = None
    margin: float | None = None
    claim: float | None = None
    pack_seeds: int | None = 0  # 0: no packs; None: it depends on settings and device
    device: str = "any"
    devices: int = 1
    reuse_process: bool = False


def described(experiment: Experiment) -> Description:
    """Return what an experiment says of itself."""
    plain = {f.name: getattr(experiment, f.name) for f in fields(Description)}
    plain["datasets"] = list(experiment.datasets)
    if experiment.train_pack is None:
        plain["pack_seeds"] = 0
    elif callable(experiment.pack_seeds):
        plain["pack_seeds"] = None
    return Description(**plain)


@dataclass(frozen=True, eq=False)
class Discovered:
    """An experiment, how a process finds it again, and the files that it consists of."""

    experiment: Description
    reference: str  # a module name, or the absolute path of a file
    source: Mapping[str, str]  # text of each of its own modules, by the path in its project
    files: Mapping[str, str]  # SHA-256 of the same, and of its inputs
    versions: Mapping[str, str] = field(default_factory=dict)  # of the packages that they use
    file: str = ""  # its own source file

    @property
    def source_digest(self) -> str:
        """Digest of all its files."""
        return source_digest.digest(self.files)
