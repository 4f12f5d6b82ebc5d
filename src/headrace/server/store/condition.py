"""What conditions in the words of each database have in common."""

from sqlalchemy import Boolean
from sqlalchemy.sql.functions import FunctionElement


class Condition(FunctionElement[bool]):
    """A function of SQL that is true or false. Subclasses set `inherit_cache`."""

    type = Boolean()
    _is_implicitly_boolean = True  # else SQLite is asked whether it `= 1`, and then uses no index
