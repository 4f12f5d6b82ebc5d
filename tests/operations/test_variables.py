"""Variables: one of each name, any JSON, found by filters."""

from uuid import uuid4

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.filters import NameMatch, TagsAll
from headrace.schemas.variables import (
    COUNT_VARIABLES,
    CREATE_VARIABLE,
    DELETE_VARIABLE,
    DELETE_VARIABLE_BY_NAME,
    READ_VARIABLE,
    READ_VARIABLE_BY_NAME,
    READ_VARIABLES,
    UPDATE_VARIABLE,
    UPDATE_VARIABLE_BY_NAME,
    CountVariables,
    ReadVariables,
    Variable,
    VariableCreate,
    VariableFilter,
    VariableSort,
    VariableUpdate,
)
from headrace.server.store.transaction import Store
from tests.operations.events_seen import events_of


def made(api: LocalClient, name: str, value: object = 1, tags: list[str] | None = None) -> Variable:
    """A new variable."""
    return api.call(CREATE_VARIABLE, body=VariableCreate(name=name, value=value, tags=tags or []))


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "text", ["a", 1], {"deep": {"er": [None]}}])
def test_a_value_is_any_json(api: LocalClient, value: object) -> None:
    """What goes in comes out, by id and by name."""
    variable = made(api, "limit", value)

    assert api.call(READ_VARIABLE, id=variable.id).value == value
    assert api.call(READ_VARIABLE_BY_NAME, name="limit") == variable


def test_a_name_is_there_once(api: LocalClient) -> None:
    """Neither creating nor renaming gives two variables one name."""
    made(api, "one")
    made(api, "two")

    with pytest.raises(ObjectAlreadyExists, match="'one' already exists"):
        made(api, "one")
    with pytest.raises(ObjectAlreadyExists, match="'one' already exists"):
        api.call(UPDATE_VARIABLE_BY_NAME, name="two", body=VariableUpdate(name="one"))


def test_a_value_has_less_than_five_thousand_characters(api: LocalClient) -> None:
    """A longer one is refused, by creating and by changing."""
    made(api, "short")

    with pytest.raises(ValidationFailed, match="less than 5000 characters"):
        made(api, "long", "x" * 5000)
    with pytest.raises(ValidationFailed, match="less than 5000 characters"):
        api.call(UPDATE_VARIABLE_BY_NAME, name="short", body=VariableUpdate(value="x" * 5000))


def test_a_change_leaves_what_it_does_not_name(api: LocalClient) -> None:
    """A value may be changed to null, and tags stay."""
    variable = made(api, "plain", 1, ["t"])

    api.call(UPDATE_VARIABLE, id=variable.id, body=VariableUpdate(value=None))

    changed = api.call(READ_VARIABLE, id=variable.id)
    assert (changed.name, changed.value, changed.tags) == ("plain", None, ["t"])


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """By name and by id, for each call about one variable."""
    for call in (READ_VARIABLE_BY_NAME, DELETE_VARIABLE_BY_NAME):
        with pytest.raises(ObjectNotFound):
            api.call(call, name="nothing")
    with pytest.raises(ObjectNotFound):
        api.call(DELETE_VARIABLE, id=uuid4())
    with pytest.raises(ObjectNotFound):
        api.call(UPDATE_VARIABLE, id=uuid4(), body=VariableUpdate(value=1))


def test_filters_find_them(api: LocalClient) -> None:
    """By name and tags, in the order that was asked for."""
    made(api, "alpha", tags=["x", "y"])
    made(api, "beta", tags=["x"])
    made(api, "gamma")

    def names(chosen: VariableFilter | None = None, sort: VariableSort = VariableSort.NAME_ASC) -> list[str]:
        return [one.name for one in api.call(READ_VARIABLES, body=ReadVariables(variables=chosen, sort=sort))]

    assert names(sort=VariableSort.NAME_DESC) == ["gamma", "beta", "alpha"]
    assert names(VariableFilter(name=NameMatch(like_="A"))) == ["alpha", "beta", "gamma"]
    assert names(VariableFilter(name=NameMatch(any_=["beta"]))) == ["beta"]
    assert names(VariableFilter(tags=TagsAll(all_=["x", "y"]))) == ["alpha"]
    assert names(VariableFilter(tags=TagsAll(is_null_=True))) == ["gamma"]
    chosen = VariableFilter(tags=TagsAll(all_=["x"]))
    assert api.call(COUNT_VARIABLES, body=CountVariables(variables=chosen)) == 2


def test_g8_each_change_is_an_event(api: LocalClient, store: Store) -> None:
    """Creating, changing and deleting a variable are told with its value."""
    variable = made(api, "told", 1)
    api.call(UPDATE_VARIABLE, id=variable.id, body=VariableUpdate(value=2))
    api.call(DELETE_VARIABLE, id=variable.id)

    told = [(event.event, event.payload["value"]) for event in events_of(store, "variable", variable.id)]
    assert told == [
        ("prefect.variable.created", 1),
        ("prefect.variable.updated", 2),
        ("prefect.variable.deleted", 2),
    ]
