"""The server as a process: started in the background, found by its note, stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

import pytest

from headrace._internal.server_note import ServerNote, note_path, read_note, write_note
from headrace.client import close_clients, get_client
from headrace.exceptions import ApiUnreachable
from headrace.schemas.admin import SERVER_VERSION
from headrace.server.http.background import ServerDidNotStart, running, start_in_background, stop
from headrace.server.http.process import AddressTaken, bind, url_of
from headrace.settings import temporary_settings
from tests.support.serving import ask

ENVIRONMENT = {"HEADRACE_SERVER_API_PORT": "0", "HEADRACE_SERVER_LOGGING_LEVEL": "INFO"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """A home folder in which no server is left behind."""
    with temporary_settings(**{"home": str(tmp_path), "api.url": None, "client.max_retries": 0}):
        yield str(tmp_path)
        close_clients()
        stop(str(tmp_path))


def test_a_server_in_the_background_is_found_and_stopped(home: str) -> None:
    """It answers when it has started; clients of its home find it; stopping it takes its note away."""
    url = start_in_background(home, ENVIRONMENT)

    note = running(home)
    assert note is not None
    assert (note.url, note_path(home).stat().st_mode & 0o777) == (url, 0o600)
    assert ask(url, "GET", "/health").json() is True
    assert ask(url, "GET", "/ready").status == 200
    client = get_client()
    assert (client.local, client.call(SERVER_VERSION)) == (False, "0.8.4")

    assert stop(home) == note
    assert (read_note(home), running(home), stop(home)) == (None, None, None)
    assert get_client().local
    with pytest.raises(ApiUnreachable):
        client.call(SERVER_VERSION)


def test_a_second_server_of_one_home_is_refused(home: str) -> None:
    """It says where the first one is, and leaves its note and its work alone."""
    url = start_in_background(home, ENVIRONMENT)

    with pytest.raises(ServerDidNotStart, match=rf"runs already, at {url} .*headrace server stop"):
        start_in_background(home, ENVIRONMENT)

    assert ask(url, "GET", "/health").status == 200
    assert read_note(home) is not None


def test_a_taken_address_is_told(home: str) -> None:
    """A port in use is an error with a mend, before the database is touched."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerDidNotStart, match=rf"Cannot listen on 127.0.0.1:{port}: .*--port"):
            start_in_background(home, {"HEADRACE_SERVER_API_PORT": str(port)})

    assert not (Path(home) / "headrace.db").exists()
    assert read_note(home) is None


def test_a_server_starts_over_the_note_of_a_killed_one(home: str) -> None:
    """kill -9 leaves a note; the next server replaces it, and the data is there."""
    start_in_background(home, ENVIRONMENT)
    first = running(home)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_for_end(first)

    url = start_in_background(home, ENVIRONMENT)

    second = running(home)
    assert second is not None
    assert (second.pid != first.pid, second.url) == (True, url)


def wait_for_end(note: ServerNote) -> None:
    """Wait until the process of a note is gone."""
    import select

    handle = os.pidfd_open(note.pid)
    select.select([handle], [], [], 30)
    os.close(handle)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_in_the_foreground_ends_by_a_signal(home: str, number: signal.Signals) -> None:
    """It ends well, with exit code 0, no note, and log lines that are JSON."""
    read_end, write_end = os.pipe()
    environment = os.environ | ENVIRONMENT | {"HEADRACE_HOME": home, "HEADRACE__READY_FD": str(write_end)}
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.server"], env=environment, stderr=subprocess.PIPE, pass_fds=(write_end,)
    )
    os.close(write_end)
    with os.fdopen(read_end) as ready:
        url = ready.readline().strip()
    try:
        status = ask(url, "GET", "/health").status
    finally:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert (status, process.returncode) == (200, 0)
    assert read_note(home) is None
    assert all("message" in json.loads(line) for line in said.decode().splitlines())


def test_the_note_of_a_stranger_is_not_trusted(home: str) -> None:
    """A process that only has the number of a dead server is not stopped."""
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        write_note(home, ServerNote("http://127.0.0.1:9/api", stranger.pid, 0.0))

        assert stop(home) is None
        assert stranger.poll() is None
        assert read_note(home) is None
    finally:
        stranger.kill()
        stranger.wait()


def test_the_url_is_one_that_can_be_called() -> None:
    """An address that stands for all is told as loopback; version 6 addresses have brackets."""
    assert [url_of(host, 1) for host in ("0.0.0.0", "::", "::1", "a.example")] == [
        "http://127.0.0.1:1/api",
        "http://[::1]:1/api",
        "http://[::1]:1/api",
        "http://a.example:1/api",
    ]


def test_binding_takes_a_free_port_and_refuses_a_taken_one() -> None:
    """Port 0 is any free one; a second listener on it is an error."""
    with closing(bind("127.0.0.1", 0)) as first, pytest.raises(AddressTaken):
        bind("127.0.0.1", first.getsockname()[1])


def test_the_server_loads_only_what_it_needs() -> None:
    """All operations and services can be loaded without the libraries of the SDK and the command line."""
    code = (
        "import sys, headrace.server.__main__\n"
        "from headrace.server.operations.registry import load_all\n"
        "from headrace.server.services.runner import discover\n"
        "load_all(), discover()\n"
        "print(*{'pydantic', 'alembic', 'rich', 'cloudpickle', 'urllib3', 'cyclopts', 'yaml'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == []


def test_g1_what_was_acknowledged_survives_the_death_of_the_server(home: str) -> None:
    """A server killed with -9 in the midst of its work has stored every call it had answered."""
    url = start_in_background(home, ENVIRONMENT)
    note = running(home)
    assert note is not None
    enough, acknowledged = threading.Event(), []

    def create(client: int) -> None:
        for number in range(10_000):
            try:
                made = ask(url, "POST", "/flows/", {"name": f"flow {client}-{number}"})
            except (OSError, HTTPException):
                return  # the server is gone
            acknowledged.append(made.json()["id"])
            if len(acknowledged) >= 300:
                enough.set()

    with ThreadPoolExecutor(4) as threads:
        for client in range(4):
            threads.submit(create, client)
        assert enough.wait(60)
        os.kill(note.pid, signal.SIGKILL)
    wait_for_end(note)
    url = start_in_background(home, ENVIRONMENT)

    missing = [one for one in acknowledged if ask(url, "GET", f"/flows/{one}").status != 200]
    assert missing == []
