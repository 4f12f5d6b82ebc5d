"""What the store raises by itself; what a transaction's function raises passes through unchanged."""

from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DataError, DBAPIError

from headrace.exceptions import ApiError, ValidationFailed


class StoreUnavailable(ApiError):
    """The database cannot serve at the moment: gone, full, or locked by another program. Try again later.  # G16"""

    status = 503


class StoreClosed(StoreUnavailable):
    """The store was closed before the call, or while it waited."""

    def __init__(self) -> None:
        super().__init__("The store is closed. Open it again with open_store().")


def as_sqlalchemy(error: Exception, sql: str, dialect: Dialect, connection: Any) -> Exception:
    """A driver's error as the one that SQLAlchemy makes of it, without the values of the statement.  # S16

    Args:
        error: of the driver.
        sql: what was being run.
        dialect: of the database.
        connection: of the driver.
    """
    lost = dialect.is_disconnect(error, connection, None)  # type: ignore[arg-type]
    made: Any = DBAPIError.instance(
        sql, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, connection_invalidated=lost, dialect=dialect
    )
    made.__cause__ = error
    return made  # type: ignore[no-any-return]


def as_told(error: Exception) -> Exception:
    """The error for a caller of whom a value cannot be stored; others as they are."""
    if not isinstance(error, DataError | OverflowError | UnicodeEncodeError):
        return error
    cause = getattr(error, "orig", error)
    told = ValidationFailed(f"A value of the call cannot be stored: {cause}. Send another one.")
    told.__cause__ = error
    return told
