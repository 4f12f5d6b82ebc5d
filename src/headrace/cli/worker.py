"""`headrace worker`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from headrace.cli.inputs import read_template
from headrace.cli.output import console, fail
from headrace.client import get_client
from headrace.exceptions import ObjectNotFound
from headrace.schemas.work_pools import READ_WORK_POOL
from headrace.settings import get_settings
from headrace.workers import BaseWorker, ProcessWorker

app = App(name="worker", help="Start a worker that carries out runs.")

KINDS: dict[str, type[BaseWorker]] = {"process": ProcessWorker}


@app.command(name="start")
def start(
    *,
    pool: Annotated[str | None, Parameter(name=["--pool", "-p"])] = None,
    name: Annotated[str | None, Parameter(name=["--name", "-n"])] = None,
    work_queues: Annotated[list[str] | None, Parameter(name=["--work-queue", "-q"])] = None,
    type: Annotated[str | None, Parameter(name=["--type", "-t"])] = None,
    prefetch_seconds: float | None = None,
    run_once: bool = False,
    limit: Annotated[int | None, Parameter(name=["--limit", "-l"])] = None,
    with_healthcheck: bool = False,
    base_job_template: Path | None = None,
    create_pool_if_not_found: bool = True,
) -> int | None:
    """Start a worker: it carries out the runs of a work pool until it is stopped.

    SIGTERM lets its runs finish first; a second one ends them.

    Args:
        pool: the work pool; the default one when absent.
        name: the worker's name.
        work_queues: take runs of these queues only.
        type: what the worker starts runs with; that of the pool when absent.
        prefetch_seconds: take runs so long before they are due.
        run_once: carry out what is due now, and stop.
        limit: how many runs it carries out at the same time.
        with_healthcheck: answer /health for whoever watches over it.
        base_job_template: a JSON file with the job template of a pool that is made.
        create_pool_if_not_found: make the pool when there is none of this name.
    """
    pool = pool or get_settings().deployments.default_work_pool_name
    if pool is None:
        return fail("Say which work pool to work for: --pool NAME. See: headrace work-pool ls")
    kind = type or _kind_of(pool)
    if kind not in KINDS:
        return fail(f"headrace has no worker of type '{kind}'. It has: {', '.join(KINDS)}.")
    worker = KINDS[kind](
        pool,
        work_queues,
        name,
        prefetch_seconds,
        create_pool_if_not_found,
        limit,
        base_job_template=read_template(base_job_template) or None,
    )
    worker.start(run_once, with_healthcheck, lambda text: console().print(text, soft_wrap=True))
    return None


def _kind_of(pool: str) -> str:
    try:
        return get_client().call(READ_WORK_POOL, name=pool).type
    except ObjectNotFound:
        return "process"
