"""What the tests of whole commands share: a bundle, an image, a folder of engines, and the command line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.edge_sr.commands import Commands, write_image


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle of every precision, with the golden values of its real graphs."""
    # Here, since they want onnx, and other tests beside this file run where there is none.
    from tests.edge_sr.fake_device import PRECISIONS
    from tests.fakes import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=PRECISIONS).folder


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of several tiles."""
    return write_image(tmp_path_factory.mktemp("images") / "a.png")


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """Where the engines of one test go; nothing is there yet."""
    return tmp_path / "engines"


@pytest.fixture
def edge_sr(capfd: pytest.CaptureFixture[str], engines: Path) -> Commands:
    """`edge-sr` over that folder."""
    return Commands(engines, capfd)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (ca), and a server's and a client's certificate and key from it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={0} -keyout {0}.key -out {0}.pem {1}"
    host = "-addext subjectAltName=IP:127.0.0.1"
    for name, more in (
        ("ca", ""),
        ("server", f"-CA ca.pem -CAkey ca.key {host}"),
        ("client", "-CA ca.pem -CAkey ca.key"),
    ):
        subprocess.run(
            ["openssl", *made.format(name, more).split()], cwd=folder, check=True, capture_output=True
        )
    return folder
