"""Block types: made, changed, found, deleted with all that belongs to them; and those that come with headrace."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden, ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.block_documents import READ_BLOCK_DOCUMENT_BY_ID
from headrace.schemas.block_filters import BlockSchemaFilter, BlockTypeFilter, CapabilitiesAll
from headrace.schemas.block_schemas import (
    READ_BLOCK_SCHEMA_BY_CHECKSUM,
    READ_BLOCK_SCHEMA_BY_ID,
    READ_BLOCK_SCHEMAS,
    ReadBlockSchemas,
)
from headrace.schemas.block_types import (
    DELETE_BLOCK_TYPE,
    INSTALL_SYSTEM_BLOCK_TYPES,
    READ_BLOCK_TYPE_BY_ID,
    READ_BLOCK_TYPE_BY_SLUG,
    READ_BLOCK_TYPES,
    UPDATE_BLOCK_TYPE,
    BlockTypeUpdate,
    ReadBlockTypes,
)
from headrace.schemas.filters import Like, StringIn
from headrace.server.store.tables import BLOCK_TYPE
from headrace.server.store.transaction import Store
from tests.operations.blocks_world import add_schema, make_block, make_schema, make_type
from tests.operations.events_seen import events_of
from tests.operations.runs_world import spoil

pytestmark = pytest.mark.usefixtures("home")
SECRET_OF_PREFECT = "sha256:c078ed9c1e813e224c0b353d7ad4564a11d51d3198d9ac0686478165a1911c78"


def test_a_type_is_read_by_id_and_by_slug(api: LocalClient) -> None:
    """Both ways lead to the same type; nobody's id or slug is not found."""
    made = make_type(api, description="How to log in.")

    assert api.call(READ_BLOCK_TYPE_BY_ID, id=made.id) == api.call(READ_BLOCK_TYPE_BY_SLUG, slug="login") == made
    for endpoint, arguments in ((READ_BLOCK_TYPE_BY_ID, {"id": uuid7()}), (READ_BLOCK_TYPE_BY_SLUG, {"slug": "x"})):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_a_slug_is_taken_once(api: LocalClient) -> None:
    """A second type of a slug is refused, as are slugs with other characters and names that are reserved."""
    make_type(api)

    with pytest.raises(ObjectAlreadyExists):
        make_type(api)
    for slug in ("Log", "log_in", "log in", "løgin", "a\n"):
        with pytest.raises(ValidationFailed):
            make_type(api, slug)
    with pytest.raises(Forbidden):
        make_type(api, "prefect-thing")


def test_only_given_fields_of_a_type_change(api: LocalClient, store: Store) -> None:
    """What an update leaves out stays; each change is told by an event."""
    made = make_type(api, description="old", logo_url="http://x/y.png")

    api.call(UPDATE_BLOCK_TYPE, id=made.id, body=BlockTypeUpdate(description="new"))

    changed = api.call(READ_BLOCK_TYPE_BY_ID, id=made.id)
    assert (changed.description, changed.logo_url) == ("new", "http://x/y.png")
    assert [event.event for event in events_of(store, "block-type", made.id)] == [
        "prefect.block-type.created",
        "prefect.block-type.updated",
    ]
    with pytest.raises(ObjectNotFound):
        api.call(UPDATE_BLOCK_TYPE, id=uuid7(), body=BlockTypeUpdate(description="new"))


def test_a_type_is_deleted_with_its_schemas_and_blocks(api: LocalClient, store: Store) -> None:
    """Nothing of a deleted type stays, and each block of it has its event."""
    schema = make_schema(api)
    block = make_block(api, schema)

    api.call(DELETE_BLOCK_TYPE, id=block.block_type_id)

    for endpoint, id in (
        (READ_BLOCK_TYPE_BY_ID, block.block_type_id),
        (READ_BLOCK_SCHEMA_BY_ID, schema.id),
        (READ_BLOCK_DOCUMENT_BY_ID, block.id),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, id=id)
    assert events_of(store, "block-document", block.id)[-1].event == "prefect.block-document.deleted"
    assert events_of(store, "block-type", block.block_type_id)[-1].event == "prefect.block-type.deleted"


def test_types_are_found_by_name_slug_and_capability(api: LocalClient) -> None:
    """Types come by name; filters narrow the list."""
    kinds = {slug: make_type(api, slug) for slug in ("beta", "alpha", "gamma")}
    add_schema(api, kinds["beta"], capabilities=["notify", "sing"])

    def slugs(**body: object) -> list[str]:
        return [one.slug for one in api.call(READ_BLOCK_TYPES, body=ReadBlockTypes(**body))]  # type: ignore[arg-type]

    assert slugs() == ["alpha", "beta", "gamma"]
    assert slugs(offset=1, limit=1) == ["beta"]
    assert slugs(block_types=BlockTypeFilter(name=Like(like_="AMM"))) == ["gamma"]
    assert slugs(block_types=BlockTypeFilter(slug=StringIn(any_=["alpha", "x"]))) == ["alpha"]
    assert slugs(block_schemas=BlockSchemaFilter(block_capabilities=CapabilitiesAll(all_=["sing"]))) == ["beta"]
    assert slugs(block_schemas=BlockSchemaFilter(block_capabilities=CapabilitiesAll(all_=["sing", "x"]))) == []


def test_the_types_of_prefect_are_installed_once(api: LocalClient) -> None:
    """Installing makes 54 types with the checksums that clients look for, and changes nothing the second time."""
    api.call(INSTALL_SYSTEM_BLOCK_TYPES)
    types = api.call(READ_BLOCK_TYPES, body=ReadBlockTypes())
    secret = next(one for one in types if one.slug == "secret")
    api.call(UPDATE_BLOCK_TYPE, id=secret.id, body=BlockTypeUpdate(description="ours"))

    api.call(INSTALL_SYSTEM_BLOCK_TYPES)

    again = api.call(READ_BLOCK_TYPES, body=ReadBlockTypes())
    assert [one.id for one in again] == [one.id for one in types]
    assert len(types) == len(api.call(READ_BLOCK_SCHEMAS, body=ReadBlockSchemas())) == 54
    assert {one.slug for one in types if one.is_protected} == {"local-file-system", "secret", "webhook"}
    found = api.call(READ_BLOCK_SCHEMA_BY_CHECKSUM, checksum=SECRET_OF_PREFECT, version="3.8.8")
    assert (found.block_type_id, found.fields["secret_fields"][0]) == (secret.id, "value")
    assert found.block_type is not None
    assert found.block_type.description == "ours"


def test_a_protected_type_stays(api: LocalClient) -> None:
    """A protected type cannot be deleted."""
    api.call(INSTALL_SYSTEM_BLOCK_TYPES)

    with pytest.raises(Forbidden):
        api.call(DELETE_BLOCK_TYPE, id=api.call(READ_BLOCK_TYPE_BY_SLUG, slug="secret").id)


def test_a_type_that_was_deleted_can_be_installed_anew(api: LocalClient) -> None:
    """Installing brings back what is missing."""
    api.call(INSTALL_SYSTEM_BLOCK_TYPES)
    api.call(DELETE_BLOCK_TYPE, id=api.call(READ_BLOCK_TYPE_BY_SLUG, slug="smb").id)

    api.call(INSTALL_SYSTEM_BLOCK_TYPES)

    kind = api.call(READ_BLOCK_TYPE_BY_SLUG, slug="smb")
    schemas = api.call(READ_BLOCK_SCHEMAS, body=ReadBlockSchemas())
    assert len([one for one in schemas if one.block_type_id == kind.id]) == 1


def test_g13_a_broken_type_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A type that cannot be read is left out of lists and reported; the others are served."""
    kinds = [make_type(api, slug) for slug in ("alpha", "beta", "gamma")]
    spoil(store, BLOCK_TYPE, kinds[1].id, "name", "a/b")

    found = api.call(READ_BLOCK_TYPES, body=ReadBlockTypes())

    assert {one.slug for one in found} == {"alpha", "gamma"}
    assert str(kinds[1].id) in caplog.text


def test_g16_servers_that_start_at_once_install_once(api: LocalClient) -> None:
    """However many install at the same time, each type and schema is there once, and they belong together."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: api.call(INSTALL_SYSTEM_BLOCK_TYPES), range(8)))

    schemas = api.call(READ_BLOCK_SCHEMAS, body=ReadBlockSchemas())
    assert len(schemas) == len({one.block_type_id for one in schemas}) == 54
    assert all(one.block_type is not None and one.fields["block_type_slug"] == one.block_type.slug for one in schemas)
