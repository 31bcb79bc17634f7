"""`bench ui`: the MLflow UI on the store."""

import json
import threading
from typing import TYPE_CHECKING, Annotated

from bench.commands.common import Usage
from bench.commands.options import Output, Recorded, StoreUri, expanded
from bench.commands.parser import Option
from bench.terminal import show, tell

if TYPE_CHECKING:
    from bench.store.mlflow_store import Store
    from bench.store.runs import Benchmark

MOST_OTHERS = 8


@expanded
def ui(
    name: Recorded = None,
    *,
    port: Annotated[int, Option(metavar="PORT", help="0 takes any.")] = 5000,
    host: Annotated[
        str, Option(metavar="ADDR", help="Where to listen; 0.0.0.0 is everywhere.")
    ] = "127.0.0.1",
    store: StoreUri = None,
    output: Output,
) -> None:
    """Open the MLflow UI on the store, for this machine only.

    \b
      bench ui                    http://127.0.0.1:5000
      bench ui digits             links to digits
      bench ui --port 5001        another port

    Prints links to one benchmark, without NAME to the latest that has a report: its runs by arm,
    the verdicts, the report; then to the others that have one.
    A store that is a server has its UI already: only the links are printed.
    """
    from bench.execution.signals import ended_by_signals
    from bench.store.mlflow_store import Store
    from bench.store.mlflow_ui import free_port, here_alone, served, server_of

    if not 0 <= port <= 65535:
        raise Usage(f"--port {port} is not a port (0 to 65535).", options=[("port", 5000)])
    place = Store(store)
    there = server_of(place.uri)
    if there is None:
        free_port(port, host)
    latest = _latest(place, name)
    if there is not None:
        _print(place, latest, there, as_json=output.as_json)
        return
    if not here_alone(host):
        tell(f"warning: everybody who reaches {host} can read and change this store.")
    output.say("starting MLflow …")
    with ended_by_signals(), served(place.uri, port, host) as address:
        _print(place, latest, address, as_json=output.as_json)
        output.say("Ctrl-C ends it.")
        threading.Event().wait()


def _latest(store: "Store", name: str | None) -> "Benchmark | None":
    """Return the benchmark to link to; damaged ones are named: the UI is where they are mended.

    Without a name the latest that has a report: one that was interrupted hides no finished one.
    """
    from bench.store.mlflow_ui import views
    from bench.store.runs import Benchmark

    recorded = store.recorded(name) or [store.benchmark(name)]  # which refuses an empty store
    for found in recorded:
        if not isinstance(found, Benchmark):
            tell(f"damaged: {found.trouble.what}")
    whole = [found for found in recorded if isinstance(found, Benchmark)]
    judged = [found for found in whole if found.verdict is not None]
    latest = next(iter(whole if name else judged or whole), None)
    if latest is not None:
        store.share_views(latest, views(latest))
    return latest


def _print(store: "Store", latest: "Benchmark | None", address: str, *, as_json: bool) -> None:
    """Say what to open first, and which others there are."""
    from bench.store.mlflow_ui import links

    named = {"store": address} if latest is None else links(latest, address)
    others = {} if latest is None else _others(store, latest, address)
    name = None if latest is None else latest.name
    if as_json:
        print(json.dumps({"experiment": name, "links": named, "others": others}), flush=True)
        return
    text = "\n".join(f"  {name:<10}{link}" for name, link in named.items())
    show(f"{name or 'every benchmark is damaged'}\n{text}")
    if others:
        text = "\n".join(f"  {name}\n    {link}" for name, link in [*others.items()][:MOST_OTHERS])
        show(f"other reports\n{text}")


def _others(store: "Store", latest: "Benchmark", address: str) -> dict[str, str]:
    """Return the link to the report of each other experiment, the latest first."""
    from bench.store.mlflow_ui import links

    found: dict[str, str] = {}
    for other in store.benchmarks():
        if other.name != latest.name and other.verdict is not None:
            found.setdefault(other.name, links(other, address)["report"])
    return found
