"""How a setting is declared: a field of a `Section` with its type, its default and what it is about.

    port: Annotated[int, about("Port the server listens on.")] = 4200

The path of a field in the tree gives its names in the environment: `server.api.port` is `HEADRACE_SERVER_API_PORT`, and
`PREFECT_SERVER_API_PORT` is accepted for it. Older names stand behind the doc line, without their prefix.

Annotations are kept as text (`from __future__ import annotations` in each module of sections) and read only when a
value has to be converted: declaring 240 settings then costs about a millisecond at start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from headrace.settings.secret import Secret

LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
# Bounds of a number that may also be None stand at the number itself.
PositiveInt: TypeAlias = Annotated[int, Meta(gt=0)]
PositiveFloat: TypeAlias = Annotated[float, Meta(gt=0)]

if TYPE_CHECKING:
    SecretText: TypeAlias = Secret
else:
    # Over the wire a secret is a string of stars, so that is what encoders, decoders and the OpenAPI page see.
    SecretText = str


class Section(Struct, kw_only=True, frozen=True):
    """A group of settings; its fields are settings or further sections."""


def about(doc: str, *aliases: str, secret: bool = False, **constraints: float) -> Meta:
    """What stands beside a setting's type.

    Args:
        doc: one line for the reference page.
        aliases: further names in the environment, without `HEADRACE_` or `PREFECT_`.
        secret: its value is a `Secret`, which prints as stars.
        constraints: bounds of a number, as `msgspec.Meta` names them (`ge`, `gt`, `le`, `lt`).
    """
    bounds: dict[str, Any] = constraints
    return Meta(description=doc, extra={"aliases": aliases, "secret": secret}, **bounds)
