"""The whole server as one ASGI application: the API, its websockets, its description, and the pages.

Guard                      who may come in
├── Api        /api/...    one table of operations; takes nearly all calls
└── Starlette              websockets, /api/openapi.json, pages
"""

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.server.http.answers import ENCODER
from headrace.server.http.api import ROOT, Api, Problems
from headrace.server.http.auth import Authenticator
from headrace.server.http.denials import Denials
from headrace.server.http.events_in import events_in
from headrace.server.http.events_out import events_out
from headrace.server.http.guard import Guard
from headrace.server.http.logs_out import logs_out
from headrace.server.http.openapi import describe
from headrace.server.http.page import docs_page, front_page
from headrace.server.http.sockets import Doorkeeper
from headrace.server.http.task_scheduling import task_scheduling
from headrace.server.http.worker_channel import worker_channel
from headrace.server.http.worker_hints import worker_hints
from headrace.server.operations.registry import Operation, load_all
from headrace.server.store.transaction import Store
from headrace.settings import Settings

DESCRIPTIONS = frozenset({"/api/openapi.json", "/openapi.json"})


def create_app(
    store: Store,
    settings: Settings,
    *,
    operations: Mapping[Any, Operation] | None = None,
    problems: Problems = list,
) -> ASGIApp:
    """Make the application.

    Args:
        store: the database; it stays open when the application ends.
        settings: of the server; `server.api.host` and `.port` are where it listens.
        operations: what to serve below `/api`; all there are when absent.
        problems: tells what keeps the server from being ready; empty when nothing does.
    """
    table = load_all() if operations is None else operations
    denials = Denials(store)
    api = Api(store, settings, table, problems, denials)
    authenticator = Authenticator(store, settings)
    document: list[bytes] = []
    doorkeeper = Doorkeeper(settings, authenticator, denials)

    async def openapi(_: Request) -> Response:
        if not document:  # made when first asked for: it takes longer than the rest of the start
            document.append(ENCODER.encode(describe(table.values())))
        return Response(document[0], media_type="application/json")

    pages = Starlette(
        routes=[
            *(Route(path, openapi) for path in sorted(DESCRIPTIONS)),
            WebSocketRoute("/api/events/in", events_in(store, doorkeeper, settings)),
            WebSocketRoute("/api/events/out", events_out(store, doorkeeper, settings)),
            WebSocketRoute("/api/logs/out", logs_out(store, doorkeeper, settings)),
            WebSocketRoute("/api/task_runs/subscriptions/scheduled", task_scheduling(store, doorkeeper)),
            WebSocketRoute("/api/work_pools/{name}/runs", worker_hints(store, doorkeeper)),
            WebSocketRoute("/api/work_pools/{name}/workers/connect", worker_channel(store, doorkeeper, settings)),
            Route("/", front_page),
            Route("/docs", docs_page(table.values())),
        ]
    )
    return _with_cors(Guard(_Split(api, pages), settings, authenticator, denials), settings)


class _Split:
    """Calls of the API go straight to it; everything else takes Starlette's way."""

    def __init__(self, api: Api, pages: Starlette) -> None:
        self._api, self._pages = api, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        below = path == ROOT or path.startswith(ROOT + "/")
        calls_api = below and path not in DESCRIPTIONS and scope["type"] == "http"
        await (self._api if calls_api else self._pages)(scope, receive, send)


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Let the pages of the origins that are named call us. `*`, Prefect's default, names nobody.  # S3"""
    api = settings.server.api
    origins = [one.strip() for one in api.cors_allowed_origins.split(",") if one.strip() not in ("", "*")]
    if not origins:
        return app
    methods = [one.strip() for one in api.cors_allowed_methods.split(",")]
    headers = [one.strip() for one in api.cors_allowed_headers.split(",")]
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=methods, allow_headers=headers, allow_credentials=True
    )
