"""CSRF tokens, which Prefect's clients ask for. headrace knows foreign pages by what browsers say of them instead."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint


class CsrfToken(Struct, kw_only=True):
    """A token that one client may send along until it expires."""

    client: str
    token: str
    expiration: datetime
    id: UUID | None = None
    created: datetime | None = None
    updated: datetime | None = None


CREATE_CSRF_TOKEN = Endpoint("GET", "/csrf-token", returns=CsrfToken)
