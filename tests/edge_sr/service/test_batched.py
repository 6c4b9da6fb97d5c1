"""The worker that has several images in flight, and the service over it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostStream
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError
from edge_sr.pipeline import Enlarges, Upscaler
from edge_sr.service.batched import BatchedWorker
from edge_sr.service.problems import Problem
from edge_sr.service.worker import State, Worker
from edge_sr.spec import Precision
from tests.fakes import tiny_image

pytest.importorskip("tests.edge_sr.service.rig")

from starlette.testclient import TestClient

from edge_sr.service.app import create_app, make_worker
from edge_sr.service.settings import ServiceSettings
from tests.edge_sr.service.rig import PATIENCE_S, eventually, picture


class Gated(FakeBackend):
    """A backend on which every call waits for the gate to be open.

    Attributes:
        go: Calls go on while it is set.
        at_gate: One release for each call that waited.
        is_broken: Whether calls fail.
    """

    def __init__(self) -> None:
        super().__init__()
        self.go, self.at_gate, self.is_broken = threading.Event(), threading.Semaphore(0), False
        self.go.set()

    def stream(self) -> HostStream:
        gate = self

        class Stream(HostStream):
            def synchronize(self) -> None:
                if not gate.go.is_set():
                    gate.at_gate.release()
                    assert gate.go.wait(PATIENCE_S)
                if gate.is_broken:
                    raise BackendError("the device is lost")

        return Stream()

    def hold(self) -> None:
        self.go.clear()

    def await_held(self) -> None:
        assert self.at_gate.acquire(timeout=PATIENCE_S)


@pytest.fixture
def backend() -> Gated:
    return Gated()


@contextmanager
def working(
    opened: Bundle, backend: Gated, *, batch: int = 4, most_pixels: int = 10**6
) -> Iterator[BatchedWorker]:
    worker = BatchedWorker(
        lambda: Upscaler(opened, backend, precision=Precision.FP32, batch=batch),
        warm_up=lambda upscaler: enlarge(upscaler, 0),
        slots=8,
        most_pixels=most_pixels,
    )
    worker.start()
    try:
        eventually(lambda: worker.state is not State.STARTING)
        yield worker
    finally:
        backend.go.set()
        assert worker.close(PATIENCE_S)


def enlarge(upscaler: Enlarges, seed: int, side: int = 16) -> Any:
    preset = upscaler.bundle.diffusion.presets["ancestral"]
    return upscaler.upscale(tiny_image(side, side, seed=seed), preset=preset, seed=seed).mean


def alone(opened: Bundle, seed: int, side: int = 16) -> Any:
    with Upscaler(opened, FakeBackend(), precision=Precision.FP32) as upscaler:
        return enlarge(upscaler, seed, side)


def image(seed: int, side: int = 16) -> Any:
    return lambda upscaler: enlarge(upscaler, seed, side)


def test_images_in_flight_share_steps_and_are_what_they_are_alone(opened: Bundle, backend: Gated) -> None:
    with working(opened, backend) as worker:
        before = backend.runs
        backend.hold()
        first = worker.submit(image(1))
        backend.await_held()
        others = [worker.submit(image(seed, side)) for seed, side in ((2, 16), (3, 30), (4, 16))]
        eventually(lambda: worker.waiting == 3)
        backend.go.set()
        found = [future.result(PATIENCE_S) for future in (first, *others)]
        apart = 7 * (1 + 1 + 4 + 1)  # encode, five steps and decode of seven tiles, each on its own
        assert backend.runs - before < apart
    for seed, side, ours in zip((1, 2, 3, 4), (16, 16, 30, 16), found, strict=True):
        np.testing.assert_array_equal(ours, alone(opened, seed, side))


CALLS = 1 + 5 + 1  # encode, five steps, decode


def test_an_image_that_is_taken_back_leaves_at_the_next_step(opened: Bundle, backend: Gated) -> None:
    with working(opened, backend) as worker:
        before = backend.runs
        backend.hold()
        gone = worker.submit(image(1))
        backend.await_held()  # in its encoder; the step of that round is still made
        assert gone.cancel()
        backend.go.set()
        np.testing.assert_array_equal(worker.submit(image(2)).result(PATIENCE_S), alone(opened, 2))
        assert backend.runs - before == 2 + CALLS


def test_an_image_that_is_taken_back_before_it_begins_never_reaches_the_device(
    opened: Bundle, backend: Gated
) -> None:
    with working(opened, backend) as worker:
        before = backend.runs
        backend.hold()
        first = worker.submit(image(1))
        backend.await_held()
        second = worker.submit(image(2))
        assert worker.waiting == 1
        assert second.cancel()
        assert worker.waiting == 0
        backend.go.set()
        first.result(PATIENCE_S)
        assert backend.runs - before == CALLS


def test_a_device_that_fails_fails_who_is_in_flight_and_serves_the_next(
    opened: Bundle, backend: Gated
) -> None:
    with working(opened, backend) as worker:
        backend.hold()
        first = worker.submit(image(1))
        backend.await_held()
        backend.is_broken = True
        backend.go.set()
        with pytest.raises(BackendError, match="its batch failed: the device is lost"):
            first.result(PATIENCE_S)
        backend.is_broken = False
        np.testing.assert_array_equal(worker.submit(image(2)).result(PATIENCE_S), alone(opened, 2))


def test_a_job_that_raises_takes_nothing_with_it(opened: Bundle, backend: Gated) -> None:
    with working(opened, backend) as worker:
        with pytest.raises(ZeroDivisionError):
            worker.submit(lambda _: 1 // 0).result(PATIENCE_S)
        worker.submit(image(1)).result(PATIENCE_S)


def test_what_is_abandoned_is_answered_and_leaves_the_device(opened: Bundle, backend: Gated) -> None:
    with working(opened, backend) as worker:
        before = backend.runs
        backend.hold()
        running = worker.submit(image(1))
        backend.await_held()
        waiting = worker.submit(image(2))
        worker.abandon()
        for future in (running, waiting):
            with pytest.raises(Problem, match="stopping"):
                future.result(PATIENCE_S)
        assert not worker.close(0.01)
        backend.go.set()
        assert worker.close(PATIENCE_S)
        assert backend.runs - before == 2


def test_closing_runs_what_is_queued(opened: Bundle, backend: Gated) -> None:
    with working(opened, backend, batch=2) as worker:
        futures = [worker.submit(image(seed)) for seed in range(5)]
        assert worker.close(PATIENCE_S)
        for seed, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(0), alone(opened, seed))
        with pytest.raises(Problem):
            worker.submit(image(0))


def test_every_step_shows_that_it_moves_and_a_device_that_hangs_shows_nothing(
    opened: Bundle, backend: Gated
) -> None:
    with working(opened, backend) as worker:
        before = worker.last_progress
        eventually(lambda: worker.last_progress > before)
        backend.hold()
        future = worker.submit(image(1))
        backend.await_held()
        during = worker.last_progress
        worker.submit(lambda _: None)  # wakes whoever waits
        assert worker.last_progress == during
        backend.go.set()
        future.result(PATIENCE_S)
        assert worker.last_progress > during


def test_no_more_is_in_flight_than_fits_and_one_image_always_does(opened: Bundle, backend: Gated) -> None:
    begun, ended = [threading.Event() for _ in range(4)], threading.Event()

    def job(number: int) -> Any:
        def work(_: Enlarges) -> None:
            begun[number].set()
            assert ended.wait(PATIENCE_S)

        return work

    with working(opened, backend, most_pixels=1000) as worker:
        huge = threading.Event()
        first = worker.submit(lambda _: huge.wait(PATIENCE_S), pixels=5000)
        eventually(lambda: worker.waiting == 0)
        futures = [
            worker.submit(job(number), pixels=pixels) for number, pixels in enumerate((600, 400, 1, 1))
        ]
        assert worker.waiting == 4
        huge.set()
        assert first.result(PATIENCE_S)
        assert begun[0].wait(PATIENCE_S)
        assert begun[1].wait(PATIENCE_S)
        assert worker.waiting == 2
        ended.set()
        for future in futures:
            future.result(PATIENCE_S)


def test_a_warm_up_that_fails_is_its_failure(opened: Bundle, backend: Gated) -> None:
    backend.is_broken = True
    with working(opened, backend) as worker:
        eventually(lambda: worker.failure is not None)
        assert "the device is lost" in str(worker.failure)
        with pytest.raises(Problem) as caught, worker.slot():
            pass
        assert caught.value.status == 503


# ---- the service


@contextmanager
def serving(opened: Bundle, backend: FakeBackend, **changes: Any) -> Iterator[tuple[TestClient, Worker]]:
    settings = ServiceSettings(**changes)

    def open_upscaler() -> Upscaler:
        return Upscaler(opened, backend, precision=Precision.FP32, batch=settings.batch)

    worker = make_worker(open_upscaler, settings)
    with TestClient(create_app(worker, settings)) as client:
        eventually(lambda: worker.state is not State.STARTING)
        yield client, worker


def post(client: TestClient, data: bytes, query: str) -> Any:
    return client.post(f"/v1/upscale{query}", content=data, headers={"content-type": "image/png"})


QUERIES = ("?seed=1", "?seed=2&steps=3", "?seed=3&samples=3", "?seed=4&scale=3", "?seed=5&scale=9&steps=2")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_answers_of_a_batch_are_those_that_come_one_by_one(
    opened: Bundle, backend: Gated, threads: ThreadPoolExecutor
) -> None:
    pictures = [picture(20 + 9 * n, 24) for n in range(len(QUERIES))]
    with serving(opened, FakeBackend()) as (client, _):
        wanted = [post(client, data, query).content for data, query in zip(pictures, QUERIES, strict=True)]
    with serving(opened, backend, batch=4) as (client, worker):
        backend.hold()
        first, *others = zip(pictures, QUERIES, strict=True)
        answers = [threads.submit(post, client, *first)]
        backend.await_held()  # so that none of the others begins before all are there
        answers += [threads.submit(post, client, *each) for each in others]
        eventually(lambda: worker.waiting == len(QUERIES) - 1)
        backend.go.set()
        found = [answer.result(PATIENCE_S) for answer in answers]
    assert [answer.status_code for answer in found] == [200] * len(QUERIES)
    assert [answer.content for answer in found] == wanted


def test_a_full_service_refuses_and_answers_all_that_it_took(
    opened: Bundle, backend: Gated, threads: ThreadPoolExecutor
) -> None:
    with serving(opened, backend, batch=2, queue_size=1) as (client, worker):
        backend.hold()
        taken = [threads.submit(post, client, picture(), "?seed=0")]
        backend.await_held()  # so that the next one cannot begin before it is looked at
        taken.append(threads.submit(post, client, picture(), "?seed=1"))
        eventually(lambda: worker.waiting == 1)
        refused = post(client, picture(), "")
        backend.go.set()
        assert [answer.result(PATIENCE_S).status_code for answer in taken] == [200, 200]
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_a_request_past_its_deadline_leaves_the_batch(opened: Bundle, backend: Gated) -> None:
    with serving(opened, backend, batch=2, deadline_s=0.05) as (client, worker):
        before = backend.runs
        backend.hold()
        assert post(client, picture(16, 16), "").status_code == 504
        eventually(lambda: worker.is_idle)
        backend.go.set()
        worker.submit(lambda _: None).result(PATIENCE_S)
        assert backend.runs - before <= 2


def test_a_batch_that_fails_is_told_without_a_path_and_the_next_request_is_served(
    opened: Bundle, backend: Gated
) -> None:
    with serving(opened, backend, batch=2) as (client, _):
        backend.is_broken = True
        failed = post(client, picture(), "")
        backend.is_broken = False
        assert post(client, picture(), "").status_code == 200
    assert failed.status_code == 500
    assert "BackendError" in failed.json()["detail"]


@pytest.mark.parametrize(("batch", "is_batched"), [(1, False), (2, True)])
def test_a_batch_of_one_is_one_request_after_the_other(opened: Bundle, batch: int, is_batched: bool) -> None:
    worker = make_worker(lambda: pytest.fail("never opened"), ServiceSettings(batch=batch))
    assert isinstance(worker, BatchedWorker) == is_batched
