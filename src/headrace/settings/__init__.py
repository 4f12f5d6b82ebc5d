"""Settings: every one declared once, read from the environment, files and profiles.

    from headrace.settings import get_settings, temporary_settings

    get_settings().api.url

The sections (`sdk`, `server`, `database`, `services`, `tree`) declare them; `table` lists them; `sources`, `convert`,
`derived` and `loading` make the values in force; `profiles` keeps named sets. `HEADRACE_API_URL` and `PREFECT_API_URL`
can be imported from here and give the `Setting` of that name.
"""

from typing import Any

from headrace.settings.convert import InvalidSetting
from headrace.settings.derived import database_url
from headrace.settings.loading import (
    forget_settings,
    get_settings,
    load_profiles,
    masked,
    save_profiles,
    settings_environment,
    sources_of,
    temporary_settings,
)
from headrace.settings.profiles import Profiles
from headrace.settings.secret import Secret
from headrace.settings.table import Setting, all_settings, path_of, setting_at
from headrace.settings.tree import Settings

get_current_settings = get_settings

__all__ = [
    "InvalidSetting",
    "Profiles",
    "Secret",
    "Setting",
    "Settings",
    "all_settings",
    "database_url",
    "forget_settings",
    "get_current_settings",
    "get_settings",
    "load_profiles",
    "masked",
    "path_of",
    "save_profiles",
    "setting_at",
    "settings_environment",
    "sources_of",
    "temporary_settings",
]


def __getattr__(name: str) -> Any:
    path = path_of(name) if name.isupper() else None
    if path is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return setting_at(path)
