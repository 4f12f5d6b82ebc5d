"""Who a transaction is carried out for, and what they may do.  # S1"""

from dataclasses import dataclass
from uuid import UUID

from headrace.exceptions import Forbidden

FOR_ADMINS = frozenset({"keys:read", "keys:write", "admin:write", "secrets:read", "audit:read"})
"""What the general permissions `read` and `write` leave out."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone known to the server.

    Args:
        name: for the logs.
        permissions: `admin`, `write`, `read`, or `area:read` and `area:write`.
        work_pool: the only pool whose things they may touch; None for all.
        key_id: of the API key they log in with, if it is one.
        flow_run_id: the only flow run that they may change, with what it makes; None for all.
    """

    name: str
    permissions: frozenset[str]
    work_pool: str | None = None
    key_id: UUID | None = None
    flow_run_id: UUID | None = None

    @property
    def full_name(self) -> str:
        """Who they are, for good: a name of a key may be given to another one."""
        return self.name if self.key_id is None else f"{self.name} ({self.key_id})"

    def may(self, access: str) -> bool:
        """Whether they have the permission `access`, as operations name it: `area:read` or `area:write`."""
        area, _, level = access.partition(":")
        if area == "none" or "admin" in self.permissions or access in self.permissions:
            return True
        if level == "read" and f"{area}:write" in self.permissions:
            return True
        if access in FOR_ADMINS:
            return False
        return "write" in self.permissions or (level == "read" and "read" in self.permissions)

    def require(self, access: str) -> None:
        """See that they have a permission.

        Raises:
            Forbidden: they have not.
        """
        if not self.may(access):
            raise Forbidden(f"{self.name} lacks the permission {access!r}. Use a login that has it.")


ADMIN = Caller("The administrator", frozenset({"admin"}))
"""Whoever gives the auth string, local mode, and the server itself."""
ANYONE = Caller("Anyone", frozenset({"admin"}))
"""All callers of a server without an auth string."""
