"""Telling the API about the processes of runs: that they started, and what became of them.

It happens in a thread of its own, in order, so that neither starting nor renewing leases waits for it. While the API
is away, reports wait and are tried again; a run whose process died while it was away is thus reported later, before or
after its lease has run out, and the API takes whichever comes first.

When a process has ended:  # G2, G6, G11
1. What it could not deliver itself, its last records and maybe its final state, is delivered from its spool.
2. If the run is then final, waits for a retry or is paused, nothing is left to do.
3. If it was being cancelled it is CANCELLED, else CRASHED, with how its process ended.
Both carry the epoch of the attempt, so that they cannot touch a newer one.  # G4
"""

import logging
import queue
import threading
import time
from collections.abc import Callable

from headrace.client import Client
from headrace.engine.leftovers import deliver_leftovers, spool_folder
from headrace.exceptions import ApiError, ApiUnreachable, RateLimited
from headrace.runner.children import Child, Ending
from headrace.runner.outcomes import ended_as
from headrace.runner.protocol import Ended
from headrace.schemas.flow_runs import (
    READ_FLOW_RUN,
    SET_FLOW_RUN_STATE,
    UPDATE_FLOW_RUN,
    UPDATE_FLOW_RUN_LABELS,
    FlowRunUpdate,
    SetFlowRunState,
)
from headrace.schemas.states import SetStateStatus, StateCreate, StateType

logger = logging.getLogger("headrace.runner")
UNDECIDED = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})
"""States that only a process of the run, or its death, can end."""
LONGEST_PAUSE = 10.0
DELIVERY_SECONDS = 120.0
"""How long what a process has left may take to be delivered before its run is settled without it."""


class Reporter:
    """The thread that reports.

    Args:
        client: whom to tell.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="headrace-reports", daemon=True)
        self._thread.start()

    def started(self, child: Child) -> None:
        """Note the process and the labels of a run."""
        self._tasks.put(lambda: self._note_start(child))

    def ended(self, child: Child, report: Ended) -> None:
        """Settle the state of a run whose process has ended."""
        until = time.monotonic() + DELIVERY_SECONDS
        self._tasks.put(lambda: self._settle(child, report, until))

    def leftovers(self) -> None:
        """Deliver what dead processes of this home have left."""
        self._tasks.put(self._deliver_leftovers)

    def failed(self, child: Child, message: str) -> None:
        """Mark a run as CRASHED that could not be started."""
        self._tasks.put(lambda: self._propose(child, StateType.CRASHED, message))

    def close(self, timeout: float) -> bool:
        """Report what is left and stop.

        Args:
            timeout: seconds to wait; what cannot be told by then is settled by the API when the leases end.

        Returns:
            Whether all was reported.
        """
        self._tasks.put(None)
        self._thread.join(timeout)
        self._closing.set()
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            pause = 0.25
            while not self._closing.is_set():
                try:
                    task()
                    break
                except (ApiUnreachable, RateLimited) as error:
                    logger.debug("The API cannot be told at the moment: %s", error)
                    self._closing.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                except ApiError as error:
                    logger.warning("The API refused a report: %s", error)
                    break
                except Exception:
                    logger.exception("A report about a run failed; the API settles the run when its lease ends.")
                    break

    def _note_start(self, child: Child) -> None:
        self._client.call(UPDATE_FLOW_RUN, id=child.id, body=FlowRunUpdate(infrastructure_pid=str(child.pid)))
        if child.labels:
            self._client.call(UPDATE_FLOW_RUN_LABELS, id=child.id, body=child.labels)

    def _deliver_leftovers(self) -> None:
        deliver_leftovers(self._client)

    def _settle(self, child: Child, report: Ended, until: float) -> None:
        how = ended_as(report.code, report.error)
        if report.code != 0:
            deliver_leftovers(self._client)
        run = self._client.call(READ_FLOW_RUN, id=child.id)
        if run.state_type in UNDECIDED and report.code == 0:
            deliver_leftovers(self._client)
            run = self._client.call(READ_FLOW_RUN, id=child.id)
        if run.state_type in UNDECIDED and time.monotonic() < until and undelivered(report.pid):
            raise ApiUnreachable("what the run has left cannot be delivered now; its final state may be among it")
        if run.state_type not in UNDECIDED or child.ending is Ending.LOST:
            logger.info("Run %r is %s; its process %s.", child.name, run.state_name, how)
            return
        if child.ending is Ending.CANCELLED or run.state_type is StateType.CANCELLING:
            self._propose(child, StateType.CANCELLED, "The run was cancelled and its process was ended.")
        else:
            why = f" because {child.ending.value}" if child.ending else ""
            self._propose(child, StateType.CRASHED, f"The run's process {how}{why}.")

    def _propose(self, child: Child, kind: StateType, message: str) -> None:
        body = SetFlowRunState(state=StateCreate(type=kind, message=message), epoch=child.epoch)
        answer = self._client.call(SET_FLOW_RUN_STATE, id=child.id, body=body)
        if answer.status is SetStateStatus.ACCEPT:
            logger.warning("Run %r is %s: %s", child.name, kind.capitalize(), message)
        else:
            logger.info("Run %r is left as it is: %s", child.name, message)


def undelivered(pid: int) -> bool:
    """Whether a process has left records that are not delivered yet."""
    return next(spool_folder().glob(f"{pid}-*.jsonl"), None) is not None
