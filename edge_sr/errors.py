"""Every error that edge-sr raises on purpose.

    EdgeSRError
    ├── UsageError        a request that contradicts itself or asks for what is not offered
    ├── ConfigError       a configuration file or setting that cannot be used (exit code 78 for a service)
    ├── ImageError        an input that is not an image we can read, or is beyond the limits
    ├── OutputError       a result that could not be written whole
    │   └── NotYetError   one that cannot be written or sent now, and may be later
    ├── ConsistencyError  a result that agrees with its input less than was asked
    ├── BundleError       a bundle that is missing, damaged, unsafe or not understood
    ├── ResultError       a stored measurement that cannot be read, or not be compared with another
    ├── ScheduleError     a combination of sampler, prediction type and noise schedule that is not offered
    ├── BackendError      a backend that is not installed, or that failed
    │   └── EngineError   an engine that is missing, stale, or could not be built
    └── DeviceError       a device that cannot do what was asked

The message says what was wanted and what was found, with values; the hint says what to do about it.
Foreign errors are translated once, where they enter, with ``raise ... from``.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BundleError",
    "ConfigError",
    "ConsistencyError",
    "DeviceError",
    "EdgeSRError",
    "EngineError",
    "ImageError",
    "NotYetError",
    "OutputError",
    "ResultError",
    "ScheduleError",
    "UsageError",
]


class EdgeSRError(Exception):
    """An error that edge-sr understands: one line for the user, and a hint.

    Args:
        message: What was wanted and what was found, with values, in one line.
        hint: What to do about it; empty where nothing can be advised.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message, followed by the hint in parentheses where there is one."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(EdgeSRError):
    """A request that contradicts itself or asks for something that is not offered."""


class ConfigError(EdgeSRError):
    """A configuration file or setting that cannot be used."""


class ImageError(EdgeSRError):
    """An input that is not an image we can read, or is beyond the stated limits."""


class OutputError(EdgeSRError):
    """A result that could not be written whole; nothing half-written is left behind."""


class NotYetError(OutputError):
    """A result that cannot be written or sent now, for no fault of its own: the same may succeed later."""


class ConsistencyError(EdgeSRError):
    """A result that agrees with its input less than was asked; it is not written."""


class BundleError(EdgeSRError):
    """A bundle that is missing, damaged, unsafe or of an unknown version."""


class ResultError(EdgeSRError):
    """A stored measurement that cannot be read, or that cannot be compared with another."""


class ScheduleError(EdgeSRError):
    """A combination of sampler, prediction type and noise schedule that is not offered."""


class BackendError(EdgeSRError):
    """A backend that is not installed, or that failed while it ran."""


class EngineError(BackendError):
    """An engine that is missing, stale, or could not be built."""


class DeviceError(EdgeSRError):
    """A device that cannot do what was asked of it."""
