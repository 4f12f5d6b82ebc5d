"""The audit log: every call that administers, forces or lays open leaves a row, and so does what is denied.

The calls that have to are found in the table of operations by what they look like, not by what they declare, and each
of them needs a scene here: a new one without a row fails.  # S18, S20
"""

import ast
import asyncio
import inspect
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.exc import DBAPIError
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headrace.client.local import LocalClient
from headrace.exceptions import ApiError
from headrace.schemas.api_keys import CREATE_API_KEY
from headrace.schemas.audit import READ_AUDIT, AuditEntry, AuditOutcome, ReadAudit
from headrace.schemas.deployments import CREATE_DEPLOYMENT, DeploymentCreate
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, FlowRunCreate
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.task_runs import CREATE_TASK_RUN, TaskRunCreate
from headrace.server.http import denials
from headrace.server.operations.block_vault import rotate
from headrace.server.operations.registry import Operation, load_all
from headrace.server.store.tables import API_KEY, AUDIT
from headrace.server.store.transaction import Store, Tx
from headrace.settings import temporary_settings
from tests.operations.blocks_world import add_schema, make_block, make_schema, make_type
from tests.security.test_s1_access import SOCKETS, outcome
from tests.support.logins import basic, bearer, make_key, serving_with_login
from tests.support.serving import ask, serving

Call = tuple[str, str]


def has_to_leave_a_row(operation: Operation) -> bool:
    """Whether it administers the server, deletes in bulk, or has a way to force or to lay secrets open."""
    endpoint = operation.endpoint
    administers = endpoint.path.startswith(("/admin", "/api_keys")) and endpoint.method != "GET"
    sent = {*operation.parameters, *getattr(endpoint.body, "__struct_fields__", ())}
    tells = any("secret" in name for name in operation.parameters) or {"include_secrets", "force"} & sent
    return administers or endpoint.path.endswith("/bulk_delete") or bool(tells)


class World(NamedTuple):
    """One of everything that the scenes below need."""

    flow: UUID
    run: UUID
    task_run: UUID
    deployment: UUID
    block: UUID
    storage: UUID
    key: UUID


class Scene(NamedTuple):
    """A call that has to leave a row, and what it is about."""

    path: str
    body: str
    subject: str | None
    area: str


STATE = '"state": {"type": "COMPLETED"}, "force": true'
SCENES: dict[Call, Scene] = {
    ("POST", "/flows/bulk_delete"): Scene("/flows/bulk_delete", "{}", "flow", "flows"),
    ("POST", "/flow_runs/bulk_delete"): Scene("/flow_runs/bulk_delete", "{}", "run", "runs"),
    ("POST", "/deployments/bulk_delete"): Scene("/deployments/bulk_delete", "{}", "deployment", "deployments"),
    ("POST", "/flow_runs/{id}/set_state"): Scene("/flow_runs/<run>/set_state", f"{{{STATE}}}", "run", "runs"),
    ("POST", "/task_runs/{id}/set_state"): Scene("/task_runs/<task_run>/set_state", f"{{{STATE}}}", "task_run", "runs"),
    ("POST", "/flow_runs/bulk_set_state"): Scene("/flow_runs/bulk_set_state", f"{{{STATE}}}", "run", "runs"),
    ("GET", "/block_documents/{id}"): Scene("/block_documents/<block>?include_secrets=true", "", "block", "blocks"),
    ("GET", "/block_types/slug/{slug}/block_documents/name/{block_document_name}"): Scene(
        "/block_types/slug/login/block_documents/name/mine?include_secrets=true", "", "block", "blocks"
    ),
    ("GET", "/block_types/slug/{slug}/block_documents"): Scene(
        "/block_types/slug/login/block_documents?include_secrets=true", "", "block", "blocks"
    ),
    ("POST", "/block_documents/filter"): Scene(
        "/block_documents/filter",
        '{"include_secrets": true, "block_types": {"slug": {"any_": ["login"]}}}',
        "block",
        "blocks",
    ),
    ("PUT", "/admin/storage"): Scene(
        "/admin/storage", '{"default_result_storage_block_id": "<storage>"}', None, "admin"
    ),
    ("DELETE", "/admin/storage"): Scene("/admin/storage", "", None, "admin"),
    ("POST", "/api_keys/"): Scene("/api_keys/", '{"name": "new", "permissions": ["read"]}', None, "keys"),
    ("DELETE", "/api_keys/{id}"): Scene("/api_keys/<key>", "", "key", "keys"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path) -> Iterator[None]:
    """A home folder of the test's own, where the key of the blocks is kept."""
    with temporary_settings(home=str(tmp_path / "home")):
        yield


def make_world(store: Store) -> World:
    """See `World`."""
    api = LocalClient(store)
    flow = api.call(CREATE_FLOW, body=FlowCreate(name="f")).id
    run = api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow)).id
    task = TaskRunCreate(flow_run_id=run, task_key="t", dynamic_key="0")
    files = add_schema(api, make_type(api, "files"), capabilities=["write-path"])
    return World(
        flow=flow,
        run=run,
        task_run=api.call(CREATE_TASK_RUN, body=task).id,
        deployment=api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name="d", flow_id=flow)).id,
        block=make_block(api, make_schema(api), password="canary").id,
        storage=make_block(api, files, "place").id,
        key=make_key(store, "old", "read").id,
    )


def rows(store: Store, **wanted: Any) -> list[AuditEntry]:
    """The audit log, the oldest first."""
    found = LocalClient(store).call(READ_AUDIT, body=ReadAudit(**wanted))
    return found[::-1]


def test_s18_every_such_call_has_a_scene() -> None:
    """What administers, forces or lays open is known here, and declared so that it leaves a row."""
    found = {(e.method, e.path): operation for e, operation in load_all().items() if has_to_leave_a_row(operation)}

    assert set(found) == set(SCENES)
    assert [call for call, operation in found.items() if not operation.audited] == []


def test_s18_nothing_else_lays_secrets_open() -> None:
    """Whatever hands out blocks with their secrets is an operation whose argument says so, and thus leaves a row."""
    wrong = []
    for operation in load_all().values():
        tree = ast.parse(textwrap.dedent(inspect.getsource(operation.function)))
        shown = [
            keyword.value
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith((".document", ".documents"))
            for keyword in call.keywords
            if keyword.arg == "secrets" and ast.unparse(keyword.value) != "False"
        ]
        if (shown or "_check_secrets(" in ast.unparse(tree)) and operation.audited != "include_secrets":
            wrong.append(operation.name)

    assert wrong == []


@pytest.mark.parametrize("call", SCENES, ids=" ".join)
def test_s18_each_leaves_a_row(store: Store, call: Call) -> None:
    """Who, what, of what, from where and when; and nothing when the transaction fails."""
    scene, world = SCENES[call], make_world(store)
    path, body = scene.path, scene.body
    for name, id in world._asdict().items():
        path, body = path.replace(f"<{name}>", str(id)), body.replace(f"<{name}>", str(id))
    [operation] = [one for e, one in load_all().items() if (e.method, e.path) == call]
    with serving_with_login(store) as url:
        admin = make_key(store, "boss", "admin")
        before = len(rows(store))
        status = ask(url, call[0], path, body, Authorization=bearer(admin)).status
        [row] = rows(store)[before:]

    assert status in (200, 201, 204)
    expected = None if scene.subject is None else str(getattr(world, scene.subject))
    assert (row.operation, row.area, row.outcome) == (operation.name, scene.area, AuditOutcome.ALLOWED)
    assert row.actor == f"API key 'boss' ({admin.id})"
    assert row.address == "127.0.0.1"
    if operation.name == "create_api_key":
        assert row.name == "new"
    else:
        assert row.subject == expected


def test_s18_what_neither_forces_nor_lays_open_leaves_none(store: Store) -> None:
    """Blocks without their secrets and states that are only proposed are everyday calls."""
    world = make_world(store)
    before = len(rows(store))
    with serving(store) as url:
        state = '{"state": {"type": "PENDING"}}'
        answers = [
            ask(url, "GET", f"/block_documents/{world.block}"),
            ask(url, "POST", f"/flow_runs/{world.run}/set_state", state),
            ask(url, "POST", "/block_documents/filter", "{}"),
        ]

    assert [one.status // 100 for one in answers] == [2, 2, 2]
    assert rows(store)[before:] == []


def test_s18_the_row_is_in_the_transaction_of_the_act(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is there without the other: an act whose row fails is undone, and one that fails leaves no row."""
    api = LocalClient(store)
    with serving(store) as url:
        twice = [ask(url, "POST", "/api_keys/", '{"name": "k", "permissions": ["read"]}').status for _ in range(2)]
        assert (twice, len(rows(store))) == ([201, 409], 1)

        def fails(*_: Any) -> None:
            raise RuntimeError("no row")

        monkeypatch.setattr("headrace.server.operations.auditing._write", fails)
        assert ask(url, "POST", "/api_keys/", '{"name": "l", "permissions": ["read"]}').status == 500
    names = store.read(lambda tx: list(tx.execute(select(API_KEY.c.name)).scalars()))
    assert names == ["k"]
    with pytest.raises(RuntimeError):
        api.call(CREATE_API_KEY, body={"name": "l", "permissions": ["read"]})


@pytest.mark.parametrize("open_to_all", [True, False])
def test_s18_who_it_was(store: Store, open_to_all: bool) -> None:
    """Anyone, where no login is asked for; the administrator; and local mode, which has no address."""
    make_key(store, "plain", "read")
    api = LocalClient(store)
    api.call(CREATE_API_KEY, body={"name": "local", "permissions": ["read"]})
    with serving(store) if open_to_all else serving_with_login(store) as url:
        headers = {} if open_to_all else {"Authorization": basic()}
        ask(url, "POST", "/api_keys/", '{"name": "remote", "permissions": ["read"]}', **headers)

    told = [(one.name, one.actor, one.address) for one in rows(store)]
    remote = "Anyone" if open_to_all else "The administrator"
    assert told == [("local", "The administrator", None), ("remote", remote, "127.0.0.1")]


def test_s18_changing_the_key_of_the_blocks(store: Store) -> None:
    """A rotation is a row, which is there before the new key is."""
    make_world(store)
    rotate(store)

    [row] = rows(store, operation="rotate_key")
    assert (row.area, len(row.subject or "")) == ("secrets", 16)


@pytest.mark.parametrize(
    "change",
    [
        lambda tx: tx.execute(update(AUDIT).values(actor="nobody")),
        lambda tx: tx.execute(delete(AUDIT)),
        lambda tx: tx.execute(text("TRUNCATE audit" if tx.dialect == "postgresql" else "DELETE FROM audit")),
    ],
)
def test_s18_the_log_is_only_added_to(store: Store, change: Callable[[Tx], Any]) -> None:
    """The database refuses to change or delete a row, whoever asks it to."""
    LocalClient(store).call(CREATE_API_KEY, body={"name": "k", "permissions": ["read"]})

    with pytest.raises((DBAPIError, ApiError), match="only ever added to"):
        store.write(change)
    assert len(rows(store)) == 1


def test_s18_the_log_is_for_administrators(store: Store) -> None:
    """Neither `read` nor `write` opens it, nor a key of one pool; `audit:read` does."""
    with serving_with_login(store) as url:
        keys = [
            make_key(store, "w", "write"),
            make_key(store, "r", "read"),
            make_key(store, "p", "audit:read", work_pool="p"),
            make_key(store, "auditor", "audit:read"),
        ]
        statuses = [ask(url, "POST", "/audit/filter", "{}", Authorization=bearer(key)).status for key in keys]

    assert statuses == [403, 403, 403, 200]


def denied(store: Store) -> list[tuple[str, str, str | None, int]]:
    """What was denied, in order."""
    return sorted((one.actor, one.operation, one.address, one.times) for one in rows(store, outcome="denied"))


def wait_for(told: Callable[[], Any], wanted: Any) -> None:
    """Wait until what is told is what is wanted; denials are written beside the answers."""
    end = time.monotonic() + 30
    while told() != wanted and time.monotonic() < end:
        time.sleep(0.02)
    assert told() == wanted


def test_s18_what_is_denied_leaves_a_row(store: Store) -> None:
    """Logins that are wrong, calls and websockets that a key may not make, pages of other origins."""
    key = make_key(store, "ci", "read")
    name = f"API key 'ci' ({key.id})"
    with serving_with_login(store) as url:
        ask(url, "GET", "/version", Authorization="Bearer hr_wrong")
        ask(url, "POST", "/flows/", '{"name": "f"}', Authorization=bearer(key))
        ask(url, "GET", f"/block_documents/{key.id}?include_secrets=true", Authorization=bearer(key))
        ask(url, "POST", "/flows/filter", "{}", Origin="http://evil.example", Authorization=bearer(key))
        ask(url, "GET", "/nothing", Authorization=bearer(key))
        socket = url.replace("http", "ws", 1) + "/events/in"
        assert asyncio.run(outcome(socket, key.key)) == "forbidden"
        wait_for(
            lambda: denied(store),
            [
                (name, "create_flow", "127.0.0.1", 1),
                (name, "open_websocket", "127.0.0.1", 1),
                (name, "read_block_document_by_id", "127.0.0.1", 1),
                ("Nobody known", "call_from_foreign_page", "127.0.0.1", 1),
                ("Nobody known", "log_in", "127.0.0.1", 1),
            ],
        )


@pytest.mark.parametrize("path", SOCKETS)
def test_s18_every_socket_notes_who_was_denied(sqlite_store: Store, path: str) -> None:
    """A wrong login on any websocket leaves a row."""
    with serving_with_login(sqlite_store) as url:
        assert asyncio.run(outcome(url.replace("http", "ws", 1) + path, "hr_wrong")) == "unknown"
        wait_for(lambda: denied(sqlite_store), [("Nobody known", "open_websocket", "127.0.0.1", 1)])


@pytest.mark.parametrize("path", SOCKETS)
def test_s18_a_socket_that_does_not_log_in_leaves_a_row(sqlite_store: Store, path: str) -> None:
    """One without the subprotocol in which clients log in is refused while it is opened."""

    async def opened(url: str) -> int:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url):
                pass
        return caught.value.response.status_code

    with serving_with_login(sqlite_store) as url:
        assert asyncio.run(opened(url.replace("http", "ws", 1) + path)) == 403
        wait_for(lambda: denied(sqlite_store), [("Nobody known", "open_websocket", "127.0.0.1", 1)])


def test_s18_denials_do_not_fill_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand denials of a minute are two rows, however many addresses there are at most twice fifty and one."""

    async def scene() -> tuple[list[Any], int]:
        noting = denials.Denials(store)
        for _ in range(1000):
            noting.note("somebody", "create_flow", "10.0.0.1")
        noting._end_minute()
        await asyncio.gather(*noting._writing)
        of_one = denied(store)
        for number in range(1000):
            noting.note("somebody", "create_flow", f"10.0.{number // 250}.{number % 250}")
            noting.note("somebody", "create_flow", f"10.0.{number // 250}.{number % 250}")
        noting._end_minute()
        await asyncio.gather(*noting._writing)
        return of_one, sum(one[3] for one in denied(store))

    of_one, in_all = asyncio.run(scene())

    assert of_one == [("somebody", "create_flow", "10.0.0.1", times) for times in (1, 999)]
    assert in_all == 1000 + 2000
    assert len(denied(store)) == 2 + 2 * denials.MOST + 1
    assert ("Several", "several", None, 2 * (1000 - denials.MOST)) in denied(store)


def test_s18_a_minute_ends_by_itself(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was summed up is written when the minute is over, and the next one begins with the next denial."""
    monkeypatch.setattr(denials, "MINUTE", 0.2)
    with serving_with_login(sqlite_store) as url:
        for _ in range(3):
            ask(url, "GET", "/version", Authorization="Bearer hr_wrong")
        wait_for(lambda: sum(one[3] for one in denied(sqlite_store)), 3)
        ask(url, "GET", "/version", Authorization="Bearer hr_wrong")
        wait_for(lambda: sum(one[3] for one in denied(sqlite_store)), 4)
