"""What is said on the worker channel. Fields that are not known are refused, as the protocol asks."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import Meta, Struct

from headrace._internal.ids import uuid7
from headrace.schemas.work_pools import WorkPool
from headrace.server.rules.cleanup import Kind, Operation

VERSION = "work_pool_worker_channel.v1"
REQUIRED = ("worker_heartbeat.v1", "work_pool_snapshot.v1")
"""What every worker must ask for."""
CLEANUP = "cleanup_delivery.v1"
"""What a worker may ask for that can clear things away."""

Text = Annotated[str, Meta(min_length=1)]
Texts = Annotated[list[Text], Meta(min_length=1)]
Seconds = Annotated[int, Meta(gt=0)]


class HelloPayload(Struct, kw_only=True, forbid_unknown_fields=True):
    """Who a worker is, and what it asks for."""

    consumer_id: UUID
    worker_name: Text
    worker_type: Text
    heartbeat_interval_seconds: Seconds
    supported_channel_versions: Texts
    requested_capabilities: Texts
    work_queue_names: list[Text] = []
    handled_cleanup_kinds: list[Kind] = []
    max_cleanup_concurrency: Annotated[int, Meta(ge=0)] | None = None
    create_pool_if_not_found: bool = False
    default_base_job_template: dict[str, Any] = {}
    worker_metadata: dict[str, Any] | None = None

    @property
    def most_cleanups(self) -> int:
        """How much it clears away at once; nothing if it can clear nothing away."""
        most = 1 if self.max_cleanup_concurrency is None else self.max_cleanup_concurrency
        return most if self.handled_cleanup_kinds else 0


class HeartbeatPayload(Struct, kw_only=True, forbid_unknown_fields=True):
    """A worker's sign of life."""

    consumer_id: UUID
    worker_name: Text
    heartbeat_interval_seconds: Seconds


class Frame(Struct, kw_only=True, forbid_unknown_fields=True):
    """What every frame of a worker's has, besides its type and payload."""

    id: UUID
    sent_at: datetime


class Hello(Frame, kw_only=True, tag_field="type", tag="worker.hello.v1"):
    """The first frame of a worker."""

    payload: HelloPayload


class Heartbeat(Frame, kw_only=True, tag_field="type", tag="worker.heartbeat.v1"):
    """The frame of a sign of life."""

    payload: HeartbeatPayload


class CleanupPayload(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which message a worker speaks of, as it was handed to it."""

    message_id: UUID
    reservation_token: Text


class ReleasePayload(CleanupPayload, kw_only=True):
    """Why a worker gives a message back."""

    reason: Text


class CleanupFrame(Frame, kw_only=True):
    """The frame of what a worker says about a message."""

    operation: ClassVar[Operation]
    payload: CleanupPayload


class CleanupAck(CleanupFrame, tag_field="type", tag="cleanup.ack.v1"):
    """All is cleared away."""

    operation = "ack"


class CleanupRelease(CleanupFrame, kw_only=True, tag_field="type", tag="cleanup.release.v1"):
    """Another worker may try."""

    operation = "release"
    payload: ReleasePayload


class CleanupRenew(CleanupFrame, tag_field="type", tag="cleanup.renew.v1"):
    """It takes longer."""

    operation = "renew"


class SnapshotPayload(Struct, kw_only=True):
    """The work pool as it is; snapshots are counted from 1."""

    snapshot_sequence: int
    reason: str
    work_pool: WorkPool


class ResolvedQueue(Struct, kw_only=True):
    """A queue that the worker named."""

    id: UUID
    name: str


class ReadyPayload(Struct, kw_only=True):
    """What a worker was granted."""

    consumer_id: UUID
    worker_id: UUID | None = None
    selected_channel_version: str = VERSION
    effective_heartbeat_interval_seconds: int
    accepted_capabilities: list[str]
    rejected_capabilities: list[str]
    effective_max_cleanup_concurrency: int
    resolved_work_queues: list[ResolvedQueue]
    initial_snapshot: SnapshotPayload


def framed(kind: str, payload: Struct | dict[str, Any]) -> dict[str, Any]:
    """A frame of the server's, sent now."""
    return {"type": kind, "id": uuid7(), "sent_at": datetime.now(UTC), "payload": payload}
