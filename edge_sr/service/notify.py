"""What systemd is told, and what it hands over: sd_notify(3) and sd_listen_fds(3), in their few lines.

Our own, since it is one datagram of text, and the packages that send it are either compiled against
libsystemd or have not been released for years.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from types import TracebackType

from edge_sr.errors import ConfigError

__all__ = ["FIRST_FD", "Notifier", "inherited_socket"]

LOG = logging.getLogger("edge_sr.service")
FIRST_FD = 3
"""Where handed-over sockets begin (SD_LISTEN_FDS_START)."""


class Notifier:
    """A line to the service manager; without one every message is dropped.

    Attributes:
        watchdog_s: How often at the least it wants to hear that all is well; None for never.
    """

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        """Opens nothing that could block.

        Args:
            address: A path, or an abstract name behind "@"; "" for nobody.
            watchdog_s: In seconds.

        Raises:
            ConfigError: The address is of another kind.
        """
        if address and address[0] not in "/@":
            raise ConfigError(f"NOTIFY_SOCKET is {address!r}, wanted a path, or a name behind @")
        self.watchdog_s = watchdog_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket:
            self._socket.setblocking(False)  # a manager that does not read must not stop us

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Notifier:
        """The line that an environment names; its variables are taken out, so that no child uses it.

        Raises:
            ConfigError: A variable is not what systemd puts there.
        """
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, usec, pid = (environ.pop(name, "") for name in names)
        is_for_us = bool(usec) and pid in ("", str(os.getpid()))
        try:
            return cls(address, watchdog_s=int(usec) / 1e6 if is_for_us else None)
        except ValueError as error:
            raise ConfigError(f"WATCHDOG_USEC is {usec!r}, wanted microseconds") from error

    def tell(self, **fields: str | int) -> None:
        """Sends one message, as in `tell(READY=1)`; what cannot be sent is lost, and logged."""
        if self._socket is None:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            LOG.warning("the service manager cannot be told %s: %s", ", ".join(fields), error.strerror)

    def close(self) -> None:
        """Tells nobody from now on."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Notifier:
        """Itself, to be closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        self.close()


def inherited_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that systemd opened for this process; None where it opened none.

    Raises:
        ConfigError: It opened several, or one that is no listening TCP socket.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise ConfigError(f"LISTEN_FDS is {count!r}, wanted one socket", hint="one ListenStream= in the unit")
    try:
        sock = socket.socket(fileno=FIRST_FD)
    except OSError as error:
        raise ConfigError(f"the inherited descriptor {FIRST_FD} is no socket: {error.strerror}") from error
    is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
    if not is_inet or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ConfigError("the inherited socket does not listen on TCP", hint="ListenStream=ADDRESS:PORT")
    sock.set_inheritable(False)
    return sock
