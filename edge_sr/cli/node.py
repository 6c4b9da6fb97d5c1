"""`edge-sr node`: the DICOM network node."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edge_sr.cascade import plan_scale
from edge_sr.cli.common import choose_preset, open_configured
from edge_sr.cli.logs import log_to_stderr
from edge_sr.cli.watch import stopped_by_signals
from edge_sr.errors import ConfigError
from edge_sr.image import Limits
from edge_sr.jobs import Settings
from edge_sr.node.library import pynetdicom
from edge_sr.node.running import run_node
from edge_sr.node.settings import NodeSettings, load_node_settings
from edge_sr.pipeline import Upscaler
from edge_sr.service.notify import Notifier

__all__ = ["node"]

LOG = logging.getLogger("edge_sr.node")


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="Settings in TOML or JSON; [send] says who gets the derived objects.",
)
def node(config: Path) -> None:
    """Receive DICOM images by C-STORE, enlarge them, and send the derived objects on by C-STORE.

    What it acknowledges is on disk, and is sent on sooner or later, whatever happens to this process; the
    same object received twice is sent once. SIGTERM finishes the image at hand. Exit code 78 is a bad
    configuration. docs/dicom-conformance.md says what is taken and what is refused.
    """
    settings = load_node_settings(config)
    spool = _spool(settings)
    pynetdicom()  # before anything is loaded
    log_to_stderr()
    with _told_threads(), stopped_by_signals() as stop, Notifier.of(os.environ) as notifier:
        with open_configured(settings, LOG) as upscaler:

            def ready(port: int) -> None:
                LOG.info("%s listens on %s:%d", settings.title, settings.host, port)
                notifier.tell(READY=1, STATUS="taking associations")

            run_node(
                upscaler,
                settings,
                spool,
                stop,
                sampling=_sampling(upscaler, settings),
                ready=ready,
                beat=lambda: notifier.tell(WATCHDOG=1),
            )
        notifier.tell(STOPPING=1)


def _spool(settings: NodeSettings) -> Path:
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if settings.spool is None and not state:
        raise ConfigError(
            "no spool is set, and no $STATE_DIRECTORY", hint='as in spool = "/var/lib/edge-sr-node"'
        )
    return settings.spool or Path(state)


def _sampling(upscaler: Upscaler, settings: NodeSettings) -> Settings:
    preset = choose_preset(upscaler.bundle, settings.preset, steps=settings.steps, samples=settings.samples)
    return Settings(
        preset,
        settings.seed,
        limits=Limits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
        scale=plan_scale(settings.scale, upscaler.bundle.manifest.scale).scale,
    )


@contextmanager
def _told_threads() -> Iterator[None]:
    """Has told what a thread dies of without its text, which may quote what a peer sent."""

    def tell(problem: threading.ExceptHookArgs) -> None:
        LOG.error("a connection failed (%s)", problem.exc_type.__name__)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before
