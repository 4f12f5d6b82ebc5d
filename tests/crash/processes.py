"""A real headrace on this machine: server, workers and flows, each a process that can be killed."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LEASE = 2.0  # seconds; the guarantee is lease + 5 s
WITHIN = LEASE + 5.0
PATIENCE = 40.0  # seconds after which a test gives up waiting

SETTINGS = {
    "HEADRACE_SERVER_RUNS_LEASE_SECONDS": str(LEASE),
    "HEADRACE_SERVER_RUNS_MANUAL_LEASE_SECONDS": str(LEASE),
    "HEADRACE_LOGGING_LEVEL": "INFO",
}
HEADRACE = (sys.executable, "-m", "headrace.cli")


def wait_for(what: Callable[[], Any], *, seconds: float = PATIENCE, message: str = "") -> Any:
    """Call `what` until it gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := what():
                return found
        time.sleep(0.05)
    raise AssertionError(message or f"{what} was not true within {seconds:g} s")


class Installation:
    """A home folder with a server, and the processes a test starts in it."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.url = f"http://127.0.0.1:{port}/api"
        self.processes: list[subprocess.Popen[bytes]] = []
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "PREFECT_"))}
        self.environment = kept | SETTINGS | {"HEADRACE_HOME": str(home)}
        self.database = f"sqlite:///{home / 'headrace.db'}"
        """Where its server keeps what it knows; set it before the server is started."""

    def start(self, *command: str, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own; its output goes to a file named for it in the home."""
        with open(self.home / f"{name}.out", "ab") as out:
            process = subprocess.Popen(
                command,
                env=self.environment | environment,
                cwd=self.home,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_server(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it is healthy."""
        process = self.start(*HEADRACE, "server", "start", "--port", str(self.port), name="server")
        wait_for(lambda: self.call("GET", "/health"), message=self.output("server"))
        return process

    def start_worker(self, name: str = "worker") -> subprocess.Popen[bytes]:
        """Start a worker of the pool `main` and wait until the server has seen it."""
        process = self.start(*HEADRACE, "worker", "start", "--pool", "main", "--name", name, name=name)

        def online() -> bool:
            workers = self.call("POST", "/work_pools/main/workers/filter", {})
            return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)

        wait_for(online, message=self.output(name))
        return process

    def start_flow(self, script: Path, name: str = "flow") -> subprocess.Popen[bytes]:
        """Run a script by hand, against the server."""
        return self.start(sys.executable, str(script), name=name, HEADRACE_API_URL=self.url)

    def command(self, *words: str) -> str:
        """Run a command line against the server and return what it printed."""
        environment = self.environment | {"HEADRACE_API_URL": self.url}
        answer = subprocess.run(
            [*HEADRACE, *words], env=environment, cwd=self.home, capture_output=True, text=True, check=False, timeout=60
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def output(self, name: str) -> str:
        """What a process has printed so far."""
        path = self.home / f"{name}.out"
        return path.read_text() if path.exists() else ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API, without any of headrace's code."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if login := self.environment.get("HEADRACE_API_AUTH_STRING"):
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def runs(self, **flow_run_filter: Any) -> list[dict[str, Any]]:
        """Flow runs, the newest first."""
        found = self.call("POST", "/flow_runs/filter", {"flow_runs": flow_run_filter, "sort": "ID_DESC"})
        assert isinstance(found, list)
        return found

    def wait_for_run(self, *states: str, seconds: float = PATIENCE, run_id: str | None = None) -> dict[str, Any]:
        """The newest run (or the one with this id), once its state is one of these types."""

        def found() -> dict[str, Any] | None:
            runs = [self.call("GET", f"/flow_runs/{run_id}")] if run_id else self.runs()[:1]
            return next((run for run in runs if run["state_type"] in states), None)

        run = wait_for(found, seconds=seconds, message=f"no run in {states} within {seconds:g} s: {self.summary()}")
        assert isinstance(run, dict)
        return run

    def summary(self) -> str:
        """All that is known, for the message of a failed test."""
        with contextlib.suppress(OSError):
            states = [(run["name"], run["state_name"], (run["state"] or {}).get("message")) for run in self.runs()]
            return f"{states}\n" + "\n".join(
                f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.home.glob("*.out")
            )
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.home.glob("*.out"))

    def logs(self, run_id: str) -> list[str]:
        """Messages of a run's log, in order."""
        messages: list[str] = []
        while True:
            body = {
                "logs": {"flow_run_id": {"any_": [run_id]}},
                "sort": "TIMESTAMP_ASC",
                "limit": 200,
                "offset": len(messages),
            }
            page = self.call("POST", "/logs/filter", body)
            messages += [line["message"] for line in page]
            if len(page) < 200:
                return messages

    def task_states(self, run_id: str) -> list[str]:
        """State type of each task run of a flow run."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
        return [run["state_type"] for run in self.call("POST", "/task_runs/filter", body)]


def kill(process: subprocess.Popen[bytes]) -> None:
    """`kill -9`, of this process alone."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)


@contextlib.contextmanager
def installation(home: Path, port: int) -> Iterator[Installation]:
    """An installation whose processes are all ended at the end."""
    made = Installation(home, port)
    try:
        yield made
    finally:
        for process in made.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)


SCRIPT = """
import os, time
from pathlib import Path
from headrace import flow, get_run_logger, task

HERE = Path(__file__).parent

@task
def step(number: int) -> int:
    get_run_logger().info("step %d", number)
    return number

@task
def hold() -> str:
    (HERE / "holding").write_text(str(os.getpid()))
    while not (HERE / "go").exists():
        time.sleep(0.02)
    return "went"

@flow(name="held"{options})
def held() -> str:
    for number in range(20):
        step(number)
    time.sleep({pause})
    hold()
    for number in range(20, 40):
        step(number)
    return "done"

if __name__ == "__main__":
    held()
"""
"""A flow that does twenty steps, waits for a file named `go`, and does twenty more."""


def write_script(home: Path, options: str = "", pause: float = 0.0) -> Path:
    """Write the held flow into a home."""
    path = home / "held.py"
    path.write_text(SCRIPT.format(options=options, pause=pause))
    return path
