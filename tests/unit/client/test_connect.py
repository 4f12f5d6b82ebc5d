"""Which API a process talks to."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace._internal.server_note import ServerNote, note_path, read_note, remove_note, write_note
from headrace.client import AsyncClient, close_clients, get_async_client, get_client
from headrace.client.connect import current_url, describe_connection
from headrace.client.http import HttpClient
from headrace.client.local import LocalClient
from headrace.settings import temporary_settings


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """A home folder with nothing in it, in force."""
    with temporary_settings(**{"home": str(tmp_path), "api.url": None}):
        yield str(tmp_path)
        close_clients()


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which something listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def note_of(port: int, pid: int) -> ServerNote:
    """A note of a server there."""
    return ServerNote(f"http://127.0.0.1:{port}/api", pid, 0.0)


def test_without_a_server_the_operations_run_here(home: str) -> None:
    """Local mode works on the database of the home folder; a second call has the same client."""
    client = get_client()

    assert isinstance(client, LocalClient)
    assert client.local
    assert get_client() is client
    assert (Path(home) / "headrace.db").exists()
    assert describe_connection() == f"sqlite:///{home}/headrace.db (local mode: no server is running)"


def test_a_url_in_the_settings_comes_first(home: str, port: int) -> None:
    """With a URL set, neither note nor database is looked at."""
    write_note(home, note_of(port, os.getpid()))
    with temporary_settings(**{"api.url": "http://elsewhere:4200/api"}):
        client = get_client()

        assert isinstance(client, HttpClient)
        assert (client.url, client.local) == ("http://elsewhere:4200/api", False)
        assert describe_connection() == "http://elsewhere:4200/api (by HEADRACE_API_URL)"


def test_a_running_server_of_this_home_is_found(home: str, port: int) -> None:
    """Its note leads to it, also when it was started after the first call."""
    before = get_client()
    write_note(home, note_of(port, os.getpid()))

    client = get_client()

    assert before.local
    assert isinstance(client, HttpClient)
    assert client.url == f"http://127.0.0.1:{port}/api" == current_url()
    assert f"the server of {home}" in describe_connection()
    remove_note(home, os.getpid())
    assert get_client() is before


def test_the_note_of_a_dead_process_is_ignored(home: str, port: int) -> None:
    """A server that was killed leaves a note that leads nowhere."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_note(home, note_of(port, gone.pid))

    assert get_client().local


def test_the_note_is_ignored_where_nobody_listens(home: str) -> None:
    """Its process id may belong to another program by now."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        write_note(home, note_of(free.getsockname()[1], os.getpid()))

        assert get_client().local


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": 1}', '{"url": "x", "pid": "y"}'])
def test_a_note_that_makes_no_sense_is_ignored(home: str, text: str) -> None:
    """Whatever the file holds, it is no error."""
    note_path(home).write_text(text)

    assert read_note(home) is None
    assert get_client().local


def test_a_note_is_for_this_user_alone_and_removed_by_its_writer(home: str) -> None:
    """Its mode is 0600; another process's note is left alone."""
    write_note(home, note_of(1, 4711))

    assert note_path(home).stat().st_mode & 0o777 == 0o600
    remove_note(home, 4712)
    assert read_note(home) == note_of(1, 4711)
    remove_note(home, 4711)
    assert read_note(home) is None


def test_other_logins_are_other_clients(home: str) -> None:
    """A client is shared only by those who say the same."""
    with temporary_settings(**{"api.url": "http://a/api", "api.auth_string": "a:b"}):
        first = get_client()
    with temporary_settings(**{"api.url": "http://a/api", "api.auth_string": "a:c"}):
        second = get_client()

    assert first is not second


def test_a_forked_child_opens_its_own(home: str) -> None:
    """A child forgets the clients it inherited, and closing its own leaves the parent's open."""
    client = get_client()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = get_client()
            close_clients()
            code = 0 if own is not client else 1
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isinstance(client, LocalClient)
    assert client.store.read(lambda tx: tx.dialect) == "sqlite"
    assert get_client() is client


def test_coroutines_have_a_client_too(home: str) -> None:
    """It wraps the same one."""
    assert isinstance(get_async_client(), AsyncClient)
    assert get_async_client().client is get_client()


def test_importing_the_client_loads_nothing_heavy() -> None:
    """Neither transport is imported before it is chosen."""
    code = "import sys, headrace.client; print({'urllib3', 'sqlalchemy', 'websockets', 'asyncio'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "set()"
