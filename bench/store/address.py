"""Store addresses: which store is meant, where its state lies here, how it is shown safely."""

import os
import re
from contextlib import suppress
from pathlib import Path

from bench.analysis.errors import Refusal
from bench.cache import cache_dir
from bench.redaction import redacted as redacted, without_passwords
from bench.store.names import file_name

DEFAULT = "sqlite:///mlruns/mlflow.db"


class StoreTrouble(Refusal):
    """A store that cannot be opened, read or written."""

    code = "store"
    exit_status = 4


class StoreRefuses(StoreTrouble):
    """A store that will not take something, now or later; everything else it takes."""


class StoreAway(StoreTrouble):
    """A store that does not answer now and may later: a locked file, a server that is down."""


def address(typed: str | None = None) -> str:
    """Return the store's address: typed, else $MLFLOW_TRACKING_URI, else below this folder.

    Raises
    ------
    StoreTrouble : neither an SQLite address nor a server's
    """
    uri = typed or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT
    database = database_of(uri)
    if database is not None:
        _require_text(database)
        return f"sqlite:///{database}"
    if re.match(r"sqlite[^:]*://", uri):
        raise StoreTrouble(
            f'"{uri}" names no file, so nothing recorded there could be found again.',
            facts=["A store on this disk is sqlite:///FILE, with three slashes."],
            options=[("store", DEFAULT)],
        )
    if not re.match(r"https?://|[a-z]+(\+[a-z0-9]+)?://", uri) or "\0" in uri:
        raise StoreTrouble(
            f'"{redacted(uri)}" is not a store.',
            facts=["A store is sqlite:///FILE or the address of an MLflow server, http://…"],
            options=[("store", DEFAULT)],
        )
    return uri


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite address, absolute, or None for other stores.

    What follows the three slashes is the file's name as it is: `%41` and `?` stand for themselves.
    """
    match = re.fullmatch(r"sqlite:///([^\0]+)", uri)
    if match is None or match[1] == ":memory:":
        return None
    with suppress(RuntimeError):  # no home of that name
        return Path(match[1]).expanduser().absolute()
    return Path(match[1]).absolute()


def _require_text(database: Path) -> None:
    try:
        str(database).encode()
    except UnicodeEncodeError:
        raise StoreTrouble(
            f"a store cannot lie in {str(database.parent)!r}: its name is no UTF-8.",
            facts=["MLflow keeps the paths of its files as text."],
            options=[("store", f"sqlite:///{Path.home() / 'mlruns' / 'mlflow.db'}")],
        ) from None


def state_folder(uri: str) -> Path:
    """Return where locks and results on their way are kept: beside the database.

    A server's are in the user's cache, the same for every folder that bench is started in.
    """
    database = database_of(uri)
    if database is not None:
        return database.parent
    return cache_dir() / "stores" / file_name(without_passwords(uri))


def may_hold_runs(typed: str | None) -> bool:
    """Tell at once, without MLflow, whether something may have been recorded there already."""
    database = database_of(address(typed))
    return database is None or database.exists()


def first_line(error: BaseException) -> str:
    """Return what an error says first, without passwords."""
    text = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else 'no message'}"
