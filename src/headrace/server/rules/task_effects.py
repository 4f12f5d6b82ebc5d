"""What the rules of task runs may ask to be done."""

from datetime import datetime
from uuid import UUID

from headrace.server.rules.change import Effect


class CountFromZero(Effect, frozen=True):
    """Count the task run's attempts from zero again."""


class SeenFlowRunCount(Effect, frozen=True):
    """Remember in which attempt of its flow run the task run began to run."""

    run_count: int


class KeepInCache(Effect, frozen=True):
    """Hand out the written state for this key, until it expires."""

    key: str
    expiration: datetime | None


class TakeTagSlots(Effect, frozen=True):
    """Give the task run a slot of each of these limits."""

    limit_ids: tuple[UUID, ...]


class FreeTagSlots(Effect, frozen=True):
    """Give back what slots the task run has."""


class Enqueue(Effect, frozen=True):
    """Have the run handed to whoever serves its task, once it is due."""

    task_key: str
    state_id: UUID
    due: datetime
