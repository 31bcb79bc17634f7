"""`bench ui`: the MLflow UI on the store."""

import json
import sys
from typing import Annotated

from bench.commands.common import Usage
from bench.commands.options import AsJson, NoColor, Quiet, StoreUri, Verbose
from bench.commands.parser import Option


def ui(
    port: Annotated[int, Option(metavar="PORT", help="On 127.0.0.1; 0 takes any.")] = 5000,
    store: StoreUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    no_color: NoColor = False,
) -> None:
    """Open the MLflow UI on the store, for this machine only.

    \b
      bench ui                    http://127.0.0.1:5000
      bench ui --port 5001        another port

    Prints links to the latest benchmark: its runs by arm, the verdicts, the report.
    """
    import threading

    from bench.runner import ended_by_signals
    from bench.tracking import Store
    from bench.ui import free_port, links, served, views

    if not 0 <= port <= 65535:
        raise Usage(f"--port {port} is not a port (0 to 65535).", fix="bench ui --port 5000")
    free_port(port)
    place = Store(store)
    latest = place.benchmark()
    place.share_views(latest, views(latest))
    if not quiet:
        print("starting MLflow …", file=sys.stderr, flush=True)
    with ended_by_signals(), served(place.uri, port) as address:
        named = links(latest, address)
        if as_json:
            print(json.dumps({"experiment": latest.name, "links": named}), flush=True)
        else:
            text = "\n".join(f"  {name:<10}{link}" for name, link in named.items())
            print(f"{latest.name}\n{text}", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr, flush=True)
        threading.Event().wait()
