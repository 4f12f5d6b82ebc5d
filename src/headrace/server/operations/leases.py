"""Renewing the leases of flow runs.  # G6"""

from uuid import UUID

from sqlalchemy import bindparam, select

from headrace.schemas.leases import RENEW_RUN_LEASES, RenewRunLeases, RunLeasesRenewed
from headrace.schemas.states import StateType
from headrace.server.operations.registry import implements
from headrace.server.rules.change import after
from headrace.server.store.long_lists import by_ids
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import FLOW_RUN
from headrace.server.store.transaction import Tx

_HELD = by_ids(
    select(FLOW_RUN.c.id, FLOW_RUN.c.epoch, FLOW_RUN.c.state_type, FLOW_RUN.c.lease_seconds, FLOW_RUN.c.due)
    .where(FLOW_RUN.c.lease_until.is_not(None))
    .order_by(FLOW_RUN.c.id)  # locked in id order  # G16
    .with_for_update(),
    FLOW_RUN.c.id,
)
_RENEW = Prepared(
    FLOW_RUN.update()
    .where(FLOW_RUN.c.id == bindparam("run_id"), FLOW_RUN.c.epoch == bindparam("of_epoch"))
    .values(lease_until=bindparam("until"), due=bindparam("next"))
)


@implements(RENEW_RUN_LEASES, access="runs:write")
def renew_run_leases(tx: Tx, body: RenewRunLeases) -> RunLeasesRenewed:
    """Give each run its lease for the full length again, if the attempt that asks still holds it.

    A lease whose time has passed is renewed as well, as long as nothing was done about it: the holder lives. Slots of
    the run's limits last as long as the run is held, and need no renewal of their own.  # G7
    """
    epochs = {lease.id: lease.epoch for lease in body.leases}
    renewed, cancelling, rows = set[UUID](), [], []
    held = tx.execute(_HELD, {"ids": list(epochs)})
    for run_id, epoch, state_type, seconds, due in held:
        if epochs[run_id] != epoch:
            continue
        renewed.add(run_id)
        until = after(tx.now, seconds)
        if state_type == StateType.CANCELLING:
            cancelling.append(run_id)
        # a cancelling and a pause have deadlines of their own, however long their process lives  # G12
        keeps_due = state_type in (StateType.CANCELLING, StateType.PAUSED)
        rows.append({"run_id": run_id, "of_epoch": epoch, "until": until, "next": due if keeps_due else until})
    tx.send(_RENEW, rows)
    lost = [lease.id for lease in body.leases if lease.id not in renewed]
    return RunLeasesRenewed(lost=lost, cancelling=cancelling)
