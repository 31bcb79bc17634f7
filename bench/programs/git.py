"""Git: asks a repository, and starts nothing that its own configuration names."""

import os
import subprocess
from pathlib import Path

# What a repository's own configuration would start, whoever wrote it.
NOTHING_RUN = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
# What a git hook sets: the repository that it runs for would stand for the one that is asked.
OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX",
                    "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")  # fmt: skip


def ask(folder: Path, *arguments: str, seconds: float = 10) -> str | None:
    """Return what git says of a folder, without the last line end; None where it fails."""
    done = run(folder, *arguments, seconds=seconds)
    return done.stdout.rstrip("\n") if done is not None and done.returncode == 0 else None


def run(
    folder: Path, *arguments: str, seconds: float = 10
) -> "subprocess.CompletedProcess[str] | None":
    """Run git in a folder; None where there is no git, or it takes too long."""
    inherited = {name: os.environ[name] for name in os.environ if name not in OTHER_REPOSITORY}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *NOTHING_RUN, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            errors="surrogateescape",
            env={**inherited, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
