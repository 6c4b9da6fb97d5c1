"""`edge-sr node` in a process of its own: its end, kill -9 anywhere, and what it writes of patients."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tests.edge_sr.node.rig")

from tests.edge_sr.node.rig import (
    MODALITY,
    PACS,
    Receiver,
    associated,
    net,
    objects,
    pacs,
    scan,
    send,
    spooled,
)
from tests.edge_sr.waiting import PATIENCE_S, eventually
from tests.test_layering import ROOT

NAMES = ("Grzegorzewska", "PID-77123", "19561204", "Szpital")
MARK = NAMES[0]
PATIENT = dict(zip(("PatientName", "PatientID", "PatientBirthDate", "InstitutionName"), NAMES, strict=True))

KILLED = """
import os, signal, sys, threading
from edge_sr.cli import run

spool, at, count, lock = sys.argv[1], int(sys.argv[2]), 0, threading.Lock()

def hook(event, arguments):
    global count
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and spool in repr(arguments):
        with lock:
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
code = run(["node", "--config", sys.argv[3]])
print(count)
sys.exit(code)
"""
"""The command, which dies before it does the Nth thing to its spool."""


@dataclass
class Observed:
    """A node in a process of its own."""

    process: subprocess.Popen[str]
    log: Path
    port: int = 0

    def is_ready(self) -> bool:
        told = re.search(r"listens on 127\.0\.0\.1:(\d+)", self.log.read_text(encoding="utf-8"))
        self.port = int(told[1]) if told else 0
        return bool(told) or self.process.poll() is not None


@contextmanager
def node(
    bundle: Path, root: Path, receiver: Receiver, *, kill_at: int = 0, **settings: Any
) -> Iterator[Observed]:
    """From start to end; where it was to die, it may be dead already."""
    for name in ("cache", "tmp", "home", "work"):
        (root / name).mkdir(parents=True, exist_ok=True)
    send_to = {"host": "127.0.0.1", "port": receiver.port, "title": PACS}
    told = {"bundle": str(bundle), "backend": "fake", "port": 0, "calling": [MODALITY], "send": send_to}
    told |= {"spool": str(root / "spool"), "retry_s": 0.2, **settings}
    (root / "node.json").write_text(json.dumps(told), encoding="utf-8")
    arguments = [str(root / "spool"), str(kill_at), str(root / "node.json")]
    folders = {"XDG_CACHE_HOME": "cache", "TMPDIR": "tmp", "HOME": "home"}
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(root / f) for name, f in folders.items()}}
    with (root / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", KILLED, *arguments],
            cwd=root / "work",
            env=environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        found = Observed(process, root / "log")
        eventually(found.is_ready)
        yield found
    finally:
        process.kill()
        process.communicate()


def files(root: Path) -> dict[str, bytes]:
    """Every file of a spool."""
    return spooled(root / "spool")


def is_settled(root: Path) -> bool:
    return set(files(root)) != set() and all(name.startswith("out/done/") for name in files(root))


def ended(observed: Observed) -> str:
    """Ends it in order; what it printed."""
    observed.process.send_signal(signal.SIGTERM)
    out, _ = observed.process.communicate(timeout=PATIENCE_S)
    assert observed.process.returncode == 0, observed.log.read_text(encoding="utf-8")
    return out


def test_sigterm_ends_it_in_order(bundle: Path, tmp_path: Path) -> None:
    with pacs() as receiver, node(bundle, tmp_path, receiver) as observed:
        assert send(observed.port, scan()).Status == 0x0000
        receiver.next()
        eventually(lambda: is_settled(tmp_path))
        ended(observed)


# ---- kill -9


def test_killed_in_the_middle_of_a_transfer_it_has_nothing_of_it_and_takes_it_when_it_comes_again(
    bundle: Path, tmp_path: Path
) -> None:
    with pacs() as receiver:
        with node(bundle, tmp_path, receiver) as observed:
            send_half(observed.port)
            observed.process.kill()
            observed.process.wait()
        assert files(tmp_path) == {}
        with node(bundle, tmp_path, receiver) as observed:
            assert send(observed.port, scan()).Status == 0x0000
            assert receiver.next().Rows == 4 * objects.ROWS


def send_half(port: int) -> None:
    """Sends the first half of an object, and waits until that has gone."""
    dataset = objects.pydicom.dcmread(objects.io.BytesIO(scan(side=300)))
    with associated(port, (dataset.SOPClassUID, objects.EXPLICIT)) as association:
        request = net.dimse_primitives.C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = dataset.SOPClassUID
        request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
        request.DataSet = objects.io.BytesIO(net.dsutils.encode(dataset, False, True))
        message = net.dimse_messages.C_STORE_RQ()
        message.primitive_to_message(request)
        context = association.accepted_contexts[0].context_id
        parts = list(message.encode_msg(context, 16382))
        assert len(parts) > 10
        for part in parts[: len(parts) // 2]:
            association.dul.send_pdu(part)
        eventually(lambda: association.dul.to_provider_queue.empty())
        association.abort()


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_anything_that_it_does_to_its_spool_nothing_that_it_took_is_lost(
    bundle: Path, tmp_path: Path, every: int
) -> None:
    with pacs() as receiver:
        events, wanted = undisturbed(bundle, tmp_path / "whole", receiver)
        assert events > 30
        for event in range(every // 2 + 1, events + 1, every):
            root = tmp_path / str(event)
            was_taken = is_taken(bundle, root, receiver, event)
            got_before = drained(receiver)
            with node(bundle, root, receiver) as observed:
                if not was_taken:
                    assert send(observed.port, scan()).Status == 0x0000
                eventually(lambda root=root: is_settled(root))  # type: ignore[misc]
                ended(observed)
            got = [*got_before, *drained(receiver)]
            assert got and {made.PixelData for made in got} == {wanted.PixelData}
            assert {made.SOPInstanceUID for made in got} == {wanted.SOPInstanceUID}
            assert set(files(root)) == {f"out/done/{wanted.SOPInstanceUID}.dcm"}
            assert len(got) == 1 or got_before, "twice only where it died before it knew of the first"


def undisturbed(bundle: Path, root: Path, receiver: Receiver) -> tuple[int, Any]:
    """How many things it does to its spool for one object, and the derived one."""
    with node(bundle, root, receiver) as observed:
        send(observed.port, scan())
        made = receiver.next()
        eventually(lambda: is_settled(root))
        return int(ended(observed)), made


def is_taken(bundle: Path, root: Path, receiver: Receiver, event: int) -> bool:
    """Sends an object to a node that dies at this event; whether it said before that it has it."""
    with node(bundle, root, receiver, kill_at=event) as observed:
        if observed.process.poll() is not None or not observed.port:
            return False
        dataset = objects.pydicom.dcmread(objects.io.BytesIO(scan()))
        with associated(observed.port, (dataset.SOPClassUID, objects.EXPLICIT)) as association:
            if not association.is_established:
                return False
            answer = association.send_c_store(dataset)
        if answer.get("Status") == 0x0000:
            eventually(lambda: observed.process.poll() is not None or is_settled(root))
        return bool(answer.get("Status") == 0x0000)


def drained(receiver: Receiver) -> list[Any]:
    return [receiver.got.get_nowait() for _ in range(receiver.got.qsize())]


# ---- patients


def scan_of_her(number: int = 7, **changes: Any) -> bytes:
    return scan(number, **(PATIENT | changes))


def damaged(port: int) -> None:
    """Sends objects with a name in the wrong place, and with one that is cut."""
    for data in (scan_of_her(), scan_of_her(ImageComments=MARK * 40)):
        dataset = objects.pydicom.dcmread(objects.io.BytesIO(data))
        encoded = net.dsutils.encode(dataset, False, True)
        for body in (encoded[:-100], encoded.replace(b"PN", b"ZZ", 1), MARK.encode() * 50):
            with associated(port, (dataset.SOPClassUID, objects.EXPLICIT)) as association:
                request = net.dimse_primitives.C_STORE()
                request.MessageID, request.Priority = 1, 2
                request.AffectedSOPClassUID = dataset.SOPClassUID
                request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
                request.DataSet = objects.io.BytesIO(body)
                context = association.accepted_contexts[0].context_id
                association._reactor_checkpoint.clear()
                association.dimse.send_msg(request, context)
                _, answer = association.dimse.get_msg(block=True)
                association._reactor_checkpoint.set()
                assert answer.Status == 0xC000
                assert not [name for name in NAMES if name in str(answer.ErrorComment)]


def test_a_patients_name_is_nowhere_in_what_a_node_writes_but_in_its_spool(
    bundle: Path, tmp_path: Path
) -> None:
    with pacs() as receiver, node(bundle, tmp_path, receiver) as observed:
        for status in (0x0110, 0xA900):
            receiver.statuses.put(status)
        assert send(observed.port, scan_of_her(1)).Status == 0x0000
        eventually(lambda: any(name.startswith("out/failed/") for name in files(tmp_path)))
        assert send(observed.port, scan_of_her(2)).Status == 0x0000
        assert send(observed.port, scan_of_her(2)).Status == 0x0000
        assert send(observed.port, scan_of_her(3, NumberOfFrames="9")).Status == 0xC000
        damaged(observed.port)
        for calling, called in ((MARK[:16], "EDGE_SR"), (MODALITY, MARK[:16])):
            with associated(observed.port, calling=calling, called=called) as association:
                assert association.is_rejected
        observed.process.send_signal(signal.SIGABRT)  # tells where each thread stood
        observed.process.wait(PATIENCE_S)
    assert not list(written_of_her(tmp_path))
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Fatal Python error: Aborted" in log
    assert log.count("received") >= 3 and "refused (C000)" in log and "sent (0000)" in log


def written_of_her(root: Path) -> Iterator[str]:
    """Where a mark is: in a file beside the spool, in any name, in a reason."""
    for path in root.rglob("*"):
        where = path.relative_to(root).as_posix()
        is_spool = where.startswith("spool/") and not where.endswith(".txt")
        text = where.encode() + (path.read_bytes() if path.is_file() and not is_spool else b"")
        yield from (f"{where}: {name}" for name in NAMES if name.encode() in text)


def test_the_search_would_find_it(tmp_path: Path) -> None:
    for name in ("spool/a.dcm", "spool/out/failed/a.reason.txt", "tmp/left", f"spool/{MARK}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(scan_of_her())
    assert {found.partition(":")[0] for found in written_of_her(tmp_path)} == {
        *("spool/out/failed/a.reason.txt", "tmp/left", f"spool/{MARK}"),
    }
