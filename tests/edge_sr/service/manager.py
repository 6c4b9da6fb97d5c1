"""The other end of the line to the service manager, on a real socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.edge_sr.service.rig import PATIENCE_S, eventually


class Manager:
    """Hears what a service says.

    Attributes:
        address: For NOTIFY_SOCKET.
        heard: Every message so far, as fields.
    """

    def __init__(self, address: str) -> None:
        self.address, self.heard = address, list[dict[str, str]]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(PATIENCE_S)

    def next(self) -> dict[str, str]:
        """The next message, which must come."""
        text = self._socket.recv(4096).decode()
        fields = dict(line.split("=", 1) for line in text.splitlines())
        self.heard.append(fields)
        return fields

    def await_field(self, name: str, value: str = "1") -> None:
        """Listens until a field has a value."""
        eventually(lambda: self.next().get(name) == value)

    def pending(self) -> list[dict[str, str]]:
        """What has been said and not heard yet."""
        self._socket.setblocking(False)
        before = len(self.heard)
        try:
            while True:
                self.next()
        except BlockingIOError:
            return self.heard[before:]
        finally:
            self._socket.settimeout(PATIENCE_S)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(folder: Path) -> Iterator[Manager]:
    """A manager at a path."""
    manager = Manager(str(folder / "notify"))
    try:
        yield manager
    finally:
        manager.close()
