"""Keeping runs alive for the API: their leases are renewed each third of their length, from a thread of its own.

The thread does nothing else but heartbeats, so a slow start of a run, or a long report, cannot let a lease lapse. An
API that is away crashes nothing: renewing goes on until it is back, and the API waits one lease time after it has
come back before it takes any lease for dead.  # G6
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from uuid import UUID

from headrace.client import Client
from headrace.engine.renewer import frozen
from headrace.exceptions import ApiError, ObjectNotFound
from headrace.runner.children import Child
from headrace.schemas.flow_runs import READ_FLOW_RUN
from headrace.schemas.leases import RENEW_RUN_LEASES, RenewRunLeases, RunLease
from headrace.schemas.states import FINAL, StateType

logger = logging.getLogger("headrace.runner")


class Upkeep:
    """The thread that renews leases and sends heartbeats.

    Args:
        client: whom to call.
        children: gives the children there are.
        lease_seconds: length of a lease in seconds.
        lost: told of a run that is no longer this process's, and of a run that has ended but whose process has not.
        cancelling: told of a run that is to be cancelled.
        heartbeat: sends a heartbeat.
        heartbeat_seconds: how often, in seconds.
    """

    def __init__(
        self,
        client: Client,
        children: Callable[[], Iterable[Child]],
        *,
        lease_seconds: float,
        lost: Callable[[UUID], None],
        cancelling: Callable[[UUID], None],
        heartbeat: Callable[[], None],
        heartbeat_seconds: float,
    ) -> None:
        self._client, self._children = client, children
        self._lost, self._cancelling = lost, cancelling
        self._heartbeat, self._heartbeat_seconds = heartbeat, heartbeat_seconds
        self._renew_seconds = lease_seconds / 3
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="headrace-upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop; returns when the thread has ended or its call has taken five seconds."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _work(self) -> None:
        renew_at, beat_at = time.monotonic() + self._renew_seconds, time.monotonic() + self._heartbeat_seconds
        while not self._closing.wait(max(0.0, min(renew_at, beat_at) - time.monotonic())):
            now = time.monotonic()
            try:
                if now >= renew_at:
                    renew_at = now + self._renew_seconds
                    self.renew()
                if now >= beat_at:
                    beat_at = now + self._heartbeat_seconds
                    self._heartbeat()
            except (ApiError, OSError) as error:
                logger.warning("The API cannot be reached (%s); trying again.", error)
            except Exception:
                logger.exception("Renewing leases failed; trying again.")

    def renew(self) -> None:
        """Renew the leases of all children, and pass on what the API says about them."""
        held = {child.id: child for child in self._children() if not child.over and not _frozen(child)}
        if not held:
            return
        leases = [RunLease(id=child.id, epoch=child.epoch) for child in held.values()]
        answer = self._client.call(RENEW_RUN_LEASES, body=RenewRunLeases(leases=leases))
        for run_id in answer.cancelling:
            self._cancelling(run_id)
        for run_id in answer.lost:
            if run_id in held:
                self._look_at(held[run_id])

    def _look_at(self, child: Child) -> None:
        """A lease is gone: because the run has just ended in its process, or because it was taken from us.  # G4"""
        try:
            run = self._client.call(READ_FLOW_RUN, id=child.id)
        except ObjectNotFound:
            self._lost(child.id)
            return
        if run.epoch != child.epoch or run.state_type is StateType.CRASHED:
            self._lost(child.id)
        elif run.state_type in FINAL:
            child.over = True  # its process is on its way out: hooks, records
        # else it is paused or waits for its next try, in its process, and will have a lease again


def _frozen(child: Child) -> bool:
    """Whether a process is stopped (SIGSTOP): then it does not live, and its lease is let go."""
    return child.pid is not None and frozen(child.pid)
