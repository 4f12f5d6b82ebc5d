"""Variables: small values that flows share, by name, and the calls about them."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import IdIn, NameMatch, Operator, TagsAll

VariableName = Annotated[str, Meta(pattern="^[a-z0-9_-]+$", max_length=255)]


VariableValue = str | int | bool | float | dict[str, Any] | list[Any] | None


class VariableFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which variables."""

    id: IdIn | None = None
    name: NameMatch | None = None
    operator: Operator = Operator.and_
    tags: TagsAll | None = None


class VariableSort(StrEnum):
    """Orders of variables."""

    CREATED_DESC = "CREATED_DESC"
    UPDATED_DESC = "UPDATED_DESC"
    NAME_DESC = "NAME_DESC"
    NAME_ASC = "NAME_ASC"


class VariableCreate(Struct, kw_only=True):
    """A variable to be created; its value is any JSON of less than 5000 characters."""

    name: VariableName
    tags: list[str] = []
    value: VariableValue


class Variable(Struct, kw_only=True):
    """A variable as it is stored."""

    created: datetime | None
    id: UUID
    name: VariableName
    tags: list[str] = []
    updated: datetime | None
    value: VariableValue


class VariableUpdate(Struct, kw_only=True):
    """What to change of a variable; what is left out stays."""

    name: VariableName | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    value: VariableValue | UnsetType = UNSET


class CountVariables(Struct, kw_only=True):
    """Which variables to count."""

    variables: VariableFilter | None = None


class ReadVariables(Struct, kw_only=True):
    """Which variables to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: VariableSort = VariableSort.NAME_ASC
    variables: VariableFilter | None = None


CREATE_VARIABLE = Endpoint("POST", "/variables/", body=VariableCreate, returns=Variable, status=201)
COUNT_VARIABLES = Endpoint("POST", "/variables/count", body=CountVariables, returns=int)
READ_VARIABLES = Endpoint("POST", "/variables/filter", body=ReadVariables, returns=list[Variable])
DELETE_VARIABLE_BY_NAME = Endpoint("DELETE", "/variables/name/{name}", returns=NoneType, status=204)
READ_VARIABLE_BY_NAME = Endpoint("GET", "/variables/name/{name}", returns=Variable)
UPDATE_VARIABLE_BY_NAME = Endpoint("PATCH", "/variables/name/{name}", body=VariableUpdate, returns=NoneType, status=204)
DELETE_VARIABLE = Endpoint("DELETE", "/variables/{id}", returns=NoneType, status=204)
READ_VARIABLE = Endpoint("GET", "/variables/{id}", returns=Variable)
UPDATE_VARIABLE = Endpoint("PATCH", "/variables/{id}", body=VariableUpdate, returns=NoneType, status=204)
