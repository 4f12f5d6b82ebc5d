"""What the store raises by itself; what a transaction's function raises passes through unchanged."""

from headrace.exceptions import ApiError


class StoreUnavailable(ApiError):
    """The database cannot serve at the moment: gone, full, or locked by another program. Try again later.  # G16"""

    status = 503


class StoreClosed(StoreUnavailable):
    """The store was closed before the call, or while it waited."""

    def __init__(self) -> None:
        super().__init__("The store is closed. Open it again with open_store().")
