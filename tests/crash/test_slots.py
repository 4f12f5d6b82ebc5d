"""Holders of slots killed at any moment, and the server with them: no limit is exceeded, and no slot is lost.  # G7"""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from headrace.server.store import open_store
from headrace.server.store.tables import SLOT_LEASE
from headrace.server.store.transaction import Store, Tx
from tests.crash.processes import WITHIN, Installation, installation, kill, wait_for
from tests.crash.test_held import free_port
from tests.support import postgresql

KILLS = int(os.environ.get("HEADRACE_TEST_KILLS", "200"))
"""How many holders are killed; the guarantee says 1 000."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(KILLS / 2 + 180)]

HOLDERS, SERVER_DIES_EACH = 12, 150
OF_DEPLOYMENT, OF_NAME = 50, 40
"""The limits: fewer slots than the dead hold between their death and the end of their leases."""

HOLDER = """
import http.client, json, random, sys, time

port = int(sys.argv[1])

def call(method, path, body):
    while True:
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            link.request(method, "/api" + path, json.dumps(body), {"Content-Type": "application/json"})
            answer = link.getresponse()
            text = answer.read()
            if answer.status < 500:
                return answer.status, json.loads(text) if text else None
        except (OSError, http.client.HTTPException):
            pass  # the server is killed, too
        time.sleep(0.05)

def claimed(state, **more):
    while True:
        status, answer = call("POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": state}, **more})
        if status < 300 and answer["status"] == "ACCEPT":
            return answer["epoch"]
        time.sleep(random.uniform(0.02, 0.1))

run = {"id": sys.argv[2]}
epoch = claimed("PENDING", lease_seconds=2)
claimed("RUNNING", epoch=epoch, lease_seconds=2)
asked = {"names": ["db"], "slots": 1, "lease_duration": 60, "holder": {"type": "flow_run", "id": run["id"]}}
while call("POST", "/v2/concurrency_limits/increment-with-lease", asked)[0] != 200:
    time.sleep(random.uniform(0.02, 0.1))
while True:
    time.sleep(0.5)
    call("POST", "/flow_runs/leases/renew", {"leases": [{"id": run["id"], "epoch": epoch}]})
"""
"""Takes a slot of its deployment's limit with the run, and one of the limit `db` for the run, and keeps them."""


@pytest.fixture(params=["sqlite", "postgresql"])
def headrace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """A server, on each database."""
    with contextlib.ExitStack() as ends, installation(tmp_path, free_port()) as made:
        if request.param == "postgresql":
            made.database = ends.enter_context(postgresql.new_database())
            made.environment["HEADRACE_SERVER_DATABASE_CONNECTION_URL"] = made.database
        made.start_server()
        yield made


def live_slots(tx: Tx) -> dict[UUID, int]:
    """How many slots of each limit are taken."""
    used = select(SLOT_LEASE.c.limit_id, func.sum(SLOT_LEASE.c.slots)).where(SLOT_LEASE.c.until > tx.now)
    return {limit: int(slots) for limit, slots in tx.execute(used.group_by(SLOT_LEASE.c.limit_id))}


class Watch(threading.Thread):
    """Looks all the time how many slots are taken."""

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.store, self.ends = store, threading.Event()
        self.most: dict[UUID, int] = {}

    def run(self) -> None:
        """Look until told to end."""
        while not self.ends.wait(0.02):
            for limit, slots in self.store.read(live_slots).items():
                self.most[limit] = max(self.most.get(limit, 0), slots)


def deployed(headrace: Installation) -> str:
    """A deployment with a limit, beside a limit that goes by its name."""
    headrace.call("POST", "/v2/concurrency_limits/", {"name": "db", "limit": OF_NAME})
    flow = headrace.call("POST", "/flows/", {"name": "held"})
    body = {"flow_id": flow["id"], "name": "test", "concurrency_limit": OF_DEPLOYMENT}
    made: str = headrace.call("POST", "/deployments/", body)["id"]
    return made


def change_limits(headrace: Installation, deployment: str, less: int) -> None:
    """Lower both limits by so much."""
    headrace.call("PATCH", "/v2/concurrency_limits/db", {"limit": OF_NAME - less})
    headrace.call("PATCH", f"/deployments/{deployment}", {"concurrency_limit": OF_DEPLOYMENT - less})


class Holders:
    """Processes that hold slots, or wait for them: whoever is killed has a successor.

    A run that waits in line is taken on by the successor, as another worker would; else its place would hold up those
    behind it for as long as a worker may take to come back.
    """

    def __init__(self, headrace: Installation, deployment: str) -> None:
        self._headrace, self._deployment = headrace, deployment
        self._script, self._chance = headrace.home / "holder.py", random.Random(7)
        self._script.write_text(HOLDER)
        self._alive: list[tuple[subprocess.Popen[bytes], str]] = []

    def start(self, run_id: str | None = None) -> None:
        """Start one, for a new run unless there is one already."""
        run_id = run_id or self._headrace.call("POST", f"/deployments/{self._deployment}/create_flow_run", {})["id"]
        command = [sys.executable, "-I", "-S", str(self._script), str(self._headrace.port), run_id]
        self._alive.append((subprocess.Popen(command, stderr=subprocess.DEVNULL), run_id))

    def kill_one(self) -> None:
        """Kill one at some moment, and start its successor."""
        time.sleep(self._chance.uniform(0.01, 0.06))
        process, run_id = self._alive.pop(self._chance.randrange(len(self._alive)))
        kill(process)
        waits = self._headrace.call("GET", f"/flow_runs/{run_id}")["state_type"] == "SCHEDULED"
        self.start(run_id if waits else None)

    def kill_all(self) -> None:
        """Kill those that are left."""
        while self._alive:
            kill(self._alive.pop()[0])


def torture(headrace: Installation, deployment: str) -> None:
    """Kill holders, and now and then the server, while the limits are changed."""
    chance, holders = random.Random(7), Holders(headrace, deployment)
    for _ in range(HOLDERS):
        holders.start()
    for number in range(KILLS):
        holders.kill_one()
        if number % SERVER_DIES_EACH == SERVER_DIES_EACH - 1:
            kill(headrace.processes[-1])
            headrace.start_server()
        elif number % 20 == 0:
            change_limits(headrace, deployment, chance.choice([0, 5, 10]))
    holders.kill_all()


def test_g7_slots_of_the_killed_are_free_within_their_lease(headrace: Installation) -> None:
    """While holders and the server are killed no limit is exceeded; afterwards all slots are free, all runs ended."""
    deployment = deployed(headrace)
    store = open_store(headrace.database)
    watch = Watch(store)
    watch.start()

    torture(headrace, deployment)
    ended = time.monotonic()

    wait_for(lambda: not store.read(live_slots), seconds=WITHIN + 1)
    freed_after = time.monotonic() - ended
    watch.ends.set()
    watch.join()
    store.close()
    crashed = headrace.call("POST", "/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}})
    running = headrace.call("POST", "/flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})
    most = sorted(watch.most.values())
    print(f"{KILLS} kills, {crashed} with slots; at most {most} were taken; all free after {freed_after:.1f} s")
    assert len(watch.most) == 2
    assert max(watch.most.values()) <= OF_DEPLOYMENT
    assert min(watch.most.values()) <= OF_NAME
    assert freed_after <= WITHIN
    assert (running, crashed > KILLS / 5) == (0, True)
