"""What stops a study of commands: arms that cannot be trained, and programs without results."""

from bench.analysis.errors import Refusal


class BadArms(Refusal):
    """An arm whose program, commit or files are not there, or are not the ones that were meant."""

    code = "arms"
    exit_status = 5


class NoResults(Refusal):
    """A program that ended well, and from whose output no result can be read."""

    code = "results"
    exit_status = 3


class CommandFailed(Refusal):
    """A program that ended with another status than 0."""

    code = "training"
    exit_status = 3
