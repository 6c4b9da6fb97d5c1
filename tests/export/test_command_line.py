"""`python -m export`: what it says, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.__main__ import cli, run
from tests.export.test_prepare import write
from tests.export.tiny import original

ROOT = Path(__file__).parents[2]
COMMANDS = ("prepare", "train-vae", "train-unet", "distill", "bundle")


def test_help_names_every_command() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    assert all(command in done.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "-h"])
    assert done.exit_code == 0
    assert "--out" in done.output
    for parameter in cli.commands[command].params:
        if parameter.name not in ("seed", "device", "learning_rate"):  # these say themselves what they are
            assert getattr(parameter, "help", "help"), parameter.name


def test_an_error_is_one_line_and_a_hint_without_a_traceback(tmp_path: Path) -> None:
    arguments = ["bundle", "--vae", str(tmp_path), "--unet", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: no trained weights at ")
    assert lines[1].startswith("hint: train first")


def train(dataset: Path, out: Path, *options: str) -> int:
    places = ["--train", str(dataset / "train"), "--val", str(dataset / "val"), "--out", str(out)]
    return run(["train-vae", *places, *options])


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--views", "LL"], 1, "no images of view LL"),
        (["--crop", "20"], 1, "a crop of 8, 16, ... 256"),
        (["--lpips", "nowhere"], 1, "no LPIPS weights"),
        (["--iterations", "0"], 2, "--iterations"),
        (["--learning-rate", "0"], 2, "--learning-rate"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_begun(
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    assert train(dataset, tmp_path / "run", *options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "weights.pt").exists()


def test_a_folder_that_cannot_be_written_is_one_line(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert train(dataset, tmp_path / "file" / "run") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_preparing_tells_what_was_made_and_names_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    images = tmp_path / "images"
    images.mkdir()
    for index in range(3):
        cv2.imwrite(str(images / f"{index}.png"), original(index))
    (images / "3.png").write_bytes(b"damaged")
    table = write(tmp_path, "file,patient_id,view\n" + "".join(f"{i}.png,{i % 3},PA\n" for i in range(5)))
    places = ["--images", str(images), "--metadata", str(table), "--out", str(tmp_path / "out")]
    assert run(["prepare", *places, "--split", "34,33,33"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}: train 1, val 1, test 1 images; 1 left out\n"
    assert "left out: 3.png: " in captured.err
    assert f"1 images of {table} are not in {images}" in captured.err
    assert run(["prepare", *places]) == 1
    assert "is not empty" in capsys.readouterr().err
