"""The graph of a flow run: its task runs and child flow runs, and what each took from which."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Row, func, select

from headrace.schemas.flow_runs import (
    READ_FLOW_RUN_GRAPH_V1,
    READ_FLOW_RUN_GRAPH_V2,
    DependencyResult,
    Graph,
    GraphEdge,
    GraphNode,
    GraphState,
)
from headrace.schemas.states import StateType
from headrace.schemas.task_runs import Constant, FlowRunResult, Parameter, TaskRunResult
from headrace.server.operations.flow_runs import find_flow_run
from headrace.server.operations.paging import listed
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.run_rows import SELECT_TASK_RUNS, read_task_run_row
from headrace.server.store.tables import FLOW, FLOW_RUN, FLOW_RUN_STATE, TASK_RUN
from headrace.server.store.tables.types import aware
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

AROUND = "__parents__"
"""The input that names the task run inside which another one was called."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@implements(READ_FLOW_RUN_GRAPH_V2, access="runs:read")
def read_flow_run_graph_v2(tx: Tx, id: UUID, since: datetime = BEGINNING) -> Graph:
    """The graph of a flow run, of what had not ended before `since`."""
    run = find_flow_run(tx, id)
    nodes = [(node_id, node) for node_id, node in _nodes(_members(tx, id)) if _is_new(node, aware(since))]
    roots = [node_id for node_id, node in nodes if not node.parents and not node.encapsulating]
    states = tx.execute(
        select(FLOW_RUN_STATE.c.id, FLOW_RUN_STATE.c.timestamp, FLOW_RUN_STATE.c.type, FLOW_RUN_STATE.c.name)
        .where(FLOW_RUN_STATE.c.flow_run_id == id)
        .order_by(FLOW_RUN_STATE.c.state_index)
    )
    return Graph(
        start_time=run.start_time or run.expected_start_time,
        end_time=run.end_time,
        root_node_ids=roots,
        nodes=nodes,
        artifacts=[],
        states=[msgspec.convert(values_of(state), GraphState) for state in states],
    )


def _is_new(node: GraphNode, since: datetime) -> bool:
    return node.end_time is None or node.end_time >= since


class Member(Struct, kw_only=True):
    """A task run of the flow run, drawn as the child flow run it stands for, if any."""

    id: UUID
    kind: Literal["flow-run", "task-run"]
    shown_id: UUID
    label: str
    state_type: StateType
    start_time: datetime
    end_time: datetime | None
    task_inputs: dict[str, list[TaskRunResult | FlowRunResult | Parameter | Constant]]


_SHOWN = ("id", "name", "state_type", "start_time", "expected_start_time", "end_time")


def _members(tx: Tx, id: UUID) -> list[Member]:
    child = FLOW_RUN.alias("child")
    chosen = (
        select(
            *(TASK_RUN.c[name] for name in _SHOWN),
            TASK_RUN.c.task_inputs,
            *(child.c[name].label(f"child_{name}") for name in _SHOWN),
            FLOW.c.name.label("child_flow_name"),
        )
        .select_from(TASK_RUN.outerjoin(child, child.c.parent_task_run_id == TASK_RUN.c.id))
        .outerjoin(FLOW, FLOW.c.id == child.c.flow_id)
        .where(TASK_RUN.c.flow_run_id == id)
        .order_by(func.coalesce(TASK_RUN.c.start_time, TASK_RUN.c.expected_start_time), TASK_RUN.c.id, child.c.id)
        .limit(get_settings().server.flow_run_graph.max_nodes)
    )
    found = listed(tx.execute(chosen), _read_member, "task run")
    return list({member.id: member for member in found}.values())


def _read_member(row: Row[Any]) -> Member:
    values = values_of(row)
    mark = "child_" if values["child_id"] else ""
    begun = values[f"{mark}start_time"] or values[f"{mark}expected_start_time"] or BEGINNING
    return msgspec.convert(
        {
            "id": values["id"],
            "kind": "flow-run" if mark else "task-run",
            "shown_id": values[f"{mark}id"],
            "label": f"{values['child_flow_name']} / {values['child_name']}" if mark else values["name"],
            "state_type": values[f"{mark}state_type"] or StateType.PENDING,
            "start_time": begun,
            "end_time": values[f"{mark}end_time"],
            "task_inputs": values["task_inputs"],
        },
        Member,
    )


def _nodes(members: Sequence[Member]) -> list[tuple[UUID, GraphNode]]:
    shown = {member.id: member.shown_id for member in members}
    nodes = {
        member.shown_id: GraphNode(
            kind=member.kind,
            id=member.shown_id,
            label=member.label,
            state_type=member.state_type,
            start_time=member.start_time,
            end_time=member.end_time,
            parents=_edges(member, shown, around=False),
            children=[],
            encapsulating=_edges(member, shown, around=True),
            artifacts=[],
        )
        for member in members
    }
    for node in nodes.values():
        for edge in node.parents:
            nodes[edge.id].children.append(GraphEdge(id=node.id))
    return list(nodes.items())


def _edges(member: Member, shown: dict[UUID, UUID], *, around: bool) -> list[GraphEdge]:
    """Edges to the members whose results it took, or inside which it was called; none to what is not drawn."""
    sources = (each for name, taken in member.task_inputs.items() if (name == AROUND) is around for each in taken)
    ids = dict.fromkeys(source.id for source in sources if isinstance(source, TaskRunResult))
    return [GraphEdge(id=shown[id]) for id in ids if id in shown]


@implements(READ_FLOW_RUN_GRAPH_V1, access="runs:read")
def read_flow_run_graph_v1(tx: Tx, id: UUID) -> list[DependencyResult]:
    """The task runs of a flow run, each with those it took something from."""
    find_flow_run(tx, id)
    rows = tx.execute(SELECT_TASK_RUNS.where(TASK_RUN.c.flow_run_id == id).order_by(TASK_RUN.c.id))
    runs = listed(rows, lambda row: read_task_run_row(row, tx.now), "task run")
    return [
        DependencyResult(
            id=run.id,
            name=run.name or "",
            state=run.state,
            expected_start_time=run.expected_start_time,
            start_time=run.start_time,
            end_time=run.end_time,
            total_run_time=run.total_run_time,
            estimated_run_time=run.estimated_run_time,
            untrackable_result=bool(run.state and run.state.state_details.untrackable_result),
            upstream_dependencies=[
                source
                for sources in run.task_inputs.values()
                for source in sources
                if isinstance(source, TaskRunResult)
            ],
        )
        for run in runs
    ]
