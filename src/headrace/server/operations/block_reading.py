"""From rows to blocks: types, schemas, and documents with the blocks they refer to.

A document's row holds its own values, encrypted, and beside them which other document stands for which of its fields.
Reading one fetches all that it refers to, level by level, and puts it together. Each document hides its secrets by its
own schema before it goes into another one, so no schema made for the purpose can lay them open.  # S12
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import Row, Select, select

from headrace.exceptions import ApiError, ValidationFailed
from headrace.schemas.block_documents import BlockDocument
from headrace.schemas.block_schemas import BlockSchema
from headrace.schemas.block_secrets import masked, secret_paths
from headrace.schemas.block_types import BlockType
from headrace.server.operations.block_vault import unseal
from headrace.server.operations.paging import listed
from headrace.server.operations.rows import values_of
from headrace.server.store.long_lists import among
from headrace.server.store.tables import BLOCK_DOCUMENT, BLOCK_SCHEMA, BLOCK_TYPE
from headrace.server.store.transaction import Tx

DEEPEST = 32
"""How many blocks may stand one in the other."""
MOST_WORK = 32 << 20
"""How much work it may be to put a block together: for each block in it, as often as it appears, the bytes of all that
is in that, once and for each path of its secrets.  # S7"""
_OVERHEAD = 2048
"""What a block adds to the bytes of its values: what is told of it and its type."""


class Unreadable(ApiError):
    """A stored block cannot be read; the server's log says why."""


class TooMuchInside(ValidationFailed, ValueError):
    """Putting a block together would take too many others, or too large ones."""


class StoredBlock(Struct, kw_only=True):
    """A document as it is stored: its own values in clear, and the ids of those that stand for its other fields."""

    block_schema_id: UUID
    block_type_id: UUID
    created: Any
    data: dict[str, Any]
    id: UUID
    is_anonymous: bool
    name: str
    references: dict[str, UUID]
    schema: BlockSchema
    size: int
    updated: Any

    @property
    def type(self) -> BlockType:
        """Its block type."""
        assert self.schema.block_type is not None
        return self.schema.block_type

    @property
    def secrets(self) -> list[str]:
        """The paths of its secrets."""
        return secret_paths(self.schema.fields)


def read_type_row(row: Row[Any]) -> BlockType:
    """A row of the table as the struct."""
    return msgspec.convert(values_of(row), BlockType)


def read_schemas(tx: Tx, chosen: Select[Any]) -> list[BlockSchema]:
    """The block schemas that a statement selects, with their types."""
    rows = tx.execute(chosen).all()
    wanted = list({row.block_type_id for row in rows})
    types = tx.execute(select(BLOCK_TYPE).where(among(BLOCK_TYPE.c.id, wanted)))
    by_id = {one.id: one for one in listed(types, read_type_row, "block type")}

    def read(row: Row[Any]) -> BlockSchema:
        schema = msgspec.convert(values_of(row), BlockSchema)
        if row.block_type_id not in by_id:
            raise ValueError("its block type cannot be read")
        schema.block_type = by_id[row.block_type_id]
        return schema

    return listed(rows, read, "block schema")


class Shelf:
    """Documents with all that they refer to, ready to be put together.

    Args:
        tx: the transaction to read in.
        rows: of the documents themselves.
    """

    def __init__(self, tx: Tx, rows: Sequence[Row[Any]]) -> None:
        self.blocks: dict[UUID, StoredBlock] = {}
        self.order = [row.id for row in rows]
        self._measures: dict[UUID, tuple[int, int, int]] = {}
        tried: set[UUID] = set()
        for _ in range(DEEPEST + 1):  # a block that is deeper is refused below
            tried.update(row.id for row in rows)
            found = _open(tx, rows)
            self.blocks.update(found)
            ahead = {id for one in found.values() for id in one.references.values()} - tried
            if not ahead:
                break
            rows = tx.execute(select(BLOCK_DOCUMENT).where(among(BLOCK_DOCUMENT.c.id, list(ahead)))).all()

    def only(self) -> StoredBlock | None:
        """The one document whose row was given; None when there was no row.

        Raises:
            Unreadable: it is there and cannot be read.
        """
        if self.order and self.order[0] not in self.blocks:
            raise Unreadable(f"The block {self.order[0]} cannot be read; the log of the server says why.")
        return self.blocks[self.order[0]] if self.order else None

    def documents(self, *, secrets: bool) -> list[BlockDocument]:
        """The documents, in the order of their rows; those that cannot be read are left out and reported.  # G13"""
        there = [self.blocks[id] for id in self.order if id in self.blocks]
        return listed(there, lambda one: self.document(one, secrets=secrets), "block document")

    def document(self, block: StoredBlock, *, secrets: bool) -> BlockDocument:
        """One document.

        Raises:
            TooMuchInside: it holds too much.
        """
        self._measure(block, ())
        return BlockDocument(
            id=block.id,
            created=block.created,
            updated=block.updated,
            name=block.name,
            is_anonymous=block.is_anonymous,
            data=self.values(block, secrets=secrets),
            block_schema=block.schema,
            block_schema_id=block.block_schema_id,
            block_type=block.type,
            block_type_id=block.block_type_id,
            block_type_name=block.type.name,
            block_document_references=self._references(block),
        )

    def values(self, block: StoredBlock, *, secrets: bool) -> dict[str, Any]:
        """Its values, with those of the blocks that it refers to in their places."""
        inner = {name: self.values(other, secrets=secrets) for name, other in self._inside(block)}
        whole = block.data | inner
        return whole if secrets else masked(whole, block.secrets)

    def _inside(self, block: StoredBlock) -> Iterable[tuple[str, StoredBlock]]:
        """The blocks it refers to; one that was deleted is there no longer."""
        return [(name, self.blocks[id]) for name, id in sorted(block.references.items()) if id in self.blocks]

    def _references(self, block: StoredBlock) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "block_document": {
                    "id": other.id,
                    "name": other.name,
                    "block_type": other.type,
                    "is_anonymous": other.is_anonymous,
                    "block_document_references": self._references(other),
                }
            }
            for name, other in self._inside(block)
        }

    def _measure(self, block: StoredBlock, around: tuple[UUID, ...]) -> tuple[int, int, int]:
        """How deep a block is, how many bytes it has with all that is in it, and how much work that is."""
        found = self._measures.get(block.id)
        if found is None:
            if block.id in around or len(around) >= DEEPEST:
                raise _too_deep(block)
            inside = [self._measure(other, (*around, block.id)) for _, other in self._inside(block)]
            depth = 1 + max((one for one, _, _ in inside), default=0)
            size = _OVERHEAD + block.size + sum(one for _, one, _ in inside)
            work = size * (1 + len(block.secrets)) + sum(one for _, _, one in inside)
            if depth > DEEPEST:
                raise _too_deep(block)
            if work > MOST_WORK:
                raise TooMuchInside(f"The block {block.name!r} holds too many others, or too large ones.")
            found = self._measures[block.id] = depth, size, work
        return found


def _too_deep(block: StoredBlock) -> TooMuchInside:
    return TooMuchInside(
        f"The block {block.name!r} would hold itself, or others more than {DEEPEST} levels deep. "
        "Let it refer to no block that leads back to it."
    )


def _open(tx: Tx, rows: Sequence[Row[Any]]) -> dict[UUID, StoredBlock]:
    wanted = list({row.block_schema_id for row in rows})
    schemas = {one.id: one for one in read_schemas(tx, select(BLOCK_SCHEMA).where(among(BLOCK_SCHEMA.c.id, wanted)))}

    def read(row: Row[Any]) -> StoredBlock:
        if row.block_schema_id not in schemas:
            raise ValueError("its schema cannot be read")
        plain = {"data": unseal(row.data, row.key_id), "schema": schemas[row.block_schema_id], "size": len(row.data)}
        return msgspec.convert(values_of(row) | plain, StoredBlock)

    return {one.id: one for one in listed(rows, read, "block document")}
