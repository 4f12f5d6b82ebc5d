"""Renewing leases in local mode: on the SQLite file, without the server's code."""

import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select

from headrace._internal.clock import SystemClock
from headrace._internal.ids import uuid7
from headrace.engine import lease
from headrace.engine.renewer import Held, Renewer
from headrace.schemas.leases import RenewRunLeases, RunLease
from headrace.server.operations.leases import renew_run_leases
from headrace.server.store import open_store
from headrace.server.store.tables.flows import FLOW_RUN, FLOW_RUN_STATE
from headrace.server.store.transaction import Store
from headrace.settings import temporary_settings

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 30.0
UNTIL = dict.fromkeys(("RUNNING", "CANCELLING", "PAUSED"), BEFORE) | dict.fromkeys(("COMPLETED", "CRASHED"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A database with the real time."""
    opened = open_store(f"sqlite:///{tmp_path}/a %23 b.db", SystemClock())
    yield opened
    opened.close()


def put_run(store: Store, state: str = "RUNNING", epoch: int = 1) -> UUID:
    """A flow run whose lease is due; a final one has none."""
    run, state_id = uuid7(), uuid7()
    values = {
        "id": run, "created": BEFORE, "updated": BEFORE, "expected_start_time": BEFORE, "flow_id": uuid7(), "name": "r",
        "parameters": {}, "context": {}, "empirical_policy": {}, "tags": [], "labels": {}, "auto_scheduled": False,
        "total_run_time": 0.0, "run_count": 1, "state_id": state_id, "state_type": state, "epoch": epoch,
        "lease_until": UNTIL[state], "lease_seconds": SECONDS, "due": BEFORE,
    }  # fmt: skip
    state_values = {
        "id": state_id, "flow_run_id": run, "state_index": 1, "type": state, "name": state.title(),
        "timestamp": BEFORE, "state_details": {},
    }  # fmt: skip
    store.write(lambda tx: [tx.execute(insert(FLOW_RUN), values), tx.execute(insert(FLOW_RUN_STATE), state_values)])
    return run


def times(store: Store, run: UUID) -> tuple[Any, Any]:
    """The run's lease_until and due."""
    row = store.read(lambda tx: tx.execute(select(FLOW_RUN).where(FLOW_RUN.c.id == run)).one())
    return row.lease_until, row.due


def renew(tmp_path: Path, run: UUID, epoch: int = 1) -> tuple[set[str], set[str]]:
    renewer = Renewer(0, lambda *_: None)
    renewer.obey(f"database {tmp_path}/a # b.db", 0)
    return renewer.renew_on_file({str(run): Held(epoch, SECONDS, 0)})


def about_now(moment: datetime, plus: float) -> bool:
    return abs(datetime.now(UTC) + timedelta(seconds=plus) - moment) < timedelta(seconds=10)


def test_a_running_run_is_renewed(store: Store, tmp_path: Path) -> None:
    """Its lease and its deadline last for one lease time from now."""
    run = put_run(store)

    assert renew(tmp_path, run) == (set(), set())

    until, due = times(store, run)
    assert about_now(until, SECONDS)
    assert until == due


@pytest.mark.parametrize("state", ["CANCELLING", "PAUSED"])
def test_a_state_with_a_deadline_of_its_own_keeps_it(store: Store, tmp_path: Path, state: str) -> None:
    """A run that is cancelling or paused is renewed, and its deadline does not move; cancelling is told."""
    run = put_run(store, state)

    assert renew(tmp_path, run) == (set(), {str(run)} if state == "CANCELLING" else set())

    until, due = times(store, run)
    assert about_now(until, SECONDS)
    assert due == BEFORE


@pytest.mark.parametrize(("state", "epoch"), [("RUNNING", 2), ("COMPLETED", 1), ("CRASHED", 1)])
def test_g4_a_run_that_is_not_ours_any_more_is_lost(store: Store, tmp_path: Path, state: str, epoch: int) -> None:
    """A newer attempt or a final state ends our right to renew, and nothing is changed."""
    run = put_run(store, state, epoch)

    assert renew(tmp_path, run, epoch=1) == ({str(run)}, set())
    assert times(store, run) == (UNTIL[state], BEFORE)


def test_a_run_that_is_gone_is_lost(store: Store, tmp_path: Path) -> None:
    """A deleted run cannot be renewed."""
    run = uuid7()

    assert renew(tmp_path, run) == ({str(run)}, set())


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("state", sorted(UNTIL))
def test_g19_the_server_renews_alike(store: Store, tmp_path: Path, state: str, epoch: int) -> None:
    """Whether a run is renewed by the child or by the server's operation, the outcome is the same."""
    by_child, by_server = put_run(store, state), put_run(store, state)

    lost, cancelling = renew(tmp_path, by_child, epoch)
    asked = RenewRunLeases(leases=[RunLease(id=by_server, epoch=epoch)])
    said = store.write(lambda tx: renew_run_leases(tx, asked))

    assert (bool(lost), bool(cancelling)) == (bool(said.lost), bool(said.cancelling))
    for one, other in zip(times(store, by_child), times(store, by_server), strict=True):
        assert one == other or abs(one - other) < timedelta(seconds=5)


def test_g6_local_mode_renews_through_the_child(store: Store, tmp_path: Path) -> None:
    """`hold` with a local client lets the child renew on the file; a lost run brings SIGTERM."""

    class Local:
        local = True

        def call(self, *_: Any, **__: Any) -> None:
            raise AssertionError("the child renews, not this process")

    ours, lost = put_run(store), put_run(store, epoch=2)
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        with temporary_settings({"server.database.connection_url": f"sqlite:///{tmp_path}/a %23 b.db"}):
            lease.hold(ours, 1, 0.3, Local())
            lease.hold(lost, 1, 0.3, Local())
        for _ in range(400):
            if terminated.wait(0.05):
                break
        assert (lease.fate(ours), lease.fate(lost)) == ("held", "lost")
    finally:
        lease.close()
        signal.signal(signal.SIGTERM, before)

    assert times(store, ours)[0] > BEFORE
    assert times(store, lost)[0] == BEFORE
