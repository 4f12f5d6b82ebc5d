"""Settings of what runs in a user's process: the client, the engine, logging, results, the runner and the worker."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import field

from headrace.settings.declaring import LogLevel, PositiveInt, SecretText, Section, about


class APISettings(Section, frozen=True):
    """Where the API is, and how to get in."""

    url: Annotated[str | None, about("Address of the API, up to and with /api. Unset: local mode.")] = None
    auth_string: Annotated[
        SecretText | None, about("User and password, as user:password, for a server with basic auth.", secret=True)
    ] = None
    key: Annotated[SecretText | None, about("Token sent as Bearer with each call.", secret=True)] = None
    tls_insecure_skip_verify: Annotated[bool, about("Accept any TLS certificate. For tests only.")] = False
    ssl_cert_file: Annotated[
        str | None, about("File with the certificates to trust; SSL_CERT_FILE is used when this is unset.")
    ] = None
    enable_http2: Annotated[bool, about("Accepted for Prefect's sake; headrace speaks HTTP/1.1.")] = False
    request_timeout: Annotated[float, about("Seconds to wait for an answer of the API.", gt=0)] = 60.0


class CLISettings(Section, frozen=True):
    """How the command line talks."""

    colors: Annotated[bool, about("Colour the output of commands.")] = True
    prompt: Annotated[bool | None, about("Ask questions; unset: only when a person is at the terminal.")] = None
    wrap_lines: Annotated[bool, about("Break long lines at the width of the terminal.")] = True


class ClientMetricsSettings(Section, frozen=True):
    """Metrics of the client, for Prometheus."""

    enabled: Annotated[bool, about("Serve metrics of the client.", "CLIENT_ENABLE_METRICS")] = False
    port: Annotated[int, about("Port on which they are served.")] = 4201


class ClientSettings(Section, frozen=True):
    """How the API is called."""

    max_retries: Annotated[int, about("How often a call is tried again after 408, 429, 502 or 503.", ge=0)] = 5
    retry_jitter_factor: Annotated[float, about("How far, as a part, a wait may be lengthened at random.", ge=0)] = 0.2
    retry_extra_codes: Annotated[list[int], about("Further statuses (100-599) after which to try again.")] = []
    csrf_support_enabled: Annotated[bool, about("Fetch and send a CSRF token when the server asks for one.")] = True
    custom_headers: Annotated[dict[str, str], about("Headers added to each call, as a JSON object.")] = {}
    server_version_check_enabled: Annotated[bool, about("Compare the server's version with the client's.")] = True
    metrics: ClientMetricsSettings = field(default_factory=ClientMetricsSettings)


class CloudSettings(Section, frozen=True):
    """Prefect Cloud; kept so that its profiles can be read."""

    api_url: Annotated[str, about("Address of Prefect Cloud's API.")] = "https://api.prefect.cloud/api"
    ui_url: Annotated[str | None, about("Address of Prefect Cloud's pages.")] = None
    enable_orchestration_telemetry: Annotated[bool, about("Accepted; headrace sends no telemetry.")] = True
    max_log_size: Annotated[int, about("Longest log line, in bytes, that Prefect Cloud takes.")] = 25000


class DeploymentsSettings(Section, frozen=True):
    """What `deploy` falls back on."""

    default_work_pool_name: Annotated[
        str | None, about("Work pool of deployments that name none.", "DEFAULT_WORK_POOL_NAME")
    ] = None
    default_docker_build_namespace: Annotated[
        str | None, about("Registry and namespace of images built without one.", "DEFAULT_DOCKER_BUILD_NAMESPACE")
    ] = None


class EventsSettings(Section, frozen=True):
    """Events sent by a user's process."""

    worker_max_queue_size: Annotated[int, about("Events that may wait to be sent; 0 for no bound.", ge=0)] = 0


class ExperimentsSettings(Section, frozen=True):
    """What is not final yet."""

    warn: Annotated[bool, about("Warn when something not final is used.", "EXPERIMENTAL_WARN")] = True


class FlowsSettings(Section, frozen=True):
    """Defaults of `@flow`."""

    heartbeat_frequency: Annotated[
        int | None, about("Seconds between heartbeat events of a run; unset for none.", "RUNNER_HEARTBEAT_FREQUENCY")
    ] = 180
    default_retries: Annotated[int, about("Retries of flows that name none.", "FLOW_DEFAULT_RETRIES", ge=0)] = 0
    default_retry_delay_seconds: Annotated[
        float | list[float], about("Seconds before each retry of such flows.", "FLOW_DEFAULT_RETRY_DELAY_SECONDS")
    ] = 0


class InternalSettings(Section, frozen=True):
    """headrace's own messages."""

    logging_level: Annotated[LogLevel, about("Least level of headrace's own messages.", "LOGGING_INTERNAL_LEVEL")] = (
        "ERROR"
    )


class LoggingToAPISettings(Section, frozen=True):
    """Log lines on their way to the API."""

    enabled: Annotated[bool, about("Send the log lines of runs to the API.")] = True
    batch_interval: Annotated[float, about("Accepted; see recording.batch_seconds.")] = 2.0
    batch_size: Annotated[int, about("Most bytes of log lines in one call.")] = 4_000_000
    max_log_size: Annotated[int, about("Longest log line in bytes; longer ones are cut.")] = 1_000_000
    when_missing_flow: Annotated[
        Literal["warn", "error", "ignore"], about("What to do when a run's logger is used outside of a run.")
    ] = "warn"


class LoggingSettings(Section, frozen=True):
    """Log lines of runs."""

    level: Annotated[LogLevel, about("Least level of log lines of runs.")] = "INFO"
    config_path: Annotated[
        str, about("File with a logging configuration, when there is one.", "LOGGING_SETTINGS_PATH")
    ] = "$HEADRACE_HOME/logging.yml"
    extra_loggers: Annotated[list[str], about("Loggers, comma-separated, whose lines belong to the run too.")] = []
    log_prints: Annotated[bool, about("Turn `print` in flows and tasks into log lines.")] = False
    colors: Annotated[bool, about("Colour log lines on a terminal.")] = True
    markup: Annotated[bool, about("Read [style] marks in messages.")] = False
    to_api: LoggingToAPISettings = field(default_factory=LoggingToAPISettings)


class PluginsSettings(Section, frozen=True):
    """Plugins found by entry point."""

    enabled: Annotated[bool, about("Load plugins.", "EXPERIMENTS_PLUGINS_ENABLED")] = False
    allow: Annotated[list[str] | None, about("Load only these.", "EXPERIMENTS_PLUGINS_ALLOW")] = None
    deny: Annotated[list[str] | None, about("Never load these.", "EXPERIMENTS_PLUGINS_DENY")] = None
    setup_timeout_seconds: Annotated[
        float, about("Seconds a plugin may take to set up.", "EXPERIMENTS_PLUGINS_SETUP_TIMEOUT_SECONDS")
    ] = 20.0
    strict: Annotated[bool, about("Stop when a plugin fails.", "EXPERIMENTS_PLUGINS_STRICT")] = False
    safe_mode: Annotated[bool, about("Find plugins, call none.", "EXPERIMENTS_PLUGINS_SAFE_MODE")] = False


class RecordingSettings(Section, frozen=True):
    """How task runs and log lines travel to the API; headrace's own."""

    batch_seconds: Annotated[float, about("Longest time, in seconds, a record waits for its batch.", gt=0)] = 0.25
    batch_size: Annotated[int, about("Most records in one batch.", gt=0)] = 1000
    spool_limit_bytes: Annotated[
        int, about("Size of the spool, in bytes, above which a flow waits for the server to come back.", gt=0)
    ] = 1 << 30
    flush_timeout_seconds: Annotated[
        float, about("Seconds a run waits, before its final state, for its records to be delivered.", gt=0)
    ] = 30.0


class ResultsSettings(Section, frozen=True):
    """Results of tasks and flows."""

    default_serializer: Annotated[str, about("Serializer of results: pickle, json, compressed/pickle, ...")] = "pickle"
    persist_by_default: Annotated[bool, about("Store results of tasks and flows that do not say.")] = False
    default_storage_block: Annotated[
        str | None, about("Storage of results, as type-slug/name.", "DEFAULT_RESULT_STORAGE_BLOCK")
    ] = None
    local_storage_path: Annotated[str, about("Folder of results stored locally.", "LOCAL_STORAGE_PATH")] = (
        "$HEADRACE_HOME/storage"
    )


class RunnerServerSettings(Section, frozen=True):
    """The small server a runner can open."""

    enable: Annotated[bool, about("Open it.")] = False
    host: Annotated[str, about("Address it listens on.")] = "localhost"
    port: Annotated[int, about("Port it listens on.")] = 8080
    log_level: Annotated[LogLevel, about("Least level of its messages.")] = "ERROR"
    missed_polls_tolerance: Annotated[int, about("Missed polls after which it says it is ill.")] = 2


class RunnerSettings(Section, frozen=True):
    """The runner behind `serve`."""

    process_limit: Annotated[int, about("Most runs at once.")] = 5
    poll_frequency: Annotated[int, about("Seconds between two looks for runs.", gt=0)] = 2
    crash_on_cancellation_failure: Annotated[
        bool, about("Mark a run as crashed when its process could not be stopped.")
    ] = False
    auto_install_dependencies: Annotated[bool, about("Install what a flow's project asks for before it runs.")] = False
    server: RunnerServerSettings = field(default_factory=RunnerServerSettings)


class TasksRunnerSettings(Section, frozen=True):
    """Task runners."""

    thread_pool_max_workers: Annotated[
        PositiveInt | None, about("Threads of a ThreadPoolTaskRunner.", "TASK_RUNNER_THREAD_POOL_MAX_WORKERS")
    ] = None
    process_pool_max_workers: Annotated[PositiveInt | None, about("Processes of a ProcessPoolTaskRunner.")] = None


class TasksSchedulingSettings(Section, frozen=True):
    """Tasks sent to a task worker."""

    default_storage_block: Annotated[
        str | None, about("Where their parameters are stored.", "TASK_SCHEDULING_DEFAULT_STORAGE_BLOCK")
    ] = None
    delete_failed_submissions: Annotated[
        bool, about("Delete runs that could not be sent.", "TASK_SCHEDULING_DELETE_FAILED_SUBMISSIONS")
    ] = True


class TasksSettings(Section, frozen=True):
    """Defaults of `@task`."""

    refresh_cache: Annotated[bool, about("Run tasks anew and replace what is cached.")] = False
    default_no_cache: Annotated[bool, about("Cache no task that names no cache policy.")] = False
    disable_caching: Annotated[bool, about("Cache nothing at all.")] = False
    default_retries: Annotated[int, about("Retries of tasks that name none.", "TASK_DEFAULT_RETRIES", ge=0)] = 0
    default_retry_delay_seconds: Annotated[
        float | list[float] | None, about("Seconds before each retry of those.", "TASK_DEFAULT_RETRY_DELAY_SECONDS")
    ] = 0
    default_persist_result: Annotated[bool | None, about("Store results of tasks that do not say.")] = None
    runner: TasksRunnerSettings = field(default_factory=TasksRunnerSettings)
    scheduling: TasksSchedulingSettings = field(default_factory=TasksSchedulingSettings)


class TelemetrySettings(Section, frozen=True):
    """Measurements of a run's process."""

    enable_resource_metrics: Annotated[bool, about("Measure memory and processor of runs.")] = True
    resource_metrics_interval_seconds: Annotated[int, about("Seconds between two measurements.", ge=1)] = 10


class TestingSettings(Section, frozen=True):
    """For tests."""

    __test__ = False

    test_mode: Annotated[bool, about("A test is running: log everything.", "TEST_MODE")] = False
    unit_test_mode: Annotated[bool, about("A unit test of headrace is running.", "UNIT_TEST_MODE")] = False
    unit_test_loop_debug: Annotated[bool, about("Debug event loops in tests.", "UNIT_TEST_LOOP_DEBUG")] = True
    test_setting: Annotated[Any, about("A setting without effect.", "TEST_SETTING")] = "FOO"


class WorkerWebserverSettings(Section, frozen=True):
    """The health page of a worker."""

    host: Annotated[str, about("Address it listens on.")] = "0.0.0.0"
    port: Annotated[int, about("Port it listens on.")] = 8080


class WorkerSettings(Section, frozen=True):
    """Workers."""

    debug_mode: Annotated[bool, about("Log what a worker does in detail.")] = False
    heartbeat_seconds: Annotated[float, about("Seconds between two heartbeats of a worker.", gt=0)] = 30
    query_seconds: Annotated[float, about("Seconds between two looks for runs, if no hint comes before.", gt=0)] = 5
    prefetch_seconds: Annotated[float, about("How many seconds ahead of their time runs are looked for.", ge=0)] = 10
    enable_cancellation: Annotated[bool, about("Accepted; headrace's workers always carry out cancelling.")] = False
    cancellation_poll_seconds: Annotated[
        float, about("Accepted; headrace's workers learn of cancelling when they renew leases.")
    ] = 120
    cancellation_grace_seconds: Annotated[
        float, about("Seconds a run has, once told to stop, before it is killed; headrace's own.", ge=0)
    ] = 30
    warm_start: Annotated[
        bool, about("Fork runs from a process that has imported their flow already; headrace's own.")
    ] = True
    run_keys: Annotated[
        bool, about("Give each run a login of its own, which may change that run alone; headrace's own.")
    ] = False
    webserver: WorkerWebserverSettings = field(default_factory=WorkerWebserverSettings)
