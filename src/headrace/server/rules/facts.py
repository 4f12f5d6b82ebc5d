"""What rules may ask to know, and the times they go by."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import State

SLOTS = "slots"
"""The limit of a flow run's deployment, and who holds its slots."""
CACHED = "cached"
"""The completed state stored under the proposed cache key."""
FLOW_RUN = "flow run"
"""The flow run a task run belongs to."""
TAG_LIMITS = "tag limits"
"""The limits of a task run's tags."""

FOREVER = datetime.fromisoformat("9000-01-01T00:00:00+00:00")
"""The end of a slot's lease that lasts as long as its run holds it."""


class Times(Struct, frozen=True, kw_only=True):
    """How long things may last, in seconds; see the settings of the same meaning."""

    pending_timeout: float = 600.0
    cancelling_timeout: float = 60.0
    late_after: float = 15.0
    slot_wait: float = 30.0
    slot_grace: float = 300.0
    tag_slot_wait: float = 10.0
    max_cache_key_length: int = 2000


class Slots(Struct, frozen=True, kw_only=True):
    """A concurrency limit as it stands.  # G7

    Args:
        limit_id: the limit.
        limit: how many slots it has.
        used: slots that others hold.
        ahead: slots that others wait for, and have waited longer.
        held: whether the run that asks has a live lease.
        collision: what happens to a run that finds no slot.
        grace: seconds a slot is kept for a run that has yet to start; None for the server's own default.
    """

    limit_id: UUID
    limit: int
    used: float
    ahead: int = 0
    held: bool = False
    collision: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.ENQUEUE
    grace: float | None = None

    @property
    def free(self) -> bool:
        """Whether the run that asks may have a slot: nobody who has waited longer is to get it."""
        return self.used + self.ahead + 1 <= self.limit

    @property
    def open(self) -> bool:
        """Whether a slot is free for a run that need not wait in line."""
        return self.used + 1 <= self.limit


class FlowRunFacts(Struct, frozen=True, kw_only=True):
    """What was loaded for the rules of a flow run. `slots` is None when the deployment has no limit."""

    times: Times = Times()
    deployment_exists: bool = True
    slots: Slots | None = None


class EnclosingRun(Struct, frozen=True, kw_only=True):
    """The flow run a task run belongs to."""

    id: UUID
    state: State | None
    run_count: int


class TaskRunFacts(Struct, frozen=True, kw_only=True):
    """What was loaded for the rules of a task run. `jitter` is a number from 0 to 1 that chance has chosen."""

    times: Times = Times()
    cached: State | None = None
    flow_run: EnclosingRun | None = None
    limits: tuple[Slots, ...] = ()
    jitter: float = 0.5
