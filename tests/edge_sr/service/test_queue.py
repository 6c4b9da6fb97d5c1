"""What happens when more is asked than the device does: 429, 503, 504, and nothing for who is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")

from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from edge_sr.service.app import create_app, make_worker
from edge_sr.service.bodies import receive
from edge_sr.service.problems import Problem
from edge_sr.service.settings import ServiceSettings
from tests.edge_sr.service.rig import HeldUpscaler, Rig, eventually, picture, running


def depth(rig: Rig) -> float:
    """The queue depth, as the figures tell it."""
    lines = rig.client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("edge_sr_queue_depth "))


def test_a_full_queue_is_refused_with_the_time_to_come_again_and_the_others_are_answered(rig: Rig) -> None:
    first = rig.hold(picture())
    second = rig.threads.submit(rig.post, picture(), query="?seed=2")
    eventually(lambda: rig.worker.waiting == 1)
    assert depth(rig) == 1
    refused = rig.post(picture())
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    rig.upscaler.go.set()
    assert [answer.result().status_code for answer in (first, second)] == [200, 200]
    assert rig.upscaler.seeds == [1, 2]
    assert depth(rig) == 0
    assert rig.post(picture()).status_code == 200


def test_a_service_that_starts_is_alive_and_not_ready(opened: Bundle) -> None:
    upscaler, settings = HeldUpscaler(opened), ServiceSettings()
    upscaler.go.clear()  # it stands still in its warm-up
    worker = make_worker(lambda: upscaler, settings)
    with TestClient(create_app(worker, settings)) as client:
        upscaler.await_entered()
        refused = client.post("/v1/upscale", content=picture(), headers={"content-type": "image/png"})
        states = {path: client.get(path).status_code for path in ("/healthz", "/readyz", "/v2/health/ready")}
        model = client.get("/v2/models/tiny")
        upscaler.go.set()
        eventually(lambda: client.get("/readyz").status_code == 200)
    assert (refused.status_code, model.status_code) == (503, 503)
    assert int(refused.headers["retry-after"]) > 0
    assert states == {"/healthz": 200, "/readyz": 503, "/v2/health/ready": 503}


def test_a_service_that_drains_refuses_what_is_new_and_finishes_what_it_has(rig: Rig) -> None:
    running_one = rig.hold(picture())
    waiting_one = rig.threads.submit(rig.post, picture())
    eventually(lambda: rig.worker.waiting == 1)
    rig.worker.drain()
    refused = rig.post(picture())
    assert (refused.status_code, rig.client.get("/readyz").status_code) == (503, 503)
    assert "stopping" in refused.json()["detail"]
    assert int(refused.headers["retry-after"]) > 0
    rig.upscaler.go.set()
    assert [answer.result().status_code for answer in (running_one, waiting_one)] == [200, 200]
    eventually(lambda: rig.worker.is_idle)


def test_what_is_not_done_when_the_time_to_drain_is_up_is_told_so(rig: Rig) -> None:
    running_one = rig.hold(picture())
    waiting_one = rig.threads.submit(rig.post, picture())
    eventually(lambda: rig.worker.waiting == 1)
    rig.worker.abandon()
    assert [answer.result().status_code for answer in (running_one, waiting_one)] == [503, 503]


@pytest.fixture
def hasty(opened: Bundle) -> Iterator[Rig]:
    """A service whose deadline passes while the device is held, however fast this machine is."""
    with running(opened, deadline_s=0.05) as found:
        yield found


def test_a_request_past_its_deadline_is_given_up_and_never_reaches_the_device(hasty: Rig) -> None:
    running_one = hasty.hold(picture())
    late = hasty.post(picture(), query="?seed=2")
    assert (late.status_code, running_one.result().status_code) == (504, 504)
    assert hasty.worker.waiting == 0
    eventually(lambda: hasty.worker.is_idle)
    hasty.upscaler.go.set()
    hasty.worker.submit(lambda upscaler: None).result(30)
    assert hasty.upscaler.seeds == [1]


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def silence() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody sends anything")

    request = Request({"type": "http", "method": "POST", "headers": []}, silence)
    with pytest.raises(Problem, match="did not arrive") as caught:
        asyncio.run(receive(request, ServiceSettings(upload_s=0.01), "image/png"))
    assert caught.value.status == 408


def test_a_flood_is_answered_honestly_and_in_full(rig: Rig) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> int:
        start.wait(30)
        return int(rig.post(picture()).status_code)

    statuses = list(rig.threads.map(ask, range(8)))
    assert set(statuses) <= {200, 429}
    assert 200 in statuses
    assert rig.worker.is_idle
