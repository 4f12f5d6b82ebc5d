"""Profiles: named sets of settings in one TOML file, one of them active.

    active = "work"

    [profiles.work]
    HEADRACE_API_URL = "http://10.0.0.5:4200/api"

The active one is named by `HEADRACE_PROFILE` (or `PREFECT_PROFILE`), else by the file, else it is `ephemeral`, which
sets nothing: local mode. The file is replaced in one step, so that nobody reads half of it, and only its owner can
read it, since keys may stand in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from headrace.settings.convert import InvalidSetting, convert, to_text
from headrace.settings.sources import Found, named, parse_toml, read_file
from headrace.settings.table import all_settings, path_of, setting_at

BUILT_IN: dict[str, dict[str, str]] = {
    "ephemeral": {},
    "local": {"HEADRACE_API_URL": "http://127.0.0.1:4200/api"},
}
DEFAULT = "ephemeral"


class Profiles(Struct):
    """What is in the file of profiles, with the built-in ones.

    Args:
        path: the file.
        profiles: name -> (name of a setting in the environment -> text).
        active: the name the file calls active; None when it names none.
    """

    path: str
    profiles: dict[str, dict[str, str]]
    active: str | None = None

    def active_name(self) -> str:
        """The active profile: by the environment, by the file, by default."""
        return os.environ.get("HEADRACE_PROFILE") or os.environ.get("PREFECT_PROFILE") or self.active or DEFAULT

    def profile(self, name: str) -> dict[str, str]:
        """The settings of a profile.

        Raises:
            InvalidSetting: there is no such profile.
        """
        try:
            return self.profiles[name]
        except KeyError:
            known = ", ".join(sorted(self.profiles))
            raise InvalidSetting(f"There is no profile {name!r} in {self.path}; there are: {known}.") from None

    def create(self, name: str, copy_of: str | None = None) -> None:
        """Add a profile, empty or with the settings of another.

        Raises:
            InvalidSetting: it exists already, or the other does not.
        """
        if name in self.profiles:
            raise InvalidSetting(f"There is a profile {name!r} already in {self.path}.")
        self.profiles[name] = dict(self.profile(copy_of)) if copy_of is not None else {}

    def delete(self, name: str) -> None:
        """Take a profile away; if it was the active one, the default one is active again.

        Raises:
            InvalidSetting: there is no such profile.
        """
        self.profile(name)
        del self.profiles[name]
        if self.active == name:
            self.active = None

    def rename(self, name: str, new_name: str) -> None:
        """Give a profile another name.

        Raises:
            InvalidSetting: there is no such profile, or one of the new name.
        """
        self.create(new_name, copy_of=name)
        was_active = self.active == name
        self.delete(name)
        if was_active:
            self.active = new_name

    def use(self, name: str) -> None:
        """Make a profile the active one.

        Raises:
            InvalidSetting: there is no such profile.
        """
        self.profile(name)
        self.active = name

    def set(self, values: Mapping[str, Any], profile: str | None = None) -> dict[str, str]:
        """Set settings in a profile (the active one by default).

        Args:
            values: name (as in the environment, or its path) -> value or text.
            profile: name of the profile.

        Returns:
            What was written: name in the environment -> text.

        Raises:
            InvalidSetting: no such profile or setting, or a value it cannot have.
        """
        target, written = self.profile(profile or self.active_name()), {}
        for name, value in values.items():
            setting = setting_at(known_path(name))
            converted = convert(setting, value, "what is to be set", name)
            written[setting.name] = (to_text(converted) or "") if converted is not msgspec.UNSET else ""
        for name, text in written.items():
            drop(target, name)
            target[name] = text
        return written

    def unset(self, names: list[str], profile: str | None = None) -> list[str]:
        """Take settings out of a profile (the active one by default); returns those that were set.

        Raises:
            InvalidSetting: no such profile or setting.
        """
        target = self.profile(profile or self.active_name())
        return [name for name in names if drop(target, name)]


def known_path(name: str) -> str:
    """The path of a setting.

    Raises:
        InvalidSetting: there is no such setting; the message names those that look like it.
    """
    path = path_of(name)
    if path is None:
        import difflib

        names = [one.name for one in all_settings()]
        near = difflib.get_close_matches(name.upper().replace("PREFECT_", "HEADRACE_"), names, n=3)
        hint = f" Do you mean {' or '.join(near)}?" if near else " `headrace config view --show-defaults` lists them."
        raise InvalidSetting(f"There is no setting {name!r}.{hint}")
    return path


def drop(profile: dict[str, str], name: str) -> bool:
    """Take a setting out of a profile under whichever of its names; says whether it was there."""
    path = known_path(name)
    present = [one for one in profile if path_of(one) == path]
    for one in present:
        del profile[one]
    return bool(present)


def read_profiles(path: str, include_defaults: bool = True) -> Profiles:
    """Read a file of profiles; one that does not exist has none.

    Args:
        path: the file.
        include_defaults: add the built-in profiles the file does not have.

    Raises:
        InvalidSetting: it is not valid TOML, or not a file of profiles.
    """
    profiles = Profiles(path, {name: dict(values) for name, values in BUILT_IN.items()} if include_defaults else {})
    text = read_file(path)
    if text is None:
        return profiles
    content = parse_toml(text, path)
    try:
        profiles.profiles |= {
            name: {key: to_text(value) or "" for key, value in values.items()}
            for name, values in content.get("profiles", {}).items()
        }
    except AttributeError:
        raise InvalidSetting(f"{path}: each profile is a table of its own, as [profiles.NAME].") from None
    profiles.active = content.get("active")
    return profiles


def write_profiles(profiles: Profiles) -> None:
    """Write the file of profiles, in one step."""
    lines = [f"active = {quoted(profiles.active)}"] if profiles.active else []
    for name, values in profiles.profiles.items():
        if values or name not in BUILT_IN:
            lines += ["", f"[profiles.{quoted(name)}]", *(f"{quoted(key)} = {quoted(values[key])}" for key in values)]
    folder = os.path.dirname(profiles.path)
    os.makedirs(folder, exist_ok=True)
    temporary = f"{profiles.path}.{os.getpid()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines).lstrip("\n") + "\n")
        os.replace(temporary, profiles.path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def quoted(text: str) -> str:
    """A text as TOML writes it; a plain name needs no quotes as a key, but values do, and both may have them."""
    return msgspec.json.encode(text).decode()


def active_settings(path: str) -> list[Found]:
    """The settings of the active profile, as a source.

    Raises:
        InvalidSetting: the file is not valid, or the environment names a profile that does not exist.
    """
    chosen = os.environ.get("HEADRACE_PROFILE") or os.environ.get("PREFECT_PROFILE")
    if chosen is None and not os.path.exists(path):
        return []
    profiles = read_profiles(path)
    name = profiles.active_name()
    return named(profiles.profile(name).items(), f"profile {name!r}")
