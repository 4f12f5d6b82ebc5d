"""The rows of the table: what is measured, how, and what headrace must reach."""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import call, rate, request_bytes
from benchmarks.sides import WORKLOADS, Server, Side, fresh_home, prefect, server

SETTLE = 3.0  # seconds a server gets to come to rest


def shown(figure: float | None, unit: str) -> str:
    """A figure with its unit, to three digits."""
    if figure is None:
        return "not measured"
    text = f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
    return f"{text} {unit}"


@dataclass(frozen=True)
class Row:
    """One row.

    `measure` returns a figure in `unit` for a side; `budget` is what headrace must reach, at most for times and
    memory, at least for rates (`faster_is_more`); None when only the ratio counts. `times` is how many times better
    than the other side it must be.
    """

    name: str
    unit: str
    budget: float | None
    measure: Callable[[Side], float]
    faster_is_more: bool = False
    times: float = 0.0

    def met(self, ours: float, theirs: float | None) -> bool:
        """Whether a figure is within the budget, and far enough from the other side's where that was measured."""
        far = theirs is None or self.ratio(ours, theirs) >= self.times
        return far and (self.budget is None or (ours >= self.budget if self.faster_is_more else ours <= self.budget))

    def wanted(self) -> str:
        """The budget, for people."""
        bound = "≥" if self.faster_is_more else "≤"
        absolute = f"{bound} {shown(self.budget, self.unit)}" if self.budget is not None else ""
        return ", ".join(part for part in (absolute, f"≥ {self.times:.0f}×" if self.times else "") if part)

    def ratio(self, ours: float, theirs: float) -> float:
        """How many times better ours is."""
        better, worse = (theirs, ours) if self.faster_is_more else (ours, theirs)
        return worse / better if better else float("inf")


def run(side: Side, *arguments: str, home: Path, **settings: str) -> tuple[float, str]:
    """Run a process of a side; returns its wall time in seconds and its output."""
    started = time.perf_counter()
    answer = subprocess.run(
        [side.python, *arguments],
        env=side.environment(home, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    taken = time.perf_counter() - started
    if answer.returncode:
        raise RuntimeError(f"{side.name} {arguments}: {answer.stderr[-2000:]}")
    return taken, answer.stdout


def median_of(times: int, measure: Callable[[], float]) -> float:
    """The median of several measurements, after one that is not counted."""
    measure()
    return statistics.median(measure() for _ in range(times))


def hello_alone(side: Side) -> float:
    """`python hello.py` with a home that holds nothing."""

    def once() -> float:
        with fresh_home() as home:
            return run(side, str(WORKLOADS / "hello.py"), side.name, home=home)[0]

    return median_of(5 if side.name == "headrace" else 2, once)


def hello_with_server(side: Side) -> float:
    """The same against a running server."""
    with server(side) as running:
        script = str(WORKLOADS / "hello.py")
        return median_of(5, lambda: run(side, script, side.name, home=running.home, API_URL=running.url)[0])


def importing(side: Side) -> float:
    """Time of `from X import flow, task`, inside the process."""
    code = f"import time; t = time.perf_counter(); from {side.name} import flow, task; print(time.perf_counter() - t)"
    with fresh_home() as home:
        return median_of(7, lambda: float(run(side, "-c", code, home=home)[1]))


def asking_version(side: Side) -> float:
    """`X --version`."""
    with fresh_home() as home:
        return median_of(7, lambda: run(side, side.command, "--version", home=home)[0])


_calls: dict[tuple[str, bool], dict[str, float]] = {}


def calls(side: Side, with_server: bool) -> dict[str, float]:
    """Milliseconds of one task called, one mapped, one empty subflow; measured once, used by several rows."""
    key = (side.name, with_server)
    if key not in _calls:
        # Prefect's runs end on the beat of a second, so fewer tasks would show its beat and not their cost
        counts = ("2000", "100") if side.name == "headrace" else ("1000", "10")
        arguments = (str(WORKLOADS / "calls.py"), side.name, *counts)
        if with_server:
            with server(side) as running:
                out = run(side, *arguments, home=running.home, API_URL=running.url)[1]
        else:
            with fresh_home() as home:
                out = run(side, *arguments, home=home)[1]
        _calls[key] = json.loads(out.splitlines()[-1])
    return _calls[key]


def call_row(kind: str, with_server: bool = False) -> Callable[[Side], float]:
    """A measure that takes one figure of `calls`."""

    def measure(side: Side) -> float:
        figure = calls(side, with_server)[kind]
        if figure <= 0:
            raise RuntimeError(f"what one more costs ({figure:.2g} ms) is lost among what the rest takes")
        return figure

    return measure


def database_url(name: str) -> str | None:
    """URL of an empty PostgreSQL database, made anew; None when there is no server."""
    base = os.environ.get("HEADRACE_TEST_POSTGRES_URL", "postgresql://127.0.0.1:5432/postgres")
    try:
        import psycopg

        with psycopg.connect(base, autocommit=True, connect_timeout=3) as link:
            link.execute(f'drop database if exists "{name}" with (force)')
            link.execute(f'create database "{name}"')
    except (ImportError, OSError, psycopg.Error):
        return None
    return base.rsplit("/", 1)[0] + f"/{name}"


def database_for(side: Side) -> str:
    """URL of an empty PostgreSQL database, with the driver a side needs.

    Raises:
        RuntimeError: there is no server.
    """
    url = database_url(f"bench_{side.name}")
    if url is None:
        raise RuntimeError("no PostgreSQL server on 127.0.0.1:5432")
    user = os.environ.get("USER", "root")
    return url if side.name == "headrace" else url.replace("postgresql://", f"postgresql+asyncpg://{user}@")


def api_rate(what: str, postgresql: bool = False) -> Callable[[Side], float]:
    """A measure of calls a second with 8 clients: `create`, `set_state`, `read` or `filter` of flow runs."""

    def measure(side: Side) -> float:
        with server(side, database_for(side) if postgresql else None) as running:
            lenient = side.name == "prefect"  # its server answers 503 while its SQLite file is locked
            if what == "set_state":  # one run's states must come in their order, so each is sent once
                runs = 4000 if side.name == "headrace" else 400
                changes = state_changes(running, runs)
                time.sleep(SETTLE)  # Prefect's server is still busy with the events of the runs just made
                return rate(running.port, changes, seconds=20, refusals=lenient, once=True)
            requests = requests_for(what, running)
            rate(running.port, requests, seconds=2, refusals=lenient)  # warm up
            return rate(running.port, requests, refusals=lenient)

    return measure


def requests_for(what: str, running: Server) -> list[bytes]:
    """The requests of a rate: creating flow runs, reading them, or listing those of a flow."""
    body = pending_run(running)
    if what == "create":
        return [request_bytes("POST", "/api/flow_runs/", json.dumps(body).encode())]
    ids = [call(f"{running.url}/flow_runs/", body)["id"] for _ in range(50)]
    if what == "read":
        return [request_bytes("GET", f"/api/flow_runs/{each}") for each in ids]
    wanted = {"flow_runs": {"state": {"type": {"any_": ["PENDING"]}}}, "sort": "START_TIME_DESC", "limit": 20}
    return [request_bytes("POST", "/api/flow_runs/filter", json.dumps(wanted).encode())]


def pending_run(running: Server) -> dict[str, Any]:
    """The body that creates a flow run."""
    flow = call(f"{running.url}/flows/", {"name": "bench"})
    return {"flow_id": flow["id"], "state": {"type": "PENDING"}, "parameters": {"x": 1}}


def state_changes(running: Server, runs: int) -> list[bytes]:
    """Two requests for each of many new flow runs: it is running, and it is completed."""
    body = pending_run(running)
    with ThreadPoolExecutor(4) as pool:
        ids = [made["id"] for made in pool.map(lambda _: call(f"{running.url}/flow_runs/", body), range(runs))]
    states = [json.dumps({"state": {"type": kind}}).encode() for kind in ("RUNNING", "COMPLETED")]
    return [request_bytes("POST", f"/api/flow_runs/{id}/set_state", state) for state in states for id in ids]


DRIVEN = ("create", "set_state", "read", "filter")
_driven: dict[tuple[str, bool], dict[str, dict[str, float]]] = {}


def by_prefects_client(kind: str, figure: str, postgresql: bool) -> Callable[[Side], float]:
    """A measure of calls by 8 of Prefect's own clients: `rate` a second, or the server's `cpu` in ms for each."""

    def measure(side: Side) -> float:
        key = side.name, postgresql
        if key not in _driven:
            with server(side, database_for(side) if postgresql else None) as running:
                pids = [str(pid) for pid in family(running.pid)]
                script = str(WORKLOADS / "client_rates.py")
                out = run(prefect(), script, "8", "5", *pids, home=running.home, API_URL=running.url)[1]
            _driven[key] = json.loads(out.splitlines()[-1])
        found = _driven[key][kind]
        if found["refused"] and side.name == "headrace":
            raise RuntimeError(f"{found['refused']:.0f} calls were refused")
        return found[figure]

    return measure


def until_running(side: Side) -> float:
    """Median milliseconds from creating a deployment's run to its RUNNING state, with a process worker."""
    from benchmarks.deployment import worker_with_deployment

    with server(side) as running, worker_with_deployment(side, running) as deployment:
        return statistics.median(start_delay(running, deployment) for _ in range(7 if side.name == "headrace" else 3))


def start_delay(running: Server, deployment: str) -> float:
    """Milliseconds from the call that creates the run to the time its RUNNING state bears."""
    from datetime import UTC, datetime

    asked = datetime.now(UTC)
    made = call(f"{running.url}/deployments/{deployment}/create_flow_run", {})
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = call(f"{running.url}/flow_runs/{made['id']}")
        if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
            break
        time.sleep(0.02)
    started = datetime.fromisoformat(found["start_time"])
    return (started - asked).total_seconds() * 1000


def server_ready(side: Side) -> float:
    """Seconds from starting the server on a fresh database to its first healthy answer."""

    def once() -> float:
        with server(side) as running:
            return running.ready_after

    return median_of(5 if side.name == "headrace" else 2, once)


def server_memory(side: Side) -> float:
    """Resident memory of an idle server with its child processes, in MB."""
    with server(side) as running:
        time.sleep(SETTLE)
        return sum(resident_mb(pid) for pid in family(running.pid))


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


_many: dict[str, dict[str, Any]] = {}


def ten_thousand(kind: str) -> Callable[[Side], float]:
    """A measure of 10 000 mapped tasks in one flow; the other side gets 500, and its time is scaled up."""

    def measure(side: Side) -> float:
        count = 10_000 if side.name == "headrace" else 500
        if side.name not in _many:
            with fresh_home() as home:
                out = run(side, str(WORKLOADS / "ten_thousand.py"), side.name, str(count), home=home)[1]
            _many[side.name] = json.loads(out.splitlines()[-1])
        return float(_many[side.name][kind] * (10_000 / count if kind == "seconds" else 1))

    return measure


ROWS = (
    Row("`python hello.py`, nothing running, nothing configured", "s", 0.6, hello_alone),
    Row("the same against a running server", "s", 0.35, hello_with_server),
    Row("`from X import flow, task`", "s", 0.08, importing),
    Row("`X --version`", "s", 0.15, asking_version),
    Row("one task called in a flow, recorded (SQLite)", "ms", 0.15, call_row("called")),
    Row("one task called in a flow, recorded (server)", "ms", 0.15, call_row("called", with_server=True)),
    Row("one task mapped, recorded (SQLite)", "ms", 0.25, call_row("mapped")),
    Row("one task mapped, recorded (server)", "ms", 0.25, call_row("mapped", with_server=True)),
    Row("an empty subflow (SQLite)", "ms", 3.0, call_row("nested")),
    *(
        Row(f"server: {what}, {name}, 8 clients", "/s", budget, api_rate(key, name == "PostgreSQL"), True, times)
        for key, what, budgets in (
            ("create", "create a flow run", (2500, 1500)),
            ("set_state", "change a flow run's state", (None, None)),
            ("read", "read a flow run", (4000, 4000)),
            ("filter", "list 20 flow runs", (None, None)),
        )
        for name, budget, times in (("SQLite", budgets[0], 20.0), ("PostgreSQL", budgets[1], 15.0))
    ),
    *(
        Row(f"8 of Prefect's clients: {kind}, {name}", "/s", None, by_prefects_client(kind, "rate", pg), True, times)
        for kind in DRIVEN
        for name, pg, times in (("SQLite", False, 20.0), ("PostgreSQL", True, 15.0))
    ),
    *(
        Row(
            f"the same, CPU of the server: {kind}, {name}", "ms", None, by_prefects_client(kind, "cpu", pg), times=times
        )
        for kind in DRIVEN
        for name, pg, times in (("SQLite", False, 20.0), ("PostgreSQL", True, 15.0))
    ),
    Row("deployment run submitted → running, process worker", "ms", 100, until_running),
    Row("server ready after start (fresh database)", "s", 1.5, server_ready),
    Row("server memory, idle", "MB", 90, server_memory),
    Row("10 000 mapped tasks in one flow, recorded", "s", 5.0, ten_thousand("seconds")),
    Row("the same, peak memory", "MB", 300, ten_thousand("peak_mb")),
)
