"""Who made or changed an object."""

from uuid import UUID

from msgspec import Struct


class CreatedBy(Struct, kw_only=True):
    """Who made it: a schedule, an automation, a user."""

    id: UUID | None = None
    type: str | None = None
    display_value: str | None = None


class UpdatedBy(CreatedBy, kw_only=True):
    """Who changed it last."""
