"""`edge-sr watch`: what is put into one folder comes out of another, larger."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from edge_sr.cli.common import engine_options, log_opened, open_upscaler, pick, sampling_options
from edge_sr.cli.logs import log_to_stderr
from edge_sr.cli.upscale import result_options, settings_of
from edge_sr.errors import OutputError, UsageError
from edge_sr.inbox import Inbox
from edge_sr.service.notify import Notifier
from edge_sr.watch import Enlargement, Stop, work_off

__all__ = ["stopped_by_signals", "watch"]

LOG = logging.getLogger("edge_sr.watch")
FOLDER = click.Path(file_okay=False, path_type=Path)
SECONDS = click.FloatRange(min=0.1, max=3600)


@click.command()
@click.argument("inbox", type=FOLDER, metavar="IN")
@click.argument("out", type=FOLDER, metavar="OUT")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0, max=3600),
    default=3.0,
    show_default=True,
    help="A file is whole once its size and time have not changed for so many seconds.",
)
@click.option(
    "--poll", "poll_s", type=SECONDS, default=1.0, show_default=True, help="Seconds between two looks at IN."
)
@click.option(
    "--retry",
    "retry_s",
    type=SECONDS,
    default=60.0,
    show_default=True,
    help="Seconds until a result for which there was no room is tried again.",
)
@engine_options
@sampling_options
@result_options
def watch(*, inbox: Path, out: Path, settle_s: float, poll_s: float, retry_s: float, **options: Any) -> None:
    """Enlarge every image that is put into the folder IN, and write the results to OUT.

    A file that is done moves to IN/done, unchanged; one that cannot be enlarged to IN/failed, with the reason
    beside it. Folders in IN, links, and names of unfinished copies are left alone. No file is written over:
    where a name is taken, the next one gets a number. SIGTERM and Ctrl-C finish the image at hand; after a
    kill, the next run goes on where that one was. The log tells no file's name.
    """
    _check_folders(inbox, out)
    log_to_stderr()
    with stopped_by_signals() as stop, Notifier.of(os.environ) as notifier:
        upscaler, running = open_upscaler(options["bundle"], options["backend"], **pick(options))
        with upscaler:
            work = Enlargement(upscaler, out, settings_of(upscaler, options))
            with Inbox(inbox, settle_s=settle_s, again_s=retry_s, products=work.products) as files:
                work.begin()
                log_opened(LOG, upscaler, running)
                LOG.info("watching; done and failed files go to 'done' and 'failed' in it")
                notifier.tell(READY=1, STATUS="watching")
                work_off(
                    files,
                    work,
                    stop,
                    poll_s=poll_s,
                    most_s=retry_s,
                    beat=lambda: notifier.tell(WATCHDOG=1),
                )
        notifier.tell(STOPPING=1)


def _check_folders(inbox: Path, out: Path) -> None:
    if not inbox.is_dir():
        raise UsageError(f"{inbox}: there is no such folder", hint="make it, or mount what it is on")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made: {error.strerror}", hint="choose another OUT") from error
    place = out.resolve()
    own = [inbox.resolve() / name for name in ("done", "failed", "working")]
    if place == inbox.resolve() or any(place.is_relative_to(folder) for folder in own):
        raise UsageError(f"{out}: results would be taken for new images there", hint="choose another OUT")


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """An event that SIGTERM and SIGINT set; a second one of them does what it always does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    with Stop() as stop:
        try:
            for number in before:
                signal.signal(number, handle)
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
