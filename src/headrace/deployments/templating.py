"""Placeholders in deployment files, pull steps and job templates: `{{ image }}`, `{{ build.tag }}`, `{{ $HOME }}`.

A string that is nothing but one placeholder takes the value with its type; in a longer string each value is written
as text. What is not known is dropped, or left as it stands, as the caller wishes.
`{{ prefect.blocks.slack-webhook.alerts.url }}` and `{{ prefect.variables.region }}` are read through the API, and so is
`{"$ref": {"block_document_id": id}}`, which stands for a whole block.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from headrace.client import get_client
from headrace.exceptions import ObjectNotFound
from headrace.schemas.block_documents import (
    READ_BLOCK_DOCUMENT_BY_ID,
    READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE,
    BlockDocument,
)
from headrace.schemas.block_secrets import secret_paths, secret_texts
from headrace.schemas.variables import READ_VARIABLE_BY_NAME
from headrace.settings import Secret

PLACEHOLDER = re.compile(r"\{\{\s*([\w.\-\[\]$]+)\s*\}\}")
_PART = re.compile(r"[^.\[\]]+")


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
"""What a placeholder without a value stands for."""
_OURS = ("prefect.", "headrace.")


def fill(
    template: Any,
    values: Mapping[str, Any],
    *,
    keep_unknown: bool = False,
    environment: bool = False,
    references: bool = True,
) -> Any:
    """Fill in the placeholders of a template: in strings, and in dicts and lists of any depth.

    Args:
        template: what holds placeholders.
        values: name -> value; `{{ a.b[0] }}` walks into values.
        keep_unknown: leave placeholders without a value as they stand; else their key or item is dropped, and in a
            longer string they become empty.
        environment: also read `{{ $NAME }}` from the environment of this process.
        references: read blocks and variables; else what refers to them is left as it stands.

    Returns:
        The filled template; `UNKNOWN` when the whole of it was one placeholder without a value.

    Raises:
        ValueError: it refers to a block that does not exist, or puts more than one value into a text.
    """

    def filled(part: Any) -> Any:
        return fill(part, values, keep_unknown=keep_unknown, environment=environment, references=references)

    if isinstance(template, str):
        return _fill_text(template, values, keep_unknown, environment, references)
    if isinstance(template, Mapping):
        target = template.get("$ref")
        if references and isinstance(target, Mapping) and "block_document_id" in target:
            return _block_by_id(target["block_document_id"])
        entries = {key: filled(value) for key, value in template.items()}
        return {key: value for key, value in entries.items() if value is not UNKNOWN}
    if isinstance(template, list | tuple):
        return [item for item in map(filled, template) if item is not UNKNOWN]
    return template


def _fill_text(text: str, values: Mapping[str, Any], keep_unknown: bool, environment: bool, references: bool) -> Any:
    kept = ("",) if keep_unknown else _OURS if not references else ()
    whole = PLACEHOLDER.fullmatch(text.strip())
    if whole:
        value = look_up(whole[1], values, environment, references)
        return text if value is UNKNOWN and whole[1].startswith(kept) else value

    def text_of(match: re.Match[str]) -> str:
        value = look_up(match[1], values, environment, references)
        if value is UNKNOWN:
            return match[0] if match[1].startswith(("ctx.", *kept)) else ""
        if match[1].startswith(_OURS) and isinstance(value, dict | list):
            raise ValueError(f"{match[0]} stands for several values, so it cannot be a part of a longer text.")
        return str(value)

    return PLACEHOLDER.sub(text_of, text)


def look_up(name: str, values: Mapping[str, Any], environment: bool = False, references: bool = True) -> Any:
    """The value of a placeholder's name, or `UNKNOWN`.

    Raises:
        ValueError: it refers to a block that does not exist.
    """
    if name.startswith("$"):
        return os.environ.get(name[1:], UNKNOWN) if environment else UNKNOWN
    if name.startswith(_OURS):
        return _refer(name) if references else UNKNOWN
    return values[name] if name in values else _inside(values, _PART.findall(name))


def _inside(value: Any, steps: Sequence[str]) -> Any:
    found = value
    for step in steps:
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list | tuple) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return UNKNOWN
    return found


def _refer(name: str) -> Any:
    _, kind, *steps = _PART.findall(name)
    if kind == "blocks" and len(steps) >= 2:
        return _block(name, *steps)
    if kind == "variables" and len(steps) == 1:
        return _variable(steps[0])
    raise ValueError(f"{{{{ {name} }}}} refers to nothing: say prefect.blocks.TYPE.NAME or prefect.variables.NAME.")


def _block(reference: str, slug: str, name: str, *steps: str) -> Any:
    """A value of a block; of one that has nothing but a `value`, that is meant."""
    call: dict[str, Any] = {"slug": slug, "block_document_name": name, "include_secrets": True}
    try:
        data = _values(get_client().call(READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE, **call))
    except ObjectNotFound:
        raise ValueError(f"{{{{ {reference} }}}} refers to a block that does not exist.") from None
    only = data["value"] if data.keys() == {"value"} and steps[:1] != ("value",) else data
    value = _inside(only, steps)
    if value is UNKNOWN:
        raise ValueError(f"{{{{ {reference} }}}}: the block {slug}/{name} has no such value.")
    return value


def _variable(name: str) -> Any:
    """The value of a variable; an empty text, as in Prefect, when there is none of this name."""
    try:
        return get_client().call(READ_VARIABLE_BY_NAME, name=name).value
    except ObjectNotFound:
        return ""


def _block_by_id(id: UUID | str) -> dict[str, Any]:
    try:
        return _values(get_client().call(READ_BLOCK_DOCUMENT_BY_ID, id=id, include_secrets=True))
    except ObjectNotFound:
        raise ValueError(f"The block {id}, which is referred to, does not exist.") from None


def _values(block: BlockDocument) -> dict[str, Any]:
    """The values of a block, whose secrets are masked in this process's logs from now on.  # S12"""
    for text in secret_texts(block.data, secret_paths(block.block_schema.fields) if block.block_schema else ()):
        Secret(text)
    return block.data


def names_in(template: Any) -> set[str]:
    """The names of all placeholders in a template."""
    if isinstance(template, str):
        return {match[1] for match in PLACEHOLDER.finditer(template)}
    if isinstance(template, Mapping):
        return set().union(*(names_in(value) for value in template.values()))
    if isinstance(template, list | tuple):
        return set().union(*(names_in(item) for item in template))
    return set()
