"""Settings of the server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from msgspec import field

from headrace.settings.database import ServerDatabaseSettings
from headrace.settings.declaring import LogLevel, PositiveFloat, SecretText, Section, about
from headrace.settings.services import ServerServicesSettings


class ServerAPISettings(Section, frozen=True):
    """The HTTP side."""

    auth_string: Annotated[
        SecretText | None, about("user:password that every caller must give; unset: none.", secret=True)
    ] = None
    host: Annotated[str, about("Address the server listens on.")] = "127.0.0.1"
    port: Annotated[int, about("Port the server listens on.", ge=0, le=65535)] = 4200
    workers: Annotated[int, about("Processes that answer calls; the first runs the services.", ge=1, le=64)] = 1
    base_path: Annotated[str | None, about("Path before /api, when a proxy adds one.")] = None
    default_limit: Annotated[int, about("Most items in one answer.", "API_DEFAULT_LIMIT", gt=0)] = 200
    keepalive_timeout: Annotated[int, about("Seconds an idle connection is kept open.")] = 5
    csrf_protection_enabled: Annotated[
        bool, about("Ask browsers for a CSRF token.", "SERVER_CSRF_PROTECTION_ENABLED")
    ] = False
    csrf_token_expiration: Annotated[
        timedelta, about("How long a CSRF token is valid.", "SERVER_CSRF_TOKEN_EXPIRATION")
    ] = timedelta(hours=1)
    cors_allowed_origins: Annotated[
        str, about("Origins, comma-separated, whose pages may call the API.", "SERVER_CORS_ALLOWED_ORIGINS")
    ] = "*"
    cors_allowed_methods: Annotated[str, about("Methods such pages may use.", "SERVER_CORS_ALLOWED_METHODS")] = "*"
    cors_allowed_headers: Annotated[str, about("Headers such pages may send.", "SERVER_CORS_ALLOWED_HEADERS")] = "*"
    websocket_ping_interval: Annotated[float, about("Seconds between two pings of a websocket.", gt=0)] = 20.0
    websocket_ping_timeout: Annotated[float, about("Seconds to wait for a pong.", gt=0)] = 20.0
    max_parameter_size: Annotated[int, about("Most bytes of a run's parameters.", ge=0)] = 524288


class ServerConcurrencySettings(Section, frozen=True):
    """Concurrency limits."""

    lease_storage: Annotated[str, about("Accepted; headrace keeps leases in its database.")] = "database"
    initial_deployment_lease_duration: Annotated[
        float, about("Seconds a deployment's slot is held before its run renews it.", ge=30, le=3600)
    ] = 300.0
    maximum_concurrency_slot_wait_seconds: Annotated[
        float, about("Longest wait for a slot, in seconds, that is told to a caller.", ge=0)
    ] = 30


class ServerDeploymentsSettings(Section, frozen=True):
    """Deployments."""

    concurrency_slot_wait_seconds: Annotated[
        float,
        about(
            "Seconds a run waits before it asks again for its deployment's slot.",
            "DEPLOYMENT_CONCURRENCY_SLOT_WAIT_SECONDS",
            ge=0,
        ),
    ] = 30.0


class ServerDocketSettings(Section, frozen=True):
    """Prefect's queue of background work; headrace has none."""

    name: Annotated[str, about("Accepted for Prefect's sake, without effect.")] = "headrace-server"
    url: Annotated[str, about("Accepted for Prefect's sake, without effect.")] = "memory://"


class ServerEphemeralSettings(Section, frozen=True):
    """Prefect's temporary server; headrace works on the database instead."""

    enabled: Annotated[
        bool, about("Accepted; local mode needs no temporary server.", "SERVER_ALLOW_EPHEMERAL_MODE")
    ] = False
    startup_timeout_seconds: Annotated[int, about("Accepted for Prefect's sake, without effect.")] = 20


class ServerEventsSettings(Section, frozen=True):
    """Events."""

    stream_out_enabled: Annotated[bool, about("Send events to listeners.", "API_EVENTS_STREAM_OUT_ENABLED")] = True
    related_resource_cache_ttl: Annotated[
        timedelta,
        about("How long related resources are remembered.", "API_EVENTS_RELATED_RESOURCE_CACHE_TTL"),
    ] = timedelta(minutes=5)
    maximum_labels_per_resource: Annotated[
        int, about("Most labels of a resource.", "EVENTS_MAXIMUM_LABELS_PER_RESOURCE")
    ] = 500
    maximum_related_resources: Annotated[
        int, about("Most related resources of an event.", "EVENTS_MAXIMUM_RELATED_RESOURCES")
    ] = 100
    maximum_size_bytes: Annotated[int, about("Most bytes of an event.", "EVENTS_MAXIMUM_SIZE_BYTES")] = 1_500_000
    expired_bucket_buffer: Annotated[
        timedelta, about("How long a full bucket is kept.", "EVENTS_EXPIRED_BUCKET_BUFFER")
    ] = timedelta(minutes=1)
    proactive_granularity: Annotated[
        timedelta, about("How often proactive triggers are looked at.", "EVENTS_PROACTIVE_GRANULARITY")
    ] = timedelta(seconds=5)
    retention_period: Annotated[timedelta, about("How long events are kept.", "EVENTS_RETENTION_PERIOD")] = timedelta(
        days=7
    )
    maximum_websocket_backfill: Annotated[
        timedelta, about("How far back a listener may ask.", "EVENTS_MAXIMUM_WEBSOCKET_BACKFILL")
    ] = timedelta(minutes=15)
    websocket_backfill_page_size: Annotated[
        int, about("Events in one page of what is past.", "EVENTS_WEBSOCKET_BACKFILL_PAGE_SIZE", gt=0)
    ] = 250
    messaging_broker: Annotated[str, about("Accepted; the database is headrace's event log.", "MESSAGING_BROKER")] = (
        "database"
    )
    messaging_cache: Annotated[str, about("Accepted; the database is headrace's event log.", "MESSAGING_CACHE")] = (
        "database"
    )
    causal_ordering: Annotated[str, about("Accepted; the database is headrace's event log.")] = "database"
    maximum_event_name_length: Annotated[int, about("Longest name of an event.", gt=0)] = 1024


class ServerFlowRunGraphSettings(Section, frozen=True):
    """The graph of a flow run."""

    max_nodes: Annotated[int, about("Most nodes.", "API_MAX_FLOW_RUN_GRAPH_NODES")] = 10000
    max_artifacts: Annotated[int, about("Most artifacts.", "API_MAX_FLOW_RUN_GRAPH_ARTIFACTS")] = 10000


class ServerLimitsSettings(Section, frozen=True):
    """Bounds that keep the server up; headrace's own."""

    body_bytes: Annotated[int, about("Most bytes of a request's body.", gt=0)] = 1 << 20
    bulk_body_bytes: Annotated[int, about("Most bytes of a body of logs, records, events, artifacts.", gt=0)] = 8 << 20
    json_depth: Annotated[int, about("Deepest nesting of a body.", gt=0)] = 64
    filter_ids: Annotated[int, about("Most ids in a filter.", gt=0)] = 10000
    unauthenticated_sockets: Annotated[int, about("Most websockets that have yet to log in.", gt=0)] = 32
    authenticate_seconds: Annotated[float, about("Seconds a websocket has to log in.", gt=0)] = 5.0
    wrong_logins_per_minute: Annotated[int, about("Wrong logins a minute, and at once, from one address.", gt=0)] = 30
    bulk_calls_per_minute: Annotated[int, about("Bulk calls a minute, and at once, from one login.", gt=0)] = 600


class ServerLogsSettings(Section, frozen=True):
    """Log lines of runs."""

    stream_out_enabled: Annotated[bool, about("Send log lines to listeners.")] = False
    stream_publishing_enabled: Annotated[bool, about("Tell of log lines; listeners need this one, too.")] = False


class ServerRunsSettings(Section, frozen=True):
    """How long a run may be silent or undecided; headrace's own."""

    lease_seconds: Annotated[float, about("Seconds a worker's claim on a run lasts without renewal.", gt=0)] = 30.0
    manual_lease_seconds: Annotated[
        float, about("Seconds the lease of a run started by hand lasts without renewal.", gt=0)
    ] = 90.0
    pending_timeout: Annotated[
        float, about("Seconds after which a run claimed without a lease, and not begun, is scheduled anew.", gt=0)
    ] = 600.0
    cancelling_timeout_seconds: Annotated[
        float, about("Seconds after which a run that does not end its cancelling is cancelled by the server.", gt=0)
    ] = 60.0


class ServerTasksSchedulingSettings(Section, frozen=True):
    """Task runs that wait for a task worker."""

    max_scheduled_queue_size: Annotated[
        int, about("Most that may wait.", "TASK_SCHEDULING_MAX_SCHEDULED_QUEUE_SIZE")
    ] = 1000
    max_retry_queue_size: Annotated[
        int, about("Most that may wait for a retry.", "TASK_SCHEDULING_MAX_RETRY_QUEUE_SIZE")
    ] = 100
    pending_task_timeout: Annotated[
        timedelta,
        about(
            "How long one may be pending before it is sent again; 0: for ever.", "TASK_SCHEDULING_PENDING_TASK_TIMEOUT"
        ),
    ] = timedelta(0)


class ServerTasksSettings(Section, frozen=True):
    """Task runs."""

    tag_concurrency_slot_wait_seconds: Annotated[
        float,
        about(
            "Seconds a task run waits before it asks again for its tag's slot.",
            "TASK_RUN_TAG_CONCURRENCY_SLOT_WAIT_SECONDS",
            ge=0,
        ),
    ] = 10
    max_cache_key_length: Annotated[int, about("Longest cache key.", "API_TASK_CACHE_KEY_MAX_LENGTH")] = 2000
    scheduling: ServerTasksSchedulingSettings = field(default_factory=ServerTasksSchedulingSettings)


class ServerUISettings(Section, frozen=True):
    """The pages."""

    enabled: Annotated[bool, about("Serve the pages.", "UI_ENABLED")] = True
    v2_enabled: Annotated[bool, about("Accepted; headrace has one set of pages.")] = True
    api_url: Annotated[str | None, about("Address of the API as a browser sees it.", "UI_API_URL")] = None
    serve_base: Annotated[str, about("Path below which the pages are served.", "UI_SERVE_BASE")] = "/"
    static_directory: Annotated[
        str | None, about("Folder of the pages' files, when not the packaged one.", "UI_STATIC_DIRECTORY")
    ] = None
    show_promotional_content: Annotated[bool, about("Accepted; headrace shows none.")] = True


class ServerWorkerChannelSettings(Section, frozen=True):
    """Clean-up handed to workers over their channel."""

    cleanup_queue_storage: Annotated[str, about("Accepted; headrace keeps it in its database.")] = "database"
    cleanup_lease_seconds: Annotated[float, about("Seconds a worker has for one piece of it.", gt=0)] = 30.0
    cleanup_max_delivery_attempts: Annotated[int, about("How often a piece is handed out.", ge=1)] = 3
    cleanup_completed_idempotency_retention_seconds: Annotated[
        PositiveFloat | None, about("Accepted; a finished piece is deleted at once.")
    ] = None


class ServerSettings(Section, frozen=True):
    """The server."""

    logging_level: Annotated[LogLevel, about("Least level of the server's messages.", "LOGGING_SERVER_LEVEL")] = (
        "WARNING"
    )
    analytics_enabled: Annotated[bool, about("Accepted; headrace sends no analytics.")] = True
    metrics_enabled: Annotated[bool, about("Serve metrics for Prometheus.", "API_ENABLE_METRICS")] = False
    log_retryable_errors: Annotated[bool, about("Log errors that are tried again.", "API_LOG_RETRYABLE_ERRORS")] = False
    register_blocks_on_start: Annotated[
        bool, about("Register the block types that come with headrace.", "API_BLOCKS_REGISTER_ON_START")
    ] = True
    memoize_block_auto_registration: Annotated[
        bool, about("Accepted for Prefect's sake, without effect.", "MEMOIZE_BLOCK_AUTO_REGISTRATION")
    ] = True
    memo_store_path: Annotated[str, about("Accepted for Prefect's sake, without effect.", "MEMO_STORE_PATH")] = (
        "$HEADRACE_HOME/memo_store.toml"
    )
    deployment_schedule_max_scheduled_runs: Annotated[
        int, about("Most runs a schedule may ask to have ahead.", "DEPLOYMENT_SCHEDULE_MAX_SCHEDULED_RUNS")
    ] = 50
    encryption_key: Annotated[
        SecretText | None,
        about(
            "Fernet keys for the secrets of blocks, comma-separated; the first encrypts. Unset: in a file of the home.",
            secret=True,
        ),
    ] = None
    allow_anonymous: Annotated[
        bool, about("Serve beyond this machine without authentication. Say it only behind a guard; headrace's own.")
    ] = False
    api: ServerAPISettings = field(default_factory=ServerAPISettings)
    concurrency: ServerConcurrencySettings = field(default_factory=ServerConcurrencySettings)
    database: ServerDatabaseSettings = field(default_factory=ServerDatabaseSettings)
    deployments: ServerDeploymentsSettings = field(default_factory=ServerDeploymentsSettings)
    docket: ServerDocketSettings = field(default_factory=ServerDocketSettings)
    ephemeral: ServerEphemeralSettings = field(default_factory=ServerEphemeralSettings)
    events: ServerEventsSettings = field(default_factory=ServerEventsSettings)
    flow_run_graph: ServerFlowRunGraphSettings = field(default_factory=ServerFlowRunGraphSettings)
    limits: ServerLimitsSettings = field(default_factory=ServerLimitsSettings)
    logs: ServerLogsSettings = field(default_factory=ServerLogsSettings)
    runs: ServerRunsSettings = field(default_factory=ServerRunsSettings)
    services: ServerServicesSettings = field(default_factory=ServerServicesSettings)
    tasks: ServerTasksSettings = field(default_factory=ServerTasksSettings)
    ui: ServerUISettings = field(default_factory=ServerUISettings)
    worker_channel: ServerWorkerChannelSettings = field(default_factory=ServerWorkerChannelSettings)
