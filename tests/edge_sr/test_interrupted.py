"""`edge-sr upscale` without room for its output, and killed in the middle of writing it.

A limit on the size of files, set by the kernel for the command's process, stands for a full disk: the write
comes back short, and then fails. With the signal's default action the process is killed there instead.
"""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_sr.image import encode_png, read_image
from tests.fakes import write_tiny_bundle
from tests.test_layering import ROOT

KILL = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); "
UPSCALE = "import sys; from edge_sr.cli import run; sys.exit(run(['upscale', *sys.argv[1:]]))"
OLD = b"what was there before"
Upscale = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def upscale(tmp_path: Path) -> Upscale:
    """Runs the command in a process whose files may have so many bytes at most."""
    bundle = write_tiny_bundle(tmp_path / "tiny").folder

    def call(*arguments: Path, most: int, is_killed: bool = False) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        code = KILL * is_killed + UPSCALE
        command = [sys.executable, "-B", "-c", code, *map(str, arguments)]
        command += ["--bundle", str(bundle), "--backend", "fake"]
        return subprocess.run(
            command, preexec_fn=limit, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
        )

    return call


@pytest.fixture(params=["png", "dcm"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image whose output takes some thousand bytes."""
    path = tmp_path / f"in.{request.param}"
    if request.param == "dcm":
        pytest.importorskip("pydicom", reason="the dicom extra is not installed")
        from tests.edge_sr.dicom import objects

        path.write_bytes(objects.encoded(objects.dx()))
    else:
        path.write_bytes(_png(40))
    return path


def _png(side: int) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 256, (side, side), np.uint8, endpoint=False)
    return encode_png(pixels, text={})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_without_room_an_output_is_an_error_in_words_and_what_was_there_stays(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    before, out = source.read_bytes(), tmp_path / "out"
    out.mkdir()
    target = out / source.name
    target.write_bytes(OLD)
    told = upscale(source, Path("-o"), target, most=1000)
    assert told.returncode == 1
    assert "cannot be written: File too large" in told.stderr and "ulimit -f" in told.stderr
    assert "Traceback" not in told.stderr
    assert (names(out), target.read_bytes(), source.read_bytes()) == ([source.name], OLD, before)


def test_of_a_batch_the_outputs_for_which_there_is_room_are_whole(upscale: Upscale, tmp_path: Path) -> None:
    inputs = [tmp_path / name for name in ("first.png", "large.png", "last.png")]
    for path, side in zip(inputs, (8, 120, 8), strict=True):
        path.write_bytes(_png(side))
    told = upscale(*inputs, Path("-o"), tmp_path / "out", most=4000)
    assert told.returncode == 1
    assert names(tmp_path / "out") == ["first.png", "last.png"]
    for name in names(tmp_path / "out"):
        assert read_image(tmp_path / "out" / name).pixels.shape[0] > 8


def test_killed_in_the_middle_of_writing_it_leaves_what_was_there_and_the_next_run_is_whole(
    upscale: Upscale, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    target = out / source.name
    target.write_bytes(OLD)
    told = upscale(source, Path("-o"), target, most=1000, is_killed=True)
    assert told.returncode == -signal.SIGXFSZ
    (part,) = (name for name in names(out) if name != target.name)
    assert ((out / part).stat().st_size, target.read_bytes()) == (1000, OLD)
    assert upscale(source, Path("-o"), target, most=2**30).returncode == 0
    assert target.stat().st_size > 1000 and target.read_bytes() != OLD
