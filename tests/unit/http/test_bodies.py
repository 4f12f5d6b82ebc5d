"""The size of a body is bounded, however it is sent."""

import gzip
import http.client
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.serving import ask

MIB = 1 << 20


def large(size: int) -> bytes:
    """A valid body of about that size."""
    return b'{"title": "A", "notes": {"n": "' + b"x" * size + b'"}}'


def test_s6_a_body_may_be_a_mebibyte(api: str) -> None:
    """Just below the limit is taken; above it is a 413, before the body was read."""
    assert ask(api, "POST", "/books/", large(MIB - 100)).status == 201

    answer = ask(api, "POST", "/books/", large(MIB + 1))

    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_s6_a_body_of_unknown_length_is_counted(api: str) -> None:
    """A chunked body is refused as soon as it is too large."""
    parts = urlsplit(api)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    chunk = b"x" * 65536

    try:
        connection.request("POST", "/api/books/", body=(chunk for _ in range(20)), encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # the refusal came before we had sent all
        status = 413
    finally:
        connection.close()

    assert status == 413


def test_gzip_is_unpacked(api: str) -> None:
    """A packed body is read as the plain one."""
    answer = ask(api, "POST", "/books/", gzip.compress(b'{"title": "A"}', mtime=0), Content_Encoding="gzip")

    assert (answer.status, answer.json()["title"]) == (201, "A")


@pytest.mark.parametrize(
    ("body", "packing", "status"),
    [
        (gzip.compress(large(64 * MIB), mtime=0), "gzip", 413),
        (gzip.compress(b'{"title": "A"}', mtime=0)[:-4], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", 400),
        (b"not packed", "gzip", 400),
        (b"{}", "br", 415),
    ],
)
def test_s6_packing_hides_nothing(api: str, body: bytes, packing: str, status: int) -> None:
    """A bomb, a torn stream and an unknown packing are refused."""
    assert ask(api, "POST", "/books/", body, Content_Encoding=packing).status == status


def test_a_client_that_leaves_harms_nobody(api: str) -> None:
    """A connection that closes in the middle of its body is forgotten."""
    parts = urlsplit(api)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        raw.sendall(b"POST /api/books/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")

    assert ask(api, "POST", "/books/filter").json() == []


def test_a_length_that_is_no_number(api: str) -> None:
    """A malformed Content-Length is a 400."""
    parts = urlsplit(api)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        raw.sendall(b"POST /api/books/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
