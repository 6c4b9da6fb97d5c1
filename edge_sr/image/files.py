"""Results on disk: written whole or not at all, and never over an input."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from edge_sr.errors import OutputError

__all__ = ["refuse_overwrite", "write_atomic"]

_OUTPUT_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that is not read-only",
    errno.EISDIR: "the path is a folder: name a file in it",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EEXIST: "a part of the path is a file: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all, creating its folder where needed.

    The data goes to a temporary file beside the target, is flushed to disk and renamed over it. A link is
    replaced, not followed. Guarding inputs is the caller's part: see `refuse_overwrite`.

    Args:
        path: The target.
        data: Its content.

    Raises:
        OutputError: It could not be written; the target is as it was, and the temporary file is gone.
    """
    target = Path(path)
    try:
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data)
            temporary.replace(target)
        except BaseException:  # an interrupt too leaves nothing behind
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:  # ValueError: no file name, or a null byte in it
        reason = getattr(error, "strerror", None) or str(error)
        hint = _OUTPUT_HINTS.get(getattr(error, "errno", None) or 0, "")
        raise OutputError(f"{path}: cannot be written: {reason}", hint=hint) from error


def _write_synced(temporary: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def refuse_overwrite(inputs: Iterable[str | Path], output: str | Path) -> None:
    """Refuse an output that is one of the inputs, under whatever name (links, other spelling).

    Args:
        inputs: Files that are read.
        output: The file that would be written; need not exist.

    Raises:
        OutputError: The output is an input.
    """
    for path in inputs:
        is_same = False
        with suppress(OSError, ValueError):  # one of them does not exist: nothing to overwrite
            is_same = Path(output).samefile(path)
        if is_same:
            raise OutputError(f"{output}: is an input and is never overwritten", hint="choose another output")
