"""One connection: uvicorn's HTTP/1.1, with an end to clients that send or take nothing.

uvicorn bounds neither how long a request's head may take nor how long an answer, and a connection on which
nothing is sent stays open for ever. Bodies have their limit in `edge_sr.service.bodies`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_sr.service.settings import ServiceSettings

__all__ = ["protocol"]


def protocol(settings: ServiceSettings) -> type[asyncio.Protocol]:
    """The class of connections that keep to `head_s`, `send_s` and `max_connections`."""

    class Connection(_Bounded):
        limits = settings

    return Connection


class _Bounded(H11Protocol):
    limits: ServiceSettings
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request's head, or refuses one connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
        else:
            self._expect(self.limits.head_s)

    def data_received(self, data: bytes) -> None:
        """Has the head wait no longer once it is whole; the first bytes of the next begin a new wait."""
        super().data_received(data)
        if self._is_answering():
            self._expect(None)
        elif self._timer is None:
            self._expect(self.limits.head_s)

    def pause_writing(self) -> None:
        """Begins to wait for the client to take what was written."""
        self.flow.pause_writing()
        self._expect(self.limits.send_s)

    def resume_writing(self) -> None:
        """The client took it."""
        self._expect(None)
        self.flow.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._expect(None)
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect(self, seconds: float | None) -> None:
        """Cuts the connection off after so long, unless this is called again before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
