"""API keys: what programs log in with, each with permissions of its own, until it expires or is revoked."""

from datetime import datetime
from types import NoneType
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint

Permission = Annotated[str, Meta(pattern=r"^(admin|write|read|[a-z_]+:(read|write))\Z")]
"""`admin` allows all; `write` all but what administers the server; `read` all that changes nothing; `area:read` and
`area:write` what lies in one area, such as `runs:write`. The secrets of blocks are an area of their own, which neither
`write` nor `read` includes: `secrets:read`."""


class ApiKeyCreate(Struct, kw_only=True):
    """A key to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    permissions: Annotated[list[Permission], Meta(min_length=1, max_length=64)]
    work_pool: str | None = None
    """The only work pool whose things it may touch; all when absent."""
    expires: datetime | None = None


class ApiKey(Struct, kw_only=True):
    """A key as it is stored: all about it but itself."""

    id: UUID
    created: datetime
    name: str
    permissions: list[str]
    work_pool: str | None = None
    expires: datetime | None = None
    last_used: datetime | None = None


class NewApiKey(ApiKey, kw_only=True):
    """A key just made; nobody can read `key` again."""

    key: str


CREATE_API_KEY = Endpoint("POST", "/api_keys/", body=ApiKeyCreate, returns=NewApiKey, status=201)
READ_API_KEYS = Endpoint("GET", "/api_keys/", returns=list[ApiKey])
DELETE_API_KEY = Endpoint("DELETE", "/api_keys/{id}", returns=NoneType, status=204)
