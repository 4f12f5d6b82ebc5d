"""The health page of a worker: `/health` says whether it still looks for runs."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from headrace.runner.supervisor import Supervisor
from headrace.settings.sdk import WorkerSettings

MISSED_POLLS = 30
"""After so many polls that did not happen a worker is ill."""


class HealthServer:
    """Serves `/health` while it is entered.

    Args:
        supervisor: whose health is asked for.
        settings: the address, and how often polls should happen.
    """

    def __init__(self, supervisor: Supervisor, settings: WorkerSettings) -> None:
        longest = MISSED_POLLS * settings.query_seconds

        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            def do_GET(self) -> None:
                """200 when all is well, 503 when the worker has not looked for runs for long."""
                well = self.path == "/health" and supervisor.seconds_since_look() < longest
                status = 200 if well else 503 if self.path == "/health" else 404
                body = b'{"message":"OK"}' if well else b'{"message":"Worker may be unresponsive at this time"}'
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Requests are not worth a log line."""

        self._server = ThreadingHTTPServer((settings.webserver.host, settings.webserver.port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="headrace-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
