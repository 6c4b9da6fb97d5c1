"""`edge-sr watch`: what is put into a folder comes out of another, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.cli import run
from edge_sr.errors import BackendError
from edge_sr.image import Limits, encode_png, opencv, read_image
from edge_sr.inbox import REASON, Inbox
from edge_sr.pipeline import Output, Upscaler
from edge_sr.result import Settings
from edge_sr.spec import Precision
from edge_sr.watch import Enlargement, Stop, work_off
from tests.edge_sr.waiting import PATIENCE_S, eventually
from tests.test_layering import ROOT

MARKS = ("Grzegorzewska", "PID-77123")
"""Of a patient, in names of files and in what is in them."""
ALL_AT_ONCE = ("--settle", "0", "--poll", "0.1", "--retry", "0.1")


class UntilIdle(Stop):
    """Stops when there would be something to wait for."""

    def wait(self, timeout: float) -> bool:
        if timeout:
            self.set()
        return super().wait(timeout)


class Meddled(Upscaler):
    """An upscaler on the fake backend that does something else first, each time an image is enlarged."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, FakeBackend(), precision=Precision.FP32)
        self.before: Callable[[], object] = lambda: None

    def upscale(self, image: Any, *, preset: Any, seed: int, first_sample: int = 0) -> Output:
        self.before()
        return super().upscale(image, preset=preset, seed=seed, first_sample=first_sample)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """IN and OUT."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    return tmp_path / "in", tmp_path / "out"


@pytest.fixture
def upscaler(bundle: Path) -> Iterator[Meddled]:
    with Meddled(Bundle.open(bundle)) as found:
        yield found


def settings(upscaler: Upscaler, **changes: Any) -> Settings:
    return Settings(upscaler.bundle.manifest.default_preset, **changes)


def worked_off(
    upscaler: Upscaler, folders: tuple[Path, Path], *, stop: Stop | None = None, **changes: Any
) -> None:
    """Works until there is nothing to do."""
    source, out = folders
    work = Enlargement(upscaler, out, settings(upscaler, **changes))
    with Inbox(source, settle_s=0, products=work.products) as inbox, stop or UntilIdle() as end:
        _begin(work, upscaler)
        work_off(inbox, work, end)


def _begin(work: Enlargement, upscaler: Upscaler) -> None:
    """Without what meddles, which is meant for the files."""
    if isinstance(upscaler, Meddled):
        before, upscaler.before = upscaler.before, lambda: None
        work.begin()
        upscaler.before = before
    else:
        work.begin()


def picture(seed: int = 0, side: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    return encode_png(pixels, text={})


def put(folder: Path, **files: bytes) -> None:
    """Files in this order by age, whose names have a dot for each underscore."""
    for age, (name, data) in enumerate(files.items()):
        path = folder / name.replace("_", ".")
        path.write_bytes(data)
        os.utime(path, (10**9 + age, 10**9 + age))


def tree(*folders: Path) -> dict[str, bytes]:
    """Every file with its content, by its path from the folder above."""
    return {
        path.relative_to(folder.parent).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def scan(**changes: Any) -> bytes:
    """A radiograph of the patient."""
    objects = pytest.importorskip("tests.edge_sr.dicom.objects")
    return bytes(objects.encoded(objects.dx(PatientName=f"{MARKS[0]}^A", PatientID=MARKS[1], **changes)))


# ---- what comes out


def test_every_kind_of_image_comes_out_as_upscale_makes_it_and_the_original_stays_as_it_was(
    bundle: Path, upscaler: Meddled, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (14, 15)).astype(np.uint16)
    tiff = opencv().imencode(".tif", pixels)[1].tobytes()
    jpeg = opencv().imencode(".jpg", (pixels >> 8).astype(np.uint8))[1].tobytes()
    put(folders[0], a_png=picture(), b_tif=tiff, c_jpg=jpeg, IM1=scan())
    before = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    files = [str(path) for path in folders[0].iterdir()]
    options = ("--bundle", str(bundle), "--backend", "fake", "--seed", "7", "--samples", "2")
    assert run(["upscale", *files, "-o", str(tmp_path / "wanted"), *options]) == 0
    preset = upscaler.bundle.manifest.default_preset
    assert preset is not None
    work = Enlargement(
        upscaler, folders[1], Settings(preset.model_copy(update={"samples": 2}), 7, has_evidence=True)
    )
    with Inbox(folders[0], settle_s=0, products=work.products) as inbox, UntilIdle() as stop:
        work_off(inbox, work, stop)
        assert {path.name: path.read_bytes() for path in inbox.done.iterdir()} == before
    wanted = {path.name: path.read_bytes() for path in (tmp_path / "wanted").iterdir()}
    assert {"IM1.dcm", "a.png", "b.std.png"} < set(wanted)
    assert {path.name: path.read_bytes() for path in folders[1].iterdir()} == wanted


def test_a_name_that_comes_again_takes_the_place_of_no_result(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    for seed in range(2):
        put(folders[0], a_png=picture(seed))
        worked_off(upscaler, folders)
    found = tree(*folders)
    assert set(found) == {"in/done/a.png", "in/done/a-2.png", "out/a.png", "out/a-2.png"}
    assert found["in/done/a-2.png"] == picture(1) and found["out/a.png"] != found["out/a-2.png"]


def test_what_cannot_be_enlarged_is_moved_aside_with_the_reason_and_the_rest_is_done(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture()[:-30], b_txt=b"hello", c_png=picture())
    worked_off(upscaler, folders)
    found = tree(*folders)
    assert {"in/failed/a.png", "in/failed/b.txt", "in/done/c.png", "out/c.png"} < set(found)
    assert found["in/failed/a.png"] == picture()[:-30]
    assert found[f"in/failed/a.png{REASON}"].startswith(b"truncated")
    assert b"is not a PNG, JPEG or TIFF" in found[f"in/failed/b.txt{REASON}"]


def test_a_result_that_disagrees_with_its_input_is_not_written(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture())
    worked_off(upscaler, folders, min_consistency_db=500.0)
    assert set(tree(*folders)) == {"in/failed/a.png", f"in/failed/a.png{REASON}"}


def test_limits_hold(upscaler: Meddled, folders: tuple[Path, Path]) -> None:
    put(folders[0], a_png=picture(side=30))
    worked_off(upscaler, folders, limits=Limits(max_pixels=100))
    assert b"at most 100" in tree(*folders)[f"in/failed/a.png{REASON}"]


# ---- what happens meanwhile


def test_told_to_stop_it_finishes_the_image_at_hand_and_begins_no_other(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture(), b_png=picture())
    stop = Stop()
    upscaler.before = stop.set
    worked_off(upscaler, folders, stop=stop)
    assert set(tree(*folders)) == {"in/b.png", "in/done/a.png", "out/a.png"}


def test_a_device_that_fails_ends_it_and_the_image_is_taken_up_again(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture(), b_png=picture())

    def fail() -> None:
        raise BackendError("the GPU has fallen off the bus")

    upscaler.before = fail
    with pytest.raises(BackendError):
        worked_off(upscaler, folders)
    assert set(tree(*folders)) == {"in/working/1/a.png", "in/b.png"}
    upscaler.before = lambda: None
    worked_off(upscaler, folders)
    assert set(tree(*folders)) == {"in/done/a.png", "in/done/b.png", "out/a.png", "out/b.png"}


def test_an_error_that_is_not_ours_is_told_without_what_it_quotes(
    upscaler: Meddled, folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    put(folders[0], a_png=picture())

    def fail() -> None:
        raise ValueError(MARKS[0])

    upscaler.before = fail
    worked_off(upscaler, folders)
    told = tree(*folders)[f"in/failed/a.png{REASON}"].decode()
    assert "ValueError in test_watch.py:" in told
    assert "ValueError in test_watch.py:" in caplog.text
    assert MARKS[0] not in told + caplog.text


def test_a_file_that_grows_while_it_is_read_is_read_again_and_only_that_counts(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture(1))
    begun = folders[0] / "working" / "1" / "a.png"

    def go_on() -> None:
        begun.write_bytes(picture(2, side=13))
        upscaler.before = lambda: None

    upscaler.before = go_on
    worked_off(upscaler, folders)
    assert set(tree(*folders)) == {"in/working/0/a.png"}
    worked_off(upscaler, folders)
    assert set(tree(*folders)) == {"in/done/a.png", "out/a.png"}
    assert read_image(folders[1] / "a.png").pixels.shape == (52, 52)


# ---- the command


@contextmanager
def watching(
    bundle: Path, folders: tuple[Path, Path], *, most: int = resource.RLIM_INFINITY, **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, whose files may have so many bytes at most."""
    command = [sys.executable, "-B", "-m", "edge_sr", "watch", *map(str, folders), *ALL_AT_ONCE]
    process = subprocess.Popen(
        [*command, "--bundle", str(bundle), "--backend", "fake"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY)),
        env={**os.environ, **environ},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def ended(process: subprocess.Popen[str]) -> str:
    """Ends it in order; what it said."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return str(err)


def test_the_command_takes_what_comes_and_ends_in_order_on_sigterm(
    bundle: Path, folders: tuple[Path, Path]
) -> None:
    with watching(bundle, folders) as process:
        put(folders[0], a_png=picture())
        eventually((folders[0] / "done" / "a.png").exists)
        put(folders[0], b_png=picture(), c_txt=b"x")
        eventually((folders[0] / "done" / "b.png").exists)
        eventually((folders[0] / "failed" / "c.txt").exists)
        err = ended(process)
    mark = hashlib.sha256(picture()).hexdigest()[:12]
    assert err.count(f"{mark} done: 48x48") == 2 and "failed (ImageError)" in err
    assert not [name for name in ("a.png", "b.png", "c.txt") if name in err]


def test_systemd_hears_when_it_is_ready_and_that_it_is_alive(
    bundle: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    manager = pytest.importorskip("tests.edge_sr.service.manager")
    with (
        manager.listening(tmp_path) as heard,
        watching(bundle, folders, NOTIFY_SOCKET=heard.address) as process,
    ):
        heard.await_field("READY")
        heard.await_field("WATCHDOG")
        ended(process)
        assert {"STOPPING": "1"} in heard.pending()


def test_without_room_it_says_so_loses_nothing_and_goes_on_when_there_is_some(
    bundle: Path, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture(side=40))
    with watching(bundle, folders, most=1500) as process:
        assert process.stderr is not None
        told = next(line for line in process.stderr if "cannot be written" in line)
        assert "a result cannot be written: File too large; it is tried again" in told
        assert not list(folders[1].glob("*.png"))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        eventually((folders[0] / "done" / "a.png").exists)
        ended(process)
    assert set(tree(*folders)) == {"in/done/a.png", "out/a.png"}


def test_no_name_is_told_but_in_the_files_own_folders(bundle: Path, folders: tuple[Path, Path]) -> None:
    files = {
        "good": scan(),
        "cut": scan()[:-50],
        "odd": scan(SOPClassUID="1.2.3.77123"),
        "no": MARKS[0].encode(),
    }
    put(folders[0], **{f"{MARKS[0]}_{name}": data for name, data in files.items()})
    (folders[1] / f"{MARKS[0]}.good.dcm").mkdir()  # in the way of the result
    with watching(bundle, folders) as process:
        eventually(lambda: len(list((folders[0] / "failed").glob("*"))) == 6)
        eventually(lambda: len(list((folders[0] / "done").glob("*"))) == 1)
        err = ended(process)
    told = err + "".join(path.read_text() for path in folders[0].glob(f"failed/*{REASON}"))
    assert not [mark for mark in MARKS if mark in told]
    assert err.count("failed (ImageError)") == 3


@pytest.mark.parametrize("out", ["in", "in/done", "in/failed/x", "in/working"])
def test_results_that_would_be_taken_for_images_are_refused(
    bundle: Path, tmp_path: Path, out: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert run(["watch", str(tmp_path / "in"), str(tmp_path / out), "--bundle", str(bundle)]) == 1
    assert "choose another OUT" in capfd.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "no such folder" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_that_no_image_could_have_end_it_before_any_is_touched(
    bundle: Path, folders: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    put(folders[0], a_png=picture())
    options = ["--bundle", str(bundle), "--backend", "fake", "--steps", "999", *ALL_AT_ONCE]
    assert run(["watch", *map(str, folders), *options]) == 1
    assert "999" in capfd.readouterr().err
    assert set(tree(*folders)) == {"in/a.png"}


# ---- kill -9

KILLED = """
import os, signal, sys
from pathlib import Path
from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from tests.edge_sr import test_watch

root, at = Path(sys.argv[1]), int(sys.argv[3])
count = 0

def hook(event, arguments):
    global count
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.scandir") and str(root) in repr(arguments):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

with Upscaler(Bundle.open(Path(sys.argv[2])), FakeBackend(), precision=Precision.FP32) as upscaler:
    sys.addaudithook(hook)
    test_watch.worked_off(upscaler, (root / "in", root / "out"))
print(count)
"""
"""Works on IN until there is nothing to do, or dies before it does the Nth thing to its folders."""


def killed_at(event: int, bundle: Path, root: Path) -> subprocess.CompletedProcess[str]:
    arguments = [str(root), str(bundle), str(event)]
    return subprocess.run(
        [sys.executable, "-B", "-c", KILLED, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def filled(root: Path) -> tuple[Path, Path]:
    """IN with two images and one that is none."""
    folders = root / "in", root / "out"
    for folder in folders:
        folder.mkdir(parents=True)
    put(folders[0], a_png=picture(), b_png=b"\x89PNG", c_png=picture(2))
    return folders


@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_anything_that_it_does_to_a_folder_the_next_run_ends_as_if_nothing_had_been(
    bundle: Path, tmp_path: Path, upscaler: Meddled, every: int
) -> None:
    folders = filled(tmp_path / "whole")
    done = killed_at(0, bundle, tmp_path / "whole")
    events = int(done.stdout)
    wanted = tree(*folders)
    assert set(wanted) == {
        *("in/done/a.png", "in/done/c.png", "out/a.png", "out/c.png"),
        *("in/failed/b.png", f"in/failed/b.png{REASON}"),
    }
    assert events > 40
    for event in range(every // 2 + 1, events + 1, every):
        folders = filled(tmp_path / str(event))
        assert killed_at(event, bundle, tmp_path / str(event)).returncode == -signal.SIGKILL
        half_written = {
            name for name, data in tree(*folders).items() if name in wanted and data != wanted[name]
        }
        assert not half_written
        worked_off(upscaler, folders)
        assert tree(*folders) == wanted


def test_killed_between_the_result_and_its_end_nothing_is_made_twice(
    upscaler: Meddled, folders: tuple[Path, Path]
) -> None:
    put(folders[0], a_png=picture())
    worked_off(upscaler, folders)
    before = tree(folders[1])
    (folders[0] / "done" / "a.png").rename(folders[0] / "working" / "1" / "a.png")
    worked_off(upscaler, folders, seed=99)
    assert tree(folders[1]) == before
    assert set(tree(folders[0])) == {"in/done/a.png"}
