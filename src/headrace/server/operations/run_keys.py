"""Keys of runs: made for who holds a run, for its process, which may then change that run and no other.  # S5

A key is good while its attempt holds the run: while there is a lease, however late it is renewed, for an outage of the
server ends no run; and for a little while after the run has ended, for its hooks and what is left to record. What it
may touch is in `run_scope`. There is one key of a run at a time, and it goes with the run.
"""

import secrets
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, select

from headrace.exceptions import Forbidden, ObjectNotFound
from headrace.schemas.run_keys import CREATE_RUN_KEY, RunKey, RunKeyCreate
from headrace.schemas.states import FINAL
from headrace.server.operations.api_keys import PREFIX, digest_of
from headrace.server.operations.registry import implements
from headrace.server.store.caller import Caller
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import upsert
from headrace.server.store.tables import FLOW_RUN, RUN_KEY
from headrace.server.store.transaction import Tx

RUN_PREFIX = PREFIX + "run_"
"""What every key of a run begins with."""
AFTER_THE_END = timedelta(seconds=60)
"""How long a key is good after its run has ended."""
MAY = ("read", "secrets:read", "flows:write", "runs:write", "logs:write", "artifacts:write", "concurrency_limits:write")
"""What a run may, as far as who asks for its key may it."""

_HOLDER = select(FLOW_RUN.c.epoch, FLOW_RUN.c.lease_until).where(FLOW_RUN.c.id == bindparam("run_id"))
_FIND = Prepared(
    select(RUN_KEY, FLOW_RUN.c.lease_until, FLOW_RUN.c.state_type, FLOW_RUN.c.state_timestamp)
    .join(FLOW_RUN, and_(FLOW_RUN.c.id == RUN_KEY.c.flow_run_id, FLOW_RUN.c.epoch == RUN_KEY.c.epoch))
    .where(RUN_KEY.c.digest == bindparam("digest"))
)


@implements(CREATE_RUN_KEY, access="runs:write")
def create_run_key(tx: Tx, id: UUID, body: RunKeyCreate) -> RunKey:
    """Make the key of a run, for the attempt that holds it; this answer is the only one that has it."""
    row = tx.execute(_HOLDER.with_for_update(), {"run_id": id}).one_or_none()
    if row is None:
        raise ObjectNotFound("Flow run", id)
    if row.epoch != body.epoch or row.lease_until is None:
        raise Forbidden(f"Attempt {body.epoch} does not hold this run. Claim it before you ask for its key.")
    key = RUN_PREFIX + secrets.token_urlsafe(32)
    made = {
        "flow_run_id": id,
        "epoch": body.epoch,
        "digest": digest_of(key),
        "permissions": [one for one in MAY if tx.caller.may(one)],
        "work_pool": tx.caller.work_pool,
    }
    changed = ["epoch", "digest", "permissions", "work_pool"]
    upsert(tx, RUN_KEY, [made], index=["flow_run_id"], update=changed, counted=False)
    return RunKey(flow_run_id=id, key=key)


def find_run_caller(tx: Tx, digest: bytes) -> Caller | None:
    """Who logs in with the key of this digest, if it is that of a run whose attempt holds it."""
    row = tx.execute(_FIND, {"digest": digest}).one_or_none()
    if row is None:
        return None
    just_ended = row.state_type in FINAL and tx.now - row.state_timestamp < AFTER_THE_END
    if row.lease_until is None and not just_ended:
        return None
    name = f"Flow run {row.flow_run_id}"
    return Caller(name, frozenset(row.permissions), row.work_pool, flow_run_id=row.flow_run_id)
