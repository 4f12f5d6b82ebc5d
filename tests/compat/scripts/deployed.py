"""A project deployed by `prefect deploy`, run by Prefect's process worker, and flows that serve themselves.

The worker works on all runs at once, for each is a process that imports Prefect: the checks wait for runs that were
ordered together.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from checking import eventually, fresh, raises, run
from prefect import flow, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter, LogFilter
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.events.filters import EventFilter
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import resume_flow_run
from prefect.states import Cancelling, Pending, Running

client = get_client(sync_client=True)
PREFECT = str(Path(sys.executable).with_name("prefect"))
PROJECT = Path("project")
POOL = fresh("compat-pool")

FLOWS = """
import os
import time

from prefect import flow, get_run_logger, runtime, task
from prefect.flow_runs import suspend_flow_run


@task
def double(n):
    return 2 * n


@flow
def main_flow(n: int = 1):
    get_run_logger().info("doubled %s", double(n))
    return {"n": n, "deployment": runtime.deployment.name, "env": os.environ.get("COMPAT")}


@flow
def long_flow():
    time.sleep(300)


@flow(persist_result=True)
def suspended_flow():
    suspend_flow_run(timeout=120)
    return "resumed"


@flow
def dying_flow():
    os._exit(3)


@flow
def broken_flow():
    raise ValueError("broken on purpose")
"""

CLEARING = """
import asyncio
import sys
from pathlib import Path

from prefect.workers.process import ProcessWorker


class Handler:
    cleanup_kinds = ["cancelling_timeout_teardown.v1", "pending_claim_teardown.v1"]

    async def cleanup(self, message):
        with Path("cleared").open("a") as file:
            file.write(f"{message.kind} {message.target.flow_run_id} {message.target.infrastructure_pid}\\n")


class Worker(ProcessWorker):
    type = "process"
    cleanup_handlers = [Handler()]


asyncio.run(Worker(work_pool_name=sys.argv[1]).start())
"""

YAML = """
name: compat
prefect-version: "3.0"
pull:
  - prefect.deployments.steps.set_working_directory:
      directory: "{directory}"
definitions:
  work_pool: &pool
    name: {pool}
    work_queue_name: default
deployments:
  - name: main-{pool}
    entrypoint: flows/main.py:main_flow
    description: does the main thing
    tags: [nightly, "{{{{ $COMPAT_TAG }}}}"]
    parameters: {{n: 4}}
    work_pool:
      <<: *pool
      job_variables: {{env: {{COMPAT: "from prefect.yaml"}}}}
    schedules:
      - {{cron: "0 6 * * *", timezone: "UTC", slug: early, active: false}}
      - {{interval: 3600, anchor_date: "{soon}"}}
      - {{rrule: "FREQ=DAILY;BYHOUR=3", active: false}}
  - {{name: long-{pool}, entrypoint: "flows/main.py:long_flow", work_pool: *pool}}
  - {{name: suspended-{pool}, entrypoint: "flows/main.py:suspended_flow", work_pool: *pool}}
  - {{name: dying-{pool}, entrypoint: "flows/main.py:dying_flow", work_pool: *pool}}
  - {{name: broken-{pool}, entrypoint: "flows/main.py:broken_flow", work_pool: *pool}}
  - name: triggered-{pool}
    entrypoint: flows/main.py:main_flow
    work_pool: *pool
    concurrency_limit: 1
    triggers:
      - {{type: event, enabled: false, expect: [compat.ready], parameters: {{n: 9}}}}
"""


def prefect(*words, **environment):
    """A command of Prefect's; what it printed."""

    answer = subprocess.run(
        [PREFECT, "--no-prompt", *words],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stdout[-600:] + answer.stderr[-600:]
    return answer.stdout


@contextmanager
def running(*command):
    """A process that is ended after the block."""
    process = subprocess.Popen(command, cwd=PROJECT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(40)


def order(name, **options):
    return run_deployment(f"{name.replace('_', '-')}-flow/{name.split('_')[0]}-{POOL}", timeout=0, **options)


def ended(flow_run, seconds=90):
    return eventually(lambda: (one := client.read_flow_run(flow_run.id)).state.is_final() and one, seconds)


def deployment(name):
    (found,) = client.read_deployments(deployment_filter=DeploymentFilter(name={"any_": [f"{name}-{POOL}"]}))
    return found


def check_pool_is_made_by_the_command_line():
    prefect("work-pool", "create", POOL, "--type", "process")
    made = client.read_work_pool(POOL)
    assert made.type == "process" and made.base_job_template["variables"]["properties"]["working_dir"]


def check_project_is_deployed():
    soon = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    (PROJECT / "flows").mkdir()
    (PROJECT / "flows" / "main.py").write_text(FLOWS)
    (PROJECT / "prefect.yaml").write_text(YAML.format(pool=POOL, soon=soon, directory=PROJECT.absolute()))
    prefect("deploy", "--all", COMPAT_TAG="from-ci")
    main = deployment("main")
    assert set(main.tags) == {"nightly", "from-ci"}
    assert (main.parameters, main.description, main.work_pool_name) == ({"n": 4}, "does the main thing", POOL)
    assert main.job_variables == {"env": {"COMPAT": "from prefect.yaml"}}
    assert main.parameter_openapi_schema["properties"]["n"]["type"] == "integer"
    assert sorted(type(one.schedule).__name__ for one in main.schedules) == [
        "CronSchedule",
        "IntervalSchedule",
        "RRuleSchedule",
    ]
    assert deployment("triggered").global_concurrency_limit.limit == 1
    owner = f"prefect.deployment.{deployment('triggered').id}"
    (automation,) = client.read_resource_related_automations(owner)
    assert automation.trigger.expect == {"compat.ready"}


def check_project_is_deployed_again():
    before = deployment("main").id
    prefect("deploy", "--name", f"main-{POOL}", COMPAT_TAG="again")
    assert deployment("main").id == before
    assert "again" in deployment("main").tags


def check_run_is_lost_in_its_cancelling():
    made = client.create_flow_run_from_deployment(deployment("long").id, state=Pending())
    client.update_flow_run(made.id, infrastructure_pid="nohost:1")
    client.set_flow_run_state(made.id, Running())
    LOST.append(made.id)
    assert client.set_flow_run_state(made.id, Cancelling()).status.value == "ACCEPT"


def check_worker_runs_what_is_ordered_and_what_is_scheduled():
    worker = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", POOL, "--name", "compat-worker", "--type", "process"]
    )
    WORKERS.append(worker)
    ORDERED["main"] = order("main", parameters={"n": 21}, tags=["ordered"])
    ORDERED["broken"] = order("broken")
    ORDERED["dying"] = order("dying")
    ORDERED["suspended"] = order("suspended")
    made = ended(ORDERED["main"])
    assert made.state.type is StateType.COMPLETED, made.state
    assert {"ordered", "nightly"} <= set(made.tags)
    assert made.labels["prefect.worker.name"] == "compat-worker"
    assert made.infrastructure_pid
    of_run = LogFilter(flow_run_id={"any_": [made.id]})
    eventually(lambda: "doubled 42" in {one.message for one in client.read_logs(of_run)})
    (online,) = client.read_workers_for_work_pool(POOL)
    assert online.name == "compat-worker" and online.status.value == "ONLINE"
    assert client.read_work_pool(POOL).status.value == "READY"
    assert deployment("main").status.value == "READY"


def check_scheduled_run_is_executed():
    scheduled = FlowRunFilter(deployment_id={"any_": [deployment("main").id]}, state={"type": {"any_": ["COMPLETED"]}})
    found = eventually(
        lambda: [one for one in client.read_flow_runs(flow_run_filter=scheduled) if one.auto_scheduled], 60
    )
    assert found[0].parameters == {"n": 4}


def check_failed_run_of_a_worker():
    made = ended(ORDERED["broken"])
    assert made.state.type is StateType.FAILED and "broken on purpose" in made.state.message


def check_dead_process_is_a_crashed_run():
    made = ended(ORDERED["dying"])
    assert made.state.type is StateType.CRASHED, made.state


def check_suspended_run_is_resumed_in_a_new_process():
    def suspended():
        return client.read_flow_run(ORDERED["suspended"].id).state.type is StateType.PAUSED

    eventually(suspended, 60)
    resume_flow_run(ORDERED["suspended"].id)
    made = ended(ORDERED["suspended"])
    assert made.state.type is StateType.COMPLETED, made.state
    assert "Suspended" in [one.name for one in client.read_flow_run_states(made.id)]


def check_running_run_is_cancelled():
    made = order("long")
    eventually(lambda: client.read_flow_run(made.id).state.type is StateType.RUNNING, 60)
    time.sleep(1)
    client.set_flow_run_state(made.id, Cancelling())
    assert ended(made).state.type is StateType.CANCELLED


def check_worker_tells_what_it_does():
    wanted = {"resource": {"id_prefix": ["prefect.worker.process."]}, "event": {"prefix": ["prefect.worker."]}}

    def names():
        found = client.read_events(EventFilter.model_validate(wanted), limit=50).events
        return {one.event for one in found}

    eventually(lambda: {"prefect.worker.started", "prefect.worker.submitted-flow-run"} <= names())


def check_worker_stops():
    worker = WORKERS.pop()
    worker.terminate()
    assert worker.wait(60) is not None


def check_worker_with_handlers_clears_up():
    (PROJECT / "clearing.py").write_text(CLEARING)
    with running(sys.executable, "clearing.py", POOL):
        cleared = PROJECT / "cleared"
        eventually(lambda: cleared.exists() and cleared.read_text().endswith("\n"), 120)
    assert cleared.read_text() == f"cancelling_timeout_teardown.v1 {LOST[0]} nohost:1\n"
    assert client.read_flow_run(LOST[0]).state.type is StateType.CANCELLED


def check_flow_is_deployed_from_source():
    name = fresh("from-source")
    id = flow.from_source(source=str(PROJECT.absolute()), entrypoint="flows/main.py:main_flow").deploy(
        name=name, work_pool_name=POOL, cron="0 2 * * *", parameters={"n": 5}, tags=["prod"], print_next_steps=False
    )
    made = client.read_deployment(id)
    assert (made.name, made.parameters, made.tags) == (name, {"n": 5}, ["prod"])
    assert made.schedules[0].schedule.cron == "0 2 * * *"


def check_served_flow_is_run():
    name = fresh("served")
    (PROJECT / "serving.py").write_text(
        "from prefect import flow\n\n\n@flow\ndef served_flow(n: int = 1):\n    return n\n\n\n"
        f"if __name__ == '__main__':\n    served_flow.serve(name={name!r}, interval=3600, tags=['served'])\n"
    )
    with running(sys.executable, "serving.py"):
        served = DeploymentFilter(name={"any_": [name]})
        (found,) = eventually(lambda: client.read_deployments(deployment_filter=served))
        made = run_deployment(f"served-flow/{name}", parameters={"n": 3}, timeout=90, poll_interval=1)
        assert made.state.type is StateType.COMPLETED, made.state
        assert "served" in made.tags
    assert client.read_deployment(found.id).paused


def check_deployments_are_removed():
    prefect("deployment", "delete", f"broken-flow/broken-{POOL}")
    with raises(ObjectNotFound):
        client.read_deployment_by_name(f"broken-flow/broken-{POOL}")


LOST = []
ORDERED = {}
WORKERS = []

if __name__ == "__main__":
    PROJECT.mkdir(exist_ok=True)
    try:
        run(globals())
    finally:
        for left in WORKERS:
            left.kill()
