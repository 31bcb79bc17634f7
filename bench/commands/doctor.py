"""`bench doctor`: can this machine train, and can an experiment's runs be paired?"""

import json
from dataclasses import asdict
from typing import Any

from bench.commands.common import data_folder
from bench.commands.options import (
    Arms,
    DataFolder,
    Design,
    Devices,
    Name,
    Output,
    StoreUri,
    expanded,
)
from bench.terminal import show, unicode_out


@expanded
def doctor(
    name: Name = None,
    *,
    arms: Arms,
    devices: Devices = "auto",
    data: DataFolder = None,
    store: StoreUri = None,
    output: Output,
) -> None:
    """Check this machine; with NAME also that its runs can be paired.

    \b
      bench doctor               this machine
      bench doctor digits        also: same seed, same bits; both arms, same draws

    With NAME two seeds are trained twice in both arms; nothing is recorded.
    """
    from bench.commands.drafting import draft, seeds_of
    from bench.commands.studies import asked_study
    from bench.execution import doctor as looks
    from bench.execution.devices import slots
    from bench.execution.server import Server

    places, findings = slots(devices, per_device=1, workers=None), []

    def add(found: Any) -> None:
        findings.append(found)
        if not output.as_json:
            show(found.line(unicode=unicode_out()))

    for found in looks.machine(store, places):
        add(found)
    if name is not None:
        folder, design = data_folder(data), Design()
        with asked_study(name, arms) as asked, Server(str(asked.name)) as server:
            places = server.slots(devices)
            _, plan = draft(server, folder, design, asked.arms, seeds_of(design), places)
            for found in looks.experiment(server, plan, places, folder=folder):
                add(found)
        add(looks.pairing(store, plan.experiment))
    bad = [found for found in findings if found.state == "bad"]
    if output.as_json and not bad:
        print(json.dumps({"findings": [asdict(found) for found in findings]}))
    if bad:
        raise looks.Unwell(
            f"{len(bad)} of {len(findings)} checks failed.",
            facts=[f"{found.name}: {found.text}." for found in bad],
            fix="mend these before training:",
            command=["bench", "doctor", "-h"],
        )
