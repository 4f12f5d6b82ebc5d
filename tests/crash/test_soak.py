"""Sixty-four clients write to a server on SQLite for as long as they are let: nothing is refused, lost, or piles up."""

import http.client
import json
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from headrace._internal.ids import uuid7
from tests.crash.processes import Installation

SECONDS = float(os.environ.get("HEADRACE_TEST_SOAK_SECONDS", "20"))
CLIENTS = 64
MOST_GROWTH_MB = 25.0
"""What caches may still take after the first fifth of the time."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 2 + 120)]


class Client(threading.Thread):
    """One client: it creates flow runs, moves each through its states, writes log lines, and keeps a journal."""

    def __init__(self, port: int, flow_id: str, until: float) -> None:
        super().__init__(daemon=True)
        self.runs: list[UUID] = []
        self.lines: list[UUID] = []
        self.refused: list[str] = []
        self._flow_id, self._until = flow_id, until
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def run(self) -> None:
        """Write until the time is over."""
        while time.monotonic() < self._until:
            made = self._call("/flow_runs/", {"flow_id": self._flow_id, "state": {"type": "PENDING"}})
            if made is None:
                continue
            for kind in ("RUNNING", "COMPLETED"):
                self._call(f"/flow_runs/{made['id']}/set_state", {"state": {"type": kind}})
            self.runs.append(UUID(made["id"]))
            line = {"id": str(uuid7()), "name": "soak", "level": 20, "message": "on and on"}
            line |= {"timestamp": made["created"], "flow_run_id": made["id"]}
            if self._call("/records", {"logs": [line]}) is not None:
                self.lines.append(UUID(line["id"]))

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        self._link.request("POST", f"/api{path}", json.dumps(body), {"Content-Type": "application/json"})
        answer = self._link.getresponse()
        said = answer.read()
        if answer.status >= 300:
            self.refused.append(f"{answer.status} {said[:200]!r}")
            return None
        return json.loads(said)


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_sixty_four_clients_lose_nothing_and_nothing_piles_up(headrace: Installation) -> None:
    """Every acknowledged run and line is there, final; no answer was a refusal; memory stays as it was."""
    server = headrace.processes[0].pid
    flow = headrace.call("POST", "/flows/", {"name": "soak"})
    clients = [Client(headrace.port, flow["id"], time.monotonic() + SECONDS) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(SECONDS / 5)
    early = resident_mb(server)
    for client in clients:
        client.join(SECONDS * 2 + 60)
    late = resident_mb(server)

    runs = {run for client in clients for run in client.runs}
    lines = {line for client in clients for line in client.lines}
    assert [text for client in clients for text in client.refused] == []
    assert len(runs) > CLIENTS
    with sqlite3.connect(next(headrace.home.glob("*.db"))) as database:
        completed = database.execute("SELECT id FROM flow_run WHERE state_type = 'COMPLETED'")
        finished = {UUID(bytes=id) for (id,) in completed}
        written = {UUID(bytes=id) for (id,) in database.execute("SELECT id FROM log")}
    assert finished == runs
    assert written == lines
    assert "locked" not in headrace.output("server")
    assert late - early < MOST_GROWTH_MB, f"{early:.0f} MB grew to {late:.0f} MB over {len(runs)} runs"
    print(f"{len(runs)} runs, {len(runs) * 4 / SECONDS:.0f} writes a second, {early:.0f} to {late:.0f} MB")
