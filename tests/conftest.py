"""What every test gets: a fixed seed, and a skip with the reason where something it needs is not here."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
SEED = 20260

# The host rooms' tests, and a module that only `make test-all` installs. Without it their files cannot even
# be imported, so they are not collected, and the header says so.
HOST_ROOMS = {HERE / "export": "torch", HERE / "calibration": "onnx", HERE / "benchmarks": "torch"}

# An example is not a stopwatch, and a red test must be red again.
settings.register_profile("edge-sr", deadline=None, derandomize=True)
settings.load_profile("edge-sr")


def pytest_report_header() -> list[str]:
    """Name the tests that are not collected here, and why."""
    return [
        f"not collected: tests/{room.name} ({module} is not installed; `make test-all` installs it)"
        for room, module in HOST_ROOMS.items()
        if room.is_dir() and not _is_installed(module)
    ]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a host room's tests where that room's dependencies are missing."""
    room = _host_room(collection_path)
    return True if room and not _is_installed(HOST_ROOMS[room]) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of a host room as needing the host rooms' dependencies."""
    for item in items:
        if _host_room(item.path):
            item.add_marker(pytest.mark.torch)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a marked test where what the mark asks for is missing."""
    for mark, reason in _missing().items():
        if item.get_closest_marker(mark):
            pytest.skip(reason)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state; NumPy tests make their own seeded generator."""
    random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture
def data_dir() -> Path:
    """The folder of real images; a test that asks for it is marked ``data``."""
    return Path(os.environ["EDGE_SR_DATA"])


def find_chromium() -> str | None:
    """Where a Chromium is: the one that EDGE_SR_CHROMIUM names, or one on the path."""
    names = (os.environ.get("EDGE_SR_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for found in map(shutil.which, names) if found), None)


def find_orthanc() -> str | None:
    """Where the PACS Orthanc is: the one that EDGE_SR_ORTHANC names, or Debian's."""
    names = (os.environ.get("EDGE_SR_ORTHANC", ""), "Orthanc", "/usr/sbin/Orthanc")
    return next((found for found in map(shutil.which, names) if found), None)


def _missing() -> dict[str, str]:
    """Return the marks whose needs are not met here, each with the reason to show."""
    gpu_nodes = (Path("/dev/nvidiactl"), Path("/dev/nvmap"))  # a desktop card; a Jetson
    needs = {
        "torch": (_is_installed("torch"), "torch is not installed; `make test-all` installs it"),
        "gpu": (any(node.exists() for node in gpu_nodes), "no NVIDIA GPU here"),
        "browser": (
            find_chromium() and _is_installed("playwright") and _is_installed("axe_playwright_python"),
            "Chromium, or the extra page-check that drives it, is not installed",
        ),
        "orthanc": (
            find_orthanc() and _is_installed("pynetdicom"),
            "Orthanc (Debian's package orthanc), or pynetdicom, is not installed",
        ),
        "soak": ("EDGE_SR_SOAK_S" in os.environ, "EDGE_SR_SOAK_S does not say for how many seconds (3600)"),
        "data": ("EDGE_SR_DATA" in os.environ, "EDGE_SR_DATA names no folder of real images"),
    }
    return {mark: reason for mark, (is_met, reason) in needs.items() if not is_met}


def _host_room(path: Path) -> Path | None:
    return next((room for room in HOST_ROOMS if path.is_relative_to(room)), None)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
