"""Artifacts: versions of a key, of which the latest is known, found by what they belong to."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.artifacts import (
    COUNT_ARTIFACTS,
    COUNT_LATEST_ARTIFACTS,
    CREATE_ARTIFACT,
    DELETE_ARTIFACT,
    READ_ARTIFACT,
    READ_ARTIFACTS,
    READ_LATEST_ARTIFACT,
    READ_LATEST_ARTIFACTS,
    UPDATE_ARTIFACT,
    Artifact,
    ArtifactCollectionFilter,
    ArtifactCreate,
    ArtifactFilter,
    ArtifactUpdate,
    CountArtifacts,
    CountLatestArtifacts,
    KeyMatch,
    ReadArtifacts,
    ReadLatestArtifacts,
)
from headrace.schemas.filters import FlowFilter, IdIn, NameMatch, StringInOrNot
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, FlowRunCreate
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.server.store.transaction import Store
from tests.operations.events_seen import events_of


def made(api: LocalClient, key: str | None = None, data: Any = "# text", **more: Any) -> Artifact:
    """A new artifact."""
    return api.call(CREATE_ARTIFACT, body=ArtifactCreate(key=key, data=data, **more))


def found(api: LocalClient, chosen: ArtifactFilter | None = None, **more: Any) -> set[UUID]:
    """The ids of the artifacts that filters find."""
    return {one.id for one in api.call(READ_ARTIFACTS, body=ReadArtifacts(artifacts=chosen, **more))}


def test_the_latest_of_a_key_is_known(api: LocalClient) -> None:
    """A list of the latest shows each key once, since its first artifact was made."""
    first = made(api, "report", "old")
    second = made(api, "report", "new", type="markdown", metadata_={"rows": "3"})
    made(api, None)

    (shown,) = api.call(READ_LATEST_ARTIFACTS, body=ReadLatestArtifacts())
    assert (shown.key, shown.data, shown.latest_id, shown.metadata_) == ("report", "new", second.id, {"rows": "3"})
    assert shown.id not in (first.id, second.id)
    assert api.call(READ_LATEST_ARTIFACT, key="report") == second
    assert api.call(COUNT_LATEST_ARTIFACTS, body=CountLatestArtifacts()) == 1
    assert api.call(COUNT_ARTIFACTS, body=CountArtifacts()) == 3


def test_when_the_latest_goes_the_one_before_it_is_the_latest(api: LocalClient) -> None:
    """And with the last of a key the key is gone."""
    first, second = made(api, "report", "old"), made(api, "report", "new")

    api.call(DELETE_ARTIFACT, id=second.id)
    assert api.call(READ_LATEST_ARTIFACT, key="report") == first

    api.call(DELETE_ARTIFACT, id=first.id)
    with pytest.raises(ObjectNotFound):
        api.call(READ_LATEST_ARTIFACT, key="report")
    assert api.call(READ_LATEST_ARTIFACTS, body=ReadLatestArtifacts()) == []


def test_deleting_an_older_one_changes_nothing_else(api: LocalClient) -> None:
    """The latest stays what it was."""
    first, second = made(api, "report", "old"), made(api, "report", "new")

    api.call(DELETE_ARTIFACT, id=first.id)

    assert api.call(READ_LATEST_ARTIFACT, key="report") == second


def test_a_change_leaves_what_it_does_not_name(api: LocalClient) -> None:
    """Data may be replaced, and a description taken away."""
    artifact = made(api, "report", {"a": 1}, description="about")

    api.call(UPDATE_ARTIFACT, id=artifact.id, body=ArtifactUpdate(description=None))

    changed = api.call(READ_ARTIFACT, id=artifact.id)
    assert (changed.data, changed.description) == ({"a": 1}, None)


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """For each call about one artifact."""
    for call in (READ_ARTIFACT, DELETE_ARTIFACT):
        with pytest.raises(ObjectNotFound):
            api.call(call, id=uuid4())
    with pytest.raises(ObjectNotFound):
        api.call(UPDATE_ARTIFACT, id=uuid4(), body=ArtifactUpdate(data=1))


@pytest.mark.parametrize("key", ["Report", "my report", "a_b", ""])
def test_a_key_has_small_letters_digits_and_dashes(api: LocalClient, key: str) -> None:
    """Any other is refused."""
    with pytest.raises(ValidationFailed):
        made(api, key)


def test_filters_find_them(api: LocalClient) -> None:
    """By key, pattern of a key, type, run, and what the run belongs to."""
    flow = api.call(CREATE_FLOW, body=FlowCreate(name="etl"))
    run = api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow.id))
    table = made(api, "sales-table", type="table", flow_run_id=run.id)
    text = made(api, "sales-text", type="markdown")
    bare = made(api, None, type="result")

    assert found(api, ArtifactFilter(key=KeyMatch(exists_=False))) == {bare.id}
    assert found(api, ArtifactFilter(key=KeyMatch(like_="sales%te"))) == {text.id}
    assert found(api, ArtifactFilter(key=KeyMatch(any_=["sales-table"]))) == {table.id}
    assert found(api, ArtifactFilter(type=StringInOrNot(not_any_=["result"]))) == {table.id, text.id}
    assert found(api, ArtifactFilter(flow_run_id=IdIn(any_=[run.id]))) == {table.id}
    assert found(api, flows=FlowFilter(name=NameMatch(any_=["etl"]))) == {table.id}
    chosen = ArtifactCollectionFilter(latest_id=IdIn(any_=[text.id]))
    assert [one.key for one in api.call(READ_LATEST_ARTIFACTS, body=ReadLatestArtifacts(artifacts=chosen))] == [
        "sales-text"
    ]


def test_g8_what_becomes_of_a_key_is_told(api: LocalClient, store: Store) -> None:
    """A new version, a version that goes, and the end of the key are events of its collection."""
    first = made(api, "report", "old")
    second = made(api, "report", "new")
    (shown,) = api.call(READ_LATEST_ARTIFACTS, body=ReadLatestArtifacts())
    api.call(DELETE_ARTIFACT, id=second.id)
    api.call(DELETE_ARTIFACT, id=first.id)

    told = events_of(store, "artifact-collection", shown.id)
    assert [(event.event.rpartition(".")[2], event.payload["data"]) for event in told] == [
        ("created", "old"),
        ("updated", "new"),
        ("updated", "old"),
        ("deleted", "old"),
    ]
