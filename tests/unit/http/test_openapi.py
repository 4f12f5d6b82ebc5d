"""The description of the API."""

from headrace.server.http.openapi import describe, tag_of
from headrace.server.operations.registry import load_all
from tests.support import shelf
from tests.support.serving import ask


def test_every_operation_is_described_once(api: str) -> None:
    """Each operation has its path, its name, and every status it may answer with."""
    document = ask(api, "GET", "/openapi.json").json()

    described = {
        (method.upper(), path): one for path, item in document["paths"].items() for method, one in item.items()
    }
    assert described.keys() == {(one.method, one.path) for one in shelf.operations()}
    create = described["POST", "/books/"]
    assert create["operationId"] == "create_book"
    assert create["tags"] == ["Books"]
    anywhere, of_bodies = {"400", "401", "403", "429", "503"}, {"408", "413", "415", "422"}
    assert create["responses"].keys() == {"200", "201", "404", "409"} | anywhere | of_bodies
    assert described["DELETE", "/books/{id}"]["responses"].keys() == {"204", "404", "409", "422"} | anywhere
    assert described["GET", "/books/pages"]["responses"].keys() == {"200", "404", "422"} | anywhere


def test_the_whole_api_is_described_under_names_of_its_own() -> None:
    """Each operation that is served is in the document once, and its name is no other's."""
    operations = load_all().values()

    paths = describe(operations)["paths"]

    described = [(m.upper(), path, one["operationId"]) for path, item in paths.items() for m, one in item.items()]
    assert sorted(described) == sorted((one.endpoint.method, one.endpoint.path, one.name) for one in operations)
    assert len({name for _, _, name in described}) == len(described)


def test_parameters_and_bodies_have_their_schemas() -> None:
    """Path and query parameters, and the body, are described by the types of the operation."""
    document = describe(shelf.operations().values())

    pages = document["paths"]["/books/pages"]["get"]["parameters"]
    by_name = {one["name"]: one for one in pages}
    assert (by_name["least"]["in"], by_name["least"]["required"]) == ("query", True)
    assert (by_name["after"]["required"], by_name["empty"]["schema"]) == (False, {"type": "boolean", "default": False})
    assert document["paths"]["/books/{id}"]["get"]["parameters"][0]["schema"] == {"type": "string", "format": "uuid"}
    body = document["paths"]["/books/"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NewBook"}
    schemas = document["components"]["schemas"]
    assert schemas["ChangedBook"]["required"] == []
    when = {"type": "string", "format": "date-time"}
    assert by_name["after"]["schema"]["anyOf"][0] == when
    assert schemas["NewBook"]["properties"]["read_at"]["anyOf"][0] == when
    assert schemas["ChangedBook"]["properties"]["read_at"]["anyOf"][0] == when


def test_tags_are_those_of_the_reference() -> None:
    """A tag is the resource in words."""
    named = {"/flow_runs/{id}": "Flow Runs", "/health": "Root", "/admin/version": "Admin", "/work_pools/": "Work Pools"}

    assert {path: tag_of(path) for path in named} == named
