"""The settings in force: read once from all sources, kept, and altered for a while by `temporary_settings`.

What is kept is both the tree and the values that were said (path -> value), so that altering `home` moves every path
that hangs off it. `forget_settings()` makes the next reader read all sources anew; whoever
changes the environment or a profile calls it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct, structs

from headrace.settings.convert import convert, to_text
from headrace.settings.declaring import Section
from headrace.settings.derived import derive
from headrace.settings.profiles import Profiles, active_settings, read_profiles, write_profiles
from headrace.settings.secret import STARS, Secret
from headrace.settings.sources import Found, from_environment, from_files
from headrace.settings.table import Setting, path_of, setting_at
from headrace.settings.tree import Settings


class Loaded(Struct, frozen=True):
    """Settings, what was said to get them, and who said it."""

    settings: Settings
    values: dict[str, Any]
    sources: dict[str, str]


_loaded: Loaded | None = None


def get_settings() -> Settings:
    """The settings in force. They are read at the first call; later calls cost nothing.

    Raises:
        InvalidSetting: a source gives a setting a value it cannot have.
    """
    return (_loaded or _load()).settings


def forget_settings() -> None:
    """Forget what was read: after a change of the environment, of a profile, or of the working folder.

    The next `get_settings()` reads all sources anew.
    """
    global _loaded
    _loaded = None


def _load() -> Loaded:
    global _loaded
    _loaded = read_sources()
    return _loaded


def read_sources() -> Loaded:
    """Read all sources, without keeping the result."""
    found: dict[str, Found] = {}
    for one in from_environment():
        found.setdefault(one.path, one)
    for one in from_files():
        found.setdefault(one.path, one)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    _convert_all(found, values, sources)
    before = derive(_with(Settings(), values))  # home and the profiles' place are not said in a profile
    in_profile: dict[str, Found] = {}
    for one in active_settings(before.profiles_path):
        if one.path not in values:
            in_profile.setdefault(one.path, one)
    if in_profile:
        _convert_all(in_profile, values, sources)
        return Loaded(derive(_with(Settings(), values)), values, sources)
    return Loaded(before, values, sources)


def _convert_all(found: Mapping[str, Found], values: dict[str, Any], sources: dict[str, str]) -> None:
    for path, one in found.items():
        value = convert(setting_at(path), one.raw, one.source, one.name)
        if value is not UNSET:
            values[path], sources[path] = value, one.source


def _with(section: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a section with other values; `values` is keyed by path below it."""
    if not values:
        return section
    changes: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        head, dot, rest = path.partition(".")
        if dot:
            below.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    for head, inner in below.items():
        changes[head] = _with(getattr(section, head), inner)
    return structs.replace(section, **changes)


@contextlib.contextmanager
def temporary_settings(
    updates: Mapping[str | Setting, Any] | None = None,
    set_defaults: Mapping[str | Setting, Any] | None = None,
    restore_defaults: set[str | Setting] | None = None,
    **paths: Any,
) -> Iterator[Settings]:
    """Other settings within a `with` block, for the whole process: a tool for tests, not for threads that disagree.

    Args:
        updates: setting (its path, its name in the environment, or its `Setting`) -> value, or a text to convert.
        set_defaults: the same, for settings that no source has set.
        restore_defaults: settings to take back to their default.
        **paths: further updates by path, as `temporary_settings(**{"api.url": url})`.

    Raises:
        KeyError: there is no such setting.
        InvalidSetting: a value is not one it can have.
    """
    global _loaded
    before = _loaded or _load()
    values, sources = dict(before.values), dict(before.sources)
    for one in restore_defaults or ():
        values.pop(_path(one), None)
    for key, raw in (set_defaults or {}).items():
        if _path(key) not in values:
            values[_path(key)] = _checked(_path(key), raw)
    for key, raw in [*(updates or {}).items(), *paths.items()]:
        values[_path(key)] = None if raw is None else _checked(_path(key), raw)
        sources[_path(key)] = "temporary_settings"
    _loaded = Loaded(derive(_with(Settings(), values)), values, sources)
    try:
        yield _loaded.settings
    finally:
        _loaded = before


def _path(key: str | Setting) -> str:
    path = key.path if isinstance(key, Setting) else path_of(key)
    if path is None:
        raise KeyError(f"There is no setting {key!r}.")
    return path


def _checked(path: str, raw: Any) -> Any:
    value = convert(setting_at(path), raw, "temporary_settings")
    return setting_at(path).fallback if value is UNSET else value


def sources_of() -> dict[str, str]:
    """Path of each setting that a source has set -> that source."""
    return dict((_loaded or _load()).sources)


def settings_environment() -> dict[str, str]:
    """The environment that gives another process the settings in force: only what some source has set.

    Secrets are written out, so it belongs nowhere but in the environment of a process.
    """
    values = (_loaded or _load()).values
    texts = {setting_at(path).name: to_text(value) for path, value in values.items()}
    return {name: text if text is not None else "" for name, text in texts.items()}


def masked(settings: Settings) -> Settings:
    """The same settings with stars for each secret: what may be shown or sent.  # S12"""

    def mask(section: Section) -> Section:
        changes: dict[str, Any] = {}
        for name in section.__struct_fields__:
            value = getattr(section, name)
            if isinstance(value, Section):
                changes[name] = mask(value)
            elif isinstance(value, Secret):
                changes[name] = STARS
        return structs.replace(section, **changes)

    result = mask(settings)
    assert isinstance(result, Settings)
    return result


def load_profiles(path: str | None = None, include_defaults: bool = True) -> Profiles:
    """Read the file of profiles.

    Args:
        path: the file; that of the settings in force by default.
        include_defaults: add the built-in profiles the file does not have.

    Raises:
        InvalidSetting: it is not valid TOML, or not a file of profiles.
    """
    return read_profiles(get_settings().profiles_path if path is None else path, include_defaults)


def save_profiles(profiles: Profiles) -> None:
    """Write the file of profiles, and forget the settings that were read from it."""
    write_profiles(profiles)
    forget_settings()
