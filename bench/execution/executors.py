"""Executors: which there are, by the name that --backend takes; a new one is a row of these."""

from collections.abc import Callable, Mapping

from bench.execution.base import Executor
from bench.execution.dask_cluster import Cluster
from bench.execution.processes import Processes
from bench.execution.slurm import Slurm

# Called with the server, this machine's slots and how often to try again.
LOCAL: Mapping[str, Callable[..., Executor]] = {"processes": Processes}
# Called with the address and how often to try again; they say what is there, as `Cluster` does.
REMOTE: Mapping[str, Callable[..., Cluster]] = {"dask": Cluster}
# Called with a folder that all machines share, the reference, what to ask for, how often to retry.
SHARED: Mapping[str, Callable[..., Slurm]] = {"slurm": Slurm}
EXECUTORS = (*LOCAL, *REMOTE, *SHARED)
