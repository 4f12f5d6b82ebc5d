"""The table of all settings, read off the tree: paths, names, types, defaults and doc lines.

`paths()` is cheap and is all that reading an environment needs; `all_settings()` evaluates the annotations too.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from typing import Any

from msgspec import NODEFAULT, Meta, Struct

from headrace.settings.declaring import Section
from headrace.settings.tree import Settings

PREFIXES = ("HEADRACE_", "PREFECT_")
"""What the names of settings begin with in the environment; the first wins."""


class Setting(Struct, frozen=True):
    """One setting, as documentation, `config` commands and conversion see it.

    Args:
        path: where it stands in the tree, as `server.api.port`.
        names: its names in the environment; the first is the one to write.
        type: what it is converted to, without its bounds.
        hint: the same with its bounds.
        fallback: its value when nothing sets it.
        doc: what it is about, in one line.
        is_secret: its value is a `Secret`.
    """

    path: str
    names: tuple[str, ...]
    type: Any
    hint: Any
    fallback: Any
    doc: str
    is_secret: bool

    @property
    def name(self) -> str:
        """The name to use in the environment."""
        return self.names[0]

    def default(self) -> Any:
        """Its value when nothing sets it."""
        return self.fallback

    def value_from(self, settings: Settings) -> Any:
        """Its value in these settings."""
        return value_at(settings, self.path)


def value_at(settings: Settings, path: str) -> Any:
    """The value at a path such as `server.api.port`.

    Raises:
        AttributeError: there is no setting of that path.
    """
    return functools.reduce(getattr, path.split("."), settings)


def fields_of(section: type[Section]) -> Iterator[tuple[str, type[Section] | None, Any]]:
    """Each field of a section: its name, the section below it (or None), and the default."""
    for name, default in zip(section.__struct_fields__, section.__struct_defaults__, strict=True):
        factory = getattr(default, "factory", None)
        if isinstance(factory, type) and issubclass(factory, Section):
            yield name, factory, NODEFAULT
        else:
            yield name, None, default if factory is None else factory()


@functools.cache
def paths() -> dict[str, tuple[type[Section], str, Any]]:
    """Path of each setting -> the section that declares it, its field there, its default."""
    found: dict[str, tuple[type[Section], str, Any]] = {}

    def walk(section: type[Section], prefix: str) -> None:
        for name, below, default in fields_of(section):
            if below is None:
                found[prefix + name] = (section, name, default)
            else:
                walk(below, f"{prefix}{name}.")

    walk(Settings, "")
    return found


@functools.cache
def canonical_names() -> dict[str, str]:
    """Name in the environment, without prefix -> path; aliases are left out."""
    return {path.replace(".", "_").upper(): path for path in paths()}


@functools.cache
def alias_path(bare: str) -> str | None:
    """The path of the setting that has this older name, without prefix.

    The name is looked for in the text of the annotations first: evaluating all of them would take some milliseconds.
    """
    quoted = repr(bare)
    for path, (section, field, _) in paths().items():
        if quoted in section.__annotations__[field] and PREFIXES[0] + bare in setting_at(path).names:
            return path
    return None


def path_of(name: str) -> str | None:
    """The path of the setting that a name stands for: `HEADRACE_API_URL`, `PREFECT_API_URL` or `api.url`."""
    if name in paths():
        return name
    upper = name.upper()
    for prefix in PREFIXES:
        if upper.startswith(prefix):
            bare = upper[len(prefix) :]
            return canonical_names().get(bare) or alias_path(bare)
    return None


@functools.cache
def _hints(section: type[Section]) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


@functools.cache
def setting_at(path: str) -> Setting:
    """The setting of a path.

    Raises:
        KeyError: there is none.
    """
    section, field, default = paths()[path]
    hint = _hints(section)[field]
    meta: Meta = hint.__metadata__[0]
    extra = meta.extra or {}
    bare = (path.replace(".", "_").upper(), *extra["aliases"])
    return Setting(
        path=path,
        names=tuple(prefix + name for name in bare for prefix in PREFIXES),
        type=hint.__origin__,
        hint=hint,
        fallback=default,
        doc=meta.description or "",
        is_secret=extra["secret"],
    )


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """Every setting there is, in the order of the tree."""
    return tuple(setting_at(path) for path in paths())
