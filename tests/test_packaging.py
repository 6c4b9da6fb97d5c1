"""The wheel, built here without the network: what is in it, and what it asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import edge_sr

ROOT = Path(__file__).parents[1]
BASE_DEPENDENCIES = {"numpy", "pydantic", "click", "tqdm"}
WHEEL_LIMIT_MB = 50  # the default bundle ships inside the wheel, and every device downloads it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the checkout builds as it stands."""
    pytest.importorskip("hatchling", reason="hatchling, the build backend, is not installed (the dev extra)")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(path).decode())


@pytest.fixture(scope="module")
def requirements(metadata: Message) -> list[Requirement]:
    """What the wheel asks for, extras included."""
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def test_the_wheel_holds_edge_sr_and_nothing_else(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names} == {
        "edge_sr",
        f"edge_sr-{edge_sr.__version__}.dist-info",
    }


def test_the_wheel_holds_every_file_of_edge_sr(names: set[str]) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "edge_sr").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {name for name in names if name.startswith("edge_sr/")}


def test_the_wheel_is_small_enough_for_a_device(wheel: Path) -> None:
    assert wheel.stat().st_size < WHEEL_LIMIT_MB * 2**20


def test_the_wheel_brings_the_command_and_the_licence(wheel: Path, names: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = [name for name in names if name.endswith(".dist-info/entry_points.txt")]
        assert "edge-sr = edge_sr.cli:main" in archive.read(entry_points).decode()
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_base_dependencies_are_the_few_light_ones(requirements: list[Requirement]) -> None:
    assert {r.name for r in requirements if "extra" not in str(r.marker)} == BASE_DEPENDENCIES


def test_the_two_onnxruntimes_and_opencv_come_only_with_the_extra_that_is_named_for_them(
    requirements: list[Requirement],
) -> None:
    exclusive = {"onnxruntime", "onnxruntime-gpu", "opencv-python-headless"}
    brought = {(r.name, str(r.marker)) for r in requirements if r.name in exclusive}
    assert brought == {
        ("onnxruntime", 'extra == "cpu"'),
        ("opencv-python-headless", 'extra == "cpu"'),
        ("onnxruntime-gpu", 'extra == "gpu"'),
        ("opencv-python-headless", 'extra == "gpu"'),
    }


def test_no_extra_of_the_device_brings_torch(metadata: Message, requirements: list[Requirement]) -> None:
    brings_torch = {
        extra
        for extra in metadata.get_all("Provides-Extra", [])
        for r in requirements
        if r.name in {"torch", "diffusers", "lpips"} and r.marker and r.marker.evaluate({"extra": extra})
    }
    assert brings_torch == {"export"}
