"""The parts of the engine that flows and tasks need when they run: named here, imported when first used.

`from headrace import flow, task` happens in every process that touches a flow, so it must cost next to nothing.
"""

from typing import TYPE_CHECKING

from headrace._internal.lazy import Lazy

if TYPE_CHECKING:
    from headrace import client, settings
    from headrace.engine import (
        drivers,
        ended,
        flow_run,
        identity,
        interrupts,
        keeping,
        loading,
        mapping,
        parameters,
        recorder,
        task_run,
        task_running,
        upstream,
    )
    from headrace.schemas import flow_runs as flow_run_schema
    from headrace.schemas import task_runs as task_run_schema
    from headrace.utilities import hashing
else:
    client = Lazy("headrace.client")
    settings = Lazy("headrace.settings")
    drivers = Lazy("headrace.engine.drivers")
    ended = Lazy("headrace.engine.ended")
    flow_run = Lazy("headrace.engine.flow_run")
    identity = Lazy("headrace.engine.identity")
    interrupts = Lazy("headrace.engine.interrupts")
    keeping = Lazy("headrace.engine.keeping")
    loading = Lazy("headrace.engine.loading")
    mapping = Lazy("headrace.engine.mapping")
    parameters = Lazy("headrace.engine.parameters")
    recorder = Lazy("headrace.engine.recorder")
    task_run = Lazy("headrace.engine.task_run")
    task_running = Lazy("headrace.engine.task_running")
    upstream = Lazy("headrace.engine.upstream")
    flow_run_schema = Lazy("headrace.schemas.flow_runs")
    task_run_schema = Lazy("headrace.schemas.task_runs")
    hashing = Lazy("headrace.utilities.hashing")

__all__ = [
    "client",
    "drivers",
    "ended",
    "flow_run",
    "flow_run_schema",
    "hashing",
    "identity",
    "interrupts",
    "keeping",
    "loading",
    "mapping",
    "parameters",
    "recorder",
    "settings",
    "task_run",
    "task_run_schema",
    "task_running",
    "upstream",
]
