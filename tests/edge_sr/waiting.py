"""Waiting for what another thread or process does."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

PATIENCE_S = 120  # for a busy machine; nothing that works waits so long
"""How long a test waits for what must happen; nothing is measured by it."""


def eventually(is_so: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    pause = threading.Event()
    for _ in range(100 * PATIENCE_S):
        if is_so():
            return
        pause.wait(0.01)
    pytest.fail("it never happened")
