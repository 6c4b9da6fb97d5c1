"""`edge-sr serve`: the service."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from edge_sr.backends import BACKENDS
from edge_sr.backends.choice import AUTO
from edge_sr.cli.common import BUNDLE_OPTION, ENGINE_DIR, open_configured
from edge_sr.cli.logs import log_to_stderr
from edge_sr.errors import UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.service.notify import Notifier, inherited_socket
from edge_sr.service.settings import ServiceSettings, check_reach, load_settings
from edge_sr.spec import Precision

__all__ = ["serve"]

LOG = logging.getLogger("edge_sr.service")
PEM = click.Path(path_type=Path)


@click.command()
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one. [default: 8080]")
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings in TOML or JSON; options go over them."
)
@click.option(
    "--token-file",
    type=PEM,
    help="File with the secret that clients show: Authorization: Bearer SECRET. "
    "[default: $CREDENTIALS_DIRECTORY/token, where there is one]",
)
@click.option("--tls-cert", type=PEM, help="Certificate chain for HTTPS, PEM.")
@click.option("--tls-key", type=PEM, help="Its key, PEM.")
@click.option("--tls-client-ca", type=PEM, help="Let in only clients with a certificate from this one, PEM.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    callback=lambda _context, _option, names: names or None,
    help="A name by which clients may call the service; repeatable. [default: the address itself, localhost]",
)
@click.option(
    "--insecure", is_flag=True, default=None, help="Listen beyond this machine without asking who asks."
)
@BUNDLE_OPTION
@click.option("--backend", type=click.Choice([AUTO, *BACKENDS]), help="As in upscale. [default: auto]")
@ENGINE_DIR
@click.option("--precision", type=click.Choice([str(p) for p in Precision]), help="As in upscale.")
@click.option("--threads", type=click.IntRange(0, 256), help="CPU threads. [default: all]")
@click.option("--batch", type=click.IntRange(1, 64), help="Tiles at once, of all requests. [default: 1]")
def serve(config: Path | None, **options: Any) -> None:
    """Serve images over HTTP: a page at /, and POST /v1/upscale, described in /openapi.json.

    Listens to this machine alone, unless clients must show a token or a certificate. SIGTERM lets running
    requests finish and refuses new ones. Exit code 78 is a bad configuration. Under systemd it says when it
    is ready and that its device moves; edge-sr install-service sets that up.
    """
    settings = load_settings(config, **options)
    try:
        from edge_sr.service import server
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the service needs {error.name}, which is not installed", hint='pip install "edge-sr[service]"'
        ) from error
    log_to_stderr()
    sock = inherited_socket(os.environ) or server.listen(settings)
    # uvicorn drains on SIGTERM, and then raises it again: an orderly end is no death by a signal.
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with sock, Notifier.of(os.environ) as notifier:
            host, port = sock.getsockname()[:2]
            check_reach(settings, host)
            scheme = "https" if settings.tls_cert else "http"
            place = f"[{host}]" if ":" in host else host
            click.echo(f"listening on {scheme}://{place}:{port}, where a browser finds a page", err=True)
            server.serve(_opener(settings), settings, sock, notifier=notifier)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_signal: int, _frame: FrameType | None) -> None:
    """What is left of a SIGTERM after the service has drained, or before it has begun."""
    raise click.exceptions.Exit(0)


def _opener(settings: ServiceSettings) -> Callable[[], Upscaler]:
    return lambda: open_configured(settings, LOG)
