"""Who made or changed an object."""

from uuid import UUID

from msgspec import Struct

BY_FLOW_RUN = "FLOW_RUN"
"""The type of who made a run, if that was the process of another one that logged in as such."""


class CreatedBy(Struct, kw_only=True):
    """Who made it: a schedule, an automation, a user."""

    id: UUID | None = None
    type: str | None = None
    display_value: str | None = None


class UpdatedBy(CreatedBy, kw_only=True):
    """Who changed it last."""
