"""What is said on the worker channel. Fields that are not known are refused, as the protocol asks."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.work_pools import WorkPool

VERSION = "work_pool_worker_channel.v1"
GRANTED = ("worker_heartbeat.v1", "work_pool_snapshot.v1")
"""What the server does on the channel, all of which a worker must ask for. Clean-up is left to the server."""

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
    handled_cleanup_kinds: list[Literal["cancelling_timeout_teardown.v1", "pending_claim_teardown.v1"]] = []
    max_cleanup_concurrency: Annotated[int, Meta(ge=0)] = 0
    create_pool_if_not_found: bool = False
    default_base_job_template: dict[str, Any] = {}
    worker_metadata: dict[str, Any] | None = None


class HeartbeatPayload(Struct, kw_only=True, forbid_unknown_fields=True):
    """A worker's sign of life."""

    consumer_id: UUID
    worker_name: Text
    heartbeat_interval_seconds: Seconds


class Hello(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="worker.hello.v1"):
    """The first frame of a worker."""

    id: UUID
    sent_at: datetime
    payload: HelloPayload


class Heartbeat(Struct, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="worker.heartbeat.v1"):
    """The frame of a sign of life."""

    id: UUID
    sent_at: datetime
    payload: HeartbeatPayload


class SnapshotPayload(Struct, kw_only=True):
    """The work pool as it is; snapshots are counted from 1."""

    snapshot_sequence: int
    reason: str
    work_pool: WorkPool


class Snapshot(Struct, kw_only=True, tag_field="type", tag="work_pool.snapshot.v1"):
    """The frame that tells of a change of the pool."""

    id: UUID
    sent_at: datetime
    payload: SnapshotPayload


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
    effective_max_cleanup_concurrency: int = 0
    resolved_work_queues: list[ResolvedQueue]
    initial_snapshot: SnapshotPayload


class Ready(Struct, kw_only=True, tag_field="type", tag="worker.ready.v1"):
    """The answer to a hello."""

    id: UUID
    sent_at: datetime
    payload: ReadyPayload
