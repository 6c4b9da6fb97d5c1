"""Who may ask, before anything of a request is read: the name it came to, the page it came from, its token.

A page of a stranger in the browser of somebody who may ask is no client: neither by a name that leads here
(DNS rebinding), nor by a form or script that posts here. No answer carries a CORS header.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_sr.service.access import problem_response
from edge_sr.service.bearer import Token, read_token
from edge_sr.service.page import PUBLIC_PATHS, STATIC
from edge_sr.service.problems import Problem
from edge_sr.service.settings import ServiceSettings

__all__ = ["OPEN", "Guard"]

OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"} | set(PUBLIC_PATHS))
"""What needs no token: whether it is well, and the page, which itself says nothing."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
SAFE = ("GET", "HEAD", "OPTIONS")
OURS = ("same-origin", "none")
"""What Sec-Fetch-Site says of a request by our own page, and of one by the user's own hand."""
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Guard:
    """A layer of the application that lets through who may ask, and answers the rest with a problem."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        """Args: app: what is guarded; settings: names and token.

        Raises:
            ConfigError: The token cannot be used.
        """
        self._app = app
        self._names = {_plain(name) for name in (*LOCAL_NAMES, settings.host, *settings.allowed_hosts)}
        self._token: Token | None = read_token(settings.token_file) if settings.token_file else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; anything else goes through."""
        try:
            if scope["type"] == "http":
                self._check(Headers(scope=scope), scope)
        except Problem as problem:
            await problem_response(problem, scope["state"]["request_id"])(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, headers: Headers, scope: Scope) -> None:
        """Lets a request through.

        Raises:
            Problem: 400 or 421, it is for another host; 403, a page of another origin sends it; 401, it has
                no token or a wrong one.
        """
        self._check_host(headers, scope)
        _check_origin(headers, scope["method"])
        self._check_token(headers, scope)

    def _check_host(self, headers: Headers, scope: Scope) -> None:
        given = headers.getlist("host")
        match = _HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
        if match is None:
            raise Problem(400, "wanted one Host header with a name or an address", field="Host")
        came_to = (scope.get("server") or ("",))[0]
        if _plain(match[1]) not in self._names | {_plain(came_to)}:
            raise Problem(
                421,
                "this service is not called by that name",
                hint="use its address, or have its operator allow the name (--allowed-host)",
                field="Host",
            )

    def _check_token(self, headers: Headers, scope: Scope) -> None:
        path, method = scope["path"], scope["method"]
        is_open = method in ("GET", "HEAD") and (path in OPEN or path.startswith(STATIC))
        if self._token is None or is_open:
            return
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        if is_bearer and self._token.matches(shown.strip().encode("latin-1")):
            return
        told = 'Bearer realm="edge-sr"' + (', error="invalid_token"' if is_bearer else "")
        raise Problem(
            401,
            "this service wants a token, and this one is not it"
            if is_bearer
            else "this service wants a token",
            hint="Authorization: Bearer TOKEN",
            field="Authorization",
            headers={"WWW-Authenticate": told},
        )


def _check_origin(headers: Headers, method: str) -> None:
    """Refuses what a browser sends for a page that is not ours, unless it only looks."""
    if method in SAFE:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_foreign = site is not None and site not in OURS
    if is_foreign or (origin is not None and not _is_same(origin, headers["host"])):
        raise Problem(403, "a page of another origin may not send this", field="Origin")


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is the one that the browser calls this service by; an opaque one ("null") is not."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def _plain(host: str) -> str:
    """A name or address in the one form in which it is compared."""
    name = host.lower().strip("[]").rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
