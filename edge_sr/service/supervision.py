"""What the service manager hears of the worker: ready, still loading, alive, stopping.

A ping says two things: that the event loop turns, for it sends it, and that the device moves, for it is sent
only while the worker's last sign of life is young enough. How young:

- An idle worker wakes up every second, so any limit above that would do.
- A job may take as long as somebody waits for it, `deadline_s`: until then it must not be cut off.
- A job that nobody waits for any more may be slow or stuck. It gets as long again, `hang_s`.

So a hang ends the process after `hang_s` and the manager's own WatchdogSec. systemd sends SIGABRT, on which
Python writes where every thread stood to the log (never what it held), and restarts the service.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_sr.service.notify import Notifier
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.worker import State, Worker

__all__ = ["Supervision"]

STATUS_S = 1.0
"""How often at the most a status is told, and how often at the least the manager hears of a start."""
EXTEND_S = 30
"""Time that is asked for while engines load, again and again."""


class Supervision:
    """Tells a manager how a worker fares, once for every `tick`."""

    def __init__(
        self,
        notifier: Notifier,
        worker: Worker,
        settings: ServiceSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: notifier: to the manager; worker: the device; settings: its limits; clock: in seconds."""
        self._notifier, self._worker, self._settings, self._clock = notifier, worker, settings, clock
        self._started = clock()
        self._is_ready = self._is_stopping = False
        self._told, self._told_at = "", -STATUS_S
        self._pinged_at = 0.0

    def tick(self) -> None:
        """Says what has changed, and that all is well if it is; to be called several times a second."""
        now = self._clock()
        if not self._is_ready and self._worker.state is State.READY:
            self._is_ready = True
            self._told = self._status(now)
            self._notifier.tell(READY=1, STATUS=self._told)
        if now - self._told_at >= STATUS_S:
            self._told_at = now
            self._tell_status(now)
        if self._is_due(now) and self.is_moving(now):
            self._pinged_at = now
            self._notifier.tell(WATCHDOG=1)

    def stopping(self, seconds: float) -> None:
        """Says that it stops, and how long that may take.

        The watchdog goes on while a unit stops, and at the end nothing ticks any more: it gets as long.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        usec = round(seconds * 1e6)
        watchdog = {"WATCHDOG_USEC": usec} if self._notifier.watchdog_s is not None else {}
        self._notifier.tell(STOPPING=1, EXTEND_TIMEOUT_USEC=usec, STATUS="stopping", **watchdog)

    def is_moving(self, now: float) -> bool:
        """Whether the worker gave a sign of life, as it must once it is ready."""
        return self._is_ready and now - self._worker.last_progress < self._settings.silence_s

    def _is_due(self, now: float) -> bool:
        every = self._notifier.watchdog_s
        return every is not None and now - self._pinged_at >= every / 3

    def _tell_status(self, now: float) -> None:
        elapsed = now - self._started
        if not self._is_ready and not self._is_stopping and elapsed < self._settings.start_s:
            self._notifier.tell(EXTEND_TIMEOUT_USEC=EXTEND_S * 1_000_000)
        if (status := self._status(now)) != self._told:
            self._told = status
            self._notifier.tell(STATUS=status)

    def _status(self, now: float) -> str:
        worker = self._worker
        if self._is_stopping:
            return "stopping: no request is left" if worker.is_idle else "stopping: requests go on"
        if not self._is_ready:
            return "loading engines, then one image to warm up"
        if not self.is_moving(now):
            return f"the device has not moved for {self._settings.silence_s:g} s"
        return "ready" if worker.is_idle else f"ready: busy, {worker.waiting} waiting"
