"""What a body may be: bounded while it is read and unpacked, and nothing that a database could not keep."""

import gzip
import json
from collections.abc import Iterator

import pytest

from headrace.client.local import LocalClient
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.server.operations.registry import load_all
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.support.serving import ask, serving

DEEP = 65
CANNOT_BE_KEPT = {
    "NUL": r'"a\u0000b"',
    "NUL in a key": r'{"a\u0000b": 1}',
    "NUL behind backslashes": r'"\\\\\u0000"',
    "a lone high surrogate": r'"\ud800"',
    "a lone low surrogate": r'"\udc00 "',
    "surrogates the wrong way round": r'"\udc00\ud800"',
    "a surrogate as bytes": b'"\xed\xa0\x80"',
    "bytes that are no UTF-8": b'"\xff"',
    "an integer beyond 64 bits": str(2**63),
    "a negative one": str(-(2**63) - 1),
    "an integer of a thousand digits": "1" * 1000,
    "a float beyond all": "1e999",
    "a negative one beyond all": "-1e999",
    "not a number": "NaN",
    "infinity": "Infinity",
    "negative infinity": "-Infinity",
    "too deep": "[" * DEEP + "]" * DEEP,
    "too deep in objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep without end": "[" * 100_000,
    "half a text": '"abc',
    "two values": "1 2",
    "a comma too many": "[1,]",
    "a comment": "1 /* one */",
    "a single quote": "'a'",
}
CAN_BE_KEPT = {
    "the largest integer": str(2**63 - 1),
    "the least integer": str(-(2**63)),
    "a pair of surrogates": r'"\ud83d\ude00"',
    "an escaped backslash and u0000": r'"\\u0000"',
    "the least float": "5e-324",
    "a large float": "1.5e15",
    "brackets in a text": '"' + "[" * 1000 + '"',
    "as deep as allowed": "[" * 60 + "]" * 60,
}


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """The URL of a server, on each database."""
    with serving(store) as served:
        yield served


def body_with(value: str | bytes, store: Store) -> bytes:
    """A flow run whose parameter has this value, as it stands in JSON."""
    flow = LocalClient(store).call(CREATE_FLOW, body=FlowCreate(name="f")).id
    raw = value if isinstance(value, bytes) else value.encode()
    return b'{"flow_id": "' + str(flow).encode() + b'", "parameters": {"x": ' + raw + b"}}"


@pytest.mark.parametrize("value", CANNOT_BE_KEPT.values(), ids=CANNOT_BE_KEPT)
def test_s6_what_cannot_be_kept_is_refused(url: str, store: Store, value: str | bytes) -> None:
    """422 on both databases, as plain text and as gzip, with nothing of the value in the answer."""
    body = body_with(value, store)
    for raw, headers in ((body, {}), (gzip.compress(body), {"Content_Encoding": "gzip"})):
        answer = ask(url, "POST", "/flow_runs/", raw, **headers)
        assert (answer.status, answer.json()["exception_message"]) == (422, "Invalid request received.")
        assert len(answer.body) < 2_000


@pytest.mark.parametrize("value", CAN_BE_KEPT.values(), ids=CAN_BE_KEPT)
def test_s6_what_can_be_kept_comes_back_as_it_was(url: str, store: Store, value: str) -> None:
    """Edges that both databases can keep."""
    made = ask(url, "POST", "/flow_runs/", body_with(value, store))
    assert made.status == 201

    read = ask(url, "GET", f"/flow_runs/{made.json()['id']}").json()
    assert read["parameters"]["x"] == json.loads(value)


@pytest.mark.parametrize("text", ["a%00b", "%ed%a0%80", "%ff", "a%0"])
def test_s6_paths_and_queries_too(url: str, text: str) -> None:
    """A name that is no text is not found, or not valid; never an accident."""
    assert ask(url, "GET", f"/flows/name/{text}").status in (404, 422)
    assert ask(url, "GET", f"/flow_run_states/?flow_run_id={text}").status == 422
    assert ask(url, "GET", f"/csrf-token?client={text}").status == 422


def test_s6_every_operation_has_a_limit_of_size(url: str) -> None:
    """A body beyond the limit is 413 on every operation that takes one, packed or not, before it is looked at."""
    limits = get_settings().server.limits
    packed = gzip.compress(b" " * (limits.bulk_body_bytes + 1))
    found = {}
    for endpoint, operation in load_all().items():
        if operation.takes_body:
            path = endpoint.path.replace("{id}", "0" * 32).replace("{", "").replace("}", "")
            found[endpoint.method, path] = ask(url, endpoint.method, path, packed, Content_Encoding="gzip").status

    assert {call: status for call, status in found.items() if status not in (413, 404)} == {}
    assert 413 in found.values()
    assert ask(url, "POST", "/flows/", b" " * (limits.body_bytes + 1)).status == 413


def packed(data: bytes) -> bytes:
    """Packed without the time: it would get into the names of tests, which test processes compare."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", b"no gzip at all", 400),
        ("gzip", packed(b"{}")[:-4], 400),
        ("gzip", packed(b"{}") + b"more", 400),
        ("gzip", packed(packed(b"{}")), 422),
        ("br", b"{}", 415),
        ("gzip, gzip", packed(packed(b"{}")), 415),
        ("zip", b"{}", 415),
    ],
)
def test_s6_packing_is_gzip_once(url: str, encoding: str, body: bytes, status: int) -> None:
    """Anything else is refused in words."""
    assert ask(url, "POST", "/flows/filter", body, Content_Encoding=encoding).status == status
