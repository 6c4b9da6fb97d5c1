"""The Storage and Verification SCP (PS3.4, annexes A and B): what it takes is on disk before it says so."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_sr.dicom import decode_dicom
from edge_sr.dicom.header import SOP_CLASSES
from edge_sr.dicom.library import pydicom
from edge_sr.dicom.part10 import SYNTAXES
from edge_sr.errors import ConfigError, ImageError, OutputError
from edge_sr.image import Limits, write_atomic
from edge_sr.node.library import entity, pynetdicom
from edge_sr.node.settings import NodeSettings, server_tls

__all__ = ["Receiver", "Refusal", "receiving", "syntaxes"]

LOG = logging.getLogger("edge_sr.node")
VERIFICATION = "1.2.840.10008.1.1"
OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD, FAILURE = 0xA700, 0xA900, 0xC000, 0x0110
"""Statuses of C-STORE (PS3.4, table B.2-1; PS3.7, annex C)."""
COMMENT = 64
"""Characters of an Error Comment."""


class Refusal(Exception):
    """An object that is not taken: a status, and why."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status, self.comment = status, comment


class Receiver:
    """Checks objects and writes them into a folder."""

    def __init__(self, folder: Path, *, scale: int, limits: Limits) -> None:
        """Args: folder: an existing one; scale: how many times larger each will be; limits: of each."""
        self._folder, self._scale, self._limits = folder, scale, limits
        self._checking = threading.Lock()  # of all senders one at a time, so that memory has a limit

    def take(self, data: bytes, *, sop_class: str, instance: str) -> None:
        """Takes an object; afterwards it outlasts a power cut.

        Args:
            data: It, as a file.
            sop_class: What its sender says it is.
            instance: Its UID, in the same way.

        Raises:
            Refusal: It is not taken, and nothing of it is kept.
        """
        self._check(data, sop_class, instance)
        name = hashlib.sha256(instance.encode()).hexdigest()[:32]
        try:
            write_atomic(self._folder / f"{name}.dcm", data)
        except OutputError as error:
            LOG.error("an object cannot be kept: %s", getattr(error.__cause__, "strerror", "") or "no room")
            raise Refusal(OUT_OF_RESOURCES, "it cannot be written to the disk") from error
        LOG.info("%s received, %d bytes", hashlib.sha256(data).hexdigest()[:12], len(data))

    def _check(self, data: bytes, sop_class: str, instance: str) -> None:
        """Decodes all of it: what would fail later is refused while its sender still hears of it."""
        if len(data) > self._limits.max_bytes:
            raise Refusal(OUT_OF_RESOURCES, f"larger than {self._limits.max_bytes} bytes")
        try:
            with self._checking:
                source = decode_dicom(data, name="", scale=self._scale, limits=self._limits)
        except ImageError as error:
            raise Refusal(NOT_UNDERSTOOD, error.message.removeprefix(": ")) from error
        except MemoryError as error:
            raise Refusal(OUT_OF_RESOURCES, "not enough memory") from error
        if (source.identity.sop_class, source.identity.instance) != (sop_class, instance):
            raise Refusal(MISMATCH, "the data set has other UIDs than the request")


def syntaxes() -> list[str]:
    """The transfer syntaxes that can be decoded here, the most telling first.

    An acceptor takes the first of its own that was offered: uncompressed before compressed.
    """
    decodes_j2k = importlib.util.find_spec("openjpeg") is not None
    order = sorted(SYNTAXES, key=lambda uid: (SYNTAXES[uid].coding != "native", SYNTAXES[uid].is_implicit))
    return [uid for uid in order if decodes_j2k or SYNTAXES[uid].coding != "j2k"]


@contextmanager
def receiving(receiver: Receiver, settings: NodeSettings) -> Iterator[int]:
    """Listens while it is open, and answers in threads of its own; yields the port.

    Raises:
        ConfigError: The address is taken, or is not one of this machine.
    """
    net = pynetdicom()
    ae = entity(settings.title, timeout_s=settings.timeout_s)
    ae.require_called_aet = True
    ae.require_calling_aet = list(settings.calling)
    ae.maximum_associations = settings.max_associations
    for sop_class in SOP_CLASSES:
        ae.add_supported_context(sop_class, syntaxes())
    ae.add_supported_context(VERIFICATION)
    handlers = [
        (net.evt.EVT_REJECTED, _tell_rejected),
        (net.evt.EVT_C_ECHO, _echo),
        (net.evt.EVT_C_STORE, _store, [receiver]),
    ]
    try:
        server = ae.make_server(
            (settings.host, settings.port),
            ae_title=settings.title,
            evt_handlers=handlers,
            server_class=pynetdicom("pynetdicom.transport").ThreadedAssociationServer,
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", hint="choose another port"
        ) from error
    _harden(server, settings)
    thread = threading.Thread(target=server.serve_forever, name="edge-sr-scp", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        socketserver.BaseServer.shutdown(server)
        server.server_close()
        for association in server.active_associations:
            association.abort()


def _harden(server: Any, settings: NodeSettings) -> None:
    """What socketserver lets its users decide: how a connection is taken, how many, what an error tells."""
    tls: Any = server_tls(settings)
    if tls is not None:
        tls.sslsocket_class = _MeteredTLS

    def get_request() -> tuple[socket.socket, Any]:
        """Without waiting for a handshake, which would keep all others out: the first read makes it."""
        accepted, address = server.socket.accept()
        if tls is None:
            connection = _Metered(fileno=accepted.detach())
        else:
            connection = tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        connection.limit(settings)
        return connection, address

    def verify_request(_request: object, _address: object) -> bool:
        """Some more than may associate, so that those who are one too many can be told."""
        return len(server.active_associations) < 2 * settings.max_associations

    def handle_error(_request: object, _address: object) -> None:
        LOG.warning("a connection failed")

    server.get_request, server.verify_request, server.handle_error = get_request, verify_request, handle_error


class _Metered(socket.socket):
    """A connection on which only so much is read in a row, and for only so long.

    In a row, that is, between two requests that are answered: pynetdicom itself reads a message into memory
    whatever its length, and waits for its end for ever.
    """

    most, seconds = 0, 0.0
    _read, _since = 0, 0.0

    def limit(self, settings: NodeSettings) -> None:
        """Sets what is read at the most."""
        self.most, self.seconds = 2 * settings.max_bytes, settings.receive_s
        self.settimeout(settings.timeout_s)

    def restart(self) -> None:
        """A request is being answered, and what comes now is the next one."""
        self._read = 0

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Reads.

        Raises:
            OSError: Too much or too slowly, after which nothing more is read; or as a socket does.
        """
        try:
            return self._counted(super().recv(buflen, flags))
        except OSError:
            self.shutdown(socket.SHUT_RDWR)  # pynetdicom takes it for closed by the other end
            raise

    def _counted(self, data: bytes) -> bytes:
        if not self._read:
            self._since = time.monotonic()
        self._read += len(data)
        if self._read > self.most or time.monotonic() - self._since > self.seconds:
            LOG.warning("a connection was ended: an object is too large, or comes too slowly")
            raise ConnectionError
        return data

    def shutdown(self, how: int) -> None:
        """Ends it. Does not fail where the other end did that: pynetdicom would never close it."""
        with suppress(OSError):
            super().shutdown(how)


class _MeteredTLS(_Metered, ssl.SSLSocket):
    """The same behind TLS."""


def _tell_rejected(_event: Any) -> None:
    LOG.warning("an association was refused: an unknown title, or too many at once")


def _echo(event: Any) -> int:
    event.assoc.dul.socket.socket.restart()
    return 0x0000


def _store(event: Any, receiver: Receiver) -> Any:
    """Answers a C-STORE request with a status."""
    event.assoc.dul.socket.socket.restart()
    request = event.request
    try:
        data = event.encoded_dataset()
        receiver.take(
            data, sop_class=str(request.AffectedSOPClassUID), instance=str(request.AffectedSOPInstanceUID)
        )
    except Refusal as refusal:
        LOG.warning("an object was refused (%04X)", refusal.status)
        return _status(refusal.status, refusal.comment)
    except Exception as error:  # noqa: BLE001  its text may quote what was sent, and is not told
        LOG.error("an object was refused: edge-sr failed on it (%s)", type(error).__name__)
        return _status(FAILURE, "edge-sr failed on it")
    return 0x0000


def _status(status: int, comment: str) -> Any:
    answer = pydicom().Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:COMMENT]
    return answer
