"""An API and a launcher that do what a test says, and remember what they were asked."""

import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from headrace._internal.ids import uuid7
from headrace.client import Client
from headrace.exceptions import ApiUnreachable
from headrace.runner.protocol import Ended, Report, Start, Started
from headrace.runner.supervisor import Supervisor
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRun
from headrace.schemas.leases import RENEW_RUN_LEASES, RunLeasesRenewed
from headrace.schemas.states import OrchestrationResult, SetStateStatus, State, StateAcceptDetails, StateType


def new_run(name: str = "swift-otter") -> FlowRun:
    """A scheduled run that is due."""
    now = datetime.now(UTC)
    return FlowRun(
        id=uuid7(),
        created=now,
        updated=now,
        flow_id=uuid7(),
        name=name,
        state_type=StateType.SCHEDULED,
        next_scheduled_start_time=now,
    )


class StandInApi(Client):
    """An API with some runs; states are taken as they are proposed."""

    local = True

    def __init__(self, *runs: FlowRun) -> None:
        self.runs = {run.id: run for run in runs}
        self.refuse: set[UUID] = set()
        self.away = False
        self.renewed = RunLeasesRenewed(lost=[], cancelling=[])
        self.proposed: list[tuple[UUID, StateType, int | None]] = []
        self.changed = threading.Condition()

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Any:
        """Answer as the API would."""
        if self.away:
            raise ApiUnreachable("nobody answers")
        if endpoint is SET_FLOW_RUN_STATE:
            return self._set_state(arguments["id"], body)
        if endpoint is READ_FLOW_RUN:
            return self.runs[arguments["id"]]
        if endpoint is RENEW_RUN_LEASES:
            return self.renewed
        return None

    def _set_state(self, run_id: UUID, body: Any) -> OrchestrationResult:
        status = SetStateStatus.ABORT if run_id in self.refuse else SetStateStatus.ACCEPT
        with self.changed:
            self.proposed.append((run_id, body.state.type, body.epoch))
            if status is SetStateStatus.ACCEPT:
                self.runs[run_id].state_type = body.state.type
                self.runs[run_id].epoch = 7
            self.changed.notify_all()
        state = State(type=body.state.type, message=body.state.message)
        return OrchestrationResult(state=state, status=status, details=StateAcceptDetails(), epoch=7)

    def wait_for(self, run: FlowRun, kind: StateType) -> None:
        """Wait until a run is in a state."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.runs[run.id].state_type is kind, timeout=10)


class StandInSource:
    """Gives the runs that are scheduled."""

    pool: str | None = None

    def __init__(self, api: StandInApi) -> None:
        self.api = api
        self.limits: list[int] = []

    def scheduled(self, client: Client, before: datetime, limit: int) -> list[FlowRun]:
        """Those that are due before a moment."""
        del client
        self.limits.append(limit)
        if self.api.away:
            raise ApiUnreachable("nobody answers")
        due = [
            run
            for run in self.api.runs.values()
            if run.state_type is StateType.SCHEDULED and (run.next_scheduled_start_time or before) <= before
        ]
        return due[:limit]

    def heartbeat(self, client: Client) -> None:
        """Nobody asks."""


class StandInLauncher:
    """Starts nothing: a test says when a process ends."""

    def __init__(self, listener: Callable[[Report], None]) -> None:
        self.listener = listener
        self.started: list[Start] = []
        self.signals: dict[UUID, list[tuple[int, bool]]] = defaultdict(list)
        self.obedient = True
        self.end_at_once = False

    def start(self, order: Start) -> None:
        """Say at once that it runs."""
        self.started.append(order)
        self.listener(Started(order.id, 1000 + len(self.started)))
        if self.end_at_once:
            self.end(order.id, 0)

    def signal(self, run_id: UUID, number: int, *, group: bool = False) -> None:
        """Note the signal; an obedient process ends by it, any by a signal to its group."""
        self.signals[run_id].append((number, group))
        if self.obedient or group:
            self.end(run_id, -number)

    def end(self, run_id: UUID, code: int) -> None:
        """A process ends."""
        self.listener(Ended(run_id, code, 1000))

    def close(self) -> None:
        """Nothing to let go."""


class Scene:
    """A supervisor between stand-ins.

    Args:
        runs: what is scheduled.
        limit: of the supervisor.
        grace: seconds between TERM and KILL.
    """

    def __init__(self, *runs: FlowRun, limit: int | None = None, grace: float = 30.0) -> None:
        self.api = StandInApi(*runs)
        self.source = StandInSource(self.api)
        self.launchers: list[StandInLauncher] = []
        self.supervisor = Supervisor(
            self.api,
            self.source,
            lambda run: (Start(run.id), {}),
            limit=limit,
            poll_seconds=3600,
            prefetch_seconds=10,
            heartbeat_seconds=3600,
            lease_seconds=3600,
            grace_seconds=grace,
            launcher=self._launcher,
        )

    def _launcher(self, listener: Callable[[Report], None]) -> StandInLauncher:
        self.launchers.append(StandInLauncher(listener))
        return self.launchers[0]

    @property
    def launcher(self) -> StandInLauncher:
        """The stand-in launcher."""
        return self.launchers[0]

    def step(self) -> None:
        """Have the supervisor look for runs, and take in all that has happened."""
        self.supervisor.look()
        self.supervisor.take_events()
