"""Results are written whole or not at all, and never over an input."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from edge_sr import image
from edge_sr.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out.png"
    image.write_atomic(target, b"first")
    image.write_atomic(target, b"second")
    assert target.read_bytes() == b"second"
    assert names(target.parent) == ["out.png"]
    plain = tmp_path / "plain"
    plain.touch()
    assert target.stat().st_mode == plain.stat().st_mode  # follows the umask


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    owner: Any = os if failing == "fsync" else Path
    monkeypatch.setattr(owner, failing, fail)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        image.write_atomic(target, b"new")
    assert caught.value.hint
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out.png"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        image.write_atomic(tmp_path / "out.png", b"new")
    assert names(tmp_path) == []


def test_files_that_belong_together_are_all_old_or_all_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {tmp_path / name: b"new" for name in ("a.std.png", "a.png")}
    for target in files:
        target.write_bytes(b"old")
    real_fsync, calls = os.fsync, [0]

    def fail_at_the_second(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail_at_the_second)
        with pytest.raises(OutputError, match=r"a\.png: cannot be written"):
            image.write_together(files)
    assert {target.read_bytes() for target in files} == {b"old"}
    image.write_together(files)
    assert {target.read_bytes() for target in files} == {b"new"}
    assert names(tmp_path) == ["a.png", "a.std.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def open_full(path: Any, flags: int, mode: int = 0o777) -> int:
        return real_open("/dev/full" if str(path).endswith(".part") else path, flags & ~os.O_EXCL, mode)

    monkeypatch.setattr(os, "open", open_full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        image.write_atomic(tmp_path / "out.png", b"new")


def test_paths_that_cannot_be_files_are_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for name in ("folder", "file/out.png", "null\0.png", "x" * 300):
        with pytest.raises(OutputError, match="cannot be written"):
            image.write_atomic(tmp_path / name, b"new")
    with pytest.raises(OutputError, match="cannot be written"):
        image.write_atomic("", b"new")
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == []


def test_an_input_is_not_overwritten_under_any_name(tmp_path: Path) -> None:
    source = tmp_path / "scan.png"
    source.touch()
    (tmp_path / "link.png").symlink_to(source)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "sub").mkdir()
    for name in ("scan.png", "link.png", "hard.png", "sub/../scan.png"):
        with pytest.raises(OutputError, match="never overwritten"):
            image.refuse_overwrite([tmp_path / "other.png", source], tmp_path / name)
    image.refuse_overwrite([source], tmp_path / "out.png")
    image.refuse_overwrite([], source)
