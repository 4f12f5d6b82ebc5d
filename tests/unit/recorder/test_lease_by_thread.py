"""Renewing by a thread, where no child process can."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from headrace._internal.ids import uuid7
from headrace.engine import lease
from headrace.exceptions import ApiUnreachable
from headrace.schemas.leases import RENEW_RUN_LEASES, RunLease, RunLeasesRenewed

LEASE = 0.15  # seconds


class Api:
    """An API in this process that notes renewals and answers as it is told."""

    local = True

    def __init__(self) -> None:
        self.lost: list[UUID] = []
        self.cancelling: list[UUID] = []
        self.down = False
        self.calls: list[list[RunLease]] = []
        self.changed = threading.Condition()

    def call(self, endpoint: Any, *, body: Any = None, **_: Any) -> RunLeasesRenewed:
        assert endpoint is RENEW_RUN_LEASES
        with self.changed:
            self.calls.append(body.leases)
            self.changed.notify_all()
        if self.down:
            raise ApiUnreachable("nobody answers")
        return RunLeasesRenewed(lost=self.lost, cancelling=self.cancelling)

    def wait(self, calls: int) -> bool:
        """Wait for so many renewals in all."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.calls) >= calls, 20)


@pytest.fixture
def api() -> Api:
    """An API."""
    return Api()


@pytest.fixture
def interrupted() -> threading.Event:
    """Set when the process is told to stop."""
    return threading.Event()


@pytest.fixture
def keeper(api: Api, interrupted: threading.Event) -> Iterator[lease.ThreadKeeper]:
    """A thread that renews at that API."""
    made = lease.ThreadKeeper(api, interrupted.set)
    yield made
    made.close()


def test_a_thread_renews_what_is_held(api: Api, keeper: lease.ThreadKeeper) -> None:
    """Each third of the lease, until the release; a failure is tried again."""
    first, second = RunLease(id=uuid7(), epoch=1), RunLease(id=uuid7(), epoch=2)
    keeper.hold(first, LEASE)
    keeper.hold(second, LEASE)
    api.down = True
    assert api.wait(2)
    api.down = False
    assert api.calls[-1] == [first, second]

    keeper.release(first.id)

    assert api.wait(len(api.calls) + 2)
    assert api.calls[-1] == [second]
    assert keeper.fate(second.id) == "held"


def test_g4_a_thread_stops_a_lost_run(api: Api, keeper: lease.ThreadKeeper, interrupted: threading.Event) -> None:
    """A run that is seen lost twice interrupts the process, and is renewed no more."""
    run = RunLease(id=uuid7(), epoch=1)
    api.lost = [run.id]
    keeper.hold(run, LEASE)

    assert interrupted.wait(20)
    assert len(api.calls) >= 2
    assert keeper.fate(run.id) == "lost"


def test_a_thread_tells_of_cancelling_once(api: Api, keeper: lease.ThreadKeeper, interrupted: threading.Event) -> None:
    """The process is interrupted once; the lease is renewed on."""
    run = RunLease(id=uuid7(), epoch=1)
    api.cancelling = [run.id]
    keeper.hold(run, LEASE)
    assert interrupted.wait(20)
    assert keeper.fate(run.id) == "cancelling"
    interrupted.clear()

    assert api.wait(len(api.calls) + 3)
    assert not interrupted.is_set()


def test_without_an_interpreter_of_its_own_a_thread_is_used(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    """Embedded in another program, `hold` falls back on the thread by itself."""
    monkeypatch.setattr(lease.sys, "executable", "")
    run = uuid7()
    lease.hold(run, 1, LEASE, api)

    assert api.wait(1)
    lease.release(run)
    lease.close()
