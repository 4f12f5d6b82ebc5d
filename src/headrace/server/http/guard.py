"""Who may come in: the checks before any route is looked up.

- The Host header must be one this server is known by, or a hostile page could point its own name at our address and
  read what we answer (DNS rebinding).  # S3
- A browser names the page that calls in Origin and Sec-Fetch-Site; a foreign one may not change anything, nor open a
  socket. Programs that are no browsers send neither.  # S3
- Everything below /api asks for a login, when the server has one, but health and readiness (see `auth`).  # S1
- A server that other machines can reach does not start without an auth string, unless told to in words.  # S2
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.exceptions import HeadraceError
from headrace.server.http.answers import DENIED, Answer, answer_to, told
from headrace.server.http.auth import Authenticator
from headrace.server.http.denials import NOBODY_KNOWN, Denials
from headrace.settings import Settings

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ANONYMOUS = frozenset({"/api/health", "/api/ready"})
"""What below /api is open to anyone.  # S1"""
CALLER = "headrace.caller"
"""Where in the scope of a call stands who makes it."""
_OUR_PAGES = frozenset({b"same-origin", b"none"})
_BAD_HOST = told(400, "The server is not known by this Host. Add the name to HEADRACE_SERVER_API_HOST or call by IP.")
_FOREIGN = told(403, "Pages of another origin may not call this server.")
_NOT_JSON = told(415, "Send the body with Content-Type: application/json.")

Headers = dict[bytes, bytes]


class UnsafeToServe(HeadraceError):
    """The server would be open to anyone on the network."""


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings) -> None:
    """Refuse to be open to the network without a word of the operator.  # S2

    Raises:
        UnsafeToServe: no auth string is set, the address can be reached from elsewhere, and nobody allowed that.
    """
    server = settings.server
    if not (server.api.auth_string or server.allow_anonymous or is_loopback(server.api.host)):
        raise UnsafeToServe(
            f"A server on {server.api.host} can be reached by other machines, and no login is set. Set "
            "HEADRACE_SERVER_API_AUTH_STRING to user:password, or say HEADRACE_SERVER_ALLOW_ANONYMOUS=true "
            "if something else guards it."
        )


class Guard:
    """ASGI middleware that lets in only who may.

    Args:
        app: what is guarded.
        settings: of the server; `server.api.host` is the address it is bound to.
        authenticator: knows logins.
        denials: takes note of calls that are denied.
    """

    def __init__(self, app: ASGIApp, settings: Settings, authenticator: Authenticator, denials: Denials) -> None:
        api = settings.server.api
        self._app = app
        self._authenticator = authenticator
        self._denials = denials
        self._origins = frozenset(one.strip() for one in api.cors_allowed_origins.split(",")) - {"*", "", "null"}
        self._names = known_names(settings)
        # with a login a page of another name has nothing to offer: browsers keep logins apart by name
        self._any_name = not authenticator.is_open and not is_loopback(api.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or refuse it."""
        kind = scope["type"]
        if kind == "lifespan":
            return await self._app(scope, receive, send)
        headers: Headers = dict(scope["headers"])
        refusal = self._browser_refusal(headers, kind == "http" and scope["method"] in SAFE)
        if refusal is None and kind == "http" and asks_for_login(scope["path"]):
            try:
                scope[CALLER] = await self._authenticator.caller_of(
                    headers.get(b"authorization", b""), address_of(scope)
                )
            except Exception as error:  # noqa: BLE001  a caller who is not known, or no database to know him by
                refusal = answer_to(error, "The check of a login")
        if refusal is None:
            return await self._app(scope, receive, send)
        if refusal.status in DENIED:  # S18
            what = "log_in" if refusal.status == 401 else "call_from_foreign_page"
            self._denials.note(NOBODY_KNOWN, what, address_of(scope))
        if kind == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: HTTP 403
        else:
            await refusal.send(send)
        return None

    def _browser_refusal(self, headers: Headers, safe: bool) -> Answer | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self.knows(host):
            return _BAD_HOST
        if safe:
            return None
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return None
        if not (self._is_ours(origin, host) if origin is not None else site in _OUR_PAGES):
            return _FOREIGN
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if headers.get(b"content-length", b"0") != b"0" and kind != b"application/json":
            return _NOT_JSON
        return None

    def _is_ours(self, origin: bytes, host: str) -> bool:
        text = origin.decode("latin-1").lower()
        return text in self._origins or (text.startswith(("http://", "https://")) and urlsplit(text).netloc == host)

    def knows(self, host: str) -> bool:
        """Whether the value of a Host header, in small letters, names this server."""
        if self._any_name:
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True  # an address cannot be rebound


def asks_for_login(path: str) -> bool:
    """Whether a path is for those alone whom the server knows; pages and their files hold no data.  # S1"""
    return (path.startswith("/api") or path.endswith("/openapi.json")) and path not in ANONYMOUS


def address_of(scope: Scope) -> str:
    """Where a call or a websocket comes from."""
    client = scope.get("client")
    return client[0] if client else ""


def known_names(settings: Settings) -> frozenset[str]:
    """The names, in small letters, that a Host header may give."""
    names = {"localhost", settings.server.api.host, socket.gethostname()}
    for url in (settings.api.url, settings.server.ui.api_url, settings.ui_url):
        if url and (name := urlsplit(url).hostname):
            names.add(name)
    return frozenset(name.lower() for name in names)
