"""The supervisor: finds runs, claims them, starts their processes and sees each to its end.

It is one loop that takes events from a queue: a hint, a poll's time, a report of the launcher, a signal. Other threads
only put events there (`hints`, the launcher's listener, `upkeep`) or do what the loop must not wait for (`reporting`).

The life of a run here:  # G4
    scheduled ── claim: PENDING with a lease, the answer names the epoch ──> started ──> ended ──> settled
Whoever loses a claim leaves the run alone. Everything written afterwards carries the epoch.

Ending a process: TERM, upon which the engine ends the run properly, and KILL for all it has started after the grace
period. Why it was told to end is kept, and decides what is reported.

`stop()`, or SIGTERM and SIGINT once `handle_signals` was called: the first time no run is taken any more and those
that run are waited for; the second time they are told to end; the third time they are killed.
"""

import contextlib
import logging
import queue
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from headrace._internal.ids import uuid7
from headrace.client import Client
from headrace.client.http import RUN_KEY
from headrace.exceptions import ApiError, ObjectNotFound
from headrace.runner.children import Child, Ending
from headrace.runner.hints import Hints
from headrace.runner.launcher import Launcher, make_launcher
from headrace.runner.protocol import Ended, Ready, Report, Start, Started
from headrace.runner.reporting import Reporter
from headrace.runner.sources import Source
from headrace.runner.upkeep import Upkeep
from headrace.schemas.flow_runs import SET_FLOW_RUN_STATE, FlowRun, SetFlowRunState
from headrace.schemas.run_keys import CREATE_RUN_KEY, RunKeyCreate
from headrace.schemas.states import SetStateStatus, StateCreate, StateDetails, StateType

logger = logging.getLogger("headrace.runner")
LOOK_AHEAD = 0.05  # seconds by which a run may be claimed early
MOST_AT_ONCE = 200  # the API's page
LOST_GRACE = 5.0
BACK_OFF = 4
REPORT_SECONDS = 10.0

Prepare = Callable[[FlowRun], tuple[Start, dict[str, str]]]
"""Makes the order for a run (its epoch is filled in) and the labels to note at it."""


class Supervisor:
    """Carries out the runs of a source.

    Args:
        client: whom to ask and to tell.
        source: where runs come from.
        prepare: says how a run's process is started; its errors make the run CRASHED.
        limit: most processes at once; None for no limit.
        poll_seconds: how often to look for runs.
        prefetch_seconds: how far ahead to look for the next time at which a run is due.
        heartbeat_seconds: how often to give a sign of life.
        lease_seconds: length of the leases of runs.
        grace_seconds: how long a process has between TERM and KILL.
        run_keys: whether each run gets a login of its own.
        launcher: makes the launcher; for tests.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        prepare: Prepare,
        *,
        limit: int | None,
        poll_seconds: float,
        prefetch_seconds: float,
        heartbeat_seconds: float,
        lease_seconds: float,
        grace_seconds: float,
        run_keys: bool = False,
        launcher: Callable[[Callable[[Report], None]], Launcher] = make_launcher,
    ) -> None:
        self._client, self._source, self.prepare = client, source, prepare
        self._limit, self._poll, self._prefetch = limit, poll_seconds, prefetch_seconds
        self._lease, self._grace = lease_seconds, grace_seconds
        self._run_keys = run_keys and not client.local
        self._events: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._children: dict[UUID, Child] = {}
        self._stops = 0
        self._next_poll = time.monotonic()
        self._next_due: float | None = None
        self._failures = 0
        self._looked_at = time.monotonic()
        self.ready = threading.Event()
        """Set once the template takes orders."""
        self._launcher = launcher(lambda report: self._events.put(("report", report)))
        self.reporter = Reporter(client)
        self.upkeep = Upkeep(
            client,
            lambda: list(self._children.values()),
            lease_seconds=lease_seconds,
            lost=lambda run_id: self._events.put(("lost", run_id)),
            cancelling=self.cancel,
            heartbeat=lambda: source.heartbeat(client),
            heartbeat_seconds=heartbeat_seconds,
        )
        self._hints: Hints | None = None
        if source.pool is not None and not client.local:
            self._hints = Hints(
                source.pool,
                runs=lambda: self._events.put(("look",)),
                cancel=self.cancel,
            )

    @property
    def running(self) -> int:
        """How many processes there are."""
        return len(self._children)

    def seconds_since_look(self) -> float:
        """How long ago the API was last asked for runs, and answered."""
        return time.monotonic() - self._looked_at

    def stop(self) -> None:
        """Take no more runs; a second call ends those that run, a third kills them. Any thread may call it."""
        self._events.put(("stop",))

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """While inside, SIGTERM and SIGINT stop this supervisor. In the main thread only."""
        before = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, *, once: bool = False) -> None:
        """Carry out runs until stopped.

        Args:
            once: carry out what is due now, and return when that has ended.
        """
        self.reporter.leftovers()
        self.upkeep.start()
        if self._hints is not None:
            self._hints.start()
        try:
            self.look()
            while not ((self._stops or once) and not self._children):
                if self.take_events(self.seconds_to_next_look()):
                    self._next_due = time.monotonic()
                self.kill_overdue()
                if not self._stops and not once and self._is_time():
                    self.look()
        finally:
            self.close()

    def close(self) -> None:
        """End what still runs, report it, and stop all threads."""
        if self._hints is not None:
            self._hints.close()
        self.upkeep.close()
        self._launcher.close()
        if not self.reporter.close(REPORT_SECONDS):
            logger.warning("The API could not be told about all runs; it settles them when their leases end.")

    # Events

    def seconds_to_next_look(self) -> float:
        """How long until there is something to look after, if no event comes before."""
        moments = [self._next_poll, *(child.kill_at for child in self._children.values() if child.kill_at is not None)]
        if self._next_due is not None:
            moments.append(self._next_due)
        return max(0.0, min(moments) - time.monotonic())

    def take_events(self, wait: float = 0.0) -> bool:
        """Deal with all events that have come, so that many hints make one look.

        Args:
            wait: seconds to wait for the first.

        Returns:
            Whether it is worth looking for runs.
        """
        look = False
        try:
            event = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            while True:
                look |= self._take_event(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return look

    def cancel(self, run_id: UUID) -> None:
        """Cancel a run, if its process is one of ours. From any thread."""
        self._events.put(("cancel", run_id))

    def _take_event(self, event: tuple[Any, ...]) -> bool:
        """Deal with an event; says whether it is worth looking for runs."""
        match event:
            case ("look",):
                return True
            case ("stop",):
                self._stop_further()
            case ("report", Ready()):
                self.ready.set()
            case ("report", Started() as report):
                self._has_started(report)
            case ("report", Ended() as report):
                return self._has_ended(report)
            case ("cancel", run_id):
                self._end(run_id, Ending.CANCELLED, self._grace)
            case ("lost", run_id):
                self._end(run_id, Ending.LOST, LOST_GRACE)
        return False

    def _has_started(self, report: Started) -> None:
        child = self._children.get(report.id)
        if child is not None:
            child.pid = report.pid
            self.reporter.started(child)
            if child.ending is not None:  # told to end before it had begun
                self._launcher.signal(child.id, signal.SIGTERM)

    def _has_ended(self, report: Ended) -> bool:
        child = self._children.pop(report.id, None)
        if child is None:
            return False
        self.reporter.ended(child, report)
        return True

    def _end(self, run_id: UUID, why: Ending, grace: float) -> None:
        child = self._children.get(run_id)
        if child is None or (child.ending is not None and child.kill_at is not None):
            return
        logger.info("Ending run %r: %s.", child.name, why.value)
        child.ending, child.kill_at = why, time.monotonic() + grace
        self._launcher.signal(run_id, signal.SIGTERM)

    def kill_overdue(self) -> None:
        """Kill the processes whose grace period is over."""
        now = time.monotonic()
        for child in self._children.values():
            if child.kill_at is not None and child.kill_at <= now:
                logger.warning("Run %r did not end in time; it is killed.", child.name)
                child.kill_at = now + LOST_GRACE
                self._launcher.signal(child.id, getattr(signal, "SIGKILL", signal.SIGTERM), group=True)

    def _stop_further(self) -> None:
        self._stops += 1
        if self._stops == 1 and self._children:
            logger.warning("Stopping: waiting for %d runs to end. Once more to end them now.", len(self._children))
        elif self._stops == 2:
            for run_id in list(self._children):
                self._end(run_id, Ending.STOPPED, self._grace)
        elif self._stops > 2:
            for child in self._children.values():
                child.ending, child.kill_at = child.ending or Ending.STOPPED, time.monotonic()

    # Finding and starting runs

    def _is_time(self) -> bool:
        now = time.monotonic()
        return now >= self._next_poll or (self._next_due is not None and now >= self._next_due)

    def look(self) -> None:
        """Look for runs that are due, and take as many as there is room for."""
        now = time.monotonic()
        is_poll = now >= self._next_poll
        if is_poll:
            self._next_poll = now + self._poll * random.uniform(0.9, 1.1)
        self._next_due = None
        try:
            room = self._room()
            taken = -1
            while room > 0 and taken != 0 and not self._stops:
                due = self._source.scheduled(self._client, _soon(LOOK_AHEAD), min(room, MOST_AT_ONCE))
                taken = sum(self._take(run) for run in due)
                room = self._room()
                if len(due) < MOST_AT_ONCE:
                    break
            if is_poll and room > 0:
                self._note_next_due()
            self._failures, self._looked_at = 0, now
        except (ApiError, OSError) as error:
            self._failures += 1
            self._next_poll = now + self._poll * min(self._failures, BACK_OFF)
            logger.warning("Looking for runs failed: %s. Trying again in %.0f s.", error, self._next_poll - now)

    def _room(self) -> int:
        return MOST_AT_ONCE if self._limit is None else self._limit - len(self._children)

    def _note_next_due(self) -> None:
        """When the next run is due, so that it begins in time even without a hint."""
        ahead = self._source.scheduled(self._client, _soon(self._prefetch), MOST_AT_ONCE)
        now = datetime.now(UTC)
        waits = [
            (run.next_scheduled_start_time - now).total_seconds() for run in ahead if run.next_scheduled_start_time
        ]
        later = [wait for wait in waits if wait > LOOK_AHEAD]
        if later:
            self._next_due = time.monotonic() + min(later)

    def _take(self, run: FlowRun) -> bool:
        """Claim a run and start its process; False when somebody else has it, or it has to wait."""
        if run.id in self._children:
            return False
        details = StateDetails(transition_id=uuid7())  # so that the claim can be sent again
        claim = SetFlowRunState(
            state=StateCreate(type=StateType.PENDING, state_details=details), lease_seconds=self._lease
        )
        try:
            answer = self._client.call(SET_FLOW_RUN_STATE, id=run.id, body=claim)
        except ObjectNotFound:
            return False
        if answer.status is SetStateStatus.ABORT or answer.epoch is None:
            logger.debug("Run %r is not for us now: %s.", run.name, answer.status)
            return False
        child = Child(run, answer.epoch)
        try:
            order, child.labels = self.prepare(run)
            login = self._login_of(run, answer.epoch)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a job: this run fails, the others go on  # G13
            self.reporter.failed(child, f"The run could not be started: {error}")
            return False
        order.environment = {**order.environment, **names_of(run, answer.epoch), **login}
        self._children[run.id] = child
        self._launcher.start(order)
        logger.info("Started run %r.", child.name)
        return True

    def _login_of(self, run: FlowRun, epoch: int) -> dict[str, str | None]:
        """The variables with which the process of a run logs in as that, and not as this worker.  # S5"""
        if not self._run_keys:
            return {}
        made = self._client.call(CREATE_RUN_KEY, id=run.id, body=RunKeyCreate(epoch=epoch))
        names = [f"{program}_API_{login}" for program in ("HEADRACE", "PREFECT") for login in ("KEY", "AUTH_STRING")]
        return {**dict.fromkeys(names), RUN_KEY: made.key}


def _soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def names_of(run: FlowRun, epoch: int) -> dict[str, str | None]:
    """The variables that tell the engine which run to carry out, and for which attempt."""
    return {
        "HEADRACE__FLOW_RUN_ID": str(run.id),
        "PREFECT__FLOW_RUN_ID": str(run.id),
        "HEADRACE__FLOW_RUN_EPOCH": str(epoch),
    }
