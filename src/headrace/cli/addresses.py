"""Addresses to open in a browser."""

from headrace._internal.server_note import read_note
from headrace.settings import get_settings


def ui_url() -> str | None:
    """Where the web pages are: as set, else at the API's own host; None in local mode."""
    settings = get_settings()
    if settings.ui_url:
        return settings.ui_url
    note = read_note(settings.home)
    api = settings.api.url or (note.url if note and note.alive else None)
    return api.removesuffix("/").removesuffix("/api") if api else None
