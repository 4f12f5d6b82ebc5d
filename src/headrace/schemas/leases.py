"""Leases of runs: how whoever runs a flow run shows that it lives. headrace's own; Prefect's clients have none.

A claim (PENDING or RUNNING proposed with `lease_seconds`) begins an attempt, its epoch, and a lease. Its holder renews
the lease each third of its length. One that is not renewed ends: the run is CRASHED, or SCHEDULED again if it had not
begun.  # G4, G6
"""

from uuid import UUID

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint


class RunLease(Struct, kw_only=True):
    """What a holder knows of its lease."""

    id: UUID
    """The flow run."""
    epoch: int


class RenewRunLeases(Struct, kw_only=True):
    """The leases one process holds, renewed together."""

    leases: list[RunLease]


class RunLeasesRenewed(Struct, kw_only=True):
    """Which runs their holder has to stop; all others have their lease for its full length again."""

    lost: list[UUID]
    """No longer this attempt's: final, claimed by another, given back, or gone. Stop, and write nothing more."""
    cancelling: list[UUID]
    """Still this attempt's, and to be cancelled."""


RENEW_RUN_LEASES = Endpoint("POST", "/flow_runs/leases/renew", body=RenewRunLeases, returns=RunLeasesRenewed)
