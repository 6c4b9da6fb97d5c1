"""All of the node: two inboxes, a listener, the enlargement in this thread, the sending in another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from edge_sr.dicom.library import guarded, pydicom
from edge_sr.errors import ConfigError
from edge_sr.image import remove_parts
from edge_sr.inbox import Claim, Inbox, Keep
from edge_sr.jobs import Settings
from edge_sr.node.receiving import Receiver, receiving
from edge_sr.node.sending import Sending
from edge_sr.node.settings import NodeSettings
from edge_sr.pipeline import Upscaler
from edge_sr.watch import Enlargement, Stop, work_off

__all__ = ["Derivation", "run_node"]

LOG = logging.getLogger("edge_sr.node")
POLL_S = 0.2  # how soon an object that was received, or made, is noticed


class Derivation:
    """Enlarges claimed objects, and puts each derived one into the outbox once, whatever it was made from."""

    def __init__(self, enlargement: Enlargement, outbox: Inbox) -> None:
        """Args: enlargement: into a folder on the outbox's disk; outbox: open."""
        self._enlargement, self._outbox = enlargement, outbox

    def __call__(self, claim: Claim) -> None:
        """Enlarges one.

        Raises:
            NotYetError: There is no room.
            EdgeSRError: It cannot be enlarged.
            OSError: The derived object cannot be moved.
        """
        made = self._enlargement.enlarge(claim)
        # Its UID follows from the source's and the settings, so that the same object twice is one of it.
        if not self._outbox.put(made, f"{_instance(made)}.dcm"):
            LOG.info("%s: its derived object was made before, and is not sent again", claim.mark)


def run_node(
    upscaler: Upscaler,
    settings: NodeSettings,
    spool: Path,
    stop: Stop,
    *,
    sampling: Settings,
    ready: Callable[[int], None],
    beat: Callable[[], None],
) -> None:
    """Receives, enlarges and sends until it is told to stop; the image at hand is finished.

    Args:
        upscaler: Open.
        settings: Of the node.
        spool: Folder of its own.
        stop: Set to stop.
        sampling: How every image is enlarged.
        ready: Told the port, once associations are taken.
        beat: As for `work_off`.

    Raises:
        ConfigError: The spool or the address cannot be used.
        EdgeSRError: The backend failed, or the settings do not go together.
    """
    with ExitStack() as stack:
        enlargement = Enlargement(upscaler, spool / "made", sampling)
        inbox, outbox = _opened(spool, enlargement, settings, stack)
        enlargement.begin()
        scale = sampling.scale or upscaler.bundle.manifest.scale
        receiver = Receiver(inbox.folder, scale=scale, limits=sampling.limits)
        threads = stack.enter_context(ThreadPoolExecutor(1))
        sender = threads.submit(
            work_off, outbox, Sending(settings), stop, poll_s=POLL_S, most_s=settings.retry_s
        )
        sender.add_done_callback(lambda _: stop.set())
        stack.callback(stop.set)  # whatever this thread ends of, the other one ends too
        ready(stack.enter_context(receiving(receiver, settings)))
        work = Derivation(enlargement, outbox)
        work_off(inbox, work, stop, poll_s=POLL_S, most_s=settings.retry_s, beat=beat)
    sender.result()


def _instance(path: Path) -> str:
    """The UID of an object that was made here."""
    tags = ["SOPInstanceUID"]
    read = guarded("its UID cannot be read", lambda: pydicom().dcmread(path, specific_tags=tags))
    return str(read.SOPInstanceUID)


def _opened(
    spool: Path, enlargement: Enlargement, settings: NodeSettings, stack: ExitStack
) -> tuple[Inbox, Inbox]:
    """What was received, and what is to be sent; without what a killed run left half written."""
    folders = spool / "in", spool / "out"
    try:
        for folder in (*folders, spool / "made"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        received = Inbox(
            folders[0],
            settle_s=0,
            again_s=settings.retry_s,
            keep=Keep.NOTHING,
            products=enlargement.products,
        )
        stack.enter_context(received)
        made = Inbox(folders[1], settle_s=0, again_s=settings.retry_s, keep=Keep.NAME)
        stack.enter_context(made)
        remove_parts(folders[0])
    except OSError as error:
        raise ConfigError(f"{spool}: cannot be used as a spool: {error.strerror}") from error
    return received, made
