"""What the database refuses by itself, as the error a caller can do something with: for both transports.

Operations check what they can beforehand; what is left are races, as when two callers make the same thing at once.
They are no accident of the server's.  # G16
"""

from sqlalchemy.exc import IntegrityError

from headrace.exceptions import ObjectAlreadyExists, ValidationFailed

_UNIQUE = "23505"


def refusal_of(error: Exception) -> Exception:
    """The error to give to a caller in place of `error`, which is returned as it is when there is no better one.

    The database's own words are left out, for they tell of tables and values.  # S16
    """
    if not isinstance(error, IntegrityError):
        return error
    state = getattr(error.orig, "sqlstate", None)
    if state == _UNIQUE or (state is None and "UNIQUE" in str(error.orig)):
        return ObjectAlreadyExists("Another call has just made the same thing. Read it, or choose another name.")
    return ValidationFailed("What this call refers to is not there, or something it needs was left out.")
