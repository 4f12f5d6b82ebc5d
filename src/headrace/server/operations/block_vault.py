"""The keys that the values of blocks are encrypted with, at rest in the database.  # S12

The keys are kept outside the database: in the setting `server.encryption_key`, or else in a file of the home folder,
one a line. The first encrypts; the others can still be read with. Each document names the key it is encrypted with by
a fingerprint, so that a server which lacks that key says so, and does not begin a second one beside it.

`rotate` puts a new key first in the file and encrypts all documents anew. The key before it stays in the file until the
next rotation: another server may be writing with it at that moment. Whoever dies on the way leaves documents under
either key, and both can be read.
"""

import functools
import hashlib
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import select, update

from headrace.exceptions import ApiError, ConfigurationError
from headrace.server.operations.auditing import note_act
from headrace.server.store.long_lists import among
from headrace.server.store.tables import BLOCK_DOCUMENT
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

FILE = "encryption.keys"
AT_ONCE = 100
"""How many documents one transaction encrypts anew."""
logger = logging.getLogger("headrace.server.blocks")
_met: dict[str, str] = {}
"""Every key this process has met, by fingerprint: one that has just left the file may still be needed."""


class KeyMissing(ApiError, ValueError):
    """A document is encrypted with a key that this server does not have: its operator can mend that, no caller."""

    status = 503

    def __init__(self) -> None:
        super().__init__(
            "Blocks in this database are encrypted with a key that is not here. Give this server the "
            f"HEADRACE_SERVER_ENCRYPTION_KEY of the others, or a copy of {FILE} from their home folder."
        )


def seal(tx: Tx, data: dict[str, Any]) -> dict[str, str]:
    """Encrypt the values of a document; returns the columns `data` and `key_id`.

    Raises:
        KeyMissing: documents there are encrypted with a key that is not here.
    """
    keys = _keys() or (_make_file() if _none_sealed(tx) else [])
    if not _none_sealed(tx, [fingerprint(key) for key in keys]):
        raise KeyMissing
    token = _fernet(keys[0]).encrypt(msgspec.json.encode(data))
    return {"data": token.decode(), "key_id": fingerprint(keys[0])}


def unseal(token: str, key_id: str) -> dict[str, Any]:
    """Decrypt the values of a document.

    Raises:
        KeyMissing: the key is not here.
        ValueError: it was changed, or is no document at all.
    """
    if key_id not in _met:
        _keys()
    if key_id not in _met:
        raise KeyMissing
    from cryptography.fernet import InvalidToken

    try:
        plain = _fernet(_met[key_id]).decrypt(token)
    except (InvalidToken, TypeError):
        raise ValueError("its values do not decrypt: they were changed in the database") from None
    return msgspec.json.decode(plain, type=dict[str, Any])


def fingerprint(key: str) -> str:
    """What a key is known by; it tells nothing of the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def rotate(store: Store) -> tuple[int, list[UUID]]:
    """Encrypt all documents with a new key, or with the first one of the setting.

    Returns:
        How many were encrypted anew, and which could not be read and so were left as they are.
    """
    keys, is_given = _keys(), bool(get_settings().server.encryption_key)
    first = keys[0] if is_given else _new_key()
    store.write(lambda tx: note_act(tx, "rotate_key", "secrets", fingerprint(first)))  # S18: before it takes effect
    if not is_given:
        used = store.read(lambda tx: set(tx.execute(select(BLOCK_DOCUMENT.c.key_id).distinct()).scalars()))
        _write([first, *keys[:1], *(key for key in keys[1:] if fingerprint(key) in used)]).replace(_path())
        keys = _keys()
    old = select(BLOCK_DOCUMENT.c.id).where(BLOCK_DOCUMENT.c.key_id != fingerprint(keys[0]))
    ids = store.read(lambda tx: list(tx.execute(old.order_by(BLOCK_DOCUMENT.c.id)).scalars()))
    failed: list[UUID] = []
    for start in range(0, len(ids), AT_ONCE):
        chunk = ids[start : start + AT_ONCE]
        failed += store.write(lambda tx, chunk=chunk: _encrypt_anew(tx, chunk))  # type: ignore[misc]
    return len(ids) - len(failed), failed


def _encrypt_anew(tx: Tx, ids: Sequence[UUID]) -> list[UUID]:
    columns = (BLOCK_DOCUMENT.c.id, BLOCK_DOCUMENT.c.data, BLOCK_DOCUMENT.c.key_id)
    key, failed = _keys()[0], []
    for row in tx.execute(select(*columns).where(among(BLOCK_DOCUMENT.c.id, ids)).with_for_update()).all():
        try:
            token = _fernet(key).encrypt(msgspec.json.encode(unseal(row.data, row.key_id))).decode()
        except (KeyMissing, ValueError) as error:
            logger.error("Block document %s cannot be encrypted anew: %s", row.id, error)
            failed.append(row.id)
            continue
        changed = {"data": token, "key_id": fingerprint(key)}
        tx.execute(update(BLOCK_DOCUMENT).where(BLOCK_DOCUMENT.c.id == row.id).values(changed))
    return failed


def _none_sealed(tx: Tx, but_with: Sequence[str] = ()) -> bool:
    """Whether no document is encrypted with another key than these."""
    other = select(BLOCK_DOCUMENT.c.id).where(BLOCK_DOCUMENT.c.key_id.not_in(but_with)).limit(1)
    return tx.execute(other).first() is None


def _keys() -> list[str]:
    """The keys there are, the one that encrypts first."""
    given = get_settings().server.encryption_key
    if given:
        found = [key.strip() for key in given.get_secret_value().split(",") if key.strip()]
    else:
        try:
            found = _path().read_text().split()
        except FileNotFoundError:
            found = []
    _met.update({fingerprint(key): key for key in found})
    return found


@functools.lru_cache(maxsize=16)
def _fernet(key: str) -> "Fernet":
    from cryptography.fernet import Fernet  # 40 ms, which only a server that has blocks pays

    try:
        return Fernet(key)
    except ValueError:
        raise ConfigurationError(
            f"A key in HEADRACE_SERVER_ENCRYPTION_KEY or {FILE} is none. A key is 32 random bytes in URL-safe base64."
        ) from None


def _path() -> Path:
    return Path(get_settings().home) / FILE


def _new_key() -> str:
    return urlsafe_b64encode(os.urandom(32)).decode()


def _make_file() -> list[str]:
    """Make the file with a first key; of two processes that try, the second takes the key of the first."""
    draft = _write([_new_key()])
    try:
        os.link(draft, _path())
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return _keys()


def _write(keys: Sequence[str]) -> Path:
    """A file beside the real one, on the disk before anything is encrypted with it, for its owner alone."""
    _path().parent.mkdir(parents=True, exist_ok=True)
    draft = _path().with_name(f".{FILE}.{uuid4().hex}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    return draft
