"""The processes of flow runs that a supervisor looks after."""

import enum
from dataclasses import dataclass, field
from uuid import UUID

from headrace.schemas.flow_runs import FlowRun


class Ending(enum.Enum):
    """Why a process was told to end."""

    CANCELLED = "the run was cancelled"
    LOST = "another attempt of the run has replaced it"
    STOPPED = "its worker was stopped"


@dataclass(slots=True)
class Child:
    """A run and its process.

    Args:
        run: the run, as it was when it was claimed.
        epoch: the number of this attempt.
        pid: its process, once it has started.
        ending: why it was told to end, if it was.
        kill_at: when it is killed, by the monotonic clock, if it has not ended by then.
        labels: to be noted at the run.
        over: the API says that the run is final; its lease needs no renewal.
    """

    run: FlowRun
    epoch: int
    pid: int | None = None
    ending: Ending | None = None
    kill_at: float | None = None
    labels: dict[str, str] = field(default_factory=dict)
    over: bool = False

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self.run.id

    @property
    def name(self) -> str:
        """The run's name, for messages."""
        return self.run.name or str(self.run.id)
