"""CSRF tokens, for setups that ask for them; headrace knows foreign pages by what browsers say of them anyway.  # S3

Prefect's clients ask for a token before their first change, and are told when none is needed. A token is the moment it
expires, signed for one client with a secret of the database: nothing is stored, and every server process knows it.
"""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime

from sqlalchemy import select

from headrace._internal.ids import uuid7
from headrace.exceptions import Forbidden, ValidationFailed
from headrace.schemas.csrf import CREATE_CSRF_TOKEN, CsrfToken
from headrace.server.operations.registry import implements
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import CONFIGURATION
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

_SECRET = "csrf_secret"
_SELECT = select(CONFIGURATION.c.value).where(CONFIGURATION.c.key == _SECRET)


@implements(CREATE_CSRF_TOKEN, access="none:write")
def create_csrf_token(tx: Tx, client: str) -> CsrfToken:
    """Make a CSRF token for a client, or say that none is needed."""
    api = get_settings().server.api
    if not api.csrf_protection_enabled:
        raise ValidationFailed("CSRF protection is disabled.")  # clients look for these words
    secret = tx.execute(_SELECT).scalar()
    if secret is None:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "key": _SECRET, "value": secrets.token_hex(32)}
        insert_ignore(tx, CONFIGURATION, [row], index=["key"])
        secret = tx.execute(_SELECT).scalar_one()
    expires = tx.now + api.csrf_token_expiration
    token = _signed(secret, client, int(expires.timestamp()))
    return CsrfToken(
        id=uuid7(), created=tx.now, updated=tx.now, client=client, token=token, expiration=expires
    )  # Prefect's clients refuse a token without an id


def check_csrf_token(tx: Tx, client: str, token: str) -> None:
    """See that a client sent along its token.

    Raises:
        Forbidden: it is missing, another client's, or expired; clients look for the words and ask for a new one.
    """
    moment, _, _ = token.partition(".")
    secret = tx.execute(_SELECT).scalar()
    readable = moment.isascii() and moment.isdigit() and len(moment) < 12
    if not (
        readable
        and secret is not None
        and hmac.compare_digest(token.encode(), _signed(secret, client, int(moment)).encode())
        and datetime.fromtimestamp(int(moment), UTC) > tx.now
    ):
        raise Forbidden("Invalid CSRF token or client identifier. Get one from /csrf-token.")


def _signed(secret: str, client: str, expires: int) -> str:
    mac = hmac.new(secret.encode(), f"{expires}.{client}".encode(errors="replace"), hashlib.sha256)
    return f"{expires}.{mac.hexdigest()}"
