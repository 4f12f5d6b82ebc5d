"""The server itself: its health, versions and settings, and where results go by default."""

from types import NoneType
from typing import Any
from uuid import UUID

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint
from headrace.settings import Settings


class ServerDefaultResultStorage(Struct, kw_only=True):
    """The block that says where results go unless a flow says otherwise; null when there is none."""

    default_result_storage_block_id: UUID | None = None


class ServerDefaultResultStorageUpdate(Struct, kw_only=True):
    """The block to take for that."""

    default_result_storage_block_id: UUID


READ_SETTINGS = Endpoint("GET", "/admin/settings", returns=Settings)
CLEAR_SERVER_DEFAULT_RESULT_STORAGE = Endpoint("DELETE", "/admin/storage", returns=NoneType, status=204)
READ_SERVER_DEFAULT_RESULT_STORAGE = Endpoint("GET", "/admin/storage", returns=ServerDefaultResultStorage)
UPDATE_SERVER_DEFAULT_RESULT_STORAGE = Endpoint(
    "PUT", "/admin/storage", body=ServerDefaultResultStorageUpdate, returns=ServerDefaultResultStorage
)
READ_VERSION = Endpoint("GET", "/admin/version", returns=str)
HEALTH_CHECK = Endpoint("GET", "/health", returns=bool)
HELLO = Endpoint("GET", "/hello", returns=str)
PERFORM_READINESS_CHECK = Endpoint("GET", "/ready", returns=Any)
SERVER_VERSION = Endpoint("GET", "/version", returns=str)
