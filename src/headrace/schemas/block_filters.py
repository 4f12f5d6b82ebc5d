"""Filters and orders of block types, schemas and blocks."""

from enum import StrEnum

from msgspec import Struct, field

from headrace.schemas.filters import IdIn, IsEqual, Like, NameMatch, Operator, StringIn


class CapabilitiesAll(Struct, kw_only=True, forbid_unknown_fields=True):
    """Capabilities that include all of these."""

    all_: list[str] | None = None


class BlockTypeFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which block types."""

    name: Like | None = None
    slug: StringIn | None = None


class BlockSchemaFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which block schemas."""

    block_capabilities: CapabilitiesAll | None = None
    block_type_id: IdIn | None = None
    id: IdIn | None = None
    operator: Operator = Operator.and_
    version: StringIn | None = None


class BlockDocumentFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which blocks; anonymous ones only when `is_anonymous` says so, or is null."""

    block_type_id: IdIn | None = None
    id: IdIn | None = None
    is_anonymous: IsEqual | None = field(default_factory=lambda: IsEqual(eq_=False))
    name: NameMatch | None = None
    operator: Operator = Operator.and_


class BlockDocumentSort(StrEnum):
    """Orders of blocks."""

    NAME_DESC = "NAME_DESC"
    NAME_ASC = "NAME_ASC"
    BLOCK_TYPE_AND_NAME_ASC = "BLOCK_TYPE_AND_NAME_ASC"
