"""S12: the secrets of blocks are encrypted at rest, and shown to nobody who may not read them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from headrace.client.local import LocalClient
from headrace.schemas.api_keys import CREATE_API_KEY, ApiKeyCreate
from headrace.schemas.block_documents import UPDATE_BLOCK_DOCUMENT_DATA, BlockDocumentUpdate
from headrace.schemas.block_secrets import masked, restored, secret_texts
from headrace.server.store import open_store
from headrace.server.store.tables import BLOCK_DOCUMENT, EVENT
from headrace.server.store.transaction import Store
from headrace.settings import Secret, get_settings
from tests.operations.blocks_world import STARS, add_schema, make_block, make_schema, reference, values
from tests.support.serving import ask, serving

pytestmark = pytest.mark.usefixtures("home")
CANARY = "canary-4711"

SHAPES: list[tuple[list[str], dict[str, Any], dict[str, Any]]] = [
    (["a"], {"a": CANARY, "b": 1}, {"a": STARS, "b": 1}),
    (["a"], {"a": {"x": [CANARY]}}, {"a": STARS}),
    (["a"], {"a": None}, {"a": None}),
    (["a.b"], {"a": {"b": CANARY, "c": 1}}, {"a": {"b": STARS, "c": 1}}),
    (["a.b"], {"a": "text"}, {"a": "text"}),
    (["a.b"], {"a": [{"b": CANARY}, {"b": CANARY, "c": 1}]}, {"a": [{"b": STARS}, {"b": STARS, "c": 1}]}),
    (["a.*"], {"a": {"x": CANARY, "y": {"z": [CANARY, 1]}}}, {"a": {"x": STARS, "y": {"z": [STARS, STARS]}}}),
    (["a.*"], {"a": CANARY}, {"a": STARS}),
    (["a.b"], {"a": {"k": {"b": CANARY}, "b": CANARY}}, {"a": {"k": {"b": STARS}, "b": STARS}}),
    (["a"], {"b": {"a": "seen"}}, {"b": {"a": "seen"}}),
    (["a.*.b"], {"a": {"x": {"b": CANARY, "c": CANARY}}}, {"a": {"x": {"b": STARS, "c": STARS}}}),
    (["a.*.b"], {"a": [{"b": CANARY}, CANARY]}, {"a": [{"b": STARS}, STARS]}),
    (["a.b", "c", "x"], {"a": {"b": CANARY}, "c": 7}, {"a": {"b": STARS}, "c": STARS}),
]


@pytest.mark.parametrize(("paths", "data", "shown"), SHAPES)
def test_s12_stars_stand_where_the_paths_lead(paths: list[str], data: dict[str, Any], shown: dict[str, Any]) -> None:
    """Nested paths, stars in paths, lists: what is secret is hidden, and comes back when the stars are sent back."""
    before = json.dumps(data)

    assert masked(data, paths) == shown
    assert all(CANARY in text for text in secret_texts(data, paths))
    assert len(list(secret_texts(data, paths))) == before.count(CANARY)
    assert restored(shown, data, paths) == data
    assert json.dumps(data) == before


def test_s12_stars_are_only_replaced_where_secrets_are() -> None:
    """Stars in a place that is no secret are taken as they are: a secret does not move to where it would be seen."""
    data = {"a": {"b": CANARY}, "c": CANARY}

    assert restored({"a": {"b": STARS}, "c": STARS}, data, ["a.x"]) == {"a": {"b": STARS}, "c": STARS}
    assert restored({"a": STARS, "c": STARS, "d": STARS}, data, ["d"]) == {"a": STARS, "c": STARS, "d": STARS}


def test_s12_secrets_are_shown_on_request_alone(api: LocalClient) -> None:
    """Stars stand for the secrets of a block and of the blocks in it, until they are asked for."""
    inner = make_block(api, make_schema(api, "inner", ("password",)), "in", user="ann", password=CANARY)
    outer = make_block(api, make_schema(api, "outer", ("key.*",)), "out", inner=reference(inner), key={"a": CANARY})

    hidden = {"inner": {"user": "ann", "password": STARS}, "key": {"a": STARS}}
    assert outer.data == values(api, outer.id, secrets=False) == hidden
    assert values(api, outer.id) == {"inner": {"user": "ann", "password": CANARY}, "key": {"a": CANARY}}


def test_s12_stars_sent_back_keep_the_secret(api: LocalClient) -> None:
    """Whoever may not read a secret can change the values around it."""
    block = make_block(api, make_schema(api, secrets=("password", "keys.*")), password=CANARY, keys={"a": CANARY})
    read = values(api, block.id, secrets=False)

    body = BlockDocumentUpdate(data=read | {"user": "bob", "keys": {"a": STARS, "b": "new"}}, merge_existing_data=False)
    api.call(UPDATE_BLOCK_DOCUMENT_DATA, id=block.id, body=body)

    assert values(api, block.id) == {"password": CANARY, "keys": {"a": CANARY, "b": "new"}, "user": "bob"}


@pytest.mark.parametrize("sent", [{}, {"password": STARS}, {"other": STARS}])
def test_s12_no_schema_lays_a_secret_open(api: LocalClient, sent: dict[str, Any]) -> None:
    """A block that moves to a schema in which a value is no secret loses that value, unless it is said anew."""
    old = make_schema(api)
    bare = add_schema(api, old.block_type, (), title="bare")
    block = make_block(api, old, password=CANARY, user="ann")

    api.call(UPDATE_BLOCK_DOCUMENT_DATA, id=block.id, body=BlockDocumentUpdate(data=sent, block_schema_id=bare.id))

    assert CANARY not in str(values(api, block.id))


def test_s12_no_holder_lays_a_secret_open(api: LocalClient) -> None:
    """A block in another one hides its secrets by its own schema, whatever the schema of the other says."""
    inner = make_block(api, make_schema(api, "inner"), "in", password=CANARY)
    outer = make_block(api, make_schema(api, "outer", ()), "out", inner=reference(inner))
    body = BlockDocumentUpdate(data={"inner": {"password": STARS, "more": 1}})
    assert CANARY not in str(values(api, outer.id, secrets=False))

    api.call(UPDATE_BLOCK_DOCUMENT_DATA, id=outer.id, body=body)

    assert CANARY not in str(values(api, outer.id))


def test_s12_reading_secrets_is_a_right_of_its_own(store: Store, api: LocalClient) -> None:
    """A key that may read or write everything reads no secrets; it takes `secrets:read` for that."""
    block = make_block(api, make_schema(api), password=CANARY)
    settings = get_settings()
    login = replace(settings.server.api, auth_string=Secret("admin:x"))
    settings = replace(settings, server=replace(settings.server, api=login))
    rights = {"reader": ["read"], "writer": ["write"], "trusted": ["read", "secrets:read"]}
    keys = {
        name: api.call(CREATE_API_KEY, body=ApiKeyCreate(name=name, permissions=granted)).key
        for name, granted in rights.items()
    }
    ways = (
        ("GET", f"/block_documents/{block.id}?include_secrets=true", None),
        ("GET", "/block_types/slug/login/block_documents?include_secrets=true", None),
        ("GET", "/block_types/slug/login/block_documents/name/mine?include_secrets=true", None),
        ("POST", "/block_documents/filter", {"include_secrets": True}),
    )
    with serving(store, settings) as url:
        answers = {
            name: [ask(url, *way, authorization=f"Bearer {key}", content_type="application/json") for way in ways]
            for name, key in keys.items()
        }
        plain = ask(url, "GET", f"/block_documents/{block.id}", authorization=f"Bearer {keys['reader']}")

    assert {name: {one.status for one in given} for name, given in answers.items()} == {
        "reader": {403},
        "writer": {403},
        "trusted": {200},
    }
    assert all(CANARY.encode() in one.body for one in answers["trusted"])
    assert not any(CANARY.encode() in one.body for name in ("reader", "writer") for one in answers[name])
    assert plain.json()["data"] == {"password": STARS}


def test_s12_a_canary_is_nowhere(store: Store, api: LocalClient, caplog: pytest.LogCaptureFixture) -> None:
    """No answer without the right, no event, no log line, no row holds a secret, also when calls fail."""
    caplog.set_level(logging.DEBUG)
    schema = make_schema(api, secrets=("password", "keys.*", "inner.password"), capabilities=["write-path"])
    inner = make_block(api, schema, "in", password=CANARY)
    block = make_block(api, schema, "out", inner=reference(inner), keys={"a": CANARY})
    with serving(store) as url:
        data = {"password": CANARY, "keys": {"b": CANARY}}
        named = {"block_schema_id": str(schema.id), "block_type_id": str(schema.block_type_id), "data": data}
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/block_documents/", {**named, "name": "new"}),
            ("POST", "/block_documents/", {**named, "name": "new"}),
            ("POST", "/block_documents/", {**named, "name": "Wrong Name"}),
            ("POST", "/block_documents/", {**named, "name": "odd", "data": {**data, "x": {"$ref": CANARY}}}),
            ("POST", "/block_documents/", {**named, "name": "odd", "block_schema_id": CANARY}),
            ("PATCH", f"/block_documents/{block.id}", {"data": data}),
            ("PATCH", f"/block_documents/{block.id}", {"data": [CANARY]}),
            ("GET", f"/block_documents/{block.id}", None),
            ("GET", "/block_types/slug/login/block_documents", None),
            ("GET", "/block_types/slug/login/block_documents/name/out", None),
            ("POST", "/block_documents/filter", {}),
            ("PUT", "/admin/storage", {"default_result_storage_block_id": str(block.id)}),
            ("GET", "/admin/settings", None),
            ("DELETE", f"/block_documents/{block.id}", None),
        ]
        answers = [ask(url, *call, content_type="application/json") for call in calls]
    rows = store.read(lambda tx: [*tx.execute(select(EVENT)).all(), *tx.execute(select(BLOCK_DOCUMENT)).all()])

    assert {one.status for one in answers} == {200, 201, 204, 409, 422}
    assert [call for call, one in zip(calls, answers, strict=True) if CANARY.encode() in one.body] == []
    assert len(rows) > 4
    assert CANARY not in str(rows)
    assert CANARY not in caplog.text


def test_s12_a_canary_is_not_on_the_disk(tmp_path: Path) -> None:
    """The files of the database hold no secret, also after it was replaced and its block was deleted."""
    file = tmp_path / "headrace.db"
    api = LocalClient(open_store(f"sqlite:///{file}"), owned=True)
    block = make_block(api, make_schema(api), password=CANARY, user="visible-nowhere-either")
    api.call(UPDATE_BLOCK_DOCUMENT_DATA, id=block.id, body=BlockDocumentUpdate(data={"password": CANARY + "2"}))
    files = [one.read_bytes() for one in tmp_path.glob("headrace.db*")]
    api.close()
    files.append(file.read_bytes())

    assert b"block_document" in b"".join(files)
    assert [one for one in files if CANARY.encode() in one] == []
