"""Checking what a form holds: values that stand for others first, then all against the form's schema."""

from collections.abc import Iterable
from typing import TypeGuard

from headrace.exceptions import ValidationFailed
from headrace.schemas.ui_schemas import VALIDATE_OBJ, SchemaValueError, SchemaValuesValidationResponse, ValidateObj
from headrace.server.operations.checks import Fault, fault_of_schema, faults_of
from headrace.server.operations.hydration import examined
from headrace.server.operations.registry import implements
from headrace.server.operations.variables import known_variables
from headrace.server.store.transaction import Tx


@implements(VALIDATE_OBJ, access="variables:read")
def validate_obj(tx: Tx, body: ValidateObj) -> SchemaValuesValidationResponse:
    """What is wrong with the values of a form, each fault at its place."""
    if wrong := fault_of_schema(body.schema):
        raise ValidationFailed(f"Invalid schema: {wrong}")
    values, faults, templates = examined(body.values, known_variables(tx))
    settled = {place for place, _ in faults}.union(templates)
    found = [*faults, *(fault for fault in faults_of(values, body.schema) if fault[0] not in settled)]
    return SchemaValuesValidationResponse(errors=_at_their_places(found), valid=not found)


def _at_their_places(faults: Iterable[Fault]) -> list[str | SchemaValueError]:
    errors: list[str | SchemaValueError] = []
    for place, message in faults:
        here = errors
        for step in place:
            property, index = (None, step) if isinstance(step, int) else (step, None)
            there = SchemaValueError(property=property, index=index, errors=[])
            known = [one for one in here if _stands_where(one, there)]
            here.extend([] if known else [there])
            here = (known or [there])[0].errors
        here.append(message)
    return errors


def _stands_where(one: str | SchemaValueError, other: SchemaValueError) -> TypeGuard[SchemaValueError]:
    return isinstance(one, SchemaValueError) and (one.property, one.index) == (other.property, other.index)
