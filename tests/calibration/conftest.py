"""A tiny bundle, images for it, and a recording of it, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from calibration.images import CalibrationSet, choose_files, read_set
from calibration.record import record
from calibration.recording import Recording
from edge_sr.bundle import Bundle
from edge_sr.image import encode_png, from_unit
from tests.fakes import tiny_image, write_tiny_bundle

IMAGES = 8


def write_images(folder: Path, count: int = IMAGES, *, side: int = 16) -> Path:
    """Writes seeded gray images."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = from_unit(tiny_image(side, side, seed=index)[0], 8)
        (folder / f"{index:02}.png").write_bytes(encode_png(pixels, text={}))
    return folder


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny bundle that no test changes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def bundle(shared_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A tiny bundle of the test's own."""
    shutil.copytree(shared_bundle.folder, tmp_path / "tiny")
    return Bundle.open(tmp_path / "tiny")


@pytest.fixture(scope="session")
def images(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> CalibrationSet:
    """As many images as a calibration needs."""
    folder = write_images(tmp_path_factory.mktemp("images"))
    return read_set(choose_files(folder, 0, seed=0), shared_bundle.manifest)


@pytest.fixture(scope="session")
def recording(shared_bundle: Bundle, images: CalibrationSet) -> Recording:
    """What the tiny bundle does with them."""
    return record(shared_bundle, images, preset="even", seed=3)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, and what lies beside it, to see that nothing changed."""
    beside = {f"../{path.name}": b"" for path in folder.parent.iterdir()}
    return beside | {path.name: path.read_bytes() for path in folder.iterdir()}


def seeded(seed: int = 0) -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(seed)
