"""A process worker with one deployment, on either side's server."""

import contextlib
import subprocess
import time
from collections.abc import Iterator

from benchmarks.load import call
from benchmarks.sides import WORKLOADS, Server, Side, stop

POOL = "bench"
WARM_UP = 180  # seconds for the worker to carry out its first run


@contextlib.contextmanager
def worker_with_deployment(side: Side, running: Server) -> Iterator[str]:
    """A worker that has carried out one run already; yields the deployment's id."""
    call(f"{running.url}/work_pools/", {"name": POOL, "type": "process"})
    flow = call(f"{running.url}/flows/", {"name": "noop"})
    body = {
        "name": "bench",
        "flow_id": flow["id"],
        "entrypoint": "noop.py:noop",
        "path": str(WORKLOADS),
        "work_pool_name": POOL,
        "pull_steps": [{f"{side.name}.deployments.steps.set_working_directory": {"directory": str(WORKLOADS)}}],
    }
    deployment = call(f"{running.url}/deployments/", body)["id"]
    worker = subprocess.Popen(
        [side.command, "worker", "start", "--pool", POOL, "--type", "process"],
        env=side.environment(running.home, API_URL=running.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        carry_out_one(running, deployment)
        yield deployment
    finally:
        stop(worker)


def carry_out_one(running: Server, deployment: str) -> None:
    """Create a run and wait until it completed.

    Raises:
        RuntimeError: it did not.
    """
    made = call(f"{running.url}/deployments/{deployment}/create_flow_run", {})
    deadline = time.monotonic() + WARM_UP
    state = None
    while time.monotonic() < deadline and state != "COMPLETED":
        state = call(f"{running.url}/flow_runs/{made['id']}")["state_type"]
        if state in ("FAILED", "CRASHED"):
            break
        time.sleep(0.1)
    if state != "COMPLETED":
        raise RuntimeError(f"the first run of the deployment is {state}")
