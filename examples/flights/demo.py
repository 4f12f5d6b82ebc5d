"""The demo: a server, a worker, a scheduled deployment and a run of it, each made with the command a user would type.

Everything it makes lies in `.headrace/` of this checkout. It leaves the server and the worker running until Ctrl-C when
somebody is watching, and stops them when its output goes to a file or a pipe.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("HEADRACE_HOME") or HERE.parents[1] / ".headrace")
HEADRACE = [sys.executable, "-m", "headrace.cli"]


def say(text: str) -> None:
    """A heading of the demo."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def command(*words: str) -> None:
    """Show a command and run it."""
    print(f"$ headrace {shlex.join(words)}", flush=True)
    subprocess.run([*HEADRACE, *words], cwd=HERE, check=True)


def free_port(wanted: int = 4200) -> int:
    """The usual port, or another one when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


@contextlib.contextmanager
def running_worker() -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the pool `demo`, stopped at the end."""
    print("$ headrace worker start --pool demo &", flush=True)
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / "worker.log", "ab") as log:
        worker = subprocess.Popen([*HEADRACE, "worker", "start", "--pool", "demo"], cwd=HERE, stdout=log, stderr=log)
    try:
        wait_until_online()
        yield worker
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=30)


def wait_until_online(seconds: float = 30.0) -> None:
    """Return when the server has heard of the worker."""
    from headrace.client import get_client
    from headrace.schemas.work_pools import READ_WORKERS, ReadWorkers

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if get_client().call(READ_WORKERS, work_pool_name="demo", body=ReadWorkers()):
            return
        time.sleep(0.05)
    raise TimeoutError(f"The worker did not start; see {HOME / 'worker.log'}")


def show_last_run() -> None:
    """States and timings of the newest flow run, from the API."""
    from headrace.client import get_client
    from headrace.schemas.filters import FlowRunFilter, FlowRunSort, IdInOrNot, NullableTimeRange
    from headrace.schemas.flow_runs import READ_FLOW_RUNS, ReadFlowRuns
    from headrace.schemas.task_runs import READ_TASK_RUNS, ReadTaskRuns

    client = get_client()
    begun = FlowRunFilter(start_time=NullableTimeRange(is_null_=False))
    body = ReadFlowRuns(flow_runs=begun, limit=20, sort=FlowRunSort.START_TIME_DESC)
    runs = client.call(READ_FLOW_RUNS, body=body)
    run = next(run for run in runs if run.deployment_id)
    waited = (run.start_time - run.expected_start_time).total_seconds() * 1000
    print(
        f"Flow run {run.name}: {run.state_name}, {run.total_run_time:.2f} s; "
        f"it started {waited:.0f} ms after it was due.\n"
    )
    tasks = defaultdict(list)
    chosen = FlowRunFilter(id=IdInOrNot(any_=[each.id for each in runs if each.created >= run.created]))
    for task_run in client.call(READ_TASK_RUNS, body=ReadTaskRuns(flow_runs=chosen)):
        tasks[task_run.name.rsplit("-", 1)[0]].append(task_run)
    print(f"{'task':<24}{'runs':>5}{'retries':>9}{'seconds':>9}  states")
    for name, members in tasks.items():
        states = ", ".join(sorted({member.state_name for member in members}))
        retries = sum(max(member.run_count - 1, 0) for member in members)
        print(f"{name:<24}{len(members):>5}{retries:>9}{sum(m.total_run_time for m in members):>9.2f}  {states}")


def main() -> None:
    """Run the demo."""
    os.environ["HEADRACE_HOME"] = str(HOME)
    say("1. A server, on SQLite, and a work pool")
    command("server", "start", "--background", "--port", str(free_port()))
    try:
        command("work-pool", "create", "demo", "--type", "process", "--overwrite")
        say("2. A worker, and a deployment with a schedule")
        with running_worker():
            command("deploy", "--name", "daily")
            command("deployment", "ls")
            say("3. A run of it, followed live")
            command("deployment", "run", "flights/daily", "--watch", "--watch-timeout", "300")
            say("4. What was recorded")
            show_last_run()
            say("5. How to look further")
            look_further()
            if sys.stdin.isatty() and sys.stdout.isatty():
                print("\nServer and worker go on until you press Ctrl-C.")
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)
    finally:
        command("server", "stop")


def look_further() -> None:
    """Commands and addresses to go on with."""
    from headrace.cli.addresses import ui_url

    print(f"  The UI:          {ui_url()}")
    print(f"  In this shell:   export HEADRACE_HOME={HOME}")
    print("  All runs:        headrace flow-run ls")
    print("  A run's log:     headrace flow-run logs ID")
    print("  What comes next: headrace flow-run ls --state Scheduled")
    print("  The code:        examples/flights/flights.py and headrace.yaml")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"The demo stopped: '{shlex.join(map(str, error.cmd[3:]))}' ended with exit code {error.returncode}.")
