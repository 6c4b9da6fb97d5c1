"""A folder whose files are worked off one by one; where a file lies says what has become of it.

    name ──► working/1/name ──► done/name
                │  ▲  └───────► failed/name, and failed/name.reason.txt
                ▼  │
             working/0/name     put off: it is tried again later

The file system is all the memory that there is. Files are renamed, never copied or changed, and each rename
is flushed; so nothing has to agree with anything after a kill or a power cut. What then lies in ``working/K``
was being worked on when the process died, for the Kth time: it is tried again, and after three times it has
failed, so that one file cannot keep a service from starting for ever.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType

from edge_sr.bundle import hash_file
from edge_sr.errors import EdgeSRError, NotYetError, OutputError, UsageError
from edge_sr.image import move, remove_parts, write_atomic
from edge_sr.jobs import stem_of

__all__ = ["REASON", "TRIES", "Claim", "Inbox", "Keep"]

LOG = logging.getLogger("edge_sr.watch")
TRIES = 3
"""How often the process may die of a file."""
REASON = ".reason.txt"
NAME_BYTES = 200  # of a file's name, so that there is room for what is put behind it; most systems allow 255
_NOT_YET = re.compile(
    r"[.~#].*|.*(~|\.(tmp|temp|part|partial|filepart|crdownload|download|swp|lock|reason\.txt))"
    r"|thumbs\.db|desktop\.ini",
    re.IGNORECASE | re.DOTALL,
)
"""Names that copying programs, editors and desktops give to what is not there yet, or not meant."""

State = tuple[int, int]
"""Size and time of change; the inode is not part of it, since network shares make them up anew."""


class Keep(Enum):
    """What is left in ``done`` of a file that was worked off."""

    FILE = "the file"
    NAME = "an empty file of its name"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Claim:
    """A file that is being worked on.

    Attributes:
        path: Where it lies meanwhile.
        tries: How often it was begun, this time included, without an orderly end.
        state: How it was when it was taken.
    """

    path: Path
    tries: int
    state: State

    @cached_property
    def mark(self) -> str:
        """What it is called where its name, which may be a patient's, must not be told: twelve hex digits.

        They begin the SHA-256 of its content, so that its owner can find it.
        """
        try:
            return hash_file(self.path)[:12]
        except EdgeSRError:
            return "a file that cannot be read"

    @property
    def has_changed(self) -> bool:
        """Whether somebody went on writing into it after it was taken."""
        return _state(self.path.lstat()) != self.state


def _nothing(_stem: str) -> frozenset[Path]:
    return frozenset()


class Inbox:
    """One folder. It is locked while this is open: there is one at work on it at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        settle_s: float,
        again_s: float = 60.0,
        keep: Keep = Keep.FILE,
        products: Callable[[str], frozenset[Path]] = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens it, and makes the folders in it.

        Args:
            folder: An existing folder.
            settle_s: How long size and time of a file must stay as they are before it is taken to be whole.
            again_s: How long a file that was put off rests.
            keep: What stays in ``done``.
            products: What working on a file of this stem writes; a file is renamed to a stem whose products
                do not exist yet, so that no result takes the place of another.
            clock: In seconds; only differences count.

        Raises:
            UsageError: Somebody else works on this folder.
            OutputError: A folder cannot be made.
        """
        self.folder, self._settle_s, self._again_s = folder, settle_s, again_s
        self._keep, self._products, self._clock = keep, products, clock
        self.done, self.failed = folder / "done", folder / "failed"
        self._working = [folder / "working" / str(tries) for tries in range(TRIES + 1)]
        self._seen: dict[str, tuple[State, float]] = {}
        self._ready: list[tuple[str, State]] = []
        self._due: dict[str, float] = {}
        self._moving = threading.Lock()  # who puts a file in asks where others are, and they must stand still
        with ExitStack() as resources:
            try:
                for path in (self.done, self.failed, *self._working):
                    path.mkdir(parents=True, exist_ok=True)
                self._lock(resources)
                for path in (self.done, self.failed):
                    remove_parts(path)
            except OSError as error:
                raise OutputError(
                    f"{folder}: cannot be worked in: {error.strerror}",
                    hint="files are moved within it, so it must be one that you may write to",
                ) from error
            self._resources = resources.pop_all()

    def _lock(self, resources: ExitStack) -> None:
        lock = resources.enter_context((self.folder / "working" / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{self.folder} is worked on by another edge-sr", hint="stop that one, or give another folder"
            ) from error
        except OSError as error:  # a network share without locks
            LOG.warning("the folder cannot be locked (%s): let nobody else work on it", error.strerror)

    def close(self) -> None:
        """Gives the folder free."""
        self._resources.close()

    def __enter__(self) -> Inbox:
        """Itself, to be closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()

    # ---- what is taken

    def take(self) -> Claim | None:
        """Takes the next file: one that was begun before, or else the oldest that is whole; None for none.

        Raises:
            OSError: The folder cannot be read or written.
            NotYetError: The same, while the reason of a failure was written.
        """
        for claim in self._begun():
            if self._due.get(claim.path.name, 0.0) > self._clock():
                continue
            if claim.tries > TRIES:
                self.fail(claim, EdgeSRError(f"edge-sr died {TRIES} times while it was at this file"))
                continue
            return self._moved(claim.path, claim.tries)
        return next(filter(None, map(self._taken, self._whole())), None)

    def _begun(self) -> Iterator[Claim]:
        for tries, folder in enumerate(self._working):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.is_file(follow_symlinks=False):
                    state = _state(entry.stat(follow_symlinks=False))
                    yield Claim(Path(entry.path), tries + 1, state)

    def _whole(self) -> Iterator[tuple[str, State]]:
        """Name and state of each file that did not change for long enough; the oldest first."""
        if not self._ready:
            self._ready = self._looked()
        while self._ready:
            yield self._ready.pop()

    def _looked(self) -> list[tuple[str, State]]:
        """One look at the folder; the oldest file last."""
        now, seen = self._clock(), dict[str, tuple[State, float]]()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _NOT_YET.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                        continue
                    state = _state(entry.stat(follow_symlinks=False))
                    before, since = self._seen.get(entry.name, (state, now))
                    seen[entry.name] = state, since if before == state else now
        self._seen = seen
        whole = [
            (name, state)
            for name, (state, since) in seen.items()
            if state[0] and now - since >= self._settle_s  # an empty one is a copy that has not begun
        ]
        return sorted(whole, key=lambda file: (file[1][1], file[0]), reverse=True)

    def _taken(self, file: tuple[str, State]) -> Claim | None:
        name, state = file
        path = self.folder / name
        with suppress(FileNotFoundError):
            if _state(path.lstat()) == state:
                return self._moved(path, 1, self._free_name(path))
        return None

    def _moved(self, path: Path, tries: int, name: str = "") -> Claim:
        target = self._working[tries] / (name or path.name)
        with self._moving:
            move(path, target)
        return Claim(target, tries, _state(target.lstat()))

    def _free_name(self, path: Path) -> str:
        """The file's own name, or one with a number where that is taken."""
        stem = stem_of(path)
        suffix = path.name[len(stem) :]
        stem = os.fsdecode(os.fsencode(stem)[: NAME_BYTES - len(os.fsencode(suffix))])
        under_way = [claim.path for claim in self._begun()]
        promised = {product for other in under_way for product in self._products(stem_of(other))}
        names = {other.name for other in under_way}
        for number in count(1):
            tried = stem if number == 1 else f"{stem}-{number}"
            name, products = tried + suffix, self._products(tried)
            places = {self.done / name, self.failed / name, *products}
            if name not in names and not products & promised and not any(map(_is_there, places)):
                return name
        raise AssertionError("numbers do not end")

    # ---- what becomes of it

    def finish(self, claim: Claim) -> None:
        """It was worked off.

        Raises:
            OSError: It cannot be moved.
            OutputError: Its name cannot be kept.
        """
        self._due.pop(claim.path.name, None)
        with self._moving:
            if self._keep is Keep.FILE:
                move(claim.path, self.done / claim.path.name)
                return
            if self._keep is Keep.NAME:
                write_atomic(self.done / claim.path.name, b"")
            claim.path.unlink()

    def fail(self, claim: Claim, error: EdgeSRError) -> None:
        """It never will be: it is moved aside, with the reason beside it.

        Raises:
            OSError: It cannot be moved.
            NotYetError: The reason cannot be written.
        """
        target = self.failed / claim.path.name
        LOG.warning("%s failed (%s): it is in 'failed', with the reason", claim.mark, type(error).__name__)
        reason = error.message.removeprefix(f"{claim.path}: ")
        lines = [reason, *filter(None, [error.hint]), "To try again, move the file back to the folder above."]
        try:
            write_atomic(target.with_name(target.name + REASON), "\n".join([*lines, ""]).encode())
        except OutputError as failure:
            raise NotYetError(f"a reason cannot be written{cause_of(failure)}") from failure
        self._due.pop(claim.path.name, None)
        with self._moving:
            move(claim.path, target)

    def put_off(self, claim: Claim) -> None:
        """It is tried again after a while, and as if for the first time.

        Raises:
            OSError: It cannot be moved.
        """
        self._due[claim.path.name] = self._clock() + self._again_s
        with self._moving:
            move(claim.path, self._working[0] / claim.path.name)

    # ---- what another thread puts in

    def put(self, source: Path, name: str) -> bool:
        """Moves a file of the same disk in, once: not where that name waits, is worked on, or was done.

        One that failed before gets another chance.

        Args:
            source: Whole; it is gone afterwards.
            name: What it is called from now on.

        Returns:
            Whether it was moved.

        Raises:
            OSError: It cannot be moved.
        """
        with self._moving:
            places = (self.folder, *self._working, self.done)
            if any(_is_there(folder / name) for folder in places):
                source.unlink()
                return False
            for left in (name, f"{name}{REASON}"):
                (self.failed / left).unlink(missing_ok=True)
            move(source, self.folder / name)
            return True


def cause_of(error: BaseException) -> str:
    """Why the system refused something, behind a colon and without the name of a file; or nothing."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return f": {cause.strerror}" if isinstance(cause, OSError) and cause.strerror else ""


def _state(status: os.stat_result) -> State:
    return status.st_size, status.st_mtime_ns


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)
