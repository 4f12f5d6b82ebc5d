"""Saved searches: one of each name."""

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound
from headrace.schemas.saved_searches import (
    CREATE_SAVED_SEARCH,
    DELETE_SAVED_SEARCH,
    READ_SAVED_SEARCH,
    READ_SAVED_SEARCHES,
    ReadSavedSearches,
    SavedSearchCreate,
    SavedSearchFilter,
)

FAILED = SavedSearchFilter(object="flow_run", property="state", type="state", operation="any", value=["FAILED"])


def test_a_search_takes_the_place_of_the_one_of_its_name(api: LocalClient) -> None:
    """Its id stays."""
    kept = api.call(CREATE_SAVED_SEARCH, body=SavedSearchCreate(name="bad runs", filters=[FAILED]))
    again = api.call(CREATE_SAVED_SEARCH, body=SavedSearchCreate(name="bad runs"))

    assert (again.id, again.filters) == (kept.id, [])
    assert api.call(READ_SAVED_SEARCHES, body=ReadSavedSearches()) == [again]


def test_a_search_is_read_and_deleted(api: LocalClient) -> None:
    """Its conditions come back as they were; then it is gone."""
    kept = api.call(CREATE_SAVED_SEARCH, body=SavedSearchCreate(name="bad runs", filters=[FAILED]))

    assert api.call(READ_SAVED_SEARCH, id=kept.id).filters == [FAILED]
    api.call(DELETE_SAVED_SEARCH, id=kept.id)
    for call in (READ_SAVED_SEARCH, DELETE_SAVED_SEARCH):
        with pytest.raises(ObjectNotFound):
            api.call(call, id=kept.id)
