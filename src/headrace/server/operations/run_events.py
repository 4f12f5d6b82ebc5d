"""The events of runs: one for each state, with the id of the state, written in its transaction.  # G5, G8"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import bindparam, select

from headrace.schemas.events import Event, Labels
from headrace.schemas.recording import TaskRunRecord
from headrace.schemas.states import State, StateDetails, StateType
from headrace.server.events.log import (
    RESOURCE_ID,
    RESOURCE_NAME,
    RESOURCE_ROLE,
    LogRow,
    Roles,
    append,
    append_rows,
    json_text,
    related_to,
)
from headrace.server.operations.facts import read_state
from headrace.server.operations.paging import listed
from headrace.server.operations.rows import kept_data, set_details
from headrace.server.operations.surroundings import SURROUNDINGS, surrounded, surroundings, tags_of
from headrace.server.store.long_lists import by_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_STATE
from headrace.server.store.tables.types import aware
from headrace.server.store.transaction import Tx

FORCED_BY = "headrace.forced-by"
"""The label that names who forced a state, or had a run leave a final one.  # G5"""
CLOSE = timedelta(minutes=5)
"""How long after a state the next one's event is said to follow."""
LONGEST_MESSAGE = 100_000
_TOLD = (
    "name",
    "task_key",
    "dynamic_key",
    "task_version",
    "tags",
    "labels",
    "task_inputs",
    "cache_key",
    "cache_expiration",
    "flow_run_run_count",
    "expected_start_time",
)
"""What events say of a task run, the same after each of its states."""
_INDEXED = ("flow-run", "flow", "deployment")
"""What a task run's events are found by directly, of what its flow run is related to."""

_IN_FORCE = by_ids(
    select(TASK_RUN.c.id, *(column.label(f"state_{column.name}") for column in TASK_RUN_STATE.c)).join(
        TASK_RUN_STATE, TASK_RUN_STATE.c.id == TASK_RUN.c.state_id
    ),
    TASK_RUN.c.id,
)
_AROUND = select(FLOW_RUN.c.id, FLOW_RUN.c.deployment_id, FLOW_RUN.c.parent_task_run_id, *SURROUNDINGS).select_from(
    surrounded(FLOW_RUN)
)
_AROUND_ONE = Prepared(_AROUND.where(FLOW_RUN.c.id == bindparam("run_id")))
_AROUND_SOME = by_ids(_AROUND, FLOW_RUN.c.id)


class NewRun(NamedTuple):
    """What the event of a new flow run says, when it belongs to nothing but a flow; as `SURROUNDINGS` has it."""

    name: str
    tags: Sequence[str]
    created_by: Mapping[str, Any] | None
    flow_id: UUID
    flow: str
    flow_tags: Sequence[str]
    deployment_id: None = None
    queue_id: None = None
    pool_id: None = None
    parent_task_run_id: None = None


def tell_of_flow_run(
    tx: Tx, run_id: UUID, written: State, before: State | None, *, forced: bool, run_count: int, around: Any = None
) -> None:
    """Write the event that a flow run has got a state.

    Args:
        tx: the transaction that wrote the state, and the run's row.
        run_id: the flow run.
        written: its state.
        before: the state it had.
        forced: whether the state was forced on it, or it has left a final one: then the event names who did so.
        run_count: how often the run has run now.
        around: what the event says of the run, where that is known already, as `SURROUNDINGS` has it; else it is
            looked up.
    """
    row: Any = around or tx.execute(_AROUND_ONE, {"run_id": run_id}).one()
    labels = _state_labels("flow-run", run_id, row.name, run_count, written)
    if forced:
        labels[FORCED_BY] = tx.caller.name
    event = Event(
        id=written.id,
        occurred=written.timestamp,
        event=f"prefect.flow-run.{written.name}",
        resource=labels,
        related=[*surroundings(row), *tags_of(dict.fromkeys([*row.tags, *(row.flow_tags or ())]))],
        payload=_payload(before, written),
        follows=_followed(before, written),
    )
    append(tx, [event])


def tell_of_task_runs(tx: Tx, records: Sequence[TaskRunRecord], before: Mapping[UUID, State]) -> None:
    """Write the events of all new states of recorded task runs, in the order of time.

    Of what an event says, all that several have in common is encoded once: a batch holds thousands.

    Args:
        tx: the transaction that writes the records.
        records: task runs, each with its new states.
        before: the states that were in force before, by task run; see `states_before`.
    """
    run_ids = {record.flow_run_id for record in records if record.flow_run_id is not None}
    rows: Any = tx.execute(_AROUND_SOME, {"ids": list(run_ids)}) if run_ids else ()
    around = _Around(rows)
    events: list[tuple[LogRow, Roles]] = []
    for record in records:
        related, index = around.of(record)
        events += [(row, index) for row in _rows(record, related, before.get(record.id))]
    events.sort(key=_occurred)
    append_rows(tx, [row for row, _ in events], [index for _, index in events])


class _Around:
    """What the events of task runs are related to: by flow run and tags, encoded once.

    The index has them under their flow run, its flow and its deployment, whose events are looked at, and the tags that
    it has not: `filtering` finds them by what else the flow run is related to, through it. Each such row costs time.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        self._runs = {
            row.id: ([related_to("flow-run", row.id, row.name), *surroundings(row, inside=True)], row.tags)
            for row in rows
        }
        self._made: dict[tuple[UUID | None, tuple[str, ...]], tuple[str, list[tuple[str, str]]]] = {}

    def of(self, record: TaskRunRecord) -> tuple[str, list[tuple[str, str]]]:
        """The related resources of a task run's events as JSON, and their rows in the index."""
        key = record.flow_run_id, tuple(record.tags)
        made = self._made.get(key)
        if made is None:
            found, tags = self._runs.get(record.flow_run_id, ([], []))
            own = [tag for tag in record.tags if tag not in tags]
            related = [*tags_of([*tags, *own]), *found]
            indexed = [labels for labels in found if labels[RESOURCE_ROLE] in _INDEXED]
            index = [(labels[RESOURCE_ID], labels[RESOURCE_ROLE]) for labels in (*indexed, *tags_of(own))]
            made = self._made[key] = json_text(related), index
        return made


def _rows(record: TaskRunRecord, related: str, before: State | None) -> Iterator[LogRow]:
    """The events of a task run's new states; `before` is the state it had.

    They are JSON put together from pieces: what all of them say of the task run is encoded once.
    """
    run, name = f"prefect.task-run.{record.id}", json_text(record.name)
    usual = StateDetails(flow_run_id=record.flow_run_id, task_run_id=record.id)
    told = json_text(_told(record))[:-1]
    started, ended = (None if one is None else aware(one) for one in (record.start_time, record.end_time))
    shown_before = "null" if before is None else _begun(before, usual) + "}"
    for state, runs, ran in _as_it_was(record):
        moment, kind, shown = aware(state.timestamp), state.type.value, _begun(state, usual)
        at = json_text(moment).replace("Z", "+00:00")  # as `isoformat` has it, at a tenth of its cost
        resource = (
            f'{{"{RESOURCE_ID}":"{run}","{RESOURCE_NAME}":{name},"prefect.run-count":"{runs}","prefect.state-message":'
            f'{_message(state)},"prefect.state-name":{json_text(state.name)},"prefect.state-timestamp":'
            f'{at},"prefect.state-type":"{kind}","prefect.orchestration":"client"}}'
        )
        start = f',"start_time":{json_text(started)}' if started is not None and started <= moment else ""
        end = f',"end_time":{json_text(ended)}' if ended is not None and ended <= moment else ""
        came_from = "null" if before is None else f'"{before.type.value}"'
        payload = (
            f'{{"intended":{{"from":{came_from},"to":"{kind}"}},"initial_state":{shown_before},"validated_state":'
            f'{shown},"data":{json_text(kept_data(state))}}},"task_run":'
            f'{told},"run_count":{runs},"total_run_time":{ran}{start}{end}}}}}'
        )
        event = f"prefect.task-run.{state.name}"
        yield state.id, moment, event, run, resource, related, payload, _followed(before, state)
        before, shown_before = state, shown + "}"


def _told(record: TaskRunRecord) -> dict[str, Any]:
    told = {name: value for name in _TOLD if (value := getattr(record, name)) is not None}
    policy = asdict(record.empirical_policy).items()
    told["empirical_policy"] = {name: value for name, value in policy if value is not None}
    return told


def _as_it_was(record: TaskRunRecord) -> Iterator[tuple[State, int, float]]:
    """The new states of a task run in the order of time, each with how often and how long it had run by then.

    The record says so for the last one. It is counted back from there.
    """
    runs, ran, later = record.run_count, record.total_run_time, None
    states, found = sorted(record.states, key=_moment), []
    for state in reversed(states):
        if later is not None and later.type is StateType.RUNNING:
            runs = max(runs - 1, 0)
        if later is not None and state.type is StateType.RUNNING:
            ran = max(round(ran - (later.timestamp - state.timestamp).total_seconds(), 6), 0.0)
        found.append((state, runs, ran))
        later = state
    return reversed(found)


def _begun(state: State, usual: StateDetails) -> str:
    """The JSON of a state up to its details; `usual` are details that say nothing but whose state it is."""
    details = "{}"
    if state.state_details != usual:
        given = set_details(state.state_details).items()
        details = json_text({name: value for name, value in given if name not in ("flow_run_id", "task_run_id")})
    name, message = json_text(state.name), _message(state)
    return f'{{"type":"{state.type.value}","name":{name},"message":{message},"state_details":{details}'


def _message(state: State) -> str:
    return json_text(state.message[:LONGEST_MESSAGE]) if state.message else '""'


def states_before(tx: Tx, records: Iterable[TaskRunRecord]) -> dict[UUID, State]:
    """The states that task runs have now, of those whose new states do not begin with their first one."""
    ids = [record.id for record in records if record.states and record.states[0].type is not StateType.PENDING]
    rows: Any = tx.execute(_IN_FORCE, {"ids": ids}) if ids else ()
    return dict(listed(rows, lambda row: (row.id, read_state(row)), "state of a task run"))


def _occurred(event: tuple[LogRow, Roles]) -> datetime:
    return event[0][1]


def _moment(state: State) -> datetime:
    return state.timestamp


def _state_labels(kind: str, id: UUID, name: str, run_count: int, state: State) -> Labels:
    return {
        RESOURCE_ID: f"prefect.{kind}.{id}",
        RESOURCE_NAME: name,
        "prefect.run-count": str(run_count),
        "prefect.state-message": (state.message or "")[:LONGEST_MESSAGE],
        "prefect.state-name": state.name or "",
        "prefect.state-timestamp": state.timestamp.isoformat(),
        "prefect.state-type": state.type.value,
    }


def _payload(before: State | None, written: State) -> dict[str, Any]:
    return {
        "intended": {"from": before and before.type.value, "to": written.type.value},
        "initial_state": before and _shown(before),
        "validated_state": _shown(written),
    }


def _shown(state: State) -> dict[str, str]:
    shown = {"type": state.type.value, "name": state.name or ""}
    if state.message:
        shown["message"] = state.message[:LONGEST_MESSAGE]
    if state.type is StateType.PAUSED:
        shown["pause_reschedule"] = "true" if state.state_details.pause_reschedule else "false"
    return shown


def _followed(before: State | None, written: State) -> UUID | None:
    return before.id if before is not None and written.timestamp - before.timestamp < CLOSE else None
