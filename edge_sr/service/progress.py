"""Where every request is on its way, for whoever waits for it and has its id."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["STAGES", "Progress", "Ticket", "progress"]

RECEIVING, WAITING, RUNNING, UNKNOWN = "receiving", "waiting", "running", "unknown"
STAGES = (RECEIVING, "reading", WAITING, RUNNING, "writing", UNKNOWN)
"""In the order in which a request goes through them; and that of one that is not here yet, or no longer."""
_AFTER = {"receive": "reading", "read": WAITING, "queue": RUNNING, "device": "writing"}


@dataclass(eq=False)
class Ticket:
    """One request on its way.

    Attributes:
        stage: One of `STAGES`.
        turn: When it began to wait for the device, compared with others; None before.
        started: By the monotonic clock, in seconds.
    """

    _turns: Iterator[int]
    stage: str = RECEIVING
    turn: int | None = None
    started: float = field(default_factory=time.monotonic)

    def ended(self, lap: str) -> None:
        """A stage has ended, by its name in Server-Timing; one that nothing follows changes nothing."""
        self.stage = _AFTER.get(lap, self.stage)
        if self.stage == WAITING:
            self.turn = next(self._turns)


class Progress:
    """The requests that are on their way. A request is known by its id, and forgotten with its answer."""

    def __init__(self) -> None:
        self._lock, self._turns = threading.Lock(), itertools.count()
        self._tickets: dict[str, Ticket] = {}

    @contextmanager
    def track(self, request_id: str) -> Iterator[Ticket]:
        """A request's ticket, until it is answered. Of two with one id the later one is shown."""
        ticket = Ticket(self._turns)
        with self._lock:
            self._tickets[request_id] = ticket
        try:
            yield ticket
        finally:
            with self._lock:
                if self._tickets.get(request_id) is ticket:
                    del self._tickets[request_id]

    def of(self, request_id: str) -> dict[str, Any]:
        """Stage, place in the queue (1 is next; None for who does not wait), and seconds since it came."""
        with self._lock:
            ticket = self._tickets.get(request_id)
            waiting = [t.turn for t in self._tickets.values() if t.stage == WAITING and t.turn is not None]
        if ticket is None:
            return {"stage": UNKNOWN, "place": None, "seconds": None}
        stage, turn = ticket.stage, ticket.turn
        place = 1 + sum(other < turn for other in waiting) if stage == WAITING and turn is not None else None
        return {"stage": stage, "place": place, "seconds": round(time.monotonic() - ticket.started, 3)}


async def progress(request: Request) -> Response:
    """Where the upscale request with this X-Request-Id is.

    One that is not here is no error: a client that looks while it waits may come too early or too late.
    """
    found: Progress = request.app.state.service.progress
    document = found.of(request.path_params["request_id"])
    return JSONResponse(document, headers={"Cache-Control": "no-store"})
