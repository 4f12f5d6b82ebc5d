"""Block schemas: known by checksum and version, with what their blocks can do."""

from typing import Any

import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden, ObjectNotFound, ValidationFailed
from headrace.schemas.block_documents import READ_BLOCK_DOCUMENT_BY_ID
from headrace.schemas.block_filters import BlockSchemaFilter, CapabilitiesAll
from headrace.schemas.block_schemas import (
    CREATE_BLOCK_SCHEMA,
    DELETE_BLOCK_SCHEMA,
    READ_AVAILABLE_BLOCK_CAPABILITIES,
    READ_BLOCK_SCHEMA_BY_CHECKSUM,
    READ_BLOCK_SCHEMA_BY_ID,
    READ_BLOCK_SCHEMAS,
    BlockSchemaCreate,
    ReadBlockSchemas,
)
from headrace.schemas.block_types import INSTALL_SYSTEM_BLOCK_TYPES
from headrace.schemas.filters import IdIn, StringIn
from headrace.server.operations.block_checksums import checksum_of
from headrace.server.store.tables import BLOCK_SCHEMA
from headrace.server.store.transaction import Store
from tests.operations.blocks_world import add_schema, make_block, make_schema, make_type
from tests.operations.runs_world import is_new, spoil

pytestmark = pytest.mark.usefixtures("home")

BARE = {"type": "object", "title": "T", "block_type_slug": "ck", "block_schema_references": {}}
OWN = {"type": "object", "title": "A"}
BLOCK = {
    "type": "object",
    "block_type_slug": "bk",
    "properties": {"x": {"$ref": "#/definitions/A"}},
    "secret_fields": ["p"],
    "block_schema_references": {},
}
MEASURED: dict[str, tuple[dict[str, Any], str]] = {
    "no fields": (
        {},
        "sha256:f8e6e96abbc38504d4e9c99fc57281fa0026bede1fa42db79f22f984501710f4",
    ),
    "plain": (
        BARE,
        "sha256:5c5f6520921226b3807b23d6d90d4020a87703afd4d52d9163ff68d604a68123",
    ),
    "secrets do not count": (
        {**BARE, "secret_fields": ["a"]},
        "sha256:5c5f6520921226b3807b23d6d90d4020a87703afd4d52d9163ff68d604a68123",
    ),
    "a definition nobody refers to": (
        {**BARE, "definitions": {"A": OWN}},
        "sha256:5c5f6520921226b3807b23d6d90d4020a87703afd4d52d9163ff68d604a68123",
    ),
    "a definition behind a block": (
        {**BARE, "properties": {"b": {"$ref": "#/definitions/B"}}, "definitions": {"A": OWN, "B": BLOCK}},
        "sha256:cea81e953a05f2305e08c7940396b1e041557301e6ddb36ac1e7b42f4aabe7b7",
    ),
    "an empty definition": (
        {**BARE, "properties": {"b": {"$ref": "#/definitions/E"}}, "definitions": {"E": {}}},
        "sha256:d9e50ec10e794224666839ca70e3a60fc3774b8542ee525fc4961f60621a7b1b",
    ),
    "no definitions": (
        {**BARE, "definitions": {}},
        "sha256:85a3b15c5bb39eb5e663bec40780eb39a2d760bf9fc4150b78b40f87f832690e",
    ),
    "numbers and letters": (
        {**BARE, "properties": {"b": {"default": 1.0, "é\u2028": -0.0, "n": 12345678901}}},
        "sha256:6ca0114201ada795b7bb812818ccff6e8014589c8306ce29ae55a242e1b92818",
    ),
}
"""Fields, and the checksum that Prefect 3.8.8 gave them."""


@pytest.mark.parametrize("case", MEASURED)
def test_checksums_are_those_of_clients(case: str) -> None:
    """The checksum is the one a client of Prefect computes for the same fields, to the byte."""
    fields, expected = MEASURED[case]

    assert checksum_of(fields) == expected


def test_a_schema_is_made_once_by_checksum_and_version(api: LocalClient, store: Store) -> None:
    """The same fields in the same version are the schema that is there; in another version they are a new one."""
    kind = make_type(api)
    body = BlockSchemaCreate(block_type_id=kind.id, fields={"title": "Login", "secret_fields": ["password"]})
    first_time = is_new(store, CREATE_BLOCK_SCHEMA, body=body)

    again = api.call(CREATE_BLOCK_SCHEMA, body=body)
    newer = api.call(
        CREATE_BLOCK_SCHEMA, body=BlockSchemaCreate(block_type_id=kind.id, fields=body.fields, version="2")
    )

    assert first_time
    assert not is_new(store, CREATE_BLOCK_SCHEMA, body=body)
    assert (again.version, newer.version) == ("non-versioned", "2")
    assert again.checksum == newer.checksum
    assert again.id != newer.id
    assert again.fields == {"block_schema_references": {}, **body.fields}
    assert again.block_type == kind


def test_a_schema_is_read_by_id_and_by_checksum(api: LocalClient) -> None:
    """A checksum leads to the newest version, or to the one asked for."""
    old = make_schema(api)
    new = add_schema(api, old.block_type, ("password",), version="2")

    assert api.call(READ_BLOCK_SCHEMA_BY_ID, id=old.id) == old
    assert api.call(READ_BLOCK_SCHEMA_BY_CHECKSUM, checksum=old.checksum) == new
    assert api.call(READ_BLOCK_SCHEMA_BY_CHECKSUM, checksum=old.checksum, version="non-versioned") == old
    for endpoint, arguments in (
        (READ_BLOCK_SCHEMA_BY_ID, {"id": uuid7()}),
        (READ_BLOCK_SCHEMA_BY_CHECKSUM, {"checksum": "sha256:0"}),
        (READ_BLOCK_SCHEMA_BY_CHECKSUM, {"checksum": old.checksum, "version": "3"}),
        (DELETE_BLOCK_SCHEMA, {"id": uuid7()}),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_a_schema_needs_its_type_and_paths_for_its_secrets(api: LocalClient) -> None:
    """A schema of no type is not found; secrets that are no list of paths are refused."""
    kind = make_type(api)

    with pytest.raises(ObjectNotFound):
        api.call(CREATE_BLOCK_SCHEMA, body=BlockSchemaCreate(block_type_id=uuid7()))
    for secrets in ("password", [1], {"password": True}, None):
        body = BlockSchemaCreate(block_type_id=kind.id, fields={"secret_fields": secrets})
        with pytest.raises(ValidationFailed):
            api.call(CREATE_BLOCK_SCHEMA, body=body)


def test_schemas_are_found_by_filters_the_newest_first(api: LocalClient) -> None:
    """Filters by type, id, version and capabilities narrow the list."""
    one = make_schema(api, "one", capabilities=["read-path", "write-path"])
    two = make_schema(api, "two", capabilities=["read-path"], version="2")

    def found(**chosen: object) -> list[object]:
        body = ReadBlockSchemas(block_schemas=BlockSchemaFilter(**chosen))  # type: ignore[arg-type]
        return [schema.id for schema in api.call(READ_BLOCK_SCHEMAS, body=body)]

    assert found() == [two.id, one.id]
    assert found(block_capabilities=CapabilitiesAll(all_=["read-path", "write-path"])) == [one.id]
    assert found(version=StringIn(any_=["2"])) == [two.id]
    assert found(id=IdIn(any_=[one.id])) == found(block_type_id=IdIn(any_=[one.block_type_id])) == [one.id]  # type: ignore[list-item]
    assert api.call(READ_AVAILABLE_BLOCK_CAPABILITIES) == ["read-path", "write-path"]


def test_a_schema_is_deleted_with_its_blocks(api: LocalClient) -> None:
    """The blocks of a deleted schema go with it; the schemas of a protected type stay."""
    schema = make_schema(api)
    block = make_block(api, schema)
    api.call(INSTALL_SYSTEM_BLOCK_TYPES)
    protected = next(
        one
        for one in api.call(READ_BLOCK_SCHEMAS, body=ReadBlockSchemas())
        if one.block_type is not None and one.block_type.is_protected
    )

    api.call(DELETE_BLOCK_SCHEMA, id=schema.id)

    with pytest.raises(ObjectNotFound):
        api.call(READ_BLOCK_DOCUMENT_BY_ID, id=block.id)
    with pytest.raises(Forbidden):
        api.call(DELETE_BLOCK_SCHEMA, id=protected.id)


def test_g13_a_broken_schema_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A schema that cannot be read is left out of lists and reported; the others are served."""
    schemas = [make_schema(api, slug, capabilities=[slug]) for slug in ("alpha", "beta", "gamma")]
    spoil(store, BLOCK_SCHEMA, schemas[1].id, "capabilities", '{"not": "a list"}')

    found = api.call(READ_BLOCK_SCHEMAS, body=ReadBlockSchemas())

    assert [one.id for one in found] == [schemas[2].id, schemas[0].id]
    assert str(schemas[1].id) in caplog.text
    assert api.call(READ_AVAILABLE_BLOCK_CAPABILITIES) == ["alpha", "gamma"]
