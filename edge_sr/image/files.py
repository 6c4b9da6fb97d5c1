"""Results on disk: written whole or not at all, and never over an input."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from edge_sr.errors import OutputError

__all__ = ["move", "refuse_overwrite", "remove_parts", "write_atomic", "write_together"]

_PART = re.compile(r"\.[0-9a-f]{16}\.part")  # as `_stage` names them

_OUTPUT_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or write to another disk",
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
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together, each whole or not at all, creating their folders where needed.

    All are written to temporary files beside their targets first and renamed only then, in the given order:
    a full disk leaves every target as it was. Put the one last whose presence says that the others are there.

    Args:
        files: Target to content.

    Raises:
        OutputError: One could not be written; the temporary files are gone.
    """
    with ExitStack() as leftovers:
        staged = {target: _stage(target, data, leftovers) for target, data in files.items()}
        for target, temporary in staged.items():
            try:
                temporary.replace(target)
            except (OSError, ValueError) as error:
                raise _unwritten(target, error) from error
        for folder in {target.parent for target in staged}:
            _sync_folder(folder)


def move(source: Path, target: Path) -> None:
    """Renames a file within one disk, so that it lasts through a power cut.

    Raises:
        OSError: It cannot be renamed; it is where it was.
    """
    source.rename(target)
    for folder in {source.parent, target.parent}:
        _sync_folder(folder)


def remove_parts(folder: Path) -> int:
    """Removes what was left where writing into a folder was killed; nobody else may be writing there.

    Returns:
        How many.
    """
    parts = [path for path in folder.iterdir() if _PART.fullmatch(path.name)]
    for path in parts:
        _remove(path)
    return len(parts)


def _stage(target: Path, data: bytes, leftovers: ExitStack) -> Path:
    """A flushed temporary file beside its target, which is removed at the end where it still lies there."""
    try:
        temporary = target.with_name(f".{secrets.token_hex(8)}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        leftovers.callback(_remove, temporary)
        _write_synced(temporary, data)
    except (OSError, ValueError) as error:  # ValueError: no file name, or a null byte in it
        raise _unwritten(target, error) from error
    return temporary


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink()


def _unwritten(path: Path, error: OSError | ValueError) -> OutputError:
    """What a failed write is called."""
    reason = getattr(error, "strerror", None) or str(error)
    hint = _OUTPUT_HINTS.get(getattr(error, "errno", None) or 0, "")
    return OutputError(f"{path}: cannot be written: {reason}", hint=hint)


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
