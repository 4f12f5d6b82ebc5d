"""Load from several client processes over keep-alive connections, each sending the next request when it has its answer.

The clients are raw sockets, so that their own cost is small and the same for every server.
"""

import json
import multiprocessing
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from typing import Any


def call(url: str, body: Any = None, method: str | None = None) -> Any:
    """One JSON call, for setting things up; told that the server is busy (503), it is made again."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """A whole HTTP/1.1 request."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def rate(
    port: int,
    requests: Sequence[bytes],
    *,
    clients: int = 8,
    seconds: float = 8.0,
    refusals: bool = False,
    once: bool = False,
) -> float:
    """Requests that succeed in a second at the server at `port`.

    Args:
        port: where it listens on 127.0.0.1.
        requests: what to send, in turn.
        clients: processes that send at the same time.
        seconds: how long.
        refusals: whether answers other than 2xx are allowed; they take their time and do not count.
        once: send each request once, in its order among those of its client, and stop early when all are sent.

    Raises:
        RuntimeError: an answer was not 2xx, and that is not allowed, or all were so.
    """
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()
    turns = [_turn(requests, number, clients, once) for number in range(clients)]
    processes = [context.Process(target=_client, args=(port, turn, seconds, refusals, results)) for turn in turns]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    refused = [text for _, text, _ in answers if text]
    if refused and (not refusals or not any(count for count, _, _ in answers)):
        raise RuntimeError(f"{len(refused)} of {clients} clients were refused: {refused[0]}")
    return sum(count for count, _, _ in answers) / max(taken for _, _, taken in answers)


def _turn(requests: Sequence[bytes], number: int, clients: int, once: bool) -> Iterable[bytes]:
    """What one client sends: its share of the requests, or all of them again and again, begun at another one."""
    return requests[number::clients] if once else islice(cycle(requests), number, None)


def _client(port: int, requests: Iterable[bytes], seconds: float, refusals: bool, results: Any) -> None:
    count, refused = 0, ""
    link = _connected(port)
    began = time.monotonic()
    for request in requests:
        if time.monotonic() > began + seconds or (refused and not refusals):
            break
        try:
            link.sendall(request)
            answer = _read_answer(link)
        except OSError as error:  # an overloaded server may close a connection
            refused = str(error)
            link.close()
            link = _connected(port)
            continue
        if answer[9:10] == b"2":
            count += 1
        else:
            refused = answer[:300].decode(errors="replace")
    results.put((count, refused, time.monotonic() - began))
    link.close()


def _connected(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), timeout=60)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _read_answer(link: socket.socket) -> bytes:
    data = _received(link)
    while b"\r\n\r\n" not in data:
        data += _received(link)
    head, _, body = data.partition(b"\r\n\r\n")
    missing = _content_length(head) - len(body)
    while missing > 0:
        more = _received(link)
        data += more
        missing -= len(more)
    return data


def _received(link: socket.socket) -> bytes:
    data = link.recv(65536)
    if not data:
        raise ConnectionResetError("The server closed the connection.")
    return data


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
