"""Around every request: its id, a line in the log, its place in the figures, an answer whatever happens.

The log has method, endpoint, status and time. Paths, queries, names and addresses of clients are not in it.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_sr.errors import EdgeSRError
from edge_sr.service.counters import Counters
from edge_sr.service.problems import CLIENT_CLOSED, MEDIA_TYPE, Problem, problem_of

__all__ = ["Access", "problem_response"]

ACCESS = logging.getLogger("edge_sr.access")
LOG = logging.getLogger("edge_sr.service")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer that does not say otherwise itself, as a page does of its scripts and styles."""
_KEPT = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Access:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; anything else goes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as error:  # noqa: BLE001  the last one who can answer
            _log_failure(error, request_id)
            if not status:
                await problem_response(problem_of(error), request_id)(scope, receive, send_named)
        finally:
            seconds = time.perf_counter() - started
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._counters.count_request(endpoint, status or CLIENT_CLOSED, seconds)
            _log_access(scope, endpoint, status or CLIENT_CLOSED, seconds, request_id)


def problem_response(problem: Problem, request_id: str) -> Response:
    """A problem as an answer."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(problem.body(request_id), problem.status, headers, MEDIA_TYPE)


def _request_id(headers: Headers) -> str:
    """The client's own where it is a UUID or a trace id, which name nobody; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _KEPT.fullmatch(given) else str(uuid.uuid4())


def _log_access(scope: Scope, endpoint: str, status: int, seconds: float, request_id: str) -> None:
    method = scope["method"] if scope["method"] in METHODS else "other"
    ACCESS.info("%s %s %d %.1f ms %s", method, endpoint, status, 1000 * seconds, request_id)


def _log_failure(error: BaseException, request_id: str) -> None:
    """What failed, and where.

    The text is ours where the error is, and may name a file of this machine, but never one of a client. Any
    other might quote what was sent, and is left out.
    """
    text = str(error) if isinstance(error, EdgeSRError) else ""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    LOG.error("%s %s at %s %s", type(error).__name__, text, places, request_id)
