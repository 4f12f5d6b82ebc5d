"""Variables: creating, reading, changing, deleting and finding them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace
from sqlalchemy import ColumnElement, Row, Select, delete, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound
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
    VariableUpdate,
)
from headrace.server.events.log import tell_of
from headrace.server.operations.arguments import detail, invalid
from headrace.server.operations.paging import count_of, listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import ordered, where
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import VARIABLE
from headrace.server.store.transaction import Tx

LONGEST_VALUE = 5000
_SELECT = select(VARIABLE)


def _read_row(row: Row[Any]) -> Variable:
    return msgspec.convert(values_of(row), Variable)


@implements(CREATE_VARIABLE, access="variables:write")
def create_variable(tx: Tx, body: VariableCreate) -> Variable:
    """Create a variable; there is one of each name."""
    _check_value(body.value)
    variable = Variable(id=uuid7(), created=tx.now, updated=tx.now, **asdict(body))
    if not insert_ignore(tx, VARIABLE, [asdict(variable)], index=["name"]):
        raise _name_is_taken(body.name)
    _tell(tx, "created", variable)
    return variable


@implements(READ_VARIABLE, access="variables:read")
def read_variable(tx: Tx, id: UUID) -> Variable:
    """One variable."""
    return _find(tx, VARIABLE.c.id == id, id)


@implements(READ_VARIABLE_BY_NAME, access="variables:read")
def read_variable_by_name(tx: Tx, name: str) -> Variable:
    """The variable of a name."""
    return _find(tx, VARIABLE.c.name == name, name)


@implements(UPDATE_VARIABLE, access="variables:write")
def update_variable(tx: Tx, id: UUID, body: VariableUpdate) -> None:
    """Change a variable."""
    _change(tx, read_variable(tx, id), body)


@implements(UPDATE_VARIABLE_BY_NAME, access="variables:write")
def update_variable_by_name(tx: Tx, name: str, body: VariableUpdate) -> None:
    """Change the variable of a name."""
    _change(tx, read_variable_by_name(tx, name), body)


@implements(DELETE_VARIABLE, access="variables:write")
def delete_variable(tx: Tx, id: UUID) -> None:
    """Delete a variable."""
    _delete(tx, read_variable(tx, id))


@implements(DELETE_VARIABLE_BY_NAME, access="variables:write")
def delete_variable_by_name(tx: Tx, name: str) -> None:
    """Delete the variable of a name."""
    _delete(tx, read_variable_by_name(tx, name))


@implements(READ_VARIABLES, access="variables:read")
def read_variables(tx: Tx, body: ReadVariables) -> list[Variable]:
    """The variables that a filter finds."""
    chosen = ordered(_chosen(body.variables), VARIABLE, body.sort).limit(page_size(body.limit)).offset(body.offset)
    return listed(tx.execute(chosen), _read_row, "variable")


@implements(COUNT_VARIABLES, access="variables:read")
def count_variables(tx: Tx, body: CountVariables) -> int:
    """How many variables a filter finds."""
    return count_of(tx, _chosen(body.variables))


def known_variables(tx: Tx) -> Callable[[str], Any]:
    """Gives the value of the variable of a name, or raises LookupError."""

    def value_of(name: str) -> Any:
        row = tx.execute(select(VARIABLE.c.value).where(VARIABLE.c.name == name)).one_or_none()
        if row is None:
            raise LookupError(name)
        return row.value

    return value_of


def _chosen(chosen: VariableFilter | None) -> Select[Any]:
    return _SELECT.where(where(VARIABLE, chosen))


def _find(tx: Tx, condition: ColumnElement[bool], key: UUID | str) -> Variable:
    row = tx.execute(_SELECT.where(condition)).one_or_none()
    if row is None:
        raise ObjectNotFound("Variable", key)
    return _read_row(row)


def _change(tx: Tx, variable: Variable, body: VariableUpdate) -> None:
    changes = {name: value for name, value in asdict(body).items() if value is not UNSET}
    changed = replace(variable, **changes, updated=tx.now)
    _check_value(changed.value)
    taken = select(VARIABLE.c.id).where(VARIABLE.c.name == changed.name, VARIABLE.c.id != changed.id)
    if changed.name != variable.name and tx.execute(taken).first() is not None:
        raise _name_is_taken(changed.name)
    tx.execute(update(VARIABLE).where(VARIABLE.c.id == changed.id).values(asdict(changed)))
    _tell(tx, "updated", changed)


def _delete(tx: Tx, variable: Variable) -> None:
    tx.execute(delete(VARIABLE).where(VARIABLE.c.id == variable.id))
    _tell(tx, "deleted", variable)


def _check_value(value: Any) -> None:
    if len(msgspec.json.encode(value)) >= LONGEST_VALUE:
        message = f"Variable value must be less than {LONGEST_VALUE} characters"
        raise invalid(detail("value_error", ["body", "value"], message))


def _name_is_taken(name: str) -> ObjectAlreadyExists:
    return ObjectAlreadyExists(f"A variable with the name {name!r} already exists.")


def _tell(tx: Tx, what: str, variable: Variable) -> None:
    payload = {"name": variable.name, "value": variable.value, "tags": variable.tags}
    tell_of(tx, "variable", what, variable.id, variable.name, payload=payload)
