"""Saved searches: filters of a page, kept under a name, and the calls about them."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint


class SavedSearchFilter(Struct, kw_only=True):
    """One condition of a search: what a property of an object is compared with, and how."""

    object: str
    operation: str
    property: str
    type: str
    value: Any


class SavedSearchCreate(Struct, kw_only=True):
    """A search to be kept; it takes the place of one of its name."""

    filters: list[SavedSearchFilter] = []
    name: str


class SavedSearch(Struct, kw_only=True):
    """A search as it is stored."""

    created: datetime | None
    filters: list[SavedSearchFilter] = []
    id: UUID
    name: str
    updated: datetime | None


class ReadSavedSearches(Struct, kw_only=True):
    """Which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


CREATE_SAVED_SEARCH = Endpoint(
    "PUT", "/saved_searches/", body=SavedSearchCreate, returns=SavedSearch, status=201, existing=200
)
READ_SAVED_SEARCHES = Endpoint("POST", "/saved_searches/filter", body=ReadSavedSearches, returns=list[SavedSearch])
DELETE_SAVED_SEARCH = Endpoint("DELETE", "/saved_searches/{id}", returns=NoneType, status=204)
READ_SAVED_SEARCH = Endpoint("GET", "/saved_searches/{id}", returns=SavedSearch)
