"""API keys: random, stored hashed, with permissions, a pool, an expiry and a last use, and revoked for good."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.api_keys import CREATE_API_KEY, DELETE_API_KEY, READ_API_KEYS, ApiKeyCreate
from headrace.schemas.deployments import CREATE_DEPLOYMENT, DeploymentCreate
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, FlowRunCreate
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.work_pools import CREATE_WORK_POOL, WorkPoolCreate
from headrace.server.http import auth
from headrace.server.store.tables import API_KEY, EVENT
from headrace.server.store.transaction import Store
from tests.support.logins import bearer, make_key, serving_with_login
from tests.support.serving import ask


@pytest.fixture
def api(store: Store) -> LocalClient:
    """The API on an empty store; the test runs once on each database."""
    return LocalClient(store)


def test_s5_a_key_is_256_random_bits_and_stored_hashed(api: LocalClient, store: Store) -> None:
    """The answer that makes a key is the one place where it stands; the database has its SHA-256."""
    body = ApiKeyCreate(name="ci", permissions=["runs:write", "read", "read"])
    first = api.call(CREATE_API_KEY, body=body)
    second = api.call(CREATE_API_KEY, body=ApiKeyCreate(name="other", permissions=["read"]))

    row = store.read(lambda tx: tx.execute(select(API_KEY).where(API_KEY.c.id == first.id)).one())
    assert len(first.key) == len(second.key) == len("hr_") + 43
    assert first.key != second.key
    assert row.digest == hashlib.sha256(first.key.encode()).digest()
    listed = api.call(READ_API_KEYS)
    assert [(one.name, one.permissions) for one in listed] == [("ci", ["read", "runs:write"]), ("other", ["read"])]
    assert first.key not in repr(listed) + repr(row)


def test_making_and_revoking_are_events(api: LocalClient, store: Store) -> None:
    """Each writes its event; neither tells the key."""
    made = api.call(CREATE_API_KEY, body=ApiKeyCreate(name="ci", permissions=["read"]))
    api.call(DELETE_API_KEY, id=made.id)

    events = store.read(lambda tx: tx.execute(select(EVENT).order_by(EVENT.c.seq)).all())
    assert [one.event for one in events] == ["prefect.api-key.created", "prefect.api-key.deleted"]
    assert made.key not in repr(events)
    with pytest.raises(ObjectNotFound):
        api.call(DELETE_API_KEY, id=made.id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"permissions": []},
        {"permissions": ["root"]},
        {"permissions": ["runs:delete"]},
        {"permissions": ["read\n"]},
        {"permissions": ["keys:write"]},
        {"permissions": ["keys:read"]},
        {"permissions": ["admin"], "work_pool": "p"},
        {"permissions": ["read"], "expires": "2025-12-31T23:59:59Z"},
        {"permissions": ["read"], "name": ""},
    ],
)
def test_s5_a_key_that_makes_no_sense_is_refused(api: LocalClient, wrong: dict[str, Any]) -> None:
    """Unknown permissions, the right to make keys without being an administrator, a moment that is past."""
    with pytest.raises(ValidationFailed):
        api.call(CREATE_API_KEY, body={"name": "ci", **wrong})


def test_a_name_is_taken_once(api: LocalClient) -> None:
    """Two keys of one name could not be told apart; a revoked one gives its name back."""
    made = api.call(CREATE_API_KEY, body=ApiKeyCreate(name="ci", permissions=["read"]))
    with pytest.raises(ObjectAlreadyExists):
        api.call(CREATE_API_KEY, body=ApiKeyCreate(name="ci", permissions=["read"]))

    api.call(DELETE_API_KEY, id=made.id)
    api.call(CREATE_API_KEY, body=ApiKeyCreate(name="ci", permissions=["read"]))


def test_s5_a_revoked_key_is_refused_by_all_servers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server takes a key it has met for good for at most four seconds, so every one refuses it within five."""
    assert auth.TRUST_SECONDS < 5
    now = [1000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: now[0])
    key = make_key(store, "ci", "read")
    with ExitStack() as stack:
        urls = [stack.enter_context(serving_with_login(store)) for _ in range(2)]

        def statuses() -> list[int]:
            return [ask(url, "POST", "/flows/filter", "{}", Authorization=bearer(key)).status for url in urls]

        before = statuses()
        LocalClient(store).call(DELETE_API_KEY, id=key.id)
        now[0] += auth.TRUST_SECONDS
        after = statuses()

    assert (before, after) == ([200, 200], [401, 401])


def test_s5_an_expired_key_is_refused(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is good until its moment, also when a server has just looked it up."""
    now = [1000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: now[0])
    key = make_key(store, "ci", "read", expires=clock.now() + timedelta(seconds=2))
    with serving_with_login(store) as url:
        before = ask(url, "POST", "/flows/filter", "{}", Authorization=bearer(key)).status
        clock.advance(2)
        now[0] += 2
        after = ask(url, "POST", "/flows/filter", "{}", Authorization=bearer(key)).status

    assert (before, after) == (200, 401)


def test_s5_the_last_use_is_noted_rarely(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first use is written down, and then one every five minutes at most, so that reading stays reading."""
    monkeypatch.setattr(auth, "TRUST_SECONDS", 0.0)
    key, uses = make_key(store, "ci", "read"), []
    with serving_with_login(store) as url:
        for minutes in (0, 4, 4):
            clock.advance(60 * minutes)
            ask(url, "POST", "/flows/filter", "{}", Authorization=bearer(key))
            [stored] = LocalClient(store).call(READ_API_KEYS)
            uses.append(stored.last_used)

    assert uses[0] == uses[1]
    assert uses[2] == clock.now()


class Pools:
    """Two pools, `a` and `b`, each with a deployment and a run; a run in no pool; and the URL of their server."""

    def __init__(self, store: Store, url: str) -> None:
        self.url, self.store = url, store
        api = LocalClient(store)
        flow = api.call(CREATE_FLOW, body=FlowCreate(name="f")).id
        self.ids: dict[str, dict[str, str]] = {}
        for pool in ("a", "b"):
            made = api.call(CREATE_WORK_POOL, body=WorkPoolCreate(name=pool, type="process"))
            body = DeploymentCreate(name=pool, flow_id=flow, work_pool_name=pool)
            deployment = api.call(CREATE_DEPLOYMENT, body=body)
            run = api.call(
                CREATE_FLOW_RUN,
                body=FlowRunCreate(
                    flow_id=flow, deployment_id=deployment.id, work_queue_name="default", work_pool_name=pool
                ),
            )
            self.ids[pool] = {
                "pool": pool,
                "queue": str(made.default_queue_id),
                "deployment": str(deployment.id),
                "run": str(run.id),
                "flow": str(flow),
            }
        free = api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow)).id
        self.ids["none"] = {"run": str(free)}
        self.header = bearer(make_key(store, "a", "read", "write", work_pool="a"))

    def ask(self, method: str, path: str, body: str = "{}", of: str = "b") -> int:
        """The status of a call with pool a's key about what `of` has."""
        for name, id in {**self.ids["a"], **self.ids[of]}.items():
            path, body = path.replace(f"<{name}>", id), body.replace(f"<{name}>", id)
        return ask(self.url, method, path, body, Authorization=self.header).status


@pytest.fixture
def pools(store: Store) -> Iterator[Pools]:
    """Two pools and their server, on each database."""
    with serving_with_login(store) as url:
        yield Pools(store, url)


LOG = '[{"name": "l", "level": 20, "message": "m", "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": "<run>"}]'
EITHER = '{"flow_runs": {"operator": "or_", "id": {"any_": ["<run>"]}, "name": {"like_": ""}}}'
IN_STATE = '{"state": {"type": "CANCELLED", "state_details": {"flow_run_id": "<run>"}}}'
ABOUT_A_POOL = [
    ("GET", "/work_pools/<pool>", "", 200),
    ("GET", "/work_pools/<pool>/queues/default", "", 200),
    ("POST", "/work_pools/<pool>/queues/filter", "{}", 200),
    ("POST", "/work_pools/<pool>/workers/heartbeat", '{"name": "w"}', 204),
    ("POST", "/work_pools/<pool>/get_scheduled_flow_runs", "{}", 200),
    ("GET", "/work_queues/<queue>", "", 200),
    ("POST", "/work_queues/<queue>/get_runs", "{}", 200),
    ("GET", "/deployments/<deployment>", "", 200),
    ("PATCH", "/deployments/<deployment>", "{}", 204),
    ("POST", "/deployments/<deployment>/create_flow_run", "{}", 201),
    ("GET", "/flow_runs/<run>", "", 200),
    ("POST", "/flow_runs/<run>/set_state", '{"state": {"type": "PENDING"}}', 200),
    ("GET", "/flow_run_states/?flow_run_id=<run>", "", 200),
    ("POST", "/flow_runs/leases/renew", '{"leases": [{"id": "<run>", "epoch": 0}]}', 200),
    ("POST", "/task_runs/", '{"flow_run_id": "<run>", "task_key": "t", "dynamic_key": "0"}', 201),
    ("POST", "/task_runs/filter", '{"flow_runs": {"id": {"any_": ["<run>"]}}}', 200),
    ("POST", "/logs/filter", '{"logs": {"flow_run_id": {"any_": ["<run>"]}}}', 200),
    ("POST", "/logs/", LOG, 201),
    ("POST", "/flow_runs/bulk_delete", '{"flow_runs": {"id": {"any_": ["<run>"]}}}', 200),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status"), ABOUT_A_POOL)
def test_s5_the_key_of_one_pool_is_refused_by_another(
    pools: Pools, method: str, path: str, body: str, status: int
) -> None:
    """What belongs to the key's own pool is served, what belongs to another one is 403, whatever names it."""
    assert pools.ask(method, path, body, of="b") == 403
    assert pools.ask(method, path, body, of="a") == status


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/work_pools/", '{"name": "c"}'),
        ("POST", "/work_pools/filter", "{}"),
        ("POST", "/task_runs/filter", "{}"),
        ("POST", "/task_runs/filter", '{"flow_runs": {"id": {"not_any_": ["<run>"]}}}'),
        ("POST", "/task_runs/filter", EITHER),
        ("POST", "/flow_runs/filter", '{"work_pools": {"operator": "or_", "name": {"any_": ["a"]}}}'),
        ("POST", "/flow_runs/bulk_delete", "{}"),
        ("POST", "/flow_runs/bulk_set_state", IN_STATE),
        ("POST", "/deployments/", '{"name": "a", "flow_id": "<flow>", "work_pool_name": "a"}'),
        ("DELETE", "/flows/<flow>", ""),
        ("GET", "/deployments/name/f/b", ""),
        ("POST", "/deployments/get_scheduled_flow_runs", '{"deployment_ids": []}'),
        ("GET", "/api_keys/", ""),
    ],
)  # fmt: skip
def test_s5_what_is_about_all_pools_is_refused(pools: Pools, method: str, path: str, body: str) -> None:
    """A key of one pool asks for nothing that names no pool, nor gets around that by clever filters."""
    assert pools.ask(method, path, body, of="a") == 403


def test_s5_lists_are_narrowed_to_the_pool(pools: Pools) -> None:
    """Runs and deployments of other pools are not in the lists of the key's caller, nor counted."""

    def listed(path: str, body: str = "{}") -> Any:
        return ask(pools.url, "POST", path, body, Authorization=pools.header).json()

    assert [one["id"] for one in listed("/flow_runs/filter")] == [pools.ids["a"]["run"]]
    assert [one["id"] for one in listed("/deployments/filter")] == [pools.ids["a"]["deployment"]]
    assert listed("/flow_runs/count") == 1
    assert listed("/flow_runs/filter", '{"work_pools": {"name": {"any_": ["b"]}}}') == []


def test_s5_what_belongs_to_no_pool_is_open(pools: Pools) -> None:
    """Nested flows and runs by hand are in no pool: a worker's run may start and read them."""
    assert pools.ask("GET", "/flow_runs/<run>", of="none") == 200
    assert (
        pools.ask(
            "POST", "/flow_runs/", f'{{"flow_id": "{pools.ids["a"]["flow"]}", "parameters": {{"x": "{uuid7()}"}}}}'
        )
        == 201
    )
