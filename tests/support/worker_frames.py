"""What a worker of Prefect's says on its channel."""

from typing import Any

from headrace._internal.ids import uuid7

CONSUMER = str(uuid7())
TEMPLATE: dict[str, Any] = {"job_configuration": {}, "variables": {}}
CAPABILITIES = ["worker_heartbeat.v1", "work_pool_snapshot.v1", "cleanup_delivery.v1"]
KINDS = ["cancelling_timeout_teardown.v1", "pending_claim_teardown.v1"]


def framed(kind: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A frame with its envelope."""
    return {"type": kind, "id": str(uuid7()), "sent_at": "2026-01-01T00:00:00Z", "payload": payload, **more}


def hello(**more: Any) -> dict[str, Any]:
    """A worker's first frame."""
    plain = {
        "consumer_id": CONSUMER, "worker_name": "w", "worker_type": "process", "heartbeat_interval_seconds": 30,
        "supported_channel_versions": ["work_pool_worker_channel.v1"], "requested_capabilities": CAPABILITIES,
        "work_queue_names": ["default", "nothing"], "default_base_job_template": TEMPLATE,
    }  # fmt: skip
    return framed("worker.hello.v1", {**plain, **more})


def heartbeat(**more: Any) -> dict[str, Any]:
    """A worker's sign of life."""
    plain = {"consumer_id": CONSUMER, "worker_name": "w", "heartbeat_interval_seconds": 30}
    return framed("worker.heartbeat.v1", {**plain, **more})


def about(operation: str, message: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a worker says about a message that it was handed: `ack`, `release` or `renew`."""
    said = {name: message["payload"][name] for name in ("message_id", "reservation_token")}
    reason = {"reason": "busy"} if operation == "release" else {}
    return framed(f"cleanup.{operation}.v1", {**said, **reason, **more})
