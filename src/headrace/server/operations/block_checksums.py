"""The checksum of a block's fields, by which clients look up schemas.

Clients compute it for themselves, so it has to be the same to the byte: SHA-256 of JSON as Python's `json` writes it,
keys sorted, of `[[fields], {}]`, where `fields` lack what says which of them are secret and the definitions of other
blocks.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

_SECRETS, _DEFINITIONS = "secret_fields", "definitions"


def checksum_of(fields: dict[str, Any]) -> str:
    """The checksum of a schema's fields, as `sha256:` and hexadecimal digits."""
    bare = _without_secrets(fields)
    if definitions := bare.get(_DEFINITIONS):
        del bare[_DEFINITIONS]
        if kept := _own(bare, definitions):
            bare[_DEFINITIONS] = kept
    return "sha256:" + hashlib.sha256(json.dumps([[bare], {}], sort_keys=True).encode()).hexdigest()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(one) for name, one in value.items() if name != _SECRETS}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    return value


def _own(fields: dict[str, Any], definitions: Any) -> dict[str, Any]:
    """The definitions that fields refer to, also by others; those of blocks and empty ones are passed through."""
    if not isinstance(definitions, dict):
        return {}
    kept, seen, ahead = {}, set(), list(_referred(fields))
    while ahead:
        name = ahead.pop()
        definition = definitions.get(name)
        if name in seen or not definition:
            continue
        seen.add(name)
        ahead.extend(_referred(definition))
        if not isinstance(definition, dict) or "block_type_slug" not in definition:
            kept[name] = definition
    return kept


def _referred(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _referred(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name == "$ref" and isinstance(one, str):
                yield one.rpartition("/")[2]
            else:
                yield from _referred(one)
