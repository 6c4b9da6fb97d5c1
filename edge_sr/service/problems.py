"""Refusals as problem details (RFC 9457): what went wrong, in words that name nobody.

A text that is meant for the user comes from an `EdgeSRError` about what they sent, or from this service. What
failed inside is told by its kind alone: its text may have paths of this machine, which the log has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from edge_sr.errors import ConsistencyError, EdgeSRError, ImageError, ScheduleError, UsageError

__all__ = ["CLIENT_CLOSED", "MEDIA_TYPE", "Problem", "problem_of"]

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED = 499
"""What nginx counts a request as whose client went away; nobody receives it."""

_ABOUT_THE_REQUEST = (UsageError, ImageError, ConsistencyError, ScheduleError)


class Problem(Exception):
    """An answer that is a refusal.

    Args:
        status: HTTP status.
        detail: What was wanted and what was got, in one line, with nothing that identifies anybody.
        hint: What to do about it.
        field: The query parameter or header that is at fault.
        headers: Of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        hint: str = "",
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.hint, self.field = status, detail, hint, field
        self.headers = dict(headers or {})

    @property
    def title(self) -> str:
        """The status in words."""
        known = [status.phrase for status in HTTPStatus if status == self.status]
        return known[0] if known else "Client Closed Request"

    def body(self, request_id: str) -> bytes:
        """The document; its type is about:blank, which the title then explains."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:request:{request_id}",
        }
        extra = {"hint": self.hint, "field": self.field}
        document |= {name: text for name, text in extra.items() if text}
        return json.dumps(document).encode()


def problem_of(error: BaseException) -> Problem:
    """The refusal that an error is answered with."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, _ABOUT_THE_REQUEST):
        return Problem(422, error.message, hint=error.hint)
    if isinstance(error, MemoryError):
        return Problem(500, "not enough memory for this image", hint="send a smaller one")
    kind = type(error).__name__ if isinstance(error, EdgeSRError) else "unexpected error"
    return Problem(500, f"the service failed ({kind})", hint="its log says more, under this request's id")
