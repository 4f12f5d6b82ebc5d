"""Values that follow from others: paths below home, the database's URL, the pages' address, levels in debug mode."""

from __future__ import annotations

import os
from typing import Any

from msgspec import structs

from headrace.settings.secret import Secret
from headrace.settings.tree import Settings

HOME_MARKS = ("$HEADRACE_HOME", "$PREFECT_HOME")
PASSWORD_MARKS = tuple(
    f"${{{prefix}_{name}_DATABASE_PASSWORD}}" for prefix in ("HEADRACE", "PREFECT") for name in ("SERVER", "API")
)
DATABASE_FILE = "headrace.db"


def derive(settings: Settings) -> Settings:
    """The same settings with everything filled in that follows from others."""
    home = os.path.abspath(os.path.expanduser(settings.home))

    def below_home(path: str) -> str:
        for mark in HOME_MARKS:
            path = path.replace(mark, home)
        return os.path.abspath(os.path.expanduser(path))

    server, results, logging, internal = settings.server, settings.results, settings.logging, settings.internal
    changes: dict[str, Any] = {
        "home": home,
        "profiles_path": below_home(settings.profiles_path),
        "results": structs.replace(results, local_storage_path=below_home(results.local_storage_path)),
        "logging": structs.replace(logging, config_path=below_home(logging.config_path)),
        "server": structs.replace(
            server,
            memo_store_path=below_home(server.memo_store_path),
            database=structs.replace(server.database, connection_url=Secret(_connection_url(settings, home))),
            ui=structs.replace(server.ui, api_url=server.ui.api_url or _ui_api_url(settings)),
        ),
    }
    if settings.api.ssl_cert_file is None and (trusted := os.environ.get("SSL_CERT_FILE")):
        changes["api"] = structs.replace(settings.api, ssl_cert_file=trusted)
    if settings.ui_url is None and settings.api.url is not None:
        changes["ui_url"] = _ui_url(settings.api.url, settings.cloud.api_url)
    if settings.debug_mode or settings.testing.test_mode:
        changes["logging"] = structs.replace(changes["logging"], level="DEBUG")
        changes["internal"] = structs.replace(internal, logging_level="DEBUG")
    return structs.replace(settings, **changes)


def _ui_url(api_url: str, cloud_api_url: str) -> str:
    url = api_url.rstrip("/").removesuffix("/api")
    return url.replace("://api.", "://app.", 1) if api_url.startswith(cloud_api_url) else url


def _ui_api_url(settings: Settings) -> str:
    return settings.api.url or f"http://{settings.server.api.host}:{settings.server.api.port}/api"


def _connection_url(settings: Settings, home: str) -> str:
    database = settings.server.database
    password = database.password.get_secret_value() if database.password else ""
    if database.connection_url:
        url = database.connection_url.get_secret_value()
        for mark in PASSWORD_MARKS:
            if mark in url:
                url = url.replace(mark, _quoted(password))
        return url
    kind = (database.driver or ("postgresql" if database.host else "sqlite")).partition("+")[0]
    if kind == "sqlite":
        return f"sqlite:///{database.name or os.path.join(home, DATABASE_FILE)}"
    user = _quoted(database.user or "") + (f":{_quoted(password)}" if password else "")
    place = f"{database.host or 'localhost'}:{database.port or 5432}"
    return f"postgresql://{user}{'@' if user else ''}{place}/{database.name or 'headrace'}"


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="") if text else ""


def database_url(settings: Settings) -> str:
    """The URL of the server's database in the clear, without the driver Prefect's URLs name.

    Returns:
        `sqlite:///path` or `postgresql://user:password@host:port/name`.
    """
    secret = settings.server.database.connection_url
    scheme, separator, rest = (secret.get_secret_value() if secret else "").partition("://")
    kind = scheme.partition("+")[0]
    return ("postgresql" if kind == "postgres" else kind) + separator + rest
