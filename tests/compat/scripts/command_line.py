"""Prefect's command line, that lists, inspects and changes what the server has."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from checking import eventually, fresh, prefect, run, shown
from prefect import flow, get_client, task
from prefect.automations import Automation
from prefect.blocks.system import Secret
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.events import emit_event
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture

client = get_client(sync_client=True)
PREFECT = str(Path(sys.executable).with_name("prefect"))
NAME = fresh("cli")
POOL = fresh("cli-pool")


@task
def step():
    print("a line of the task")


@flow(name=NAME, log_prints=True)
def example(n: int = 1):
    print("a line of the flow")
    step()


def check_version_and_configuration():
    assert "3.8.8" in prefect("version")
    assert "PREFECT_API_URL" in prefect("config", "view")
    prefect("profile", "ls")


def check_flows_and_runs():
    example()
    (made,) = client.read_flow_runs(flow_filter=FlowFilter(name={"any_": [NAME]}))
    assert NAME in shown("flow", "ls")
    assert str(made.id) in shown("flow-run", "ls", "--flow-name", NAME, "--state", "Completed")
    assert str(made.id) in shown("flow-run", "inspect", str(made.id))
    eventually(lambda: "alineoftheflow" in shown("flow-run", "logs", str(made.id)))
    (child,) = eventually(lambda: client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [made.id]})))
    assert "step" in shown("task-run", "ls", "--limit", "50")
    assert str(child.id) in shown("task-run", "inspect", str(child.id))


def check_runs_are_cancelled_and_deleted():
    made = client.create_flow_run(example)
    prefect("flow-run", "cancel", str(made.id))
    assert client.read_flow_run(made.id).state.name in ("Cancelling", "Cancelled")
    prefect("flow-run", "delete", str(made.id))
    prefect("flow-run", "inspect", str(made.id), code=1)


def check_work_pools_and_queues():
    prefect("work-pool", "create", POOL, "--type", "process")
    assert POOL in shown("work-pool", "ls")
    prefect("work-pool", "set-concurrency-limit", POOL, "3")
    inspected = prefect("work-pool", "inspect", POOL, "--output", "json")
    assert json.loads(inspected)["concurrency_limit"] == 3
    prefect("work-pool", "pause", POOL)
    assert client.read_work_pool(POOL).is_paused
    prefect("work-pool", "resume", POOL)
    prefect("work-pool", "clear-concurrency-limit", POOL)
    prefect("work-pool", "update", POOL, "--description", "changed")
    assert client.read_work_pool(POOL).description == "changed"
    prefect("work-pool", "preview", POOL)
    assert "job_configuration" in prefect("work-pool", "get-default-base-job-template", "--type", "process")
    prefect("work-queue", "create", "fast", "--pool", POOL, "--priority", "1")
    assert "fast" in shown("work-queue", "ls", "--pool", POOL)
    prefect("work-queue", "pause", "fast", "--pool", POOL)
    assert "fast" in prefect("work-queue", "inspect", "fast", "--pool", POOL)
    prefect("work-queue", "delete", "fast", "--pool", POOL)


def check_deployments():
    name = f"{NAME}/one"
    client.create_deployment(
        client.create_flow_from_name(NAME),
        "one",
        work_pool_name=POOL,
        entrypoint="main.py:example",
        path="/tmp",
        parameter_openapi_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    assert name in shown("deployment", "ls")
    assert "main.py:example" in prefect("deployment", "inspect", name)
    prefect("deployment", "schedule", "create", name, "--cron", "0 6 * * *")
    assert "06***" in shown("deployment", "schedule", "ls", name)
    (schedule,) = client.read_deployment_by_name(name).schedules
    prefect("deployment", "schedule", "pause", name, str(schedule.id))
    assert not client.read_deployment_by_name(name).schedules[0].active
    prefect("deployment", "schedule", "resume", name, str(schedule.id))
    prefect("deployment", "schedule", "clear", name, "--accept-yes")
    assert client.read_deployment_by_name(name).schedules == []
    assert "UUID" in prefect("deployment", "run", name, "--param", "n=3", "--start-in", "1 hour")
    made = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id={"any_": [client.read_deployment_by_name(name).id]})
    )
    assert [one.parameters for one in made] == [{"n": 3}]
    assert str(made[0].id) in shown("work-pool", "preview", POOL, "--hours", "2")
    prefect("deployment", "delete", name)
    prefect("deployment", "inspect", name, code=1)


def check_blocks():
    Secret(value="geheim").save(NAME)
    assert NAME in shown("block", "ls")
    assert "geheim" not in prefect("block", "inspect", f"secret/{NAME}")
    assert "local-file-system" in shown("block", "type", "ls")
    prefect("block", "type", "inspect", "secret")
    Path("own.py").write_text("from prefect.blocks.core import Block\n\n\nclass Registered(Block):\n    host: str\n")
    assert "Registered" in prefect("block", "register", "--file", "own.py")
    prefect("block", "delete", f"secret/{NAME}")
    prefect("block", "inspect", f"secret/{NAME}", code=1)


def check_concurrency_limits():
    prefect("concurrency-limit", "create", NAME, "2")
    assert NAME in shown("concurrency-limit", "ls")
    assert NAME in shown("concurrency-limit", "inspect", NAME)
    prefect("concurrency-limit", "reset", NAME)
    prefect("concurrency-limit", "delete", NAME)
    prefect("gcl", "create", NAME, "--limit", "2")
    assert NAME in shown("gcl", "ls")
    assert NAME in shown("gcl", "inspect", NAME)
    prefect("gcl", "update", NAME, "--limit", "5")
    prefect("gcl", "disable", NAME)
    prefect("gcl", "enable", NAME)
    assert client.read_global_concurrency_limit_by_name(NAME).limit == 5
    prefect("gcl", "delete", NAME)
    prefect("gcl", "inspect", NAME, code=1)


def check_automations():
    trigger = EventTrigger(expect={"compat.never"}, posture=Posture.Reactive, threshold=1)
    made = Automation(name=NAME, trigger=trigger, actions=[DoNothing()]).create()
    assert NAME in shown("automation", "ls")
    assert NAME in shown("automation", "inspect", NAME)
    prefect("automation", "pause", NAME)
    assert not client.read_automation(made.id).enabled
    prefect("automation", "resume", NAME)
    prefect("automation", "delete", NAME)
    assert NAME not in shown("automation", "ls")


def check_calling_the_api():
    assert "true" in prefect("api", "GET", "/health")
    assert json.loads(
        prefect("api", "POST", "/flows/filter", "--data", json.dumps({"flows": {"name": {"any_": [NAME]}}}))
    )


def check_events_are_streamed():
    """What the command sees arrives over a websocket, as it happens."""
    out = Path("events.jsonl")
    with out.open("w") as file:
        streaming = subprocess.Popen([PREFECT, "events", "stream", "--format", "json"], stdout=file, env=os.environ)
    try:
        for _ in range(60):
            emit_event(event="compat.streamed", resource={"prefect.resource.id": NAME})
            time.sleep(0.5)
            if "compat.streamed" in out.read_text():
                return
        raise AssertionError(out.read_text())
    finally:
        streaming.send_signal(signal.SIGINT)
        streaming.wait(20)


if __name__ == "__main__":
    run(globals())
