"""What an engine records on the way: task runs with their states, and log lines, in batches.

headrace's own way of reporting task runs (Prefect's clients send events instead). A batch may arrive twice or out of
order: ids are made by the engine, and a task run is only changed by news that are newer than what is stored.  # G11
"""

from datetime import datetime
from uuid import UUID

from msgspec import Struct, field

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.logs import LogCreate
from headrace.schemas.states import State
from headrace.schemas.task_runs import Constant, FlowRunResult, Parameter, TaskRunPolicy, TaskRunResult


class TaskRunRecord(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A task run as it stands now, and its states since the last batch.

    `epoch` is that of the flow run's attempt: news of an older attempt never replace those of a newer one.  # G4
    """

    id: UUID
    flow_run_id: UUID | None = None
    epoch: int = 0
    task_key: str
    dynamic_key: str
    name: str
    task_version: str | None = None
    tags: list[str] = []
    labels: dict[str, bool | int | float | str] = {}
    task_inputs: dict[str, list[TaskRunResult | FlowRunResult | Parameter | Constant]] = {}
    empirical_policy: TaskRunPolicy = field(default_factory=TaskRunPolicy)
    cache_key: str | None = None
    cache_expiration: datetime | None = None
    expected_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_run_time: float = 0.0
    run_count: int = 0
    flow_run_run_count: int = 0
    states: list[State] = []


class LogRecord(LogCreate, kw_only=True, omit_defaults=True, gc=False):
    """A log line with the id that makes its second arrival harmless."""

    id: UUID


class Records(Struct, kw_only=True, omit_defaults=True):
    """One batch; no two records of it are about the same task run."""

    task_runs: list[TaskRunRecord] = []
    logs: list[LogRecord] = []


class RefusedRecord(Struct, kw_only=True):
    """A record that can never be stored, by the id of its task run or log line, and why."""

    id: UUID
    reason: str


class Recorded(Struct, kw_only=True, omit_defaults=True):
    """What became of a batch: all of it is stored, but for what is `refused`.  # G13"""

    refused: list[RefusedRecord] = []


RECORD = Endpoint("POST", "/records", body=Records, returns=Recorded)
