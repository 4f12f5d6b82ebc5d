"""A hostile page in a real Chromium: what it tries with a server on the same machine changes and reads nothing.

The server asks for no login, as on a laptop: what the browser says of the page that calls is all there is.  # S3
"""

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from headrace.client.local import LocalClient
from headrace.schemas.flows import CREATE_FLOW, READ_FLOWS, FlowCreate
from headrace.server.http import denials
from headrace.server.store.tables import METADATA
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings
from tests.security.test_s18_audit import denied
from tests.support.logins import settings_with
from tests.support.serving import serving

pytestmark = pytest.mark.slow

PAGE = Path(__file__).with_name("hostile_page.html").read_text()
BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")
CANARY = "the-canary-flow"
FOREIGN = "rebound.example"
"""A name of the attacker's, which the browser finds at the address of this machine."""
WRITTEN_OF_DENIALS = {"audit"}


def browser() -> str:
    """The browser's program; skips the test when there is none."""
    named = os.environ.get("HEADRACE_TEST_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)
    if found is None:
        pytest.skip("No Chromium here: `make browser` installs Debian's, or HEADRACE_TEST_CHROMIUM names another.")
    return found


class Attacker:
    """A server of hostile pages; what they tell it is in `reports`.

    What is asked for below `/api` it hands on as it came to the server that is attacked, as if its own name had been
    pointed there after the page was loaded (DNS rebinding).
    """

    def __init__(self, address: str, port: int, target: str) -> None:
        self.reports: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.page, self.handed_on = b"", 0
        attacker, parts = self, urlsplit(target)

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path.startswith("/api"):
                    return self._hand_on(body)
                if self.path == "/report":
                    attacker.reports.put(json.loads(body))
                return self._answer(200, [("Content-Type", "text/html")], b"" if body else attacker.page)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve

            def _hand_on(self, body: bytes) -> None:
                attacker.handed_on += 1
                with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        connection.putheader(name, value)
                    connection.endheaders(body)
                    answer = connection.getresponse()
                    self._answer(answer.status, answer.getheaders(), answer.read())

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "date", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((address, port), Handler)
        self.port = self.server.server_address[1]

    @contextmanager
    def serving(self) -> Iterator["Attacker"]:
        """Serve while the block runs."""
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join(30)


@contextmanager
def visiting(program: str, url: str, folder: Path) -> Iterator[None]:
    """Have the browser look at a page while the block runs."""
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1, MAP same-port.{FOREIGN} 127.0.0.2", "--no-proxy-server",
        f"--user-data-dir={folder}", "--remote-debugging-port=0",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder)}
    process = subprocess.Popen(
        [program, *options, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def all_rows(tx: Tx) -> dict[str, list[str]]:
    """Every row of every table."""
    tables = [table for name, table in METADATA.tables.items() if name not in WRITTEN_OF_DENIALS]
    return {table.name: sorted(map(repr, tx.execute(select(table)))) for table in tables}


def attack(store: Store, folder: Path, host: str, *, rebinding: bool = False, cors: bool = False) -> dict[str, Any]:
    """Visit the hostile page at a host and return what it found.

    Args:
        store: of the server that is attacked.
        folder: for the browser's files.
        host: where the page is.
        rebinding: whether the page takes the server for its own: the same name, the same port.
        cors: whether the server's operator allows pages of that host.
    """
    program = browser()
    flow = LocalClient(store).call(CREATE_FLOW, body=FlowCreate(name=CANARY)).id
    settings: Settings = settings_with()
    attacker = Attacker("127.0.0.1", 0, "http://127.0.0.1:1")
    if cors:
        settings = settings_with(cors_allowed_origins=f"http://{host}:{attacker.port}")
    with serving(store, settings) as url:
        target = url.replace("127.0.0.1", FOREIGN) if host == FOREIGN else url
        if rebinding:
            attacker.server.server_close()
            attacker = Attacker("127.0.0.2", urlsplit(url).port or 0, url)
            target = f"http://{host}:{attacker.port}/api"
        page = PAGE.replace("<target>", target).replace("<flow>", str(flow))
        attacker.page = page.replace("<sockets>", target.replace("http", "ws", 1)).encode()
        before = store.read(all_rows)
        with attacker.serving(), visiting(program, f"http://{host}:{attacker.port}/", folder):
            try:
                report = attacker.reports.get(timeout=90)
            except Empty:
                pytest.fail("The page told nothing: the browser did not load it, or its script failed.")
        report["after"], report["before"] = store.read(all_rows), before
        report["handed_on"] = attacker.handed_on
    return report


def read_something(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The ways in which the page got anything to read of the server, be it an error."""
    silent = {"beacon"}
    return {way: what for way, what in found.items() if way not in silent and (what.get("text") or what.get("opened"))}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", FOREIGN])
def test_s3_a_hostile_page_changes_and_reads_nothing(
    sqlite_store: Store, tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another port, from another name for this machine, and from a name of the attacker's."""
    monkeypatch.setattr(denials, "MINUTE", 0.5)  # so that the audit log has all that arrived and was refused
    report = attack(sqlite_store, tmp_path, host)
    refused = sum(times for _, what, _, times in denied(sqlite_store) if what == "call_from_foreign_page")

    assert report["after"] == report["before"]
    assert len(report["found"]) > 30
    assert "itself" not in report["found"]
    assert CANARY not in json.dumps(report["found"])
    assert refused > 10 or host == FOREIGN  # whose name alone is refused already
    assert read_something(report["found"]) == {}


def test_s3_a_name_pointed_at_us_reads_nothing(sqlite_store: Store, tmp_path: Path) -> None:
    """DNS rebinding: for the browser page and server are one, so it shows the page each answer; all are refusals."""
    report = attack(sqlite_store, tmp_path, f"same-port.{FOREIGN}", rebinding=True)
    shown = [what for what in report["found"].values() if what.get("status")]

    assert report["after"] == report["before"]
    assert report["handed_on"] > 20
    assert len(shown) > 10
    assert {what["status"] for what in shown} == {400}
    assert CANARY not in json.dumps(report["found"])


def test_s3_the_page_gets_through_where_it_is_let(sqlite_store: Store, tmp_path: Path) -> None:
    """Where the operator allows its origin, the same page reads and changes: it does try what it says."""
    report = attack(sqlite_store, tmp_path, "localhost", cors=True)

    read = report["found"]["fetch to filter json"]
    assert (read["type"], read["status"]) == ("cors", 200)
    assert json.loads(read["text"])
    assert report["found"]["socket of events"]["opened"]
    names = {one.name for one in LocalClient(sqlite_store).call(READ_FLOWS)}
    assert {"hacked by fetch of json", "hacked by request of json"} <= names
