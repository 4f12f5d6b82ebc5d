"""The server itself: health, versions, settings, where results go by default."""

from typing import Any

import msgspec
from sqlalchemy import delete, select, text

from headrace._internal.ids import uuid7
from headrace.exceptions import ValidationFailed
from headrace.schemas.admin import (
    CLEAR_SERVER_DEFAULT_RESULT_STORAGE,
    HEALTH_CHECK,
    HELLO,
    PERFORM_READINESS_CHECK,
    READ_SERVER_DEFAULT_RESULT_STORAGE,
    READ_SETTINGS,
    READ_VERSION,
    SERVER_VERSION,
    UPDATE_SERVER_DEFAULT_RESULT_STORAGE,
    ServerDefaultResultStorage,
    ServerDefaultResultStorageUpdate,
)
from headrace.server.operations.block_documents import read_block_document_by_id
from headrace.server.operations.block_removal import RESULT_STORAGE
from headrace.server.operations.registry import implements
from headrace.server.store.statements import upsert
from headrace.server.store.tables import CONFIGURATION
from headrace.server.store.transaction import Tx
from headrace.settings import Settings, get_settings
from headrace.settings.loading import masked

PREFECT_VERSION = "3.8.8"
"""The version of Prefect whose API this is: clients refuse another major one, and warn of an older one."""
API_VERSION = "0.8.4"


@implements(HEALTH_CHECK, access="none:read")
def health_check(tx: Tx) -> bool:  # noqa: ARG001
    """Whether the server answers."""
    return True


@implements(PERFORM_READINESS_CHECK, access="none:read")
def perform_readiness_check(tx: Tx) -> Any:
    """Whether the server can do its work: its database answers."""
    tx.execute(text("select 1"))
    return {"message": "OK"}


@implements(HELLO, access="admin:read")
def hello(tx: Tx) -> str:  # noqa: ARG001
    """A wave of the hand."""
    return "👋"


@implements(SERVER_VERSION, access="admin:read")
def server_version(tx: Tx) -> str:  # noqa: ARG001
    """The version of the API."""
    return API_VERSION


@implements(READ_VERSION, access="admin:read")
def read_version(tx: Tx) -> str:  # noqa: ARG001
    """The version of Prefect whose clients are at home here."""
    return PREFECT_VERSION


@implements(READ_SETTINGS, access="admin:read")
def read_settings(tx: Tx) -> Settings:  # noqa: ARG001
    """The server's settings, secrets as stars."""
    return masked(get_settings())


@implements(READ_SERVER_DEFAULT_RESULT_STORAGE, access="admin:read")
def read_server_default_result_storage(tx: Tx) -> ServerDefaultResultStorage:
    """Where results go unless a flow says otherwise."""
    row = select(CONFIGURATION.c.value).where(CONFIGURATION.c.key == RESULT_STORAGE)
    return msgspec.convert(
        {"default_result_storage_block_id": tx.execute(row).scalar_one_or_none()}, ServerDefaultResultStorage
    )


@implements(UPDATE_SERVER_DEFAULT_RESULT_STORAGE, access="admin:write")
def update_server_default_result_storage(tx: Tx, body: ServerDefaultResultStorageUpdate) -> ServerDefaultResultStorage:
    """Say where results go: a block that files can be written to."""
    id = body.default_result_storage_block_id
    schema = read_block_document_by_id(tx, id).block_schema
    if schema is None or "write-path" not in schema.capabilities:
        raise ValidationFailed(f"No files can be written to the block {id}. Name one that can `write-path`.")
    note = {"id": uuid7(), "created": tx.now, "updated": tx.now, "key": RESULT_STORAGE, "value": str(id)}
    upsert(tx, CONFIGURATION, [note], index=["key"], update=["value", "updated"], counted=False)
    return ServerDefaultResultStorage(default_result_storage_block_id=id)


@implements(CLEAR_SERVER_DEFAULT_RESULT_STORAGE, access="admin:write")
def clear_server_default_result_storage(tx: Tx) -> None:
    """Let results go where the clients' own settings say."""
    tx.execute(delete(CONFIGURATION).where(CONFIGURATION.c.key == RESULT_STORAGE))
