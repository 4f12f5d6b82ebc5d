"""Keys of runs: what the process of a flow run logs in with, for as long as it holds the run. headrace's own."""

from uuid import UUID

from msgspec import Struct

from headrace.schemas.endpoint import Endpoint


class RunKeyCreate(Struct, kw_only=True):
    """For which attempt a key is wanted."""

    epoch: int


class RunKey(Struct, kw_only=True):
    """A key just made; nobody can read it again."""

    flow_run_id: UUID
    key: str


CREATE_RUN_KEY = Endpoint("POST", "/flow_runs/{id}/key", body=RunKeyCreate, returns=RunKey, status=201)
