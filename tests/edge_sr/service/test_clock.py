"""The wall clock is set while images wait and run: nothing is measured by it, and nobody waits by it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")

from edge_sr.service.notify import Notifier
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.supervision import Supervision
from tests.edge_sr.service.rig import Rig, eventually, picture, running

HOUR_S = 3600.0


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock so many seconds forward; it runs on from there."""
    real = time.time

    def change(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)
        assert abs(time.time() - real() - seconds) < HOUR_S / 2

    return change


@pytest.mark.parametrize("change_s", [HOUR_S, -HOUR_S])
def test_setting_the_wall_clock_changes_no_wait_no_figure_and_nobodys_answer(
    rig: Rig, set_clock: Callable[[float], None], change_s: float
) -> None:
    name, supervision = "1" * 32, Supervision(Notifier(), rig.worker, ServiceSettings())
    first = rig.hold(picture())
    second = rig.threads.submit(rig.post, picture(), query="?seed=2", x_request_id=name)
    eventually(lambda: rig.worker.waiting == 1)
    set_clock(change_s)
    assert 0 <= rig.client.get(f"/v1/progress/{name}").json()["seconds"] < HOUR_S / 2
    assert 1 <= int(rig.post(picture()).headers["retry-after"]) <= 60
    supervision.tick()
    assert supervision.is_moving(time.monotonic())
    rig.upscaler.go.set()
    for answer in (first.result(), second.result()):
        assert answer.status_code == 200
        spent = re.findall(r"dur=([-0-9.]+)", answer.headers["server-timing"])
        assert spent and all(0 <= float(ms) < 1000 * HOUR_S / 2 for ms in spent)
    lines = rig.client.get("/metrics").text.splitlines()
    seconds = [float(line.split()[1]) for line in lines if line.startswith("edge_sr_request_seconds_sum")]
    assert seconds and all(0 <= value < HOUR_S / 2 for value in seconds)


@pytest.mark.parametrize("change_s", [HOUR_S, -HOUR_S])
def test_a_deadline_passes_whatever_the_wall_clock_says(
    opened: Bundle, set_clock: Callable[[float], None], change_s: float
) -> None:
    with running(opened, deadline_s=0.2) as rig:
        held = rig.hold(picture())
        set_clock(change_s)
        assert held.result().status_code == 504
