"""uvicorn around the application: one process, a socket, and an orderly end."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType

import uvicorn

from edge_sr.errors import ConfigError, UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.service.app import create_app, make_worker
from edge_sr.service.connection import protocol
from edge_sr.service.notify import Notifier
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.supervision import Supervision
from edge_sr.service.worker import Worker

__all__ = ["Server", "configure", "listen", "serve"]

GRACE_S = 5
"""How long the last answers may take to be sent, once all of them are known."""
CLOSE_S = 15
"""What else an end may take: the worker's close, the interpreter's."""
BACKLOG = 128


class Server(uvicorn.Server):
    """A server that goes on answering while it drains: with 503 what is new, and with results what it has."""

    def __init__(
        self,
        config: uvicorn.Config,
        worker: Worker,
        *,
        drain_s: float,
        supervision: Supervision | None = None,
    ) -> None:
        """Args: config: of uvicorn; worker: the device; drain_s: for requests to end; supervision: told."""
        super().__init__(config)
        self._worker, self._drain_s, self._supervision = worker, drain_s, supervision
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain; a second SIGINT ends it at once."""
        self._worker.drain()
        if self._until is None:
            self._until = time.monotonic() + self._drain_s
        if self._supervision is not None:
            self._supervision.stopping(self._drain_s + GRACE_S + CLOSE_S)
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop: all is answered, the time is up, or the device could not be opened."""
        is_asked = await super().on_tick(counter)
        if self._worker.failure is not None:
            return True
        if self._supervision is not None:
            self._supervision.tick()
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


def configure(worker: Worker, settings: ServiceSettings) -> uvicorn.Config:
    """The application and how it is served.

    Raises:
        ConfigError: The token, or a file of TLS, cannot be used.
    """
    config = uvicorn.Config(
        create_app(worker, settings),
        http=protocol(settings),
        access_log=False,  # it would have paths and queries
        log_config=None,  # whoever runs the process decides where its log goes
        lifespan="on",
        proxy_headers=False,  # nothing here goes by who a client says it is
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=settings.tls_client_ca and str(settings.tls_client_ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"TLS cannot be used: {error}", hint="check tls_cert, tls_key and tls_client_ca: PEM, readable"
        ) from error
    return config


def serve(
    open_upscaler: Callable[[], AbstractContextManager[Upscaler]],
    settings: ServiceSettings,
    sock: socket.socket,
    *,
    notifier: Notifier | None = None,
) -> None:
    """Serves until a signal says otherwise. uvicorn raises that signal again when it is done.

    Args:
        open_upscaler: Called in the worker's thread.
        settings: Checked.
        sock: Listens.
        notifier: Hears how it goes; None for nobody.

    Raises:
        EdgeSRError: The upscaler could not be opened, or its warm-up failed.
    """
    worker = make_worker(open_upscaler, settings)
    supervision = Supervision(notifier or Notifier(), worker, settings)
    config = configure(worker, settings)
    Server(config, worker, drain_s=settings.drain_s, supervision=supervision).run(sockets=[sock])
    if worker.failure is not None:
        raise worker.failure
