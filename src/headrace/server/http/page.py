"""The pages for people who open the server's address: `/` says what this is, `/docs` lists the calls of the API."""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from html import escape
from itertools import groupby

from starlette.requests import Request
from starlette.responses import HTMLResponse

from headrace._internal.version import version
from headrace.server.http.openapi import summary_of, tag_of
from headrace.server.operations.registry import Operation

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem}"
    "code{font-size:90%}table{border-collapse:collapse;width:100%}td{padding:.15rem .75rem .15rem 0;vertical-align:top}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1>
{content}
</body></html>
"""
_FRONT = """<p>The server is running. Its API is at <code>/api</code>: see the <a href="/docs">list of its calls</a>, or
the whole of it in <a href="/api/openapi.json">OpenAPI</a>.</p>
<p>On the command line, <code>headrace flow-run ls</code> shows the newest runs.</p>"""

Page = Callable[[Request], Awaitable[HTMLResponse]]


async def front_page(_: Request) -> HTMLResponse:
    """Answer `GET /`."""
    return _framed(f"headrace {version()}", _FRONT)


def docs_page(operations: Iterable[Operation]) -> Page:
    """Make what answers `GET /docs`."""
    chosen = list(operations)

    async def docs(_: Request) -> HTMLResponse:
        parts = ['<p>All paths are below <code>/api</code>. <a href="/api/openapi.json">OpenAPI</a> has the rest.</p>']
        in_order = sorted(chosen, key=lambda one: (tag_of(one.endpoint.path), one.endpoint.path, one.endpoint.method))
        for tag, group in groupby(in_order, key=lambda one: tag_of(one.endpoint.path)):
            parts.append(f"<h2>{escape(tag)}</h2>\n<table>{''.join(map(_row, group))}</table>")
        return _framed("The API of headrace", "\n".join(parts))

    return docs


def _row(operation: Operation) -> str:
    endpoint = operation.endpoint
    call = f"<td><code>{endpoint.method}</code></td><td><code>{escape(endpoint.path)}</code></td>"
    return f"<tr>{call}<td>{escape(summary_of(operation))}</td></tr>\n"


def _framed(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(_FRAME.format(title=escape(title), style=_STYLE, content=content), headers=_HEADERS)
