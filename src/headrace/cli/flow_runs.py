"""`headrace flow-run`."""

from uuid import UUID

from cyclopts import App
from rich.text import Text

from headrace.cli.addresses import ui_url
from headrace.cli.follow import follow, read_log
from headrace.cli.log_lines import log_text, show_item
from headrace.cli.output import OutputOption, ago, console, done, fail, show_json, show_table, span, state_text
from headrace.client import Client, get_client
from headrace.exceptions import ObjectNotFound
from headrace.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunSort,
    IdInOrNot,
    NameMatch,
    StateTypeInOrNot,
    StringInOrNot,
)
from headrace.schemas.flow_runs import (
    DELETE_FLOW_RUN,
    READ_FLOW_RUN,
    READ_FLOW_RUNS,
    SET_FLOW_RUN_STATE,
    FlowRun,
    ReadFlowRuns,
    SetFlowRunState,
)
from headrace.schemas.flows import READ_FLOWS, ReadFlows
from headrace.schemas.states import SetStateStatus, StateCreate, StateType

app = App(name="flow-run", help="Work with flow runs.")


@app.command(name="ls")
def list_flow_runs(
    *,
    flow_name: list[str] | None = None,
    limit: int = 15,
    state: list[str] | None = None,
    state_type: list[StateType] | None = None,
    output: OutputOption = None,
) -> None:
    """List flow runs, those expected last first.

    Args:
        flow_name: only runs of these flows.
        limit: how many to show at most.
        state: only runs in a state of this name.
        state_type: only runs in a state of this type.
        output: `json` prints the data as JSON.
    """
    client = get_client()
    chosen = FlowRunFilterState(
        name=StringInOrNot(any_=state) if state else None,
        type=StateTypeInOrNot(any_=state_type) if state_type else None,
    )
    body = ReadFlowRuns(
        flows=FlowFilter(name=NameMatch(any_=flow_name)) if flow_name else None,
        flow_runs=FlowRunFilter(state=chosen) if state or state_type else None,
        limit=limit,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
    runs = client.call(READ_FLOW_RUNS, body=body)
    if output == "json":
        show_json(runs)
        return
    names = _flow_names(client, runs)
    rows = [
        (str(r.id), names.get(r.flow_id, ""), r.name, state_text(r.state), ago(r.start_time or r.expected_start_time))
        for r in runs
    ]
    show_table("Flow runs", ("ID", "Flow", "Name", "State", "When"), rows)


def _flow_names(client: Client, runs: list[FlowRun]) -> dict[UUID, str]:
    ids = list({run.flow_id for run in runs})
    flows = client.call(READ_FLOWS, body=ReadFlows(flows=FlowFilter(id=IdInOrNot(any_=ids)))) if ids else []
    return {flow.id: flow.name for flow in flows}


@app.command(name="inspect")
def inspect_flow_run(id: UUID, /, *, web: bool = False, output: OutputOption = None) -> int | None:
    """Show a flow run.

    Args:
        id: the run.
        web: open its page in the browser instead.
        output: `json` prints the data as JSON.
    """
    client = get_client()
    run = client.call(READ_FLOW_RUN, id=id)
    if web:
        return _open_page(id)
    if output == "json":
        show_json(run)
        return None
    facts: dict[str, str | Text | None] = {
        "Flow run": f"{run.name} ({run.id})",
        "Flow": _flow_names(client, [run]).get(run.flow_id, str(run.flow_id)),
        "State": state_text(run.state),
        "Message": run.state.message if run.state else None,
        "Deployment": str(run.deployment_id) if run.deployment_id else None,
        "Work pool": run.work_pool_name,
        "Expected": ago(run.expected_start_time),
        "Started": ago(run.start_time),
        "Run time": span(run.total_run_time),
        "Runs": str(run.run_count),
        "Parameters": str(run.parameters),
        "Tags": ", ".join(run.tags),
    }
    show_table("", ("", ""), [(name, value) for name, value in facts.items() if value])
    return None


def _open_page(id: UUID) -> int | None:
    import webbrowser

    url = ui_url()
    if url is None:
        return fail("No server is running, so there is no page to open. Start one with: headrace server start")
    webbrowser.open(f"{url}/runs/flow-run/{id}")
    return None


@app.command(name="logs")
def show_logs(
    id: UUID,
    /,
    *,
    head: bool = False,
    num_logs: int | None = None,
    reverse: bool = False,
    tail: bool = False,
    output: OutputOption = None,
) -> int | None:
    """Print the log of a flow run.

    Args:
        id: the run.
        head: only the first lines (20 unless --num-logs says more).
        num_logs: how many lines.
        reverse: the newest line first.
        tail: only the last lines (20 unless --num-logs says more).
        output: `json` prints the data as JSON.
    """
    if head and tail:
        return fail("Give --head or --tail, not both.")
    client = get_client()
    client.call(READ_FLOW_RUN, id=id)  # an unknown run is an error, not an empty log
    lines = list(read_log(client, id))
    count = num_logs or (20 if head or tail else None)
    if count is not None:
        lines = lines[-count:] if tail else lines[:count]
    if reverse:
        lines.reverse()
    if output == "json":
        show_json(lines)
        return None
    for line in lines:
        console().print(log_text(line), soft_wrap=True)
    return None


@app.command(name="cancel")
def cancel_flow_run(id: UUID, /) -> int | None:
    """Cancel a flow run: its process is asked to stop, and killed when it does not.

    Args:
        id: the run.
    """
    proposed = SetFlowRunState(state=StateCreate(type=StateType.CANCELLING))
    result = get_client().call(SET_FLOW_RUN_STATE, id=id, body=proposed)
    if result.status is SetStateStatus.ABORT:
        reason = getattr(result.details, "reason", None)
        return fail(f"Flow run '{id}' could not be cancelled: {reason or 'the server refused'}")
    cancelled = result.state is not None and result.state.type is StateType.CANCELLED
    done(f"Flow run '{id}' was cancelled." if cancelled else f"Flow run '{id}' is being cancelled.")
    return None


@app.command(name="delete")
def delete_flow_run(*ids: UUID) -> int | None:
    """Delete flow runs, with their task runs, states and logs.

    Args:
        ids: the runs.
    """
    client, missing = get_client(), 0
    for id in ids:
        try:
            client.call(DELETE_FLOW_RUN, id=id)
            done(f"Deleted flow run '{id}'.")
        except ObjectNotFound as error:
            missing += fail(str(error))
    return 1 if missing else None


@app.command(name="watch")
def watch_flow_run(id: UUID, /, *, timeout: float | None = None) -> int:
    """Print a flow run's log and states as they come, until it is final.

    The exit code is 0 when it completed, and 1 when it did not.

    Args:
        id: the run.
        timeout: seconds after which to give up.
    """
    return watch(get_client(), id, timeout=timeout)


def watch(client: Client, id: UUID, *, timeout: float | None = None, interval: float = 0.25) -> int:
    """Print what `follow` yields and return the exit code that tells how the run ended."""
    try:
        for item in follow(client, id, timeout=timeout, interval=interval):
            show_item(item)
    except TimeoutError as error:
        return fail(str(error))
    run = client.call(READ_FLOW_RUN, id=id)
    return 0 if run.state_type is StateType.COMPLETED else 1
