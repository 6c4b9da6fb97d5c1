"""The command line: exit codes, what is printed where, the same bytes twice, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_sr.cli import run
from edge_sr.image import encode_png, read_image, read_png_text, write_atomic
from tests.fakes import write_tiny_bundle

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder


@pytest.fixture
def edge_sr(bundle: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on the tiny bundle: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([*map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def write_image(path: Path, *, height: int = 16, width: int = 16, seed: int = 0, top: int = 255) -> Path:
    kind = np.uint8 if top == 255 else np.uint16
    pixels = np.random.default_rng(seed).integers(0, top + 1, (height, width)).astype(kind)
    write_atomic(path, encode_png(pixels, text={}))
    return path


def test_the_same_input_and_seed_give_the_same_bytes_twice_and_in_another_process(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "a.png", height=21, width=30)
    command = ["upscale", str(image), "--bundle", str(bundle), "--seed", "1", "-o"]
    for name in ("one", "two"):
        assert edge_sr(*command, tmp_path / name)[0] == 0
    subprocess.run([sys.executable, "-m", "edge_sr", *command, str(tmp_path / "three")], check=True)
    first, second, third = ((tmp_path / n / "a.png").read_bytes() for n in ("one", "two", "three"))
    assert first == second == third


def test_another_seed_gives_other_bytes(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png")
    for seed in (1, 2):
        edge_sr("upscale", image, "--bundle", bundle, "--seed", seed, "-o", tmp_path / str(seed))
    one, two = (read_image(tmp_path / str(seed) / "a.png").pixels for seed in (1, 2))
    assert (one != two).any()


def test_json_is_one_object_a_line_with_the_seconds_of_every_stage(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    images = [write_image(tmp_path / f"{n}.png", seed=n) for n in range(2)]
    code, out, _ = edge_sr("upscale", *images, "--bundle", bundle, "-o", tmp_path / "out", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [r["width"] for r in records] == [64, 64]
    assert set(records[0]["seconds"]) == {"encode", "loop", "decode", "host", "read", "write"}
    assert records[0]["provenance"]["seed"] == 0


def test_a_file_says_what_made_it_and_that_it_is_not_for_diagnosis(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "name-of-a-patient.png")
    edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path / "out.png")
    text = read_png_text((tmp_path / "out.png").read_bytes())
    assert "Not for diagnosis" in text["Disclaimer"]
    assert json.loads(text["edge-sr"])["precision"] == "fp32"
    assert "patient" not in json.dumps(text).lower()


def test_sixteen_bits_in_are_sixteen_bits_out(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "deep.png", top=65535)
    assert edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path / "out.png")[0] == 0
    assert read_image(tmp_path / "out.png").bit_depth == 16


def test_colour_goes_in_and_comes_out_with_a_notice(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    write_atomic(tmp_path / "c.png", encode_png(pixels, text={}))
    code, _, err = edge_sr("upscale", tmp_path / "c.png", "--bundle", bundle, "-o", tmp_path / "out.png")
    assert code == 0
    assert "luminance through the model" in err
    assert read_image(tmp_path / "out.png").is_colour


def bad_files(folder: Path) -> dict[str, Path]:
    """Inputs that must be refused by name, a file each."""
    good = write_image(folder / "whole.png", height=64, width=64).read_bytes()
    contents = {
        "empty.png": b"",
        "text.png": b"this is no image",
        "truncated.png": good[: len(good) // 2],
        "huge.png": good[:16] + (20000).to_bytes(4, "big") * 2 + good[24:],
        "tiny.png": encode_png(np.zeros((1, 1), np.uint8), text={}),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    absent = {"missing.png": folder / "missing.png", "folder": folder}
    return {name: folder / name for name in contents} | absent


def test_a_bad_file_is_named_with_one_line_and_the_batch_goes_on(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    bad = bad_files(tmp_path)
    good = write_image(tmp_path / "good.png")
    code, out, err = edge_sr("upscale", *bad.values(), good, "--bundle", bundle, "-o", tmp_path / "out")
    assert code == 1
    assert "good.png" in out
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.png"]
    for path in bad.values():
        assert sum(line.startswith(f"error: {path}:") for line in err.splitlines()) == 1, path
    assert "Traceback" not in err
    assert f"{len(bad)} of {len(bad) + 1} failed" in err


def test_a_bad_file_is_a_json_object_too(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    code, out, _ = edge_sr(
        "upscale", tmp_path / "none.png", "--bundle", bundle, "-o", tmp_path / "out", "--json"
    )
    assert code == 1
    assert json.loads(out)["kind"] == "ImageError"


def test_an_output_that_is_an_input_is_refused_and_the_input_stays(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "a.png")
    before = image.read_bytes()
    code, _, err = edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path)
    assert (code, image.read_bytes()) == (1, before)
    assert "error:" in err


def test_two_inputs_of_one_name_are_refused_before_any_work(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    first, second = (write_image(tmp_path / folder / "a.png") for folder in ("x", "y"))
    code, _, err = edge_sr("upscale", first, second, "--bundle", bundle, "-o", tmp_path / "out")
    assert code == 1
    assert "several inputs would be written" in err
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_made_is_one_clear_line(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    code, _, err = edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path / "file" / "out")
    assert code == 1
    assert "cannot be written" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_under_stdout_or_a_closed_reader_gives_no_traceback(bundle: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "edge_sr", "info", str(bundle)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["upscale"], 2),
        (["upscale", "a.png"], 2),
        (["upscale", "a.png", "-o", "x", "--steps", "0"], 2),
        (["upscale", "a.png", "-o", "x", "--seed", "-1"], 2),
        (["nonsense"], 2),
        (["info", "no-such-bundle"], 1),
        (["upscale", "a.png", "-o", "x.jpg"], 1),
        (["--version"], 0),
        (["--help"], 0),
    ],
)
def test_exit_codes(edge_sr: Run, arguments: list[str], code: int) -> None:
    assert edge_sr(*arguments)[0] == code


def test_an_unknown_preset_is_answered_with_those_there_are(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "a.png")
    code, _, err = edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path / "o", "--preset", "best")
    assert code == 1
    assert "even" in err


def test_steps_that_the_bundle_cannot_do_are_refused(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png")
    code, _, err = edge_sr("upscale", image, "--bundle", bundle, "-o", tmp_path / "o", "--steps", "5000")
    assert code == 1
    assert "Traceback" not in err


def test_info_describes_and_verifies_a_bundle(edge_sr: Run, bundle: Path) -> None:
    code, out, _ = edge_sr("info", bundle, "--verify")
    assert code == 0
    assert "every file verified" in out
    assert json.loads(edge_sr("info", bundle, "--json")[1])["name"] == "tiny"


def test_a_changed_graph_is_refused_with_its_name(edge_sr: Run, tmp_path: Path) -> None:
    changed = write_tiny_bundle(tmp_path / "changed")
    graph = next(changed.folder.glob("step*.onnx"))
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(bytes(data))
    image = write_image(tmp_path / "a.png")
    code, _, err = edge_sr("upscale", image, "--bundle", changed.folder, "-o", tmp_path / "out")
    assert code == 1
    assert graph.name in err
    assert not (tmp_path / "out").exists()


def test_demo_makes_a_picture_and_figures_of_any_image(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "big.png", height=90, width=100)
    picture = tmp_path / "demo.png"
    code, out, _ = edge_sr("demo", "--input", image, "--bundle", bundle, "-o", picture, "--json")
    facts = json.loads(out)
    assert code == 0
    assert set(facts["figures"]) == {"bicubic", "edge-sr"}
    assert facts["consistency_db"] > 0
    assert read_image(picture).pixels.shape[1] > 1000
    given = read_image(tmp_path / "demo-input.png")
    assert facts["input_picture"] == str(tmp_path / "demo-input.png")
    assert [*given.pixels.shape] == facts["input"]


@pytest.mark.parametrize("name", ["demo.png", "demo-input.png"])
def test_demo_never_writes_over_its_input(edge_sr: Run, bundle: Path, tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / name, height=90, width=100)
    before = image.read_bytes()
    code, _, err = edge_sr("demo", "--input", image, "--bundle", bundle, "-o", tmp_path / "demo.png")
    assert code == 1
    assert "never overwritten" in err
    assert image.read_bytes() == before


def test_demo_says_so_where_the_image_is_too_small(edge_sr: Run, bundle: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "small.png")
    code, _, err = edge_sr("demo", "--input", image, "--bundle", bundle, "-o", tmp_path / "demo.png")
    assert code == 1
    assert "at least 64" in err


def test_selftest_passes_on_a_right_bundle_and_writes_a_report_without_names(
    edge_sr: Run, bundle: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    code, out, _ = edge_sr("selftest", "--bundle", bundle, "--report", report)
    assert code == 0
    assert out.splitlines()[-1] == "PASS"
    assert json.loads(report.read_text())["passed"] is True


def test_selftest_fails_with_exit_code_1_where_something_else_is_computed(edge_sr: Run, bundle: Path) -> None:
    code, out, _ = edge_sr("selftest", "--bundle", bundle, "--backend", "fake", "--json")
    assert code == 1
    assert json.loads(out)["passed"] is False


def test_doctor_speaks_of_this_machine(edge_sr: Run) -> None:
    code, out, _ = edge_sr("doctor", "--json")
    assert code == 0
    assert json.loads(out)["works"]["onnxruntime"] is True


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Commands that are begun here heed SIGINT, which those of a job in the background inherit as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupting_ends_with_130_no_traceback_and_nothing_half_written(
    bundle: Path, tmp_path: Path
) -> None:
    image = write_image(tmp_path / "large.png", height=2000, width=2000)  # many thousand tiles
    command = [sys.executable, "-m", "edge_sr", "upscale", str(image), "--bundle", str(bundle)]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it says what runs, and begins
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert not (tmp_path / "out").exists()
