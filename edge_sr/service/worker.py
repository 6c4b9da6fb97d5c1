"""The one thread that owns the device: it opens the upscaler, warms it up, and runs job after job."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, EdgeSRError
from edge_sr.pipeline import Upscaler
from edge_sr.service.problems import Problem

__all__ = ["State", "Worker"]

T = TypeVar("T")
MAX_RETRY_S = 60
PULSE_S = 1.0
"""A thread that waits for jobs says so at least this often."""


class State(str, Enum):
    """Where a worker stands; it only ever goes down this list."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True)
class _Job:
    work: Callable[[Upscaler], Any]
    future: Future[Any]


class Worker:
    """A thread with a bounded number of requests before it.

    A request takes a slot before its body is read and holds it until it is answered, so that memory is
    bounded by slots, not by clients. Jobs run in the order in which they were submitted.

    Attributes:
        bundle: What is served; None until it is open.
        runtime: What it runs on: precision, backend and its version and provider; empty until it is open.
        failure: Why the upscaler could not be opened or kept; None while all is well.
        last_progress: When the thread last showed that it moves, in seconds of `time.monotonic`: it became
            ready, began or ended a job, or waits for one. An image that takes long is no progress.
    """

    def __init__(
        self,
        open_upscaler: Callable[[], AbstractContextManager[Upscaler]],
        *,
        warm_up: Callable[[Upscaler], object],
        slots: int,
    ) -> None:
        """Starts nothing yet.

        Args:
            open_upscaler: Called once, in the thread, which closes it too.
            warm_up: A first inference; before it is done the worker is not ready.
            slots: Requests at once, waiting ones included; at least 1.
        """
        self.bundle: Bundle | None = None
        self.runtime: dict[str, str] = {}
        self.failure: EdgeSRError | None = None
        self.last_progress = time.monotonic()
        self._open, self._warm_up, self._slots = open_upscaler, warm_up, slots
        self._changed = threading.Condition()  # reentrant: a signal may interrupt who holds it
        self._state = State.STARTING
        self._jobs: deque[_Job] = deque()
        self._running: Future[Any] | None = None
        self._taken, self._job_s = 0, 1.0
        self._thread = threading.Thread(target=self._live, name="edge-sr-worker", daemon=True)

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    @property
    def is_idle(self) -> bool:
        """Whether no request holds a slot."""
        return self._taken == 0

    @property
    def waiting(self) -> int:
        """Jobs that were submitted, not cancelled, and not begun."""
        with self._changed:
            return sum(not job.future.cancelled() for job in self._jobs)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A request's place, to be held until it is answered.

        Raises:
            Problem: 503 while it is starting or stopping; 429 where all slots are taken. Both say when to try
                again.
        """
        with self._changed:
            self._check_open()
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()

    def submit(self, work: Callable[[Upscaler], T]) -> Future[T]:
        """Queues a job; cancel the future to take it back before it has begun.

        Raises:
            Problem: 503, the worker has stopped.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._state is State.STOPPED:
                raise _stopping()
            self._jobs.append(_Job(work, future))
            self._changed.notify_all()
        return future

    def drain(self) -> None:
        """Takes no more requests; those that hold a slot go on."""
        with self._changed:
            if self._state is not State.STOPPED:
                self._state = State.DRAINING
            self._changed.notify_all()

    def abandon(self) -> None:
        """Answers all that is left with 503; a job that runs goes on without anybody to wait for it."""
        with self._changed:
            self.drain()
            left = [job.future for job in self._jobs if job.future.set_running_or_notify_cancel()]
            self._jobs.clear()
            if self._running is not None:
                left.append(self._running)
                self._running = None
        for future in left:
            future.set_exception(_stopping())

    def close(self, timeout_s: float = 5.0) -> bool:
        """Drains, runs what is queued, and waits for the thread; may be called twice.

        Returns:
            Whether the thread has ended. One that hangs in a job is left to end with the process.
        """
        self.drain()
        with self._changed:
            self._state = State.STOPPED
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _check_open(self) -> None:
        if self._state is State.STARTING:
            raise Problem(503, "the service is starting", headers={"Retry-After": "5"})
        if self._state is not State.READY:
            raise _stopping()
        if self._taken >= self._slots:
            wait_s = min(MAX_RETRY_S, math.ceil(self._job_s * self._taken))
            raise Problem(
                429,
                f"{self._taken} requests are waiting or running, which is all that are taken",
                hint="try again later",
                headers={"Retry-After": str(max(1, wait_s))},
            )

    def _live(self) -> None:
        try:
            with self._open() as upscaler:
                self._warm_up(upscaler)
                self.runtime = _runtime(upscaler)
                self._beat()
                self.bundle = upscaler.bundle
                self._become_ready()
                while (job := self._next()) is not None:
                    self._run(job, upscaler)
        except EdgeSRError as error:
            self.failure = error
        except BaseException as error:
            self.failure = BackendError(f"the worker died of {type(error).__name__}: {error}")
            raise
        finally:
            self._state = State.STOPPED
            self.abandon()

    def _become_ready(self) -> None:
        with self._changed:
            if self._state is State.STARTING:
                self._state = State.READY

    def _next(self) -> _Job | None:
        """The next job that nobody took back; None once there is none and none will come."""
        with self._changed:
            while True:
                while self._jobs:
                    job = self._jobs.popleft()
                    if job.future.set_running_or_notify_cancel():
                        self._running = job.future
                        return job
                if self._state is State.STOPPED:
                    return None
                self._changed.wait(PULSE_S)
                self._beat()

    def _beat(self) -> None:
        self.last_progress = time.monotonic()

    def _run(self, job: _Job, upscaler: Upscaler) -> None:
        self._beat()
        started = self.last_progress
        result, failure = None, None
        try:
            result = job.work(upscaler)
        except Exception as error:  # noqa: BLE001  whatever one job dies of, the next one runs
            failure = error
        self._beat()
        self._job_s = self.last_progress - started
        with self._changed:
            is_wanted, self._running = self._running is job.future, None
        if is_wanted and failure is not None:
            job.future.set_exception(failure)
        elif is_wanted:
            job.future.set_result(result)


def _runtime(upscaler: Upscaler) -> dict[str, str]:
    """What may be told of it; where its engines lie may not."""
    known = upscaler.backend.describe()
    told: dict[str, str] = {n: known[n] for n in ("backend", "version", "provider") if n in known}
    return {"precision": str(upscaler.precision), **told}


def _stopping() -> Problem:
    return Problem(503, "the service is stopping", headers={"Retry-After": "30"})
