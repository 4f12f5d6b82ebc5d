"""Blocks: stored by type and name, referring to one another, found, changed, deleted."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import func, select, update

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.admin import (
    READ_SERVER_DEFAULT_RESULT_STORAGE,
    UPDATE_SERVER_DEFAULT_RESULT_STORAGE,
    ServerDefaultResultStorageUpdate,
)
from headrace.schemas.block_documents import (
    COUNT_BLOCK_DOCUMENTS,
    DELETE_BLOCK_DOCUMENT,
    READ_BLOCK_DOCUMENT_BY_ID,
    READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE,
    READ_BLOCK_DOCUMENTS,
    READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE,
    UPDATE_BLOCK_DOCUMENT_DATA,
    BlockDocumentUpdate,
    CountBlockDocuments,
    ReadBlockDocuments,
)
from headrace.schemas.block_filters import (
    BlockDocumentFilter,
    BlockDocumentSort,
    BlockSchemaFilter,
    BlockTypeFilter,
    CapabilitiesAll,
)
from headrace.schemas.block_schemas import DELETE_BLOCK_SCHEMA, BlockSchema
from headrace.schemas.filters import IsEqual, NameMatch, StringIn
from headrace.server.operations.block_reading import DEEPEST, Unreadable
from headrace.server.store.tables import BLOCK_DOCUMENT
from headrace.server.store.transaction import Store
from tests.operations.blocks_world import STARS, add_schema, make_block, make_schema, reference, values
from tests.operations.events_seen import events_of
from tests.operations.runs_world import at

pytestmark = pytest.mark.usefixtures("home")


def change(api: LocalClient, id: Any, *, merge: bool = True, schema: Any = None, **data: Any) -> None:
    """Give a block new values."""
    body = BlockDocumentUpdate(data=data, merge_existing_data=merge, block_schema_id=schema)
    api.call(UPDATE_BLOCK_DOCUMENT_DATA, id=id, body=body)


def test_a_block_is_read_by_id_and_by_name(api: LocalClient) -> None:
    """Both ways lead to the same block, with its schema and type; nobody's is not found."""
    schema = make_schema(api)
    made = make_block(api, schema, user="ann")

    assert made.block_schema == schema
    assert made.block_type == schema.block_type
    assert (made.data, made.block_type_name, made.is_anonymous) == ({"user": "ann"}, "Login", False)
    assert api.call(READ_BLOCK_DOCUMENT_BY_ID, id=made.id) == made
    by_name = {"slug": "login", "block_document_name": "mine"}
    assert api.call(READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE, **by_name) == made
    for endpoint, arguments in (
        (READ_BLOCK_DOCUMENT_BY_ID, {"id": uuid7()}),
        (READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE, by_name | {"slug": "x"}),
        (READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE, {"slug": "x"}),
        (UPDATE_BLOCK_DOCUMENT_DATA, {"id": uuid7(), "body": BlockDocumentUpdate()}),
        (DELETE_BLOCK_DOCUMENT, {"id": uuid7()}),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_a_name_is_taken_once_in_a_type(api: LocalClient) -> None:
    """A second block of a name is refused in the same type, not in another."""
    login, other = make_schema(api), make_schema(api, "other")
    make_block(api, login)

    make_block(api, other)
    with pytest.raises(ObjectAlreadyExists):
        make_block(api, login)


def test_g16_of_equal_names_at_once_one_is_taken(api: LocalClient) -> None:
    """Of several that store a block of one name at the same time, one does; the others are told that it is there."""
    schema = make_schema(api)

    def attempt(number: int) -> str:
        try:
            make_block(api, schema, number=number)
        except ObjectAlreadyExists:
            return "taken"
        return "made"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(8)))

    assert sorted(outcomes) == ["made"] + ["taken"] * 7


def test_g16_a_block_never_outlives_its_schema(api: LocalClient, store: Store) -> None:
    """Whoever stores a block while its schema is deleted stores it before, and it goes too, or is told so."""
    left = select(func.count()).select_from(BLOCK_DOCUMENT)
    for number in range(15):
        schema = make_schema(api, f"kind-{number}")

        def stored(place: int, schema: BlockSchema = schema) -> str:
            try:
                make_block(api, schema, f"block-{place}")
            except ValidationFailed:
                return "refused"
            return "made"

        with ThreadPoolExecutor(4) as pool:
            blocks = [pool.submit(stored, place) for place in range(3)]
            gone = pool.submit(api.call, DELETE_BLOCK_SCHEMA, id=schema.id)
            assert {block.result() for block in blocks} <= {"made", "refused"}
            gone.result()

        assert store.read(lambda tx: tx.execute(left).scalar_one()) == 0


@pytest.mark.parametrize("name", [None, "", "Mine", "my_block", "my block", "a/b"])
def test_a_block_has_a_plain_name(api: LocalClient, name: str | None) -> None:
    """Small letters, digits and dashes; no name at all is for anonymous blocks."""
    schema = make_schema(api)

    with pytest.raises(ValidationFailed):
        make_block(api, schema, name)


def test_an_anonymous_block_is_named_by_the_server(api: LocalClient) -> None:
    """An anonymous block gets a name of its own, and lists leave it out unless they are asked for such blocks."""
    schema = make_schema(api)
    hidden = make_block(api, schema, None, is_anonymous=True)
    shown = make_block(api, schema)

    def ids(chosen: BlockDocumentFilter | None) -> list[object]:
        return [one.id for one in api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments(block_documents=chosen))]

    assert hidden.name is not None
    assert hidden.name.startswith("anonymous-")
    assert ids(None) == ids(BlockDocumentFilter()) == [shown.id]
    assert ids(BlockDocumentFilter(is_anonymous=IsEqual(eq_=True))) == [hidden.id]
    assert ids(BlockDocumentFilter(is_anonymous=None)) == [hidden.id, shown.id]
    assert api.call(READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE, slug="login") == [shown]


def test_a_block_and_its_schema_are_of_one_type(api: LocalClient) -> None:
    """A schema of another type, or none at all, is refused: when a block is made, and when it is changed."""
    login, other = make_schema(api), make_schema(api, "other")
    block = make_block(api, login)
    unknown = other.__class__(**{name: getattr(other, name) for name in other.__struct_fields__} | {"id": uuid7()})

    for schema in (other, unknown):
        with pytest.raises(ValidationFailed):
            change(api, block.id, schema=schema.id)
    with pytest.raises(ValidationFailed):
        make_block(api, unknown)


def test_blocks_are_found_by_filters_in_an_order(api: LocalClient) -> None:
    """Filters by name, type and capability narrow the list; it comes by name or by type and name."""
    zoo, ark = make_schema(api, "zoo"), make_schema(api, "ark", capabilities=["float"])
    for schema, name in ((zoo, "bear"), (ark, "cat"), (zoo, "dog")):
        make_block(api, schema, name)

    def names(**body: object) -> list[str | None]:
        return [one.name for one in api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments(**body))]  # type: ignore[arg-type]

    assert names() == ["bear", "cat", "dog"]
    assert names(sort=BlockDocumentSort.NAME_DESC, limit=2) == ["dog", "cat"]
    assert names(sort=BlockDocumentSort.BLOCK_TYPE_AND_NAME_ASC) == ["cat", "bear", "dog"]
    assert names(offset=1, limit=1, sort=None) == ["cat"]
    assert names(block_documents=BlockDocumentFilter(name=NameMatch(like_="EA"))) == ["bear"]
    assert names(block_types=BlockTypeFilter(slug=StringIn(any_=["zoo"]))) == ["bear", "dog"]
    can_float = BlockSchemaFilter(block_capabilities=CapabilitiesAll(all_=["float"]))
    assert names(block_schemas=can_float) == ["cat"]
    assert api.call(COUNT_BLOCK_DOCUMENTS, body=CountBlockDocuments(block_schemas=can_float)) == 1
    assert api.call(COUNT_BLOCK_DOCUMENTS) == 3


def test_new_values_are_merged_or_replace_the_old(api: LocalClient, clock: ManualClock, store: Store) -> None:
    """Merging keeps what is not said anew; replacing keeps nothing; each is told by an event."""
    block = make_block(api, make_schema(api), a=1, b={"x": 1, "y": 2})
    clock.advance(60)

    change(api, block.id, b={"x": 3}, c=None)
    merged = values(api, block.id)
    change(api, block.id, merge=False, d=[1])

    assert merged == {"a": 1, "b": {"x": 3}, "c": None}
    assert values(api, block.id) == {"d": [1]}
    assert api.call(READ_BLOCK_DOCUMENT_BY_ID, id=block.id).updated == at(minutes=1)
    told = [event.event.rpartition(".")[2] for event in events_of(store, "block-document", block.id)]
    assert told == ["created", "updated", "updated"]


def test_a_block_holds_others(api: LocalClient) -> None:
    """A reference is filled in at reading, to any depth, as the other block is at that time."""
    inner = make_block(api, make_schema(api, "inner"), "in", n=1)
    middle = make_block(api, make_schema(api, "middle"), "mid", inner=reference(inner))
    outer = make_block(api, make_schema(api, "outer"), "out", middle=reference(middle), own=True)
    change(api, inner.id, n=2)

    read = api.call(READ_BLOCK_DOCUMENT_BY_ID, id=outer.id)

    assert read.data == {"own": True, "middle": {"inner": {"n": 2}}}
    held = read.block_document_references["middle"]["block_document"]
    assert (held["name"], held["block_type"].slug) == ("mid", "middle")
    assert held["block_document_references"]["inner"]["block_document"]["id"] == inner.id
    assert api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments())[-1] == read


def test_a_reference_stays_until_it_is_replaced(api: LocalClient) -> None:
    """Merging other values keeps references, also when what was read is sent back; values of its own replace one."""
    inner = make_block(api, make_schema(api, "inner", ("password",)), "in", user="ann", password="canary")
    outer = make_block(api, make_schema(api, "outer", ("inner.password",)), "out", inner=reference(inner))

    change(api, outer.id, x=1)
    change(api, outer.id, merge=False, **values(api, outer.id, secrets=False))
    kept = api.call(READ_BLOCK_DOCUMENT_BY_ID, id=outer.id, include_secrets=True)
    change(api, outer.id, inner={"user": "bob", "password": STARS})
    own = api.call(READ_BLOCK_DOCUMENT_BY_ID, id=outer.id, include_secrets=True)
    change(api, outer.id, inner=reference(inner))

    assert kept.data == {"x": 1, "inner": {"user": "ann", "password": "canary"}}
    assert "inner" in kept.block_document_references
    assert own.data == {"x": 1, "inner": {"user": "bob", "password": "canary"}}
    assert own.block_document_references == {}
    assert values(api, outer.id) == kept.data


def test_a_deleted_block_leaves_those_that_held_it(api: LocalClient, store: Store) -> None:
    """Who referred to a deleted block lacks that value from then on."""
    inner = make_block(api, make_schema(api, "inner"), "in")
    outer = make_block(api, make_schema(api, "outer"), "out", inner=reference(inner), own=1)

    api.call(DELETE_BLOCK_DOCUMENT, id=inner.id)

    read = api.call(READ_BLOCK_DOCUMENT_BY_ID, id=outer.id)
    assert (read.data, read.block_document_references) == ({"own": 1}, {})
    assert events_of(store, "block-document", inner.id)[-1].event == "prefect.block-document.deleted"


@pytest.mark.parametrize("target", [5, "x", {}, {"block_document_id": "x"}, {"block_document_id": str(uuid7())}])
def test_a_reference_leads_to_a_block(api: LocalClient, target: object) -> None:
    """What has the form of a reference and leads nowhere is refused."""
    schema = make_schema(api)

    with pytest.raises(ValidationFailed):
        make_block(api, schema, x={"$ref": target})


def test_no_block_holds_itself(api: LocalClient) -> None:
    """References that lead back to where they begin are refused."""
    schema = make_schema(api)
    first = make_block(api, schema, "first")
    second = make_block(api, schema, "second", inner=reference(first))

    for inner in (first, second):
        with pytest.raises(ValidationFailed, match="itself"):
            change(api, first.id, inner=reference(inner))
    assert values(api, second.id) == {"inner": {}}


def fill_up(api: LocalClient, most: int, **data: Any) -> int:
    """Make blocks, each with these values, whose `a` and `b` lead to the one before; returns how many were taken."""
    schema = make_schema(api, f"s{most}")
    block = make_block(api, schema, "level-0")
    for level in range(1, most):
        inner = {name: reference(block) if value is None else value for name, value in data.items()}
        try:
            block = make_block(api, schema, f"level-{level}", **inner)
        except ValidationFailed:
            return level
    return most


def test_s7_blocks_that_unfold_without_bound_are_refused(api: LocalClient) -> None:
    """A block may not unfold into very many or very large ones, however few documents it takes to say so."""
    assert fill_up(api, 64, a=None, b=None) == 9
    assert fill_up(api, 65, a=None) == DEEPEST
    assert fill_up(api, 66, a=None, text="x" * 900_000) < 6
    assert fill_up(api, 4, a=None, text="x" * 9_000) == 4
    assert len(api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments())) > 9 + DEEPEST


def test_s7_a_chain_that_grows_at_its_end_is_not_unfolded(api: LocalClient) -> None:
    """Where each link was fine when it was made, the whole is refused when it is too long, and the rest is read."""
    schema = make_schema(api)
    links = [make_block(api, schema, f"link-{number:03}") for number in range(DEEPEST + 20)]
    for one, following in pairwise(links):
        change(api, one.id, next=reference(following))

    for sort in (BlockDocumentSort.NAME_ASC, BlockDocumentSort.NAME_DESC):
        listed = api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments(sort=sort))
        assert {one.id for one in listed} == {one.id for one in links[-DEEPEST:]}
    with pytest.raises(ValidationFailed, match=str(DEEPEST)):
        values(api, links[0].id)


def test_results_go_to_a_block_that_files_can_be_written_to(api: LocalClient) -> None:
    """The default storage of results is a block that can write; deleting it means there is none."""
    disk = make_block(api, make_schema(api, "disk", capabilities=["read-path", "write-path"]), "disk")
    other = make_block(api, make_schema(api), "other")

    def name(id: Any) -> Any:
        body = ServerDefaultResultStorageUpdate(default_result_storage_block_id=id)
        return api.call(UPDATE_SERVER_DEFAULT_RESULT_STORAGE, body=body)

    answers = [name(disk.id), name(disk.id), api.call(READ_SERVER_DEFAULT_RESULT_STORAGE)]
    with pytest.raises(ValidationFailed):
        name(other.id)
    with pytest.raises(ObjectNotFound):
        name(uuid7())
    api.call(DELETE_BLOCK_DOCUMENT, id=disk.id)

    assert [one.default_result_storage_block_id for one in answers] == [disk.id] * 3
    assert api.call(READ_SERVER_DEFAULT_RESULT_STORAGE).default_result_storage_block_id is None


def test_an_event_tells_of_a_block(api: LocalClient, store: Store) -> None:
    """It names the block's type and schema, and of its values those that are texts and no secrets."""
    schema = make_schema(api, capabilities=["notify"])
    block = make_block(api, schema, user="ann", password="canary", size=3, more={"deep": "text"})

    event = events_of(store, "block-document", block.id)[0]

    assert event.payload == {
        "name": "mine",
        "data": {"user": "ann"},
        "block_schema": {"capabilities": ["notify"], "block_type": {"id": str(block.block_type_id), "name": "Login"}},
    }
    assert [one["prefect.resource.role"] for one in event.related] == ["block-type", "block-schema"]


def test_g13_a_broken_block_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A block that cannot be read is left out of lists and of those that hold it, and reported."""
    schema = make_schema(api)
    blocks = [make_block(api, schema, name) for name in ("alpha", "beta", "gamma")]
    holder = make_block(api, schema, "holder", inner=reference(blocks[1]))
    broken = update(BLOCK_DOCUMENT).where(BLOCK_DOCUMENT.c.id == blocks[1].id).values(data="not a token")
    store.write(lambda tx: tx.execute(broken))

    found = api.call(READ_BLOCK_DOCUMENTS, body=ReadBlockDocuments())

    assert [one.name for one in found] == ["alpha", "gamma", "holder"]
    assert str(blocks[1].id) in caplog.text
    assert values(api, holder.id) == {}
    with pytest.raises(Unreadable):
        values(api, blocks[1].id)
    api.call(DELETE_BLOCK_DOCUMENT, id=blocks[1].id)


def test_a_schema_can_be_changed_with_the_values(api: LocalClient) -> None:
    """A block moves to another schema of its type."""
    old = make_schema(api)
    new = add_schema(api, old.block_type, ("password",), title="newer")
    block = make_block(api, old, password="canary", user="ann")

    change(api, block.id, schema=new.id, user="bob")

    moved = api.call(READ_BLOCK_DOCUMENT_BY_ID, id=block.id, include_secrets=True)
    assert moved.block_schema_id == new.id
    assert moved.data == {"password": "canary", "user": "bob"}
