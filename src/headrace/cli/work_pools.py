"""`headrace work-pool`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from msgspec import UNSET

from headrace.cli.inputs import read_template
from headrace.cli.output import OutputOption, ago, done, fail, show_json, show_table
from headrace.client import get_client
from headrace.exceptions import ObjectAlreadyExists
from headrace.schemas.work_pools import (
    CREATE_WORK_POOL,
    DELETE_WORK_POOL,
    READ_WORK_POOL,
    READ_WORK_POOLS,
    READ_WORKERS,
    UPDATE_WORK_POOL,
    ReadWorkers,
    ReadWorkPools,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from headrace.settings import load_profiles, save_profiles

app = App(name="work-pool", help="Work with work pools.")


@app.command(name="ls")
def list_work_pools(
    *, verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False, output: OutputOption = None
) -> None:
    """List work pools.

    Args:
        verbose: also show when they were made, and their descriptions.
        output: `json` prints the data as JSON.
    """
    pools = get_client().call(READ_WORK_POOLS, body=ReadWorkPools())
    if output == "json":
        show_json(pools)
        return
    columns = ("Name", "Type", "Status", "Concurrency limit") + (("Created", "Description") if verbose else ())
    rows = []
    for pool in pools:
        limit = "none" if pool.concurrency_limit is None else str(pool.concurrency_limit)
        row = [pool.name, pool.type, "PAUSED" if pool.is_paused else str(pool.status or ""), limit]
        rows.append([*row, ago(pool.created), pool.description] if verbose else row)
    show_table("Work pools", columns, rows)


@app.command(name="create")
def create_work_pool(
    name: str,
    /,
    *,
    type: Annotated[str, Parameter(name=["--type", "-t"])] = "process",
    base_job_template: Path | None = None,
    paused: bool = False,
    overwrite: bool = False,
    set_as_default: bool = False,
) -> int | None:
    """Create a work pool.

    Args:
        name: its name.
        type: what its workers start runs with.
        base_job_template: a JSON file with the job template; the type's own when absent.
        paused: let its workers take nothing yet.
        overwrite: change the pool that has this name, if there is one.
        set_as_default: use this pool where none is named.
    """
    client, template = get_client(), read_template(base_job_template)
    try:
        body = WorkPoolCreate(name=name, type=type, base_job_template=template, is_paused=paused)
        client.call(CREATE_WORK_POOL, body=body)
        done(f"Created work pool '{name}'. Start a worker with: headrace worker start --pool '{name}'")
    except ObjectAlreadyExists:
        if not overwrite:
            return fail(f"Work pool '{name}' exists. Use --overwrite to change it.")
        change = WorkPoolUpdate(is_paused=paused, base_job_template=template or UNSET)
        client.call(UPDATE_WORK_POOL, name=name, body=change)
        done(f"Changed work pool '{name}'.")
    if set_as_default:
        profiles = load_profiles()
        profiles.set({"deployments.default_work_pool_name": name})
        save_profiles(profiles)
    return None


@app.command(name="inspect")
def inspect_work_pool(name: str, /, *, output: OutputOption = None) -> None:
    """Show a work pool and its workers.

    Args:
        name: its name.
        output: `json` prints the data as JSON.
    """
    client = get_client()
    pool = client.call(READ_WORK_POOL, name=name)
    if output == "json":
        show_json(pool)
        return
    facts = {
        "Work pool": f"{pool.name} ({pool.id})",
        "Type": pool.type,
        "Description": pool.description,
        "Status": "PAUSED" if pool.is_paused else str(pool.status or ""),
        "Concurrency limit": "none" if pool.concurrency_limit is None else str(pool.concurrency_limit),
        "Created": ago(pool.created),
    }
    show_table("", ("", ""), [(label, value) for label, value in facts.items() if value])
    workers = client.call(READ_WORKERS, work_pool_name=name, body=ReadWorkers())
    rows = [(worker.name, str(worker.status or ""), ago(worker.last_heartbeat_time)) for worker in workers]
    show_table("Workers", ("Name", "Status", "Last heartbeat"), rows)


@app.command(name="pause")
def pause(name: str, /) -> None:
    """Let the workers of a pool take no more runs.

    Args:
        name: its name.
    """
    get_client().call(UPDATE_WORK_POOL, name=name, body=WorkPoolUpdate(is_paused=True))
    done(f"Paused work pool '{name}'.")


@app.command(name="resume")
def resume(name: str, /) -> None:
    """Let the workers of a paused pool take runs again.

    Args:
        name: its name.
    """
    get_client().call(UPDATE_WORK_POOL, name=name, body=WorkPoolUpdate(is_paused=False))
    done(f"Resumed work pool '{name}'.")


@app.command(name="delete")
def delete(name: str, /) -> None:
    """Delete a work pool with its queues.

    Args:
        name: its name.
    """
    get_client().call(DELETE_WORK_POOL, name=name)
    done(f"Deleted work pool '{name}'.")
