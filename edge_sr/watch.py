"""Works off the files of an inbox: `edge-sr watch`, and both sides of the network node."""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from edge_sr.errors import BackendError, EdgeSRError, NotYetError, OutputError
from edge_sr.evidence import evidence_suffixes
from edge_sr.image import remove_parts
from edge_sr.inbox import Claim, Inbox, cause_of
from edge_sr.jobs import DICOM, PNG, Failure, Settings, plan_outputs, upscale_files
from edge_sr.manifest import samples_of
from edge_sr.pipeline import Upscaler
from edge_sr.result import Result, warm_up

__all__ = ["Enlargement", "Stop", "work_off"]

LOG = logging.getLogger("edge_sr.watch")
OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
"""What a system says of a name that it does not take, and goes on saying."""


class Stop:
    """Says when to stop, to any number of threads. A signal handler may set it, which no Event allows."""

    def __init__(self) -> None:
        """Opens a pipe, which is closed with this object."""
        self._read, self._write = os.pipe()

    def set(self) -> None:
        """From now on everybody stops."""
        os.write(self._write, b"x")

    def is_set(self) -> bool:
        """Whether to stop."""
        return self.wait(0)

    def wait(self, timeout: float) -> bool:
        """Waits so many seconds, or less where it is to stop; whether it is."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return bool(poll.poll(1000 * timeout))

    def close(self) -> None:
        """Closes the pipe; nobody may wait any more."""
        for descriptor in (self._read, self._write):
            os.close(descriptor)

    def __enter__(self) -> Stop:
        """Itself, to be closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()


def work_off(
    inbox: Inbox,
    work: Callable[[Claim], None],
    stop: Stop,
    *,
    poll_s: float = 1.0,
    most_s: float = 60.0,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Works on one file after the other until it is told to stop; the one at hand is finished.

    A `NotYetError` puts the file off. Any other `EdgeSRError` is the file's own failure, but for one of the
    backend: that ends this, since every file after it would fail too. Where the system refuses something, it
    waits longer and longer.

    Args:
        inbox: Open.
        work: Called with each file; returns once its results are on disk, or were taken by somebody else.
        stop: Set to stop.
        poll_s: How long it waits before it looks again.
        most_s: The longest wait.
        beat: Called at least that often while it is idle, and between files.

    Raises:
        BackendError: The backend failed. The file is taken up again by the next run.
    """
    wait_s = poll_s
    while not stop.is_set():
        beat()
        try:
            claim = inbox.take()
            if claim is None:
                stop.wait(poll_s)
                continue
            _try(inbox, claim, work)
            wait_s = poll_s
        except (OSError, OutputError) as error:
            told = (
                error.message
                if isinstance(error, NotYetError)
                else f"the folder cannot be used{cause_of(error)}"
            )
            LOG.warning("%s; it is tried again", told)
            stop.wait(wait_s)
            wait_s = min(2 * wait_s, most_s)


def _try(inbox: Inbox, claim: Claim, work: Callable[[Claim], None]) -> None:
    try:
        _settle(inbox, claim, work)
    except (OSError, OutputError):  # but for what is the file's own, which has failed by now
        inbox.put_off(claim)
        raise


def _settle(inbox: Inbox, claim: Claim, work: Callable[[Claim], None]) -> None:
    try:
        _work(claim, work)
    except (BackendError, NotYetError):
        raise
    except EdgeSRError as error:
        inbox.fail(claim, error)
    else:
        inbox.finish(claim)


def _work(claim: Claim, work: Callable[[Claim], None]) -> None:
    """Does the work; what it dies of is told by its kind and place alone, since its text may quote a name."""
    try:
        work(claim)
    except (EdgeSRError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  whatever one file does, the next one is worked on
        kind = type(error).__name__
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        failure = EdgeSRError(f"edge-sr failed on it ({kind}{where})", hint="please report that")
        LOG.error("%s: %s", claim.mark, failure.message)
    else:
        return
    raise failure


class Enlargement:
    """Enlarges claimed files into a folder, with one upscaler for all."""

    def __init__(self, upscaler: Upscaler, out: Path, settings: Settings) -> None:
        """Args: upscaler: open; out: an existing folder; settings: for every file."""
        self._upscaler, self._out, self._settings = upscaler, out, settings
        self._beside = evidence_suffixes(samples_of(settings.preset)) if settings.has_evidence else ()

    def begin(self) -> None:
        """Removes what a killed run left half written, and enlarges a picture of nothing.

        So what would fail for every file fails before the first. The inbox must be open, and so locked.

        Raises:
            OSError: The folder cannot be read.
            EdgeSRError: The settings do not go together, or the backend failed.
        """
        remove_parts(self._out)
        warm_up(self._upscaler, self._settings)

    def products(self, stem: str) -> frozenset[Path]:
        """All that may be written for a file of this stem."""
        return frozenset(self._out / f"{stem}{suffix}" for suffix in (PNG, DICOM, *self._beside))

    def __call__(self, claim: Claim) -> None:
        """Enlarges a file, unless that was done and only the end was missing.

        Raises:
            NotYetError: There is no room, the folder is gone, or the file changed meanwhile.
            EdgeSRError: It cannot be enlarged.
        """
        self.enlarge(claim)

    def enlarge(self, claim: Claim) -> Path:
        """The same; returns where the result lies."""
        (output,) = plan_outputs([claim.path], self._out, beside=self._beside)
        if output.exists():  # its products did not exist when it was taken, and nobody else writes here
            return output
        ((_, outcome),) = upscale_files(self._upscaler, [claim.path], [output], self._settings)
        if claim.has_changed:
            for product in self.products(output.stem):
                product.unlink(missing_ok=True)
            raise NotYetError(f"{claim.mark} changed while it was read")
        if isinstance(outcome, Failure):
            raise _judged(outcome.error)
        _tell(claim, outcome)
        return output


def _judged(error: EdgeSRError) -> EdgeSRError:
    """The error, or that it is the disk's and not the file's."""
    cause = error.__cause__
    if isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno not in OF_THE_NAME:
        late = NotYetError(f"a result cannot be written{cause_of(error)}", hint=error.hint)
        late.__cause__ = cause
        return late
    return error


def _tell(claim: Claim, result: Result) -> None:
    height, width = result.pixels.shape[:2]
    seconds = sum(result.seconds.values())
    LOG.info(
        "%s done: %dx%d, %.2f s, consistency %.1f dB",
        claim.mark,
        width,
        height,
        seconds,
        result.consistency_db,
    )
    for notice in result.notices:
        LOG.info("%s: %s", claim.mark, notice)
