"""uvicorn around the application: one process, a socket, and an orderly end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType

import uvicorn

from edge_sr.errors import UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.service.app import create_app, make_worker
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.worker import Worker

__all__ = ["Server", "listen", "serve"]

GRACE_S = 5
"""How long the last answers may take to be sent, once all of them are known."""
BACKLOG = 128


class Server(uvicorn.Server):
    """A server that goes on answering while it drains: with 503 what is new, and with results what it has."""

    def __init__(self, config: uvicorn.Config, worker: Worker, *, drain_s: float) -> None:
        """Args: config: of uvicorn; worker: the device; drain_s: how long requests may go on."""
        super().__init__(config)
        self._worker, self._drain_s = worker, drain_s
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; a second SIGINT ends it at once."""
        self._worker.drain()
        if self._until is None:
            self._until = time.monotonic() + self._drain_s
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop: all is answered, the time is up, or the device could not be opened."""
        is_asked = await super().on_tick(counter)
        if self._worker.failure is not None:
            return True
        if not is_asked or self.force_exit or self._worker.is_idle or self._until is None:
            return is_asked
        if time.monotonic() < self._until:
            return False
        self._worker.abandon()
        return True


def listen(settings: ServiceSettings) -> socket.socket:
    """A socket that takes connections; who asked for port 0 learns the port from it.

    Raises:
        UsageError: The address is taken, or is not one of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise UsageError(
            f"cannot listen on {where}: {error.strerror}", hint="choose another --port"
        ) from error


def serve(
    open_upscaler: Callable[[], AbstractContextManager[Upscaler]],
    settings: ServiceSettings,
    sock: socket.socket,
) -> None:
    """Serves until a signal says otherwise. uvicorn raises that signal again when it is done.

    Raises:
        EdgeSRError: The upscaler could not be opened, or its warm-up failed.
    """
    worker = make_worker(open_upscaler, settings)
    config = uvicorn.Config(
        create_app(worker, settings),
        access_log=False,  # it would have paths and queries
        log_config=None,  # whoever runs the process decides where its log goes
        lifespan="on",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
    )
    Server(config, worker, drain_s=settings.drain_s).run(sockets=[sock])
    if worker.failure is not None:
        raise worker.failure
