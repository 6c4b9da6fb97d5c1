"""pynetdicom: imported on use, and kept from telling what passes through it."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_sr.dicom.identity import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from edge_sr.dicom.library import pydicom
from edge_sr.errors import UsageError

__all__ = ["closing_connections", "entity", "pynetdicom"]


def pynetdicom(module: str = "pynetdicom") -> Any:
    """pynetdicom, or a module of it.

    From then on it logs and warns of nothing in this process: it would quote what peers send.

    Raises:
        UsageError: It is not installed.
        ImageError: pydicom is not installed.
    """
    pydicom()
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"the network node needs pynetdicom: {error}", hint='pip install "edge-sr[dicom-net]"'
        ) from error
    config: Any = importlib.import_module("pynetdicom._config")
    config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pynetdicom(\.|$)")
    return found


def entity(title: str, *, timeout_s: float) -> Any:
    """An application entity that says which program it is; a peer is silent for so long at the most."""
    made = pynetdicom().AE(ae_title=title)
    made.implementation_class_uid = IMPLEMENTATION_UID
    made.implementation_version_name = IMPLEMENTATION_VERSION
    made.acse_timeout = made.dimse_timeout = made.network_timeout = timeout_s
    made.connection_timeout = min(timeout_s, 10.0)
    return made


@contextmanager
def closing_connections() -> Iterator[list[Any]]:
    """Handlers for associations, whose connections are closed at the end.

    pynetdicom itself does not close one that the other end has closed before.
    """
    opened: list[Any] = []
    try:
        yield [(pynetdicom().evt.EVT_CONN_OPEN, lambda event: opened.append(event.assoc.dul.socket.socket))]
    finally:
        for connection in opened:
            connection.close()
