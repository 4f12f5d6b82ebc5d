"""`headrace flow`."""

from cyclopts import App

from headrace.cli.output import OutputOption, ago, show_json, show_table
from headrace.client import get_client
from headrace.schemas.filters import FlowSort
from headrace.schemas.flows import READ_FLOWS, ReadFlows

app = App(name="flow", help="Work with flows.")


@app.command(name="ls")
def list_flows(*, limit: int = 15, output: OutputOption = None) -> None:
    """List flows, the newest first.

    Args:
        limit: how many to show at most.
        output: `json` prints the data as JSON.
    """
    flows = get_client().call(READ_FLOWS, body=ReadFlows(limit=limit, sort=FlowSort.CREATED_DESC))
    if output == "json":
        show_json(flows)
    else:
        show_table("Flows", ("ID", "Name", "Created"), [(str(f.id), f.name, ago(f.created)) for f in flows])
