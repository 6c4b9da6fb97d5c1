"""A node over the fake backend, a modality that sends to it, and a receiver behind it."""

from __future__ import annotations

import io
import queue
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.image import Limits
from edge_sr.jobs import Settings
from edge_sr.node.library import closing_connections
from edge_sr.node.library import pynetdicom as library
from edge_sr.node.running import run_node
from edge_sr.node.settings import NodeSettings, Peer
from edge_sr.pipeline import Output, Upscaler
from edge_sr.spec import Precision
from edge_sr.watch import Stop
from tests.edge_sr.waiting import PATIENCE_S, eventually

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (extra: dicom-net)")
objects: Any = pytest.importorskip("tests.edge_sr.dicom.objects")
net = library()
pydicom = objects.pydicom

VERIFICATION = "1.2.840.10008.1.1"
MODALITY, NODE, PACS = "MODALITY", "EDGE_SR", "PACS"


class HeldUpscaler(Upscaler):
    """An upscaler that can be stopped in the middle of an image.

    Attributes:
        go: Images go on while it is set.
        count: How many were enlarged, the first one to warm up included.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, FakeBackend(), precision=Precision.FP32)
        self.go, self.count = threading.Event(), 0
        self.go.set()

    def upscale(self, image: Any, *, preset: Any, seed: int, first_sample: int = 0) -> Output:
        assert self.go.wait(PATIENCE_S)
        self.count += 1
        return super().upscale(image, preset=preset, seed=seed, first_sample=first_sample)


@dataclass
class Receiver:
    """A receiver of derived objects.

    Attributes:
        port: Where it listens.
        got: Every object that came, in order.
        statuses: What it answers, one after the other; then success.
    """

    port: int = 0
    got: queue.Queue[Any] = field(default_factory=queue.Queue)
    statuses: queue.Queue[int] = field(default_factory=queue.Queue)

    def next(self) -> Any:
        """The next object, which must come."""
        return self.got.get(timeout=PATIENCE_S)

    def _store(self, event: Any) -> int:
        self.got.put(pydicom.dcmread(io.BytesIO(event.encoded_dataset())))
        return self.statuses.get_nowait() if not self.statuses.empty() else 0x0000


@contextmanager
def pacs(
    *,
    port: int = 0,
    syntaxes: tuple[str, ...] = (objects.EXPLICIT, objects.IMPLICIT),
    classes: tuple[str, ...] = tuple(net.sop_class._STORAGE_CLASSES.values()),
    tls: ssl.SSLContext | None = None,
    found: Receiver | None = None,
) -> Iterator[Receiver]:
    """A receiver, from start to end."""
    found = found or Receiver()
    ae = net.AE(ae_title=PACS)
    ae.require_called_aet = True
    ae.require_calling_aet = [NODE]
    for uid in classes:
        ae.add_supported_context(uid, list(syntaxes))
    ae.add_supported_context(VERIFICATION)
    with closing_connections() as handlers:
        handlers.append((net.evt.EVT_C_STORE, found._store))
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
        found.port = server.server_address[1]
        try:
            yield found
        finally:
            server.shutdown()
            for association in server.active_associations:
                association.abort()


@dataclass
class Node:
    """A node that takes associations.

    Attributes:
        port: Where it listens.
        spool: Its folder.
        upscaler: Its device.
        stop: Ends it.
        running: Its end.
    """

    port: int
    spool: Path
    upscaler: HeldUpscaler
    stop: Stop
    running: Future[None]

    def files(self) -> dict[str, bytes]:
        """Every file of the spool by its path in it."""
        return spooled(self.spool)

    def is_settled(self) -> bool:
        """Whether all that was received was sent, or failed."""
        return all(name.startswith(("out/done/", "in/failed/", "out/failed/")) for name in self.files())


def spooled(spool: Path) -> dict[str, bytes]:
    """Every file of a spool by its path in it, without locks; read twice, since what moves is missed."""
    before: dict[str, bytes] | None = None
    while (found := _snapshot(spool)) is None or found != before:
        before = found
    return found


def _snapshot(spool: Path) -> dict[str, bytes] | None:
    try:
        return {
            path.relative_to(spool).as_posix(): path.read_bytes()
            for path in sorted(spool.rglob("*"))
            if path.is_file() and path.name != "lock"
        }
    except FileNotFoundError:
        return None


@contextmanager
def running(bundle: Path, spool: Path, receiver: int, **changes: Any) -> Iterator[Node]:
    """A node, from start to end; `receiver` is the port of whom it sends to."""
    given: dict[str, Any] = {"port": 0, "calling": (MODALITY,), "retry_s": 0.2, "timeout_s": 10} | changes
    if "send" not in given:
        given["send"] = Peer(host="127.0.0.1", port=receiver, title=PACS)
    settings = NodeSettings(**given)
    ports: queue.Queue[int] = queue.Queue()
    opened = Bundle.open(bundle)
    sampling = Settings(
        opened.manifest.default_preset,
        settings.seed,
        limits=Limits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels),
    )
    with ThreadPoolExecutor(1) as threads, HeldUpscaler(opened) as upscaler, Stop() as stop:
        end = threads.submit(
            run_node, upscaler, settings, spool, stop, sampling=sampling, ready=ports.put, beat=lambda: None
        )
        try:
            eventually(lambda: not ports.empty() or end.done())
            if end.done():
                end.result()
            yield Node(ports.get(), spool, upscaler, stop, end)
        finally:
            upscaler.go.set()
            stop.set()
            end.exception(PATIENCE_S)
        end.result()


@contextmanager
def associated(
    port: int,
    *contexts: tuple[str, str],
    calling: str = MODALITY,
    called: str = NODE,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Any]:
    """An association of a modality with a node, accepted or not."""
    ae = net.AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = PATIENCE_S
    for sop_class, syntax in contexts or ((VERIFICATION, objects.IMPLICIT),):
        ae.add_requested_context(sop_class, syntax)
    with closing_connections() as handlers:
        association = ae.associate(
            "127.0.0.1",
            port,
            ae_title=called,
            tls_args=(tls, "127.0.0.1") if tls else None,
            evt_handlers=handlers,
        )
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def send(port: int, data: bytes, **how: Any) -> Any:
    """Sends a file with C-STORE; what was answered."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    syntax = dataset.file_meta.TransferSyntaxUID
    with associated(port, (dataset.SOPClassUID, syntax), **how) as association:
        assert association.is_established and association.accepted_contexts
        return association.send_c_store(dataset)


def scan(number: int = 7, syntax: Any = objects.EXPLICIT, *, side: int = 0, **changes: Any) -> bytes:
    """A radiograph whose instance ends with a number, square where it has a side."""
    pixels = objects.gradient(rows=side, columns=side) if side else None
    dataset = objects.dx(pixels, SOPInstanceUID=f"1.2.3.4.5.6.{number}", **changes)
    data: bytes = objects.encoded(dataset, syntax)
    return data
