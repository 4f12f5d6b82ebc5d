"""Where the spool files of this home lie, and what becomes of those that dead processes left.  # G11"""

import logging
from pathlib import Path

import msgspec

from headrace._internal.server_note import read_note
from headrace.engine import spool
from headrace.engine.delivery import Caller, NotNow, deliver
from headrace.settings import get_settings

logger = logging.getLogger("headrace.recorder")


def spool_folder() -> Path:
    """Where the spool files of this home lie."""
    return Path(get_settings().home).expanduser() / spool.FOLDER


def destination() -> str:
    """The name of the API in force, as spool files bear it: its URL, or `home` for the database of this home."""
    return get_settings().api.url or "home"


def same_destination() -> frozenset[str]:
    """All names of the API in force: the server of this home has its URL, and is the database of this home too."""
    settings = get_settings()
    note = read_note(settings.home)
    url, here = settings.api.url, note.url if note is not None and note.alive else None
    if url is None or url == here:
        return frozenset({"home", url or "home", here or "home"})
    return frozenset({url})


def deliver_leftovers(client: Caller, folder: Path | None = None) -> int:
    """Deliver what dead processes of this home could not. Two processes never deliver the same file at once.

    Args:
        client: a client of the API in force.
        folder: where spool files lie; `spool` in the home folder when absent.

    Returns:
        The number of batches and states that were delivered. An API that is away ends it early; what is left stays.
    """
    delivered = 0
    folder = folder or spool_folder()
    try:
        for lines in spool.leftovers(folder, same_destination()):
            for line in lines:
                item = spool.read_line(line)
                if item is None:
                    logger.warning("A damaged line in the spool of a dead process is left out: %.80r", line)
                    continue
                if isinstance(item, msgspec.Raw) and client.local:
                    item = spool.decode_records(item)
                deliver(client, item, folder / "set-aside")
                delivered += 1
    except NotNow as trouble:
        logger.warning("Records of an earlier process cannot be delivered now (%s); they stay in %s.", trouble, folder)
    return delivered
