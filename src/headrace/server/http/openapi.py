"""The description of the API in OpenAPI 3.1, made from the table of operations and the types of the wire."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import inspect as inspect_types

from headrace._internal.version import version
from headrace.schemas.endpoint import WIRE_NAMES
from headrace.schemas.flow_runs import DOWNLOAD_LOGS
from headrace.server.http.routes import path_names
from headrace.server.operations.registry import Operation, Raw
from headrace.settings import Secret

TAGS = {
    "block_documents": "Block documents",
    "block_schemas": "Block schemas",
    "block_types": "Block types",
    "block_capabilities": "Block capabilities",
    "csrf-token": "Root",
    "health": "Root",
    "hello": "Root",
    "ready": "Root",
    "saved_searches": "SavedSearches",
    "templates": "Automations",
    "v2": "Concurrency Limits V2",
    "version": "Root",
}
"""Tags that are not just the first segment of the path in other letters."""
API_VERSION = "0.8.4"
_TEXT = {"type": "string"}
_FAULT = {
    "type": "object",
    "properties": {
        "type": _TEXT,
        "loc": {"type": "array", "items": {"anyOf": [_TEXT, {"type": "integer"}]}},
        "msg": _TEXT,
    },
    "required": ["type", "loc", "msg"],
}
_ERRORS = {
    "Refusal": {"type": "object", "properties": {"detail": _TEXT}, "required": ["detail"]},
    "Failure": {"type": "object", "properties": {"exception_message": _TEXT}, "required": ["exception_message"]},
    "HTTPValidationError": {
        "type": "object",
        "properties": {
            "exception_message": _TEXT,
            "exception_detail": {"type": "array", "items": _FAULT},
            "request_body": {},
        },
        "required": ["exception_message"],
    },
}
"""The shapes of errors, see `answers.py`."""
_REFUSALS = {
    400: "The call is malformed, or asks for a version of the API that is not spoken.",
    401: "The caller is not known.",
    403: "The caller may not do this.",
    404: "Something that the call names is not there.",
    408: "The body did not come in in time.",
    409: "It is in conflict with something that is there.",
    410: "It is over, and cannot be had again.",
    413: "The body is too large.",
    415: "The body is of a kind or in a packing that is not understood.",
    422: "The call is not valid.",
    423: "No slot is free; try again after the seconds in Retry-After.",
    429: "There were too many calls; try again after the seconds in Retry-After.",
    503: "The server cannot serve this at the moment; try again after the seconds in Retry-After.",
}
_ANYWHERE = frozenset({400, 401, 403, 429, 503})
_OF_BODIES = frozenset({408, 413, 415, 422})

Schema = dict[str, Any]


def tag_of(path: str) -> str:
    """The tag of a path: what it is about, in the words of the reference."""
    first = path.split("/", 2)[1]
    return TAGS.get(first) or first.replace("_", " ").title()


def summary_of(operation: Operation) -> str:
    """What an operation does, in a line: the first of its docstring."""
    return (inspect.getdoc(operation.function) or operation.name).partition("\n")[0]


def describe(operations: Iterable[Operation]) -> Schema:
    """The whole document.

    Args:
        operations: what to describe.
    """
    chosen = list(operations)
    types = list(dict.fromkeys(_key(wanted) for one in chosen for wanted in _types_of(one)))
    schemas, components = msgspec.json.schema_components(
        [wanted.type for wanted in types], ref_template="#/components/schemas/{name}", schema_hook=_foreign_type
    )
    known = dict(zip(types, schemas, strict=True))
    _mark_times(schemas, [wanted.type for wanted in types], components)
    paths: dict[str, dict[str, Schema]] = {}
    for one in chosen:
        item = paths.setdefault(one.endpoint.path, {})
        item[one.endpoint.method.lower()] = _operation(one, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "headrace REST API", "version": version(), "x-api-version": API_VERSION},
        "servers": [{"url": "/api"}],
        "paths": paths,
        "components": {
            "schemas": {**components, **_ERRORS},
            "responses": {str(status): _refusal(words) for status, words in _REFUSALS.items()},
        },
    }


class _key:
    __slots__ = ("type",)

    def __init__(self, wanted: Any) -> None:
        self.type = wanted

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _key) and self.type is other.type

    def __hash__(self) -> int:
        return id(self.type)


def _types_of(operation: Operation) -> list[Any]:
    endpoint = operation.endpoint
    body = [endpoint.body] if operation.takes_body else []
    return [endpoint.returns, *body, *operation.parameters.values()]


def _foreign_type(wanted: type) -> Schema:
    """How types that msgspec does not know look on the wire."""
    if wanted is Secret:
        return {"type": "string", "writeOnly": True}
    raise NotImplementedError(f"{wanted!r} has no JSON schema.")


def _mark_times(schemas: Iterable[Schema], types: Iterable[Any], components: dict[str, Schema]) -> None:
    """Add `format: date-time`, which msgspec leaves out for times that may come without a zone."""
    waiting = list(zip(schemas, msgspec.inspect.multi_type_info(types), strict=True))
    done = set()
    while waiting:
        schema, kind = waiting.pop()
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[1]
            if name in done:
                continue
            done.add(name)
            schema = components[name]
        waiting += _inner(schema, kind)
        if isinstance(kind, inspect_types.DateTimeType):
            schema["format"] = "date-time"


def _inner(schema: Schema, kind: inspect_types.Type) -> list[tuple[Schema, inspect_types.Type]]:
    """The parts of a schema with the types they are of."""
    if isinstance(kind, inspect_types.Metadata):
        return [(schema, kind.type)]
    if isinstance(kind, inspect_types.StructType) and "properties" in schema:
        return [(schema["properties"][one.encode_name], one.type) for one in kind.fields]
    if isinstance(kind, inspect_types.ListType | inspect_types.CollectionType) and "items" in schema:
        return [(schema["items"], kind.item_type)]
    if isinstance(kind, inspect_types.DictType) and isinstance(schema.get("additionalProperties"), dict):
        return [(schema["additionalProperties"], kind.value_type)]
    if isinstance(kind, inspect_types.UnionType):  # msgspec allows one member of each JSON kind, and tagged structs
        parts = {one.get("type") or one.get("$ref"): one for one in schema.get("anyOf", [schema])}
        members = [(parts.get(_json_kind(one)), one) for one in kind.types]
        return [(part, one) for part, one in members if part is not None]
    return []


def _json_kind(kind: inspect_types.Type) -> str:
    if isinstance(kind, inspect_types.Metadata):
        return _json_kind(kind.type)
    if isinstance(kind, inspect_types.StructType):
        return f"#/components/schemas/{kind.cls.__name__}"
    if isinstance(kind, inspect_types.DateTimeType):
        return "string"
    if isinstance(kind, inspect_types.DictType):
        return "object"
    return "array" if isinstance(kind, inspect_types.ListType | inspect_types.CollectionType) else ""


def _operation(operation: Operation, schemas: Mapping[_key, Schema]) -> Schema:
    endpoint = operation.endpoint
    described: Schema = {
        "operationId": operation.name,
        "summary": summary_of(operation),
        "tags": [tag_of(endpoint.path)],
        "parameters": _parameters(operation, schemas),
        "responses": {
            **{str(status): _success(operation, status, schemas) for status in _statuses(operation)},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _refused(operation)},
        },
    }
    if operation.takes_body:
        schema = schemas[_key(endpoint.body)]
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return described


def _statuses(operation: Operation) -> list[int]:
    endpoint = operation.endpoint
    return sorted({endpoint.status, endpoint.existing or endpoint.status})


def _refused(operation: Operation) -> list[int]:
    """The statuses an operation may be refused with, told by what it takes and whether it writes."""
    found = {*_ANYWHERE, *operation.endpoint.refusals}
    if operation.takes_body:
        found |= _OF_BODIES
    if operation.parameters:
        found |= {404, 422}
    if not operation.reads_only:
        found |= {404, 409}
    return sorted(found)


def _refusal(words: str) -> Schema:
    shapes = [{"$ref": f"#/components/schemas/{name}"} for name in _ERRORS]
    return {"description": words, "content": {"application/json": {"schema": {"anyOf": shapes}}}}


def _success(operation: Operation, status: int, schemas: Mapping[_key, Schema]) -> Schema:
    words = "Done." if status == operation.endpoint.status else "It was there already."
    if status == 204:
        return {"description": words}
    if inspect.signature(operation.function).return_annotation is Raw:
        media = "text/csv" if operation.endpoint is DOWNLOAD_LOGS else "text/plain"
        return {"description": words, "content": {media: {"schema": _TEXT}}}
    schema = schemas[_key(operation.endpoint.returns)]
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _parameters(operation: Operation, schemas: Mapping[_key, Schema]) -> list[Schema]:
    in_path = path_names(operation.endpoint.path)
    described = []
    for name, wanted in operation.parameters.items():
        schema = dict(schemas[_key(wanted)])
        default = operation.defaults.get(name)
        if default is not None:
            schema["default"] = msgspec.to_builtins(default)
        described.append(
            {
                "name": WIRE_NAMES.get(name, name),
                "in": "path" if name in in_path else "query",
                "required": name in in_path or name not in operation.defaults,
                "schema": schema,
            }
        )
    headers: dict[str, Schema] = {
        "x-prefect-api-version": {**_TEXT, "pattern": r"^\d+\.\d+\.\d+$", "default": API_VERSION}
    }
    if operation.endpoint.waits:
        headers["Prefer"] = {**_TEXT, "pattern": r"^wait=\d+$"}
    return [
        *described,
        *({"name": name, "in": "header", "required": False, "schema": schema} for name, schema in headers.items()),
    ]
