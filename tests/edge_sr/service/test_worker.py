"""The worker alone: order, cancelling, failing, closing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, BundleError
from edge_sr.pipeline import Enlarges, Upscaler
from edge_sr.service.problems import Problem
from edge_sr.service.worker import State, Worker

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.rig import PATIENCE_S, HeldUpscaler, eventually


@contextmanager
def working(
    opened: Bundle, warm_up: Callable[[Enlarges], object] = lambda upscaler: None, *, slots: int = 2
) -> Iterator[Worker]:
    worker = Worker(lambda: HeldUpscaler(opened), warm_up=warm_up, slots=slots)
    worker.start()
    try:
        eventually(lambda: worker.state is not State.STARTING)
        yield worker
    finally:
        assert worker.close(PATIENCE_S)


class Gate:
    """A job that stands still until it may go on."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, _: Any) -> str:
        self.entered.set()
        assert self.go.wait(PATIENCE_S)
        return "done"


def test_jobs_run_in_their_order_on_one_thread_that_is_not_this_one(opened: Bundle) -> None:
    with working(opened) as worker:
        seen: list[int] = []

        def job(number: int) -> int:
            seen.append(number)
            return threading.get_ident()

        futures = [worker.submit(lambda _, number=number: job(number)) for number in range(5)]  # type: ignore[misc]
        assert len({future.result(PATIENCE_S) for future in futures} | {threading.get_ident()}) == 2
        assert seen == [0, 1, 2, 3, 4]


def test_a_job_that_was_taken_back_does_not_run(opened: Bundle) -> None:
    with working(opened) as worker:
        gate, ran = Gate(), threading.Event()
        first = worker.submit(gate)
        assert gate.entered.wait(PATIENCE_S)
        second = worker.submit(lambda _: ran.set())
        assert worker.waiting == 1
        assert second.cancel()
        assert worker.waiting == 0
        gate.go.set()
        assert first.result(PATIENCE_S) == "done"
        worker.submit(lambda _: None).result(PATIENCE_S)
        assert not ran.is_set()


def test_it_is_ready_only_after_its_warm_up(opened: Bundle) -> None:
    gate = Gate()
    worker = Worker(lambda: HeldUpscaler(opened), warm_up=gate, slots=1)
    worker.start()
    assert gate.entered.wait(PATIENCE_S)
    assert worker.state is State.STARTING
    gate.go.set()
    eventually(lambda: worker.state is State.READY)
    assert worker.close(PATIENCE_S)


def test_a_bundle_that_cannot_be_opened_is_its_failure() -> None:
    def broken() -> Upscaler:
        raise BundleError("there is no bundle")

    worker = Worker(broken, warm_up=lambda upscaler: None, slots=1)
    worker.start()
    eventually(lambda: worker.failure is not None)
    assert isinstance(worker.failure, BundleError)
    assert worker.close(PATIENCE_S)
    assert worker.state is State.STOPPED


def test_a_warm_up_that_fails_is_its_failure(opened: Bundle) -> None:
    def failing(_: Enlarges) -> None:
        raise BackendError("no memory on the device")

    with working(opened, failing) as worker:
        eventually(lambda: worker.failure is not None)
        with pytest.raises(Problem) as caught, worker.slot():
            pass
        assert caught.value.status == 503


def test_a_job_that_raises_takes_nothing_with_it(opened: Bundle) -> None:
    with working(opened) as worker:
        with pytest.raises(ZeroDivisionError):
            worker.submit(lambda _: 1 // 0).result(PATIENCE_S)
        assert worker.submit(lambda _: "next").result(PATIENCE_S) == "next"


def test_a_slot_is_given_back_whatever_happens_in_it(opened: Bundle) -> None:
    with working(opened, slots=1) as worker:
        with pytest.raises(ZeroDivisionError), worker.slot():
            assert not worker.is_idle
            raise ZeroDivisionError
        assert worker.is_idle
        with worker.slot(), pytest.raises(Problem) as caught, worker.slot():
            pass
        assert caught.value.status == 429


def test_closing_runs_what_is_queued_and_may_be_done_twice(opened: Bundle) -> None:
    with working(opened) as worker:
        future = worker.submit(lambda _: "done")
        assert worker.close(PATIENCE_S)
        assert future.result(0) == "done"
        assert worker.close(PATIENCE_S)
        with pytest.raises(Problem):
            worker.submit(lambda _: None)


def test_a_job_that_hangs_is_abandoned_and_its_result_dropped(opened: Bundle) -> None:
    with working(opened) as worker:
        gate = Gate()
        future = worker.submit(gate)
        assert gate.entered.wait(PATIENCE_S)
        worker.abandon()
        with pytest.raises(Problem, match="stopping"):
            future.result(PATIENCE_S)
        assert not worker.close(0.01)
        gate.go.set()
        assert worker.close(PATIENCE_S)


def test_a_worker_that_was_never_started_can_be_closed(opened: Bundle) -> None:
    assert Worker(lambda: HeldUpscaler(opened), warm_up=lambda upscaler: None, slots=1).close()


def test_a_worker_that_waits_shows_that_it_moves_and_one_that_hangs_does_not(opened: Bundle) -> None:
    with working(opened) as worker:
        before = worker.last_progress
        eventually(lambda: worker.last_progress > before)
        gate = Gate()
        future = worker.submit(gate)
        assert gate.entered.wait(PATIENCE_S)
        during = worker.last_progress
        worker.submit(lambda _: None).cancel()  # wakes whoever waits
        assert worker.last_progress == during
        gate.go.set()
        future.result(PATIENCE_S)
        assert worker.last_progress > during
