"""Filters and orders of lists.

A filter has fields only; `headrace.server.store.filters` turns it into SQL. Each field of a resource's filter is about
one column, and holds conditions that end in `_`. What is not set narrows nothing.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.states import StateType


class NullableNumberRange(Struct, kw_only=True, forbid_unknown_fields=True):
    """A number within bounds, or absent."""

    ge_: int | None = None
    is_null_: bool | None = None
    le_: int | None = None


class IdInOrNot(Struct, kw_only=True, forbid_unknown_fields=True):
    """An id among these, or not among those."""

    any_: list[UUID] | None = None
    not_any_: list[UUID] | None = None


class NameMatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """A name among these, or one that holds this text, in capitals or not."""

    any_: list[str] | None = None
    like_: str | None = None


class IsEqual(Struct, kw_only=True, forbid_unknown_fields=True):
    """A flag that is set, or is not."""

    eq_: bool | None = None


class Operator(StrEnum):
    """How the conditions of a filter are joined."""

    and_ = "and_"
    or_ = "or_"


class TagsAllOrAny(Struct, kw_only=True, forbid_unknown_fields=True):
    """Tags that include all of these, or any of those; or no tags at all."""

    all_: list[str] | None = None
    any_: list[str] | None = None
    is_null_: bool | None = None
    operator: Operator = Operator.and_


class StringIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text among these."""

    any_: list[str] | None = None


class Like(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text that holds this one, in capitals or not."""

    like_: str | None = None


class DeploymentFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which deployments."""

    concurrency_limit: NullableNumberRange | None = None
    flow_or_deployment_name: Like | None = None
    id: IdInOrNot | None = None
    name: NameMatch | None = None
    operator: Operator = Operator.and_
    paused: IsEqual | None = None
    tags: TagsAllOrAny | None = None
    work_queue_name: StringIn | None = None


class IsNull(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether there is none."""

    is_null_: bool | None = None
    operator: Operator = Operator.and_


class TagsAll(Struct, kw_only=True, forbid_unknown_fields=True):
    """Tags that include all of these; or no tags at all."""

    all_: list[str] | None = None
    is_null_: bool | None = None
    operator: Operator = Operator.and_


class FlowFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which flows; `deployment` says whether they have one."""

    deployment: IsNull | None = None
    id: IdInOrNot | None = None
    name: NameMatch | None = None
    operator: Operator = Operator.and_
    tags: TagsAll | None = None


class CreatedByMatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """Who made it, by id or type; or nobody known."""

    id_: list[UUID] | None = None
    is_null_: bool | None = None
    operator: Operator = Operator.and_
    type_: list[str] | None = None


class NullableIdIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """An id among these, or absent."""

    any_: list[UUID] | None = None
    is_null_: bool | None = None
    operator: Operator = Operator.and_


class NullableTimeRange(Struct, kw_only=True, forbid_unknown_fields=True):
    """A moment within bounds, or absent."""

    after_: datetime | None = None
    before_: datetime | None = None
    is_null_: bool | None = None


class TimeRange(Struct, kw_only=True, forbid_unknown_fields=True):
    """A moment within bounds."""

    after_: datetime | None = None
    before_: datetime | None = None


class StringInOrNot(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text among these, or not among those."""

    any_: list[str] | None = None
    not_any_: list[str] | None = None


class IdInParents(Struct, kw_only=True, forbid_unknown_fields=True):
    """Child runs of these flow runs."""

    any_: list[UUID] | None = None
    operator: Operator = Operator.and_


class StateTypeInOrNot(Struct, kw_only=True, forbid_unknown_fields=True):
    """A type of state among these, or not among those."""

    any_: list[StateType] | None = None
    not_any_: list[StateType] | None = None


class FlowRunFilterState(Struct, kw_only=True, forbid_unknown_fields=True):
    """The state of a flow run, by type and name."""

    name: StringInOrNot | None = None
    operator: Operator = Operator.and_
    type: StateTypeInOrNot | None = None


class NullableStringIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text among these, or absent."""

    any_: list[str] | None = None
    is_null_: bool | None = None
    operator: Operator = Operator.and_


class FlowRunFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which flow runs."""

    created_by: CreatedByMatch | None = None
    deployment_id: NullableIdIn | None = None
    end_time: NullableTimeRange | None = None
    expected_start_time: TimeRange | None = None
    flow_version: StringIn | None = None
    id: IdInOrNot | None = None
    idempotency_key: StringInOrNot | None = None
    name: NameMatch | None = None
    next_scheduled_start_time: TimeRange | None = None
    operator: Operator = Operator.and_
    parent_flow_run_id: IdInParents | None = None
    parent_task_run_id: NullableIdIn | None = None
    start_time: NullableTimeRange | None = None
    state: FlowRunFilterState | None = None
    tags: TagsAllOrAny | None = None
    work_queue_name: NullableStringIn | None = None


class IdIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """An id among these."""

    any_: list[UUID] | None = None


class StateTypeIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """A type of state among these."""

    any_: list[StateType] | None = None


class TaskRunFilterState(Struct, kw_only=True, forbid_unknown_fields=True):
    """The state of a task run, by type and name."""

    name: StringIn | None = None
    operator: Operator = Operator.and_
    type: StateTypeIn | None = None


class Exists(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether there is one."""

    exists_: bool | None = None


class TaskRunFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which task runs; `subflow_runs` says whether they stand for a child flow run."""

    end_time: NullableTimeRange | None = None
    expected_start_time: TimeRange | None = None
    flow_run_id: NullableIdIn | None = None
    id: IdIn | None = None
    name: NameMatch | None = None
    operator: Operator = Operator.and_
    start_time: NullableTimeRange | None = None
    state: TaskRunFilterState | None = None
    subflow_runs: Exists | None = None
    tags: TagsAll | None = None


class WorkPoolFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which work pools."""

    id: IdIn | None = None
    name: StringIn | None = None
    operator: Operator = Operator.and_
    type: StringIn | None = None


class NamePrefix(Struct, kw_only=True, forbid_unknown_fields=True):
    """A name among these, or one that begins with one of those."""

    any_: list[str] | None = None
    startswith_: list[str] | None = None


class WorkQueueFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which work queues."""

    id: IdIn | None = None
    name: NamePrefix | None = None
    operator: Operator = Operator.and_


class DeploymentSort(StrEnum):
    """Orders of deployments."""

    CREATED_DESC = "CREATED_DESC"
    UPDATED_DESC = "UPDATED_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"


class QueueFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which flow runs a work queue of old clients takes."""

    deployment_ids: list[UUID] | None = None
    tags: list[str] | None = None


class FlowRunSort(StrEnum):
    """Orders of flow runs."""

    ID_DESC = "ID_DESC"
    START_TIME_ASC = "START_TIME_ASC"
    START_TIME_DESC = "START_TIME_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"


class FlowSort(StrEnum):
    """Orders of flows."""

    CREATED_DESC = "CREATED_DESC"
    UPDATED_DESC = "UPDATED_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"


class NumberRange(Struct, kw_only=True, forbid_unknown_fields=True):
    """A number within bounds."""

    ge_: int | None = None
    le_: int | None = None


class TaskRunIdIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """A task run among these, or none."""

    any_: list[UUID] | None = None
    is_null_: bool | None = None


class TextSearch(Struct, kw_only=True, forbid_unknown_fields=True):
    """Words that must be there, or with `-` must not; quotes hold words together."""

    query: Annotated[str, Meta(max_length=200)]


class LogFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which log lines."""

    flow_run_id: IdIn | None = None
    level: NumberRange | None = None
    operator: Operator = Operator.and_
    task_run_id: TaskRunIdIn | None = None
    text: TextSearch | None = None
    timestamp: TimeRange | None = None


class LogSort(StrEnum):
    """Orders of log lines."""

    TIMESTAMP_ASC = "TIMESTAMP_ASC"
    TIMESTAMP_DESC = "TIMESTAMP_DESC"


class TaskRunSort(StrEnum):
    """Orders of task runs."""

    ID_DESC = "ID_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"


class WorkerStatus(StrEnum):
    """Whether a worker was heard of lately."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


class WorkerStatusInOrNot(Struct, kw_only=True, forbid_unknown_fields=True):
    """A status among these, or not among those."""

    any_: list[WorkerStatus] | None = None
    not_any_: list[WorkerStatus] | None = None


class WorkerFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which workers."""

    last_heartbeat_time: TimeRange | None = None
    operator: Operator = Operator.and_
    status: WorkerStatusInOrNot | None = None


class AutomationFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which automations."""

    created: TimeRange | None = None
    id: IdIn | None = None
    name: StringIn | None = None
    operator: Operator = Operator.and_
    tags: TagsAllOrAny | None = None


class AutomationSort(StrEnum):
    """Orders of automations."""

    CREATED_DESC = "CREATED_DESC"
    UPDATED_DESC = "UPDATED_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
