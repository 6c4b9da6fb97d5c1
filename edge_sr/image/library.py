"""OpenCV: imported on use, and kept quiet while it works."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_sr.errors import ImageError

__all__ = ["opencv", "quiet"]


def opencv() -> Any:
    """The cv2 module.

    Raises:
        ImageError: It is not installed, or does not load.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise ImageError(
            f"OpenCV is needed for images and cannot be imported: {error}",
            hint="pip install 'edge-sr[cpu]'; on a Jetson, a venv with --system-site-packages has JetPack's",
        ) from error


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_previous = 0


@contextmanager
def quiet(cv2: Any) -> Iterator[None]:
    """Keep OpenCV's log off stderr inside. Its level is global: the last thread to leave restores it.

    What libpng and libjpeg print by themselves about a crafted file that passed the checks is not kept off.
    """
    global _quiet_users, _quiet_previous
    log = getattr(cv2.utils, "logging", cv2)  # 4.x has the functions in cv2 itself
    with _quiet_lock:
        if not _quiet_users:
            _quiet_previous = log.getLogLevel()
            log.setLogLevel(0)
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if not _quiet_users:
                log.setLogLevel(_quiet_previous)
