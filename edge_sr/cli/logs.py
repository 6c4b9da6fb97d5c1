"""Where a command that goes on for months says what happens."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from typing import ClassVar

__all__ = ["log_to_stderr"]


class _Journal(logging.Formatter):
    """Levels as the journal reads them from the front of a line (sd-daemon(3))."""

    LEVELS: ClassVar[dict[str, int]] = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}

    def format(self, record: logging.LogRecord) -> str:
        return f"<{self.LEVELS.get(record.levelname, 5)}>{super().format(record)}"


def log_to_stderr() -> None:
    """Where what happens is told; and, should the process be aborted, where each of its threads stood."""
    handler = logging.StreamHandler(sys.stderr)
    in_journal = "JOURNAL_STREAM" in os.environ
    handler.setFormatter(
        _Journal("%(name)s: %(message)s")
        if in_journal
        else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if sys.stderr is sys.__stderr__:  # a stand-in, as in a test, has no file behind it
        faulthandler.enable()
