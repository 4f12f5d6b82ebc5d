"""Stands in for the engine in template processes of these tests: a run does what the variable ACTION says.

Python imports a module of this name at its start when its folder is on PYTHONPATH.
"""

import json
import os
import signal
import sys
import time
import types
from pathlib import Path
from uuid import UUID

stub = types.ModuleType("headrace.engine.entry")


def run_and_end(run_id: UUID, epoch: int | None) -> types.SimpleNamespace:
    """Write down how it finds itself, then act."""
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "epoch": epoch,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "warm": sorted(sys.modules),
    }
    action, _, argument = os.environ.get("ACTION", "").partition(":")
    if action == "import":
        __import__(argument)
    place = Path(os.environ["PLACE"], str(run_id))
    place.with_suffix(".part").write_text(json.dumps(facts))
    place.with_suffix(".part").rename(place)
    if action == "exit":
        sys.exit(int(argument))
    if action == "kill":
        os.kill(os.getpid(), int(argument))
    if action == "stay":
        time.sleep(60)
    if action == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            place.with_suffix(".child").write_text(str(os.getpid()))
        time.sleep(60)
    return types.SimpleNamespace(error=None)


stub.run_and_end = run_and_end  # type: ignore[attr-defined]
sys.modules["headrace.engine.entry"] = stub
