"""Placeholders in deployment files and job templates."""

from pathlib import Path
from typing import Any

import pytest

from headrace._internal.ids import uuid7
from headrace.client import get_client
from headrace.deployments.templating import UNKNOWN, fill
from headrace.exceptions import InfrastructureError
from headrace.schemas.block_documents import (
    CREATE_BLOCK_DOCUMENT,
    READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE,
    BlockDocumentCreate,
)
from headrace.schemas.block_schemas import CREATE_BLOCK_SCHEMA, BlockSchemaCreate
from headrace.schemas.block_types import CREATE_BLOCK_TYPE, BlockTypeCreate
from headrace.schemas.variables import CREATE_VARIABLE, VariableCreate
from headrace.settings.secret import mask
from headrace.workers.jobs import process_job
from headrace.workers.process import TEMPLATE


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{ number }}", 3),
        ("{{number}}", 3),
        ("n={{ number }}!", "n=3!"),
        ("{{ build.tags[1] }}", "b"),
        ("{{ build.tags }}", ["a", "b"]),
        ({"a": "{{ none }}", "b": ["{{ none }}", "{{ number }}"]}, {"b": [3]}),
        ("x{{ none }}y", "xy"),
        (7, 7),
        (None, None),
    ],
)
def test_placeholders_are_filled(template: Any, filled: Any) -> None:
    """A lone placeholder keeps its type; unknown ones vanish."""
    values = {"number": 3, "build": {"tags": ["a", "b"]}}

    assert fill(template, values) == filled


def test_unknown_placeholders_can_be_kept() -> None:
    """A pull step's placeholders are for the run to fill."""
    assert fill({"a": "{{ later.x }}/{{ now }}"}, {"now": 1}, keep_unknown=True) == {"a": "{{ later.x }}/1"}


def test_a_lone_unknown_placeholder_is_unknown() -> None:
    """The caller sees that there is nothing."""
    assert fill("{{ nothing }}", {}) is UNKNOWN


def test_the_environment_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`{{ $NAME }}` is a variable of the environment."""
    monkeypatch.setenv("IMAGE", "me/flow")

    assert fill("{{ $IMAGE }}:1", {}, environment=True) == "me/flow:1"
    assert fill("{{ $IMAGE }}:1", {}, keep_unknown=True) == "{{ $IMAGE }}:1"


@pytest.fixture
def blocks(project: Path) -> None:
    """The blocks `login/db`, with several values, and `secret/token`, with nothing but a value."""
    client = get_client()
    for slug, name, data in (
        ("login", "db", {"user": "ann", "ports": [5432, 5433], "template": "{{ prefect.blocks.secret.token }}"}),
        ("secret", "token", {"value": "canary"}),
    ):
        kind = client.call(CREATE_BLOCK_TYPE, body=BlockTypeCreate(name=slug, slug=slug))
        fields = {"title": slug, "secret_fields": ["value"]}
        schema = client.call(CREATE_BLOCK_SCHEMA, body=BlockSchemaCreate(block_type_id=kind.id, fields=fields))
        made = BlockDocumentCreate(name=name, data=data, block_schema_id=schema.id, block_type_id=kind.id)
        client.call(CREATE_BLOCK_DOCUMENT, body=made)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{ prefect.blocks.login.db.user }}", "ann"),
        ("{{ headrace.blocks.login.db.ports[1] }}", 5433),
        ("{{ prefect.blocks.secret.token }}", "canary"),
        ("{{ prefect.blocks.secret.token.value }}", "canary"),
        ("Bearer {{ prefect.blocks.secret.token }}", "Bearer canary"),
        ({"a": ["{{ prefect.blocks.login.db.ports }}"]}, {"a": [[5432, 5433]]}),
        ("{{ prefect.blocks.login.db.template }}", "{{ prefect.blocks.secret.token }}"),
    ],
)
def test_blocks_are_read_with_their_secrets(template: Any, filled: Any) -> None:
    """A reference leads into a block; what a block says is no template itself."""
    assert fill(template, {}) == filled


@pytest.mark.usefixtures("blocks")
def test_s12_secrets_that_were_read_are_masked_in_logs() -> None:
    """A worker or a pull step that reads a block cannot say its secrets in a log line; what is no secret it can."""
    fill("{{ prefect.blocks.secret.token }} {{ prefect.blocks.login.db.user }}", {})

    assert mask("ann has canary") == "ann has ********"


@pytest.mark.usefixtures("blocks")
def test_a_reference_by_id_stands_for_the_whole_block() -> None:
    """The form in which old job templates name a block."""
    call = {"slug": "secret", "block_document_name": "token"}
    id = get_client().call(READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE, **call).id

    assert fill({"key": {"$ref": {"block_document_id": str(id)}}}, {}) == {"key": {"value": "canary"}}
    assert fill({"$ref": "#/definitions/X"}, {}) == {"$ref": "#/definitions/X"}
    with pytest.raises(ValueError, match="does not exist"):
        fill({"$ref": {"block_document_id": str(uuid7())}}, {})


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    "template",
    [
        "{{ prefect.blocks.login.nobody }}",
        "{{ prefect.blocks.login.db.nothing }}",
        "{{ prefect.blocks.login }}",
        "{{ prefect.cookies.x }}",
        "text {{ prefect.blocks.login.db }}",
    ],
)
def test_a_reference_nobody_can_read_is_an_error(template: str) -> None:
    """It is not left empty in silence."""
    with pytest.raises(ValueError, match=r"\{\{ prefect\."):
        fill(template, {})


@pytest.mark.usefixtures("project")
def test_variables_are_read_with_their_type() -> None:
    """A variable that stands alone keeps its type; one that does not exist is empty, as in Prefect."""
    get_client().call(CREATE_VARIABLE, body=VariableCreate(name="ports", value=[1, 2]))
    get_client().call(CREATE_VARIABLE, body=VariableCreate(name="region", value="eu"))

    template = {"a": "{{ prefect.variables.ports }}", "b": "{{ prefect.variables.region }}-1", "c": "{{ $X }}"}
    assert fill(template, {}) == {"a": [1, 2], "b": "eu-1"}
    assert fill("{{ headrace.variables.nobody }}", {}) == ""
    assert process_job(TEMPLATE, {"env": {"R": "{{ prefect.variables.region }}"}}, context={}).env == {"R": "eu"}


def test_references_can_be_left_for_later() -> None:
    """Then nothing is asked of the API."""
    template = {"a": "{{ prefect.blocks.login.db }}", "b": "{{ now }}-{{ prefect.variables.x }}", "c": "{{ later }}"}

    filled = fill(template, {"now": 1}, references=False)

    assert filled == {"a": "{{ prefect.blocks.login.db }}", "b": "1-{{ prefect.variables.x }}"}


@pytest.mark.usefixtures("blocks")
def test_a_job_takes_values_of_blocks() -> None:
    """A worker fills in what job variables refer to; what a block says is no template."""
    env = {"TOKEN": "{{ prefect.blocks.secret.token }}", "ODD": "{{ prefect.blocks.login.db.template }}"}

    job = process_job(TEMPLATE, {"env": env}, context={})

    assert job.env == {"TOKEN": "canary", "ODD": "{{ prefect.blocks.secret.token }}"}
    with pytest.raises(InfrastructureError, match="does not exist"):
        process_job(TEMPLATE, {"env": {"X": "{{ prefect.blocks.a.b }}"}}, context={})
