"""The node between real programs: dcmtk's storescu, dcmsend and echoscu before it, its storescp behind it."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("tests.edge_sr.node.rig")

from tests.edge_sr.node.rig import MODALITY, NODE, PACS, Node, objects, pacs, pydicom, running, scan
from tests.edge_sr.waiting import PATIENCE_S, eventually


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package dcmtk)")
    return found


def run(name: str, *arguments: object, rc: int = 0) -> str:
    """Runs a program of dcmtk to its end; what it said."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout + done.stderr


def call(name: str, node: Node, *arguments: object, calling: str = MODALITY, rc: int = 0) -> str:
    """The same, for a program that calls the node."""
    return run(name, "-aet", calling, "-aec", NODE, "127.0.0.1", node.port, *arguments, rc=rc)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """dcmtk's receiver over a folder, from start to end; its port."""
    port = free_port()
    command = [tool("storescp"), "-aet", PACS, "-od", str(folder), *options, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def objects_in(folder: Path) -> list[object]:
    return [pydicom.dcmread(io.BytesIO(path.read_bytes())) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("options", [(), ("+xi",), ("+x=",)], ids=["any", "implicit", "explicit"])
def test_storescu_sends_and_storescp_receives(bundle: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "a.dcm").write_bytes(scan())
    with (
        storescp(tmp_path / "got", *options) as port,
        running(bundle, tmp_path / "spool", port) as node,
    ):
        call("storescu", node, tmp_path / "a.dcm")
        eventually(lambda: node.is_settled() and bool(node.files()))
    (made,) = objects_in(tmp_path / "got")
    assert isinstance(made, pydicom.Dataset)
    assert (made.Rows, made.Columns) == (4 * objects.ROWS, 4 * objects.COLUMNS)
    assert made.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert len(made.PixelData) == 2 * made.Rows * made.Columns


def test_dcmsend_sends_several_syntaxes_as_they_are(bundle: Path, tmp_path: Path) -> None:
    for number, syntax in enumerate((objects.EXPLICIT, objects.IMPLICIT, objects.RLE, objects.J2K_LOSSLESS)):
        (tmp_path / f"{number}.dcm").write_bytes(scan(number, syntax))
    with pacs() as receiver, running(bundle, tmp_path / "spool", receiver.port) as node:
        told = call("dcmsend", node, "-v", "-dn", *sorted(tmp_path.glob("*.dcm")))
        assert told.count("(Success)") >= 4, told
        sources = {receiver.next().SourceImageSequence[0].ReferencedSOPInstanceUID for _ in range(4)}
        assert sources == {f"1.2.3.4.5.6.{number}" for number in range(4)}


def test_echoscu_is_answered_and_a_stranger_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pacs() as receiver, running(bundle, tmp_path / "spool", receiver.port) as node:
        call("echoscu", node)
        assert "Calling AE Title Not Recognized" in call("echoscu", node, calling="STRANGER", rc=1)


def test_storescu_is_told_what_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(scan(NumberOfFrames="2"))
    with pacs() as receiver, running(bundle, tmp_path / "spool", receiver.port) as node:
        told = call("storescu", node, "-v", tmp_path / "a.dcm", rc=0xC0)  # the status' first byte
        assert "CannotUnderstand" in told
        assert node.files() == {}


def test_movescu_and_findscu_get_no_context(bundle: Path, tmp_path: Path) -> None:
    with pacs() as receiver, running(bundle, tmp_path / "spool", receiver.port) as node:
        told = call("findscu", node, "-S", "-k", "QueryRetrieveLevel=STUDY", rc=2)
        assert "No Acceptable Presentation Contexts" in told
