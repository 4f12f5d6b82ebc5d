"""The tree of all settings."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from headrace.settings.declaring import Section, about
from headrace.settings.sdk import (
    APISettings,
    ClientSettings,
    CLISettings,
    CloudSettings,
    DeploymentsSettings,
    EventsSettings,
    ExperimentsSettings,
    FlowsSettings,
    InternalSettings,
    LoggingSettings,
    PluginsSettings,
    RecordingSettings,
    ResultsSettings,
    RunnerSettings,
    TasksSettings,
    TelemetrySettings,
    TestingSettings,
    WorkerSettings,
)
from headrace.settings.server import ServerSettings


class Settings(Section, frozen=True):
    """All settings; `headrace.settings.get_settings()` gives those in force."""

    home: Annotated[str, about("Folder of headrace's own files.")] = "~/.headrace"
    profiles_path: Annotated[str, about("File of profiles.")] = "$HEADRACE_HOME/profiles.toml"
    debug_mode: Annotated[bool, about("Log everything.")] = False
    ui_url: Annotated[str | None, about("Address of the pages; made from api.url when unset.")] = None
    silence_api_url_misconfiguration: Annotated[bool, about("No warning about an API address that looks wrong.")] = (
        False
    )
    api: APISettings = field(default_factory=APISettings)
    cli: CLISettings = field(default_factory=CLISettings)
    client: ClientSettings = field(default_factory=ClientSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    deployments: DeploymentsSettings = field(default_factory=DeploymentsSettings)
    events: EventsSettings = field(default_factory=EventsSettings)
    experiments: ExperimentsSettings = field(default_factory=ExperimentsSettings)
    flows: FlowsSettings = field(default_factory=FlowsSettings)
    internal: InternalSettings = field(default_factory=InternalSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    plugins: PluginsSettings = field(default_factory=PluginsSettings)
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    results: ResultsSettings = field(default_factory=ResultsSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    tasks: TasksSettings = field(default_factory=TasksSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    testing: TestingSettings = field(default_factory=TestingSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
