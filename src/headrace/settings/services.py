"""Settings of the services that run in the server's background."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, TypeAlias

from msgspec import field

from headrace.settings.declaring import Section, about


class ServerServicesCancellationCleanupSettings(Section, frozen=True):
    """Runs whose parent was cancelled, and runs that do not end their cancelling."""

    enabled: Annotated[bool, about("Run this service.", "API_SERVICES_CANCELLATION_CLEANUP_ENABLED")] = True
    loop_seconds: Annotated[
        float, about("Seconds between two rounds.", "API_SERVICES_CANCELLATION_CLEANUP_LOOP_SECONDS", gt=0)
    ] = 20
    cancelling_timeout_seconds: Annotated[
        float, about("Accepted; see server.runs.cancelling_timeout_seconds.", gt=0)
    ] = 300


class ServerServicesCleanupReconcilerSettings(Section, frozen=True):
    """Clean-up that was handed to workers in vain."""

    enabled: Annotated[bool, about("Run this service.")] = True
    loop_seconds: Annotated[float, about("Seconds between two rounds.", gt=0)] = 5
    batch_size: Annotated[int, about("Most pieces that are given up in one round.", gt=0)] = 100


Kind: TypeAlias = Literal["events", "flow_runs", "orphans"]
"""What can be deleted when it is old."""


class ServerServicesDBVacuumSettings(Section, frozen=True):
    """Deleting what is old."""

    enabled: Annotated[
        list[Kind] | bool | None,
        about("What to delete: events, flow_runs, orphans; true for all, false for nothing."),
    ] = field(default_factory=lambda: list[Kind](["events"]))
    loop_seconds: Annotated[float, about("Seconds between two rounds.", gt=0)] = 3600
    orphan_cleanup_loop_seconds: Annotated[
        float, about("Seconds between two looks for rows nothing refers to.", gt=0)
    ] = 86400
    retention_period: Annotated[timedelta, about("How long finished flow runs are kept.")] = timedelta(days=90)
    batch_size: Annotated[int, about("Most rows deleted in one transaction.", gt=0)] = 200
    event_retention_overrides: Annotated[
        dict[str, timedelta], about("How long events of these names are kept, as a JSON object.")
    ] = field(default_factory=lambda: {"prefect.flow-run.heartbeat": timedelta(days=7)})


class ServerServicesEventLoggerSettings(Section, frozen=True):
    """Events in the server's log."""

    enabled: Annotated[bool, about("Log each event.", "API_SERVICES_EVENT_LOGGER_ENABLED")] = False


class ServerServicesEventPersisterSettings(Section, frozen=True):
    """Events on their way into the database."""

    enabled: Annotated[bool, about("Store events.", "API_SERVICES_EVENT_PERSISTER_ENABLED")] = True
    batch_size: Annotated[
        int, about("Most events in one transaction.", "API_SERVICES_EVENT_PERSISTER_BATCH_SIZE", gt=0)
    ] = 20
    read_batch_size: Annotated[
        int, about("Most events read at once.", "API_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE", gt=0)
    ] = 1
    flush_interval: Annotated[
        float, about("Longest wait of an event, in seconds.", "API_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL", gt=0)
    ] = 5
    queue_max_size: Annotated[int, about("Most events that may wait.", gt=0)] = 50000
    max_flush_retries: Annotated[int, about("How often storing is tried again.", gt=0)] = 5


class ServerServicesForemanSettings(Section, frozen=True):
    """Which workers, queues, pools and deployments are ready."""

    enabled: Annotated[bool, about("Run this service.", "API_SERVICES_FOREMAN_ENABLED")] = True
    loop_seconds: Annotated[float, about("Seconds between two rounds.", "API_SERVICES_FOREMAN_LOOP_SECONDS", gt=0)] = 15
    inactivity_heartbeat_multiple: Annotated[
        int,
        about(
            "Missed heartbeats after which a worker is offline.", "API_SERVICES_FOREMAN_INACTIVITY_HEARTBEAT_MULTIPLE"
        ),
    ] = 3
    fallback_heartbeat_interval_seconds: Annotated[
        int,
        about(
            "Interval, in seconds, of workers that name none.",
            "API_SERVICES_FOREMAN_FALLBACK_HEARTBEAT_INTERVAL_SECONDS",
        ),
    ] = 30
    deployment_last_polled_timeout_seconds: Annotated[
        int,
        about(
            "Seconds without a poll after which a deployment is not ready.",
            "API_SERVICES_FOREMAN_DEPLOYMENT_LAST_POLLED_TIMEOUT_SECONDS",
        ),
    ] = 60
    work_queue_last_polled_timeout_seconds: Annotated[
        int,
        about(
            "Seconds without a poll after which a work queue is not ready.",
            "API_SERVICES_FOREMAN_WORK_QUEUE_LAST_POLLED_TIMEOUT_SECONDS",
        ),
    ] = 60


class ServerServicesLateRunsSettings(Section, frozen=True):
    """Runs nobody has begun."""

    enabled: Annotated[bool, about("Run this service.", "API_SERVICES_LATE_RUNS_ENABLED")] = True
    loop_seconds: Annotated[
        float, about("Seconds between two rounds.", "API_SERVICES_LATE_RUNS_LOOP_SECONDS", gt=0)
    ] = 5
    after_seconds: Annotated[
        timedelta, about("How long after its time a run is late.", "API_SERVICES_LATE_RUNS_AFTER_SECONDS")
    ] = timedelta(seconds=15)


class ServerServicesPauseExpirationsSettings(Section, frozen=True):
    """Pauses that last too long."""

    enabled: Annotated[bool, about("Run this service.", "API_SERVICES_PAUSE_EXPIRATIONS_ENABLED")] = True
    loop_seconds: Annotated[
        float, about("Seconds between two rounds.", "API_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS", gt=0)
    ] = 5


class ServerServicesRepossessorSettings(Section, frozen=True):
    """Leases nobody renews."""

    enabled: Annotated[bool, about("Run this service.")] = True
    loop_seconds: Annotated[float, about("Seconds between two rounds.", gt=0)] = 15


class ServerServicesSchedulerSettings(Section, frozen=True):
    """Runs of schedules."""

    enabled: Annotated[bool, about("Run this service.", "API_SERVICES_SCHEDULER_ENABLED")] = True
    loop_seconds: Annotated[
        float, about("Seconds between two rounds.", "API_SERVICES_SCHEDULER_LOOP_SECONDS", gt=0)
    ] = 60
    deployment_batch_size: Annotated[
        int, about("Deployments looked at in one go.", "API_SERVICES_SCHEDULER_DEPLOYMENT_BATCH_SIZE", gt=0)
    ] = 100
    max_runs: Annotated[int, about("Most runs ahead a schedule.", "API_SERVICES_SCHEDULER_MAX_RUNS")] = 100
    min_runs: Annotated[int, about("Fewest runs ahead a schedule.", "API_SERVICES_SCHEDULER_MIN_RUNS")] = 3
    max_scheduled_time: Annotated[
        timedelta, about("How far ahead runs are made.", "API_SERVICES_SCHEDULER_MAX_SCHEDULED_TIME")
    ] = timedelta(days=100)
    min_scheduled_time: Annotated[
        timedelta, about("How far ahead runs must be made.", "API_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME")
    ] = timedelta(hours=1)
    insert_batch_size: Annotated[
        int, about("Most runs in one transaction.", "API_SERVICES_SCHEDULER_INSERT_BATCH_SIZE", gt=0)
    ] = 500
    recent_deployments_loop_seconds: Annotated[
        float, about("Seconds between two looks at deployments that have changed.", gt=0)
    ] = 5


class ServerServicesTaskRunRecorderSettings(Section, frozen=True):
    """Task runs that come as events."""

    enabled: Annotated[bool, about("Record them.", "API_SERVICES_TASK_RUN_RECORDER_ENABLED")] = True
    read_batch_size: Annotated[int, about("Most events read at once.", gt=0)] = 1
    batch_size: Annotated[int, about("Most events in one transaction.", gt=0)] = 1
    flush_interval: Annotated[float, about("Longest wait of an event, in seconds.", gt=0)] = 5


class ServerServicesTriggersSettings(Section, frozen=True):
    """Triggers of automations."""

    enabled: Annotated[bool, about("Evaluate triggers.", "API_SERVICES_TRIGGERS_ENABLED")] = True
    read_batch_size: Annotated[int, about("Most events read at once.", gt=0)] = 1
    pg_notify_reconnect_interval_seconds: Annotated[int, about("Seconds before a lost LISTEN is renewed.")] = 10
    pg_notify_heartbeat_interval_seconds: Annotated[int, about("Seconds between two looks at that LISTEN.")] = 5


class ServerServicesSettings(Section, frozen=True):
    """Background services."""

    cancellation_cleanup: ServerServicesCancellationCleanupSettings = field(
        default_factory=ServerServicesCancellationCleanupSettings
    )
    cleanup_reconciler: ServerServicesCleanupReconcilerSettings = field(
        default_factory=ServerServicesCleanupReconcilerSettings
    )
    db_vacuum: ServerServicesDBVacuumSettings = field(default_factory=ServerServicesDBVacuumSettings)
    event_logger: ServerServicesEventLoggerSettings = field(default_factory=ServerServicesEventLoggerSettings)
    event_persister: ServerServicesEventPersisterSettings = field(default_factory=ServerServicesEventPersisterSettings)
    foreman: ServerServicesForemanSettings = field(default_factory=ServerServicesForemanSettings)
    late_runs: ServerServicesLateRunsSettings = field(default_factory=ServerServicesLateRunsSettings)
    pause_expirations: ServerServicesPauseExpirationsSettings = field(
        default_factory=ServerServicesPauseExpirationsSettings
    )
    repossessor: ServerServicesRepossessorSettings = field(default_factory=ServerServicesRepossessorSettings)
    scheduler: ServerServicesSchedulerSettings = field(default_factory=ServerServicesSchedulerSettings)
    task_run_recorder: ServerServicesTaskRunRecorderSettings = field(
        default_factory=ServerServicesTaskRunRecorderSettings
    )
    triggers: ServerServicesTriggersSettings = field(default_factory=ServerServicesTriggersSettings)
