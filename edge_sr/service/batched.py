"""The worker that has several images in flight: their tiles share the steps of one batch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from edge_sr.pipeline import Enlarges, InFlight, Upscaler
from edge_sr.service.worker import PULSE_S, Job, State, Worker

__all__ = ["BatchedWorker"]

LOG = logging.getLogger("edge_sr.service")


class BatchedWorker(Worker):
    """A worker whose thread makes step after step of whatever is in flight.

    Jobs begin in the order in which they were submitted, each in a thread of its own, which cuts its image
    into tiles and blends them while the device works. They end in whatever order they are done. One that is
    taken back, or abandoned, has its tiles taken out at the next step.

    A job that has begun holds its image in memory. So as many are in flight as there are slots, but no more
    than have `most_pixels` of output together; the next one then waits, and those behind it.
    """

    def __init__(
        self,
        open_upscaler: Callable[[], AbstractContextManager[Upscaler]],
        *,
        warm_up: Callable[[Enlarges], object],
        slots: int,
        most_pixels: int,
    ) -> None:
        """Starts nothing yet.

        Args:
            open_upscaler: As for `Worker`; the upscaler's `batch` is how many tiles share a step.
            warm_up: As for `Worker`.
            slots: As for `Worker`.
            most_pixels: Of the outputs in flight together; one alone may have more.
        """
        super().__init__(open_upscaler, warm_up=warm_up, slots=slots)
        self._most_pixels = most_pixels

    def _serve(self, upscaler: Upscaler) -> None:
        with InFlight(upscaler, wake=self._wake) as batch:
            self._warm_up(batch.own_place())
            for note in batch.notes:
                LOG.info("%s", note)
            self._become_ready(upscaler)
            while self._await_work(batch):
                batch.advance()
                self._beat()

    def _await_work(self, batch: InFlight) -> bool:
        """Begins what may begin, and waits where nothing is to do; False once nothing will come."""
        with self._changed:
            while (job := self._begin(self._most_pixels)) is not None:
                self._fly(job, batch)
            if batch.has_work:
                return True
            if self._state is State.STOPPED and not self._jobs and not self._running:
                return False
            self._changed.wait(PULSE_S)
            return True

    def _fly(self, job: Job, batch: InFlight) -> None:
        """Begins a job. Its thread is a daemon: where the device hangs, the process ends without it."""
        place = batch.place(lambda: not job.future.done())
        threading.Thread(target=self._run, args=(job, place), name="edge-sr-image", daemon=True).start()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
