"""What leaves the server: pages under a strict policy, errors without their insides, logs as JSON lines, no secret."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.client.local import LocalClient
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.server.http.process import logging_to_stderr
from headrace.server.operations.registry import Operation, load_all
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Secret, temporary_settings
from headrace.settings.table import Setting
from tests.support import shelf
from tests.support.logins import AUTH_STRING, basic, make_key, serving_with_login
from tests.support.serving import ask, serving

CANARY = "canary-5ecret"
BREAKS = Endpoint("GET", "/breaks", returns=str)


def breaks(_: Tx) -> str:
    """An operation with a fault in it."""
    raise RuntimeError(f"select * from secrets where value = '{CANARY}'")


@pytest.fixture
def faulty(sqlite_store: Store) -> Iterator[str]:
    """The URL of a server with an operation that has a fault."""
    table: dict[Any, Operation] = shelf.operations() | {BREAKS: Operation(BREAKS, breaks, "books:read", True)}
    with serving(sqlite_store, operations=table) as url:
        yield url


def test_s16_an_error_has_an_id_and_nothing_else(faulty: str, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets an id; the log has, under that id, what happened."""
    answer = ask(faulty, "GET", "/breaks")

    assert answer.status == 500
    assert set(answer.json()) == {"exception_message", "error_id"}
    assert CANARY.encode() not in answer.body
    assert answer.json()["error_id"] in caplog.text
    assert CANARY in caplog.text


def test_s16_what_is_sent_does_not_come_back_in_refusals(sqlite_store: Store) -> None:
    """A body that cannot be read may hold secrets: no operation repeats it."""
    said = []
    with serving(sqlite_store) as url:
        for endpoint, operation in load_all().items():
            path = endpoint.path.replace("{id}", "0" * 32).replace("{", "").replace("}", "")
            body = json.dumps({"state": CANARY, "name": [CANARY], "flow_id": CANARY, "limit": CANARY, CANARY: CANARY})
            if operation.takes_body and CANARY.encode() in ask(url, endpoint.method, path, body).body:
                said.append((endpoint.method, path))

    assert said == []


def test_s16_log_lines_are_json_and_keep_to_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Newlines, escapes and other control characters that a caller sends begin no line and colour no terminal."""
    with logging_to_stderr("INFO"):
        logging.getLogger("headrace.server").info("%s was sent", 'a\nb\r{"level": "forged"}\x1b[31m\u2028\x85\x00')

    printed = capsys.readouterr().err
    lines = [line for line in printed.split("\n") if "was sent" in line]
    assert len(lines) == 1
    assert json.loads(lines[0])["level"] == "INFO"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", printed)


def test_s12_log_lines_show_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that this process knows is stars in what the server logs, in messages and in errors."""
    secret = Secret(f'{CANARY}-"quoted"')
    with logging_to_stderr("INFO"):
        try:
            raise RuntimeError(f"no route to {secret.get_secret_value()}")
        except RuntimeError:
            logging.getLogger("headrace.server").exception("calling %s", secret.get_secret_value())

    printed = capsys.readouterr().err
    assert "RuntimeError" in printed
    assert CANARY not in printed


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_s13_pages_run_no_script_and_load_nothing_foreign(sqlite_store: Store, path: str) -> None:
    """The policy allows neither inline script nor other hosts, nor to be shown inside another page."""
    with serving(sqlite_store) as url:
        answer = ask(url.removesuffix("/api"), "GET", path)

    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert answer.status == 200
    assert policy["default-src"] in ("'none'", "'self'")
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"https?:", answer.headers["content-security-policy"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")


def test_s13_answers_of_the_api_are_never_taken_for_pages(sqlite_store: Store) -> None:
    """JSON is sent as JSON, and browsers are told not to guess; also what users have put into it."""
    script = "<script>alert(1)</script>"
    LocalClient(sqlite_store).call(CREATE_FLOW, body=FlowCreate(name="f", tags=[script]))
    with serving(sqlite_store) as url:
        for method, path, body in (
            ("POST", "/flows/filter", "{}"),
            ("GET", f"/flows/name/{'%3Cscript%3E'}", None),
            ("GET", "/nothing%3Cscript%3E", None),
            ("POST", "/flows/", script),
            ("GET", "/csrf-token?client=%3Cscript%3E", None),
        ):
            answer = ask(url, method, path, body)
            assert answer.headers["content-type"].partition(";")[0] == "application/json"
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_s12_no_answer_shows_the_logins(sqlite_store: Store, tmp_path: Path) -> None:
    """Settings are shown with stars for secrets, keys without themselves, and nothing of either is in any answer."""
    key = make_key(sqlite_store, "ci", "admin")
    database = f"sqlite:///{tmp_path}/{CANARY}.db"
    secrets: dict[str | Setting, Any] = {
        "server.api.auth_string": AUTH_STRING,
        "api.key": key.key,
        "server.database.connection_url": database,
    }
    shown = []
    with temporary_settings(secrets), serving_with_login(sqlite_store) as url:
        for endpoint in load_all():
            if endpoint.method == "GET":
                answer = ask(url, "GET", endpoint.path.replace("{", "").replace("}", ""), Authorization=basic())
                texts = (AUTH_STRING.encode(), key.key.encode(), CANARY.encode())
                shown += [endpoint.path for text in texts if text in answer.body]
        assert b"****" in ask(url, "GET", "/admin/settings", Authorization=basic()).body

    assert shown == []
