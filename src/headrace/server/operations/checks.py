"""Checking what users hand to their flows and their infrastructure against JSON schemas.

Schemas are written by strangers. So nothing a schema refers to is fetched, checking has a budget of time, and what may
take for ever in one step, as regular expressions do, is left to the engine, which checks parameters again.  # S7, S10
"""

import gc
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import islice
from time import thread_time
from typing import Any

from headrace.exceptions import ObjectAlreadyExists, ValidationFailed

Schema = Mapping[str, Any]
Check = Callable[[Any, Any, Any, Any], Iterable[Any]]

Place = tuple[str | int, ...]
Fault = tuple[Place, str]

CPU_SECONDS = 0.25
"""Time of the processor that one check may take, without collections of garbage that fall into it."""
MOST_FAULTS = 10
MOST_UNIQUE = 500
LEFT_OUT = ("pattern", "patternProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties")
_time = threading.local()


class Unfit(ObjectAlreadyExists):
    """Parameters that do not fit their deployment: a conflict with it, as the reference answers (409)."""


def check_parameters(values: Mapping[str, Any], schema: Schema | None) -> None:
    """Refuse parameters of a run that do not fit its flow, or that lack some.

    Args:
        values: the parameters.
        schema: JSON schema of the flow's parameters; None fits everything.

    Raises:
        Unfit: naming each parameter that does not fit.
    """
    if schema and (faults := list(_faults(values, schema, complete=True))):
        raise Unfit(f"Error creating flow run: the parameters do not fit: {'; '.join(faults)}.")


def check_default_parameters(values: Mapping[str, Any], schema: Schema | None, *, new: bool) -> None:
    """Refuse parameters of a deployment that do not fit its flow; a run may bring those that are wanting.

    Args:
        values: the parameters.
        schema: JSON schema of the flow's parameters; None fits everything.
        new: whether the deployment is being created; to one that is there they are a conflict, as to a run of it.

    Raises:
        ValidationFailed: naming each parameter that does not fit a new deployment.
        Unfit: naming each parameter that does not fit one that is there.
    """
    if values and schema and (faults := list(_faults(values, schema, complete=False))):
        raise (ValidationFailed if new else Unfit)(f"The parameters do not fit the flow: {'; '.join(faults)}.")


def fault_of_input(values: Mapping[str, Any], schema: Any) -> str | None:
    """What is wrong with the input for a paused run, by the schema the run asks for; None when nothing is.

    Args:
        values: the input.
        schema: what the run stored as its schema, whatever that is.
    """
    if not isinstance(schema, dict):
        return "the schema itself is no object"
    return next(iter(_faults(values, schema, complete=True)), None)


def check_job_variables(values: Mapping[str, Any], template: Schema, *, complete: bool, doing: str) -> None:
    """Refuse job variables that a pool's job template does not allow.

    Args:
        values: the job variables.
        template: the pool's base job template.
        complete: whether those that are required must be there, which they need to be on the last level only.
        doing: what is being done, for the message: "creating flow run".

    Raises:
        ValidationFailed: naming each variable that does not fit.
    """
    schema = template.get("variables")
    if not isinstance(schema, dict) or not (values or (complete and schema.get("required"))):
        return
    properties = schema.get("properties") or {}
    given = {  # a variable may be emptied, and one that is required may have its default
        name: value for name, value in values.items() if value is not None or name in schema.get("required", ())
    }
    defaults = {name: one["default"] for name, one in properties.items() if isinstance(one, dict) and "default" in one}
    missing = {name: value for name, value in defaults.items() if value is not None and name not in given}
    if faults := list(_faults(missing | given if complete else given, schema, complete)):
        raise ValidationFailed(f"Error {doing}: the job variables do not fit the work pool: {'; '.join(faults)}.")


def _faults(values: Mapping[str, Any], schema: Schema, complete: bool) -> Iterable[str]:
    for place, message in faults_of(values, schema, complete=complete):
        yield f"{'.'.join(str(step) for step in place)}: {message}" if place else message


def fault_of_schema(schema: Schema) -> str | None:
    """What keeps a JSON schema from being one; None when nothing does."""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return _short(error.message)
    except RecursionError:
        return "it is nested too deeply"
    return None


def faults_of(values: Mapping[str, Any], schema: Schema, *, complete: bool = True) -> Iterable[Fault]:
    """What is wrong with values, each fault with its place; a property that is missing is one at its own place.

    Args:
        values: what is checked.
        schema: the JSON schema.
        complete: whether what is required must be there.
    """
    from jsonschema.exceptions import SchemaError, UndefinedTypeCheck, UnknownType  # 0.1 s, which a start need not pay
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    fitting = dict(schema)
    if not complete:
        fitting.pop("required", None)
    _time.ends = thread_time() + CPU_SECONDS
    try:
        found = _validator(_has_patterns(fitting))(fitting, registry=Registry()).iter_errors(dict(values))
        for fault in islice(found, MOST_FAULTS):
            missing = (fault.message.split("'")[1],) if fault.validator == "required" and "'" in fault.message else ()
            yield (*fault.absolute_path, *missing), _short(fault.message)
    except TimeoutError:
        yield (), f"to check them takes longer than {CPU_SECONDS} s; make the schema simpler"
    except (SchemaError, UnknownType, UndefinedTypeCheck, Unresolvable) as error:
        yield (), f"the schema itself is not valid: {_short(str(error).splitlines()[0])}"
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:  # a schema that is none at all
        yield (), f"the schema itself is not valid: {type(error).__name__}"


@cache
def _validator(has_patterns: bool) -> Any:
    """What checks values, under a budget of time; with patterns, what else a property may be called is said by them."""
    from jsonschema import Draft202012Validator, validators

    checks = {name: _within_time(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    checks["uniqueItems"] = _few_unique
    for name in (*LEFT_OUT, *(("additionalProperties",) if has_patterns else ())):
        checks[name] = _is_left_to_the_engine
    return validators.extend(Draft202012Validator, checks)  # type: ignore[no-untyped-call]


def _collecting(phase: str, _: Any) -> None:
    """Put off the end of this thread's check by what a collection takes: it is for all that the process holds."""
    if phase == "start":
        _time.collects = thread_time()
    elif hasattr(_time, "ends"):
        _time.ends += thread_time() - _time.collects


gc.callbacks.append(_collecting)


def _within_time(check: Check) -> Check:
    def timed(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any]:
        if thread_time() > _time.ends:
            raise TimeoutError
        return check(validator, value, instance, schema)

    return timed


def _few_unique(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any]:
    from jsonschema import Draft202012Validator

    few = isinstance(instance, list) and len(instance) <= MOST_UNIQUE  # each is compared with each
    return Draft202012Validator.VALIDATORS["uniqueItems"](validator, value, instance, schema) if few else ()


def _is_left_to_the_engine(*_: Any) -> Iterable[Any]:
    return ()


def _has_patterns(schema: Any) -> bool:
    if isinstance(schema, dict):
        return "patternProperties" in schema or any(_has_patterns(value) for value in schema.values())
    return isinstance(schema, list) and any(_has_patterns(value) for value in schema)


def check_template(template: Schema) -> None:
    """Refuse a base job template of which no job could be made.

    Args:
        template: the template; an empty one is left to the first worker to fill.

    Raises:
        ValidationFailed: it lacks a part, or uses variables that it does not declare.
    """
    if not template:
        return
    if "job_configuration" not in template or "variables" not in template:
        raise _bad_template("A base_job_template has both `job_configuration` and `variables`; one of them is missing.")
    variables = template["variables"]
    declared = set((variables.get("properties") if isinstance(variables, dict) else None) or ())
    unknown = sorted(set(_placeholders(template["job_configuration"])) - declared)
    if unknown:
        raise _bad_template(f"The job_configuration uses variables that `variables` does not declare: {unknown}.")


def _bad_template(message: str) -> ValidationFailed:
    place = {"type": "value_error", "loc": ["body", "base_job_template"], "msg": message}
    return ValidationFailed(message, [place])


def _placeholders(value: Any) -> Iterable[str]:
    """Names in `{{ name }}`; a dot or a `$` begins something that is no variable."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _placeholders(one)
    elif isinstance(value, str):
        for part in value.split("{{")[1:]:
            name = part.partition("}}")[0].strip()
            if name.isidentifier():
                yield name


def _short(message: str, most: int = 300) -> str:
    return message if len(message) <= most else message[: most - 1] + "…"
