"""Artifacts: what runs show to people, and of those with a key the latest; the calls about them."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import (
    DeploymentFilter,
    FlowFilter,
    FlowRunFilter,
    IdIn,
    Operator,
    StringInOrNot,
    TaskRunFilter,
)

ArtifactKey = Annotated[str, Meta(pattern="^[a-z0-9-]+$")]


class KeyMatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """A key among these, or one that fits this pattern of LIKE; or whether there is one at all."""

    any_: list[str] | None = None
    exists_: bool | None = None
    like_: str | None = None


class ArtifactFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which artifacts."""

    flow_run_id: IdIn | None = None
    id: IdIn | None = None
    key: KeyMatch | None = None
    operator: Operator = Operator.and_
    task_run_id: IdIn | None = None
    type: StringInOrNot | None = None


class ArtifactCollectionFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which latest artifacts."""

    flow_run_id: IdIn | None = None
    key: KeyMatch | None = None
    latest_id: IdIn | None = None
    operator: Operator = Operator.and_
    task_run_id: IdIn | None = None
    type: StringInOrNot | None = None


class ArtifactSort(StrEnum):
    """Orders of artifacts."""

    CREATED_DESC = "CREATED_DESC"
    UPDATED_DESC = "UPDATED_DESC"
    ID_DESC = "ID_DESC"
    KEY_DESC = "KEY_DESC"
    KEY_ASC = "KEY_ASC"


class ArtifactCreate(Struct, kw_only=True):
    """An artifact to be created; those with the same key are versions of one thing."""

    data: Any = None
    description: str | None = None
    flow_run_id: UUID | None = None
    key: ArtifactKey | None = None
    metadata_: dict[str, str] | None = None
    task_run_id: UUID | None = None
    type: str | None = None


class Artifact(Struct, kw_only=True):
    """An artifact as it is stored."""

    created: datetime | None = None
    data: Any = None
    description: str | None = None
    flow_run_id: UUID | None = None
    id: UUID
    key: str | None = None
    metadata_: dict[str, str] | None = None
    task_run_id: UUID | None = None
    type: str | None = None
    updated: datetime | None = None


class ArtifactCollection(Artifact, kw_only=True):
    """The artifacts of a key, shown as the latest of them; `created` is when the first one was."""

    key: str
    latest_id: UUID
    created: datetime | None
    updated: datetime | None


class ArtifactUpdate(Struct, kw_only=True):
    """What to change of an artifact; what is left out stays."""

    data: Any = UNSET
    description: str | None | UnsetType = UNSET
    metadata_: dict[str, str] | None | UnsetType = UNSET


class ArtifactScope(Struct, kw_only=True):
    """Filters of what artifacts belong to."""

    deployments: DeploymentFilter | None = None
    flow_runs: FlowRunFilter | None = None
    flows: FlowFilter | None = None
    task_runs: TaskRunFilter | None = None


class CountArtifacts(ArtifactScope, kw_only=True):
    """Which artifacts to count."""

    artifacts: ArtifactFilter | None = None


class ReadArtifacts(CountArtifacts, kw_only=True):
    """Which artifacts to list, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: ArtifactSort = ArtifactSort.ID_DESC


class CountLatestArtifacts(ArtifactScope, kw_only=True):
    """Which keys to count."""

    artifacts: ArtifactCollectionFilter | None = None


class ReadLatestArtifacts(CountLatestArtifacts, kw_only=True):
    """Of which keys to list the latest artifact, in what order, and which part of the list."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: ArtifactSort = ArtifactSort.ID_DESC


CREATE_ARTIFACT = Endpoint("POST", "/artifacts/", body=ArtifactCreate, returns=Artifact, status=201)
COUNT_ARTIFACTS = Endpoint("POST", "/artifacts/count", body=CountArtifacts, returns=int)
READ_ARTIFACTS = Endpoint("POST", "/artifacts/filter", body=ReadArtifacts, returns=list[Artifact])
COUNT_LATEST_ARTIFACTS = Endpoint("POST", "/artifacts/latest/count", body=CountLatestArtifacts, returns=int)
READ_LATEST_ARTIFACTS = Endpoint(
    "POST", "/artifacts/latest/filter", body=ReadLatestArtifacts, returns=list[ArtifactCollection]
)
DELETE_ARTIFACT = Endpoint("DELETE", "/artifacts/{id}", returns=NoneType, status=204)
READ_ARTIFACT = Endpoint("GET", "/artifacts/{id}", returns=Artifact)
UPDATE_ARTIFACT = Endpoint("PATCH", "/artifacts/{id}", body=ArtifactUpdate, returns=NoneType, status=204)
READ_LATEST_ARTIFACT = Endpoint("GET", "/artifacts/{key}/latest", returns=Artifact)
