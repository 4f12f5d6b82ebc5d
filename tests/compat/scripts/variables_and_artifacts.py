"""Variables and artifacts: by client, in flows, on the command line."""

from checking import fresh, last_run, prefect, raises, run, shown
from prefect import flow, get_client, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, VariableCreate, VariableUpdate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactFilter
from prefect.client.schemas.sorting import ArtifactCollectionSort, ArtifactSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.variables import Variable

client = get_client(sync_client=True)
EXAMPLE = flow(lambda: None, name=fresh("compat-small"))
NAME = fresh("cli")


def check_variables_of_the_client():
    name = fresh("var").replace("-", "_")
    made = client.create_variable(VariableCreate(name=name, value={"a": [1, None, "x"]}, tags=["t"]))
    assert (made.name, made.value, made.tags) == (name, {"a": [1, None, "x"]}, ["t"])
    with raises(ObjectAlreadyExists):
        client.create_variable(VariableCreate(name=name, value=1))
    client.update_variable(VariableUpdate(name=name, value=7))
    assert client.read_variable_by_name(name).value == 7
    assert name in {one.name for one in client.read_variables(limit=200)}
    client.delete_variable_by_name(name)
    assert client.read_variable_by_name(name) is None
    with raises(ObjectNotFound):
        client.delete_variable_by_name(name)


def check_artifacts_of_the_client():
    made_by = client.create_flow_run(EXAMPLE)
    key = fresh("artifact")
    first = client.create_artifact(
        ArtifactCreate(
            key=key, type="markdown", data="# one", description="d", metadata_={"m": "1"}, flow_run_id=made_by.id
        )
    )
    second = client.create_artifact(ArtifactCreate(key=key, type="table", data={"rows": [1]}, flow_run_id=made_by.id))
    of_key = ArtifactFilter(key={"any_": [key]})
    for sort in ArtifactSort:
        assert {one.id for one in client.read_artifacts(artifact_filter=of_key, sort=sort)} == {first.id, second.id}
    client.update_artifact(first.id, ArtifactUpdate(data="# two", description="e"))
    tables = ArtifactFilter(key={"like_": key}, type={"not_any_": ["table"]}, flow_run_id={"any_": [made_by.id]})
    (read,) = client.read_artifacts(artifact_filter=tables)
    assert (read.data, read.description, read.metadata_) == ("# two", "e", {"m": "1"})
    for sort in ArtifactCollectionSort:
        latest = client.read_latest_artifacts(artifact_filter=ArtifactCollectionFilter(key={"any_": [key]}), sort=sort)
        assert [one.latest_id for one in latest] == [second.id]
    client.delete_artifact(second.id)
    latest = client.read_latest_artifacts(artifact_filter=ArtifactCollectionFilter(key={"any_": [key]}))
    assert [one.latest_id for one in latest] == [first.id]
    with raises(ObjectNotFound):
        client.delete_artifact(second.id)


def check_variables_of_flows():
    name = fresh("var").replace("-", "_")
    Variable.set(name, {"a": 1})
    assert Variable.get(name) == {"a": 1}
    with raises(ValueError):
        Variable.set(name, 2)
    Variable.set(name, 2, overwrite=True)
    assert Variable.get(name) == 2
    assert Variable.unset(name)
    assert Variable.get(name, default="gone") == "gone"


def check_artifacts_of_flows():
    key = fresh("report")

    @task
    def reports():
        create_table_artifact(table=[{"a": 1}], key=f"{key}-table")

    @flow(name=fresh("artifacts"))
    def reporting():
        create_markdown_artifact(markdown="# hello", key=f"{key}-text", description="d")
        create_link_artifact(link="https://example.invalid", key=f"{key}-link")
        progress = create_progress_artifact(progress=1.0, key=f"{key}-progress")
        update_progress_artifact(progress, progress=50.0)
        reports()

    reporting()
    made = last_run(reporting)
    found = {
        one.key: one for one in client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id={"any_": [made.id]}))
    }
    assert {one.removeprefix(key) for one in found} == {"-table", "-text", "-link", "-progress"}
    assert found[f"{key}-progress"].data == 50.0
    assert found[f"{key}-table"].task_run_id


def check_variables_on_the_command_line():
    name = NAME.replace("-", "_")
    prefect("variable", "set", name, '{"a": 1}', "--tag", "t")
    assert name in shown("variable", "ls")
    assert '{"a":1}' in shown("variable", "get", name).replace("'", '"')
    assert name in prefect("variable", "inspect", name)
    prefect("variable", "unset", name)
    prefect("variable", "get", name, code=1)


def check_artifacts_on_the_command_line():
    create_markdown_artifact("# text", key=NAME)
    assert NAME in shown("artifact", "ls")
    assert NAME in shown("artifact", "inspect", NAME)
    prefect("artifact", "delete", NAME)
    prefect("artifact", "inspect", NAME, code=1)


if __name__ == "__main__":
    run(globals())
