"""The two that are compared: this checkout, and the pinned Prefect in an environment of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKLOADS = ROOT / "benchmarks" / "workloads"
PINNED = ("prefect==3.8.8", "fastapi==0.141.1", "sqlalchemy<2.1", "asyncpg")
START_LIMIT = 120.0  # seconds for a server to be ready


@dataclass(frozen=True)
class Side:
    """One of the two: its name, which is also its module's and its command's, and its interpreter."""

    name: str
    python: str

    @property
    def command(self) -> str:
        """Path of its command line."""
        return str(Path(self.python).with_name(self.name))

    def environment(self, home: Path, **settings: str) -> dict[str, str]:
        """A process environment with a home of its own and nothing else configured.

        Args:
            home: folder for its database and files.
            settings: further settings, without the prefix: `API_URL="..."`.
        """
        prefix = self.name.upper()
        # without bytecode every start compiles all it imports, which no user's machine does
        unwanted = ("PREFECT_", "HEADRACE_", "PYTHONDONTWRITEBYTECODE")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
        quiet = {"SERVER_ANALYTICS_ENABLED": "false", "LOGGING_LEVEL": "WARNING"} | settings
        quiet["HOME"] = str(home)
        return clean | {f"{prefix}_{key}": value for key, value in quiet.items()}


def headrace() -> Side:
    """This checkout, with the interpreter that runs the benchmark."""
    return Side("headrace", sys.executable)


def prefect() -> Side:
    """The pinned Prefect; its environment is made in `.benchmarks/` when it is not there."""
    folder = ROOT / ".benchmarks" / "prefect"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "prefect").exists():
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", version, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PINNED], check=True)
    return Side("prefect", str(python))


@contextlib.contextmanager
def fresh_home() -> Iterator[Path]:
    """A folder that is removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server: its API, its process, and how long it took to be ready."""

    url: str
    pid: int
    port: int
    home: Path
    ready_after: float


@contextlib.contextmanager
def server(side: Side, database: str | None = None, **settings: str) -> Iterator[Server]:
    """Start a side's server on a free port and a fresh home; stop it at the end.

    Args:
        side: whose.
        database: URL of a PostgreSQL database; SQLite in the home when absent.
        settings: further settings, without the prefix.
    """
    with fresh_home() as home:
        port = free_port()
        settings |= {"API_DATABASE_CONNECTION_URL": database} if database else {}
        started = time.perf_counter()
        process = subprocess.Popen(
            [side.command, "server", "start", "--port", str(port)],
            env=side.environment(home, **settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}/api"
            wait_until_healthy(url, process)
            yield Server(url, process.pid, port, home, time.perf_counter() - started)
        finally:
            stop(process)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return as soon as `/health` answers.

    Raises:
        RuntimeError: the process ended, or was not ready in time.
    """
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server of {url} ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.01)
    raise RuntimeError(f"the server of {url} was not ready within {START_LIMIT:g} s")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started in a session of its own, and its children."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
            return
