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
from edge_sr.pipeline import Enlarges, Upscaler
from edge_sr.service.problems import Problem

__all__ = ["PULSE_S", "Job", "State", "Worker"]

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
class Job:
    """Work for the device.

    Attributes:
        work: What is to be done.
        future: Not running before it is answered, so that it can be cancelled until then.
        pixels: Of the output, for who has to mind memory.
    """

    work: Callable[[Enlarges], Any]
    future: Future[Any]
    pixels: int


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
        warm_up: Callable[[Enlarges], object],
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
        self._jobs: deque[Job] = deque()
        self._running: dict[Future[Any], Job] = {}
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

    def submit(self, work: Callable[[Enlarges], T], *, pixels: int = 0) -> Future[T]:
        """Queues a job; cancel the future to take it back, or, once it has begun, to have its result dropped.

        Args:
            work: What is to be done.
            pixels: Of the output.

        Raises:
            Problem: 503, the worker has stopped.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._state is State.STOPPED:
                raise _stopping()
            self._jobs.append(Job(work, future, pixels))
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
            left = [*(job.future for job in self._jobs), *self._running]
            self._jobs.clear()
            self._running.clear()
        for future in left:
            if future.set_running_or_notify_cancel():
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
                self._serve(upscaler)
        except EdgeSRError as error:
            self.failure = error
        except BaseException as error:
            self.failure = BackendError(f"the worker died of {type(error).__name__}: {error}")
            raise
        finally:
            self._state = State.STOPPED
            self.abandon()

    def _serve(self, upscaler: Upscaler) -> None:
        """Warms up, becomes ready, and runs jobs until there are none and none will come."""
        self._warm_up(upscaler)
        self._become_ready(upscaler)
        while (job := self._next()) is not None:
            self._beat()
            self._run(job, upscaler)
            self._beat()

    def _become_ready(self, upscaler: Upscaler) -> None:
        self._beat()
        self.runtime, self.bundle = _runtime(upscaler), upscaler.bundle
        with self._changed:
            if self._state is State.STARTING:
                self._state = State.READY

    def _next(self) -> Job | None:
        """The next job that nobody took back; None once there is none and none will come."""
        with self._changed:
            while (job := self._begin()) is None and self._state is not State.STOPPED:
                self._changed.wait(PULSE_S)
                self._beat()
            return job

    def _begin(self, most_pixels: float = math.inf) -> Job | None:
        """The next job that nobody took back, where there is one that may begin; it runs from now on.

        Args:
            most_pixels: How many the outputs of all running jobs may have; one alone may have more.
        """
        with self._changed:
            while self._jobs:
                job = self._jobs[0]
                pixels = sum(running.pixels for running in self._running.values())
                if self._running and pixels + job.pixels > most_pixels and not job.future.cancelled():
                    return None
                self._jobs.popleft()
                if not job.future.cancelled():
                    self._running[job.future] = job
                    return job
            return None

    def _beat(self) -> None:
        self.last_progress = time.monotonic()

    def _run(self, job: Job, upscaler: Enlarges) -> None:
        """Runs a job and answers it, unless it was abandoned or taken back by then."""
        started = time.monotonic()
        result, failure = None, None
        try:
            result = job.work(upscaler)
        except Exception as error:  # noqa: BLE001  whatever one job dies of, the next one runs
            failure = error
        with self._changed:
            self._job_s = (time.monotonic() - started) / max(1, len(self._running))
            is_wanted = self._running.pop(job.future, None) is not None
            self._changed.notify_all()
        if not (is_wanted and job.future.set_running_or_notify_cancel()):
            return
        if failure is not None:
            job.future.set_exception(failure)
        else:
            job.future.set_result(result)


def _runtime(upscaler: Upscaler) -> dict[str, str]:
    """What may be told of it; where its engines lie may not."""
    known = upscaler.backend.describe()
    told: dict[str, str] = {n: known[n] for n in ("backend", "version", "provider") if n in known}
    return {"precision": str(upscaler.precision), **told}


def _stopping() -> Problem:
    return Problem(503, "the service is stopping", headers={"Retry-After": "30"})
