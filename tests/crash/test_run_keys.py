"""A real worker gives each run a key of its own; the flow does all that flows do, and cannot touch another run."""

import json
import socket
from pathlib import Path

import pytest

from tests.crash.processes import installation

pytestmark = pytest.mark.slow

FLOW = """
import os
from pathlib import Path
from uuid import UUID

from headrace import flow, get_run_logger, task
from headrace.client import get_client
from headrace.exceptions import Forbidden
from headrace.schemas.flow_runs import SET_FLOW_RUN_STATE, SetFlowRunState
from headrace.schemas.states import StateCreate, StateType

failed = Path(__file__).parent / "failed"

@task(retries=1)
def step(number: int) -> int:
    get_run_logger().info("step %d", number)
    if number == 3 and not failed.exists():
        failed.touch()
        raise ValueError("once more")
    return number

@flow
def inner(number: int) -> int:
    return step(number)

@flow
def outer(other: str) -> int:
    total = sum(one.result() for one in [step.submit(number) for number in range(5)]) + inner(7)
    body = SetFlowRunState(state=StateCreate(type=StateType.CANCELLED), force=True)
    try:
        get_client().call(SET_FLOW_RUN_STATE, id=UUID(other), body=body)
    except Forbidden:
        get_run_logger().info("refused")
    given = [name for name in os.environ if name in ("HEADRACE_API_KEY", "HEADRACE_API_AUTH_STRING")]
    get_run_logger().info("own login: %s", os.environ["HEADRACE__RUN_KEY"])
    get_run_logger().info("logins of others: %s", sorted(given))
    return total
"""
LOGIN = "user:password"


def test_s5_a_worker_gives_its_runs_keys_of_their_own(tmp_path: Path) -> None:
    """A flow of a worker that is bound to its pool completes, with tasks, a retry and a nested run, and no more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with installation(tmp_path, port) as headrace:
        headrace.environment |= {
            "HEADRACE_SERVER_API_AUTH_STRING": LOGIN,
            "HEADRACE_API_AUTH_STRING": LOGIN,
            "HEADRACE_WORKER_RUN_KEYS": "true",
        }
        headrace.start_server()
        (tmp_path / "keyed.py").write_text(FLOW)
        headrace.command("work-pool", "create", "main", "--type", "process")
        headrace.command("deploy", "keyed.py:outer", "--name", "test", "--pool", "main")
        deployment = headrace.call("GET", "/deployments/name/outer/test")
        other = headrace.call("POST", "/flow_runs/", {"flow_id": deployment["flow_id"]})
        words = ("--allow", "write", "--work-pool", "main", "--output", "json")
        key = json.loads(headrace.command("api-key", "create", "worker", *words))["key"]
        headrace.environment["HEADRACE_API_AUTH_STRING"] = key
        headrace.start_worker()
        headrace.environment["HEADRACE_API_AUTH_STRING"] = LOGIN
        body = {"parameters": {"other": other["id"]}}
        run = headrace.call("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
        ended = headrace.wait_for_run("COMPLETED", "FAILED", "CRASHED", run_id=run["id"])
        lines = headrace.logs(run["id"])
        [nested] = {one["id"] for one in headrace.runs() if one["parent_task_run_id"]} or [None]
        child = headrace.call("GET", f"/flow_runs/{nested}")
        untouched = headrace.call("GET", f"/flow_runs/{other['id']}")
        tasks = headrace.task_states(run["id"])

    assert ended["state_type"] == "COMPLETED", json.dumps(ended["state"]) + str(lines)
    assert "refused" in lines
    assert "logins of others: []" in lines
    assert "own login: ********" in lines
    assert (child["state_type"], child["created_by"]["id"]) == ("COMPLETED", run["id"])
    assert untouched["state_type"] == other["state_type"]
    assert set(tasks) == {"COMPLETED"}
