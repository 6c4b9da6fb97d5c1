"""A service that is asked and asked, for EDGE_SR_SOAK_S seconds, holds no more at the end."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.image.pictures")
pytest.importorskip("tests.edge_sr.dicom.objects")

from benchmarks.faults.watch import held, trend, watching
from benchmarks.service.load import Answer, Image, arrivals, open_loop, post
from benchmarks.service.server import Served, started
from tests.edge_sr.service.hostile import Hostile, hostile_bodies
from tests.edge_sr.service.rig import PATIENCE_S, eventually, picture
from tests.edge_sr.service.test_hostile import send

LOG = logging.getLogger(__name__)
RATE, LARGE_SHARE, SAMPLES, BURST = 5.0, 0.2, 400, 200
"""Requests a second: far below what the service can do, so that a wait is its own and not that of a queue."""
GROWTH = 0.05
"""Of the memory, over the whole time: what the allocator's arenas may still take, and no leak stays below."""
SLOWER = 2.0
"""Of the processor time of an image: on cores that other work had too, it changed by up to 1.4 by itself."""
WAITS = 2.0
"""Of the lower quartile of waits, the last sixth against the first: other work lengthens the upper ones."""
PASSES = 3
"""Of all hostile bodies, before anything is measured: after two the allocator holds all that it will."""
IMAGES = (Image(picture(), is_large=False), Image(picture(40, 48), is_large=True))


@contextmanager
def hostile(port: int, bodies: Sequence[Hostile]) -> Iterator[Counter[int]]:
    """Sends one body after the other while the body of the `with` runs; statuses of the answers."""
    told, done = Counter[int](), threading.Event()

    def send_all() -> None:
        for body in itertools.cycle(bodies):
            if done.wait(0.2):
                return
            told[send(port, body)[0]] += 1

    thread = threading.Thread(target=send_all)
    thread.start()
    try:
        yield told
    finally:
        done.set()
        thread.join(PATIENCE_S)


def cost_ms(served: Served) -> float:
    """Processor time of the server for a small image, one after the other."""
    before = held(served.process.pid).cpu_s
    assert {post(served.port, IMAGES[0], 0).status for _ in range(BURST)} == {200}
    return 1000 * (held(served.process.pid).cpu_s - before) / BURST


def load(port: int, seconds: float) -> list[Answer]:
    due = arrivals(RATE, seconds, large_share=LARGE_SHARE, seed=(0,))
    return open_loop(port, IMAGES, due)[0]


def waits_ms(answers: Sequence[Answer]) -> tuple[float, float]:
    """Lower quartile of what small images waited: in the first sixth of the time, and in the last."""
    waits = [1000 * answer.latency_s for answer in answers if not answer.is_large]
    share = max(1, len(waits) // 6)
    return float(np.quantile(waits[:share], 0.25)), float(np.quantile(waits[-share:], 0.25))


@pytest.mark.soak
@pytest.mark.parametrize("batch", [1, 4])
def test_memory_files_threads_and_costs_stay_as_they_are(bundle: Path, batch: int) -> None:
    """Images of two sizes at random times; and, beside them, one hostile body after the other."""
    seconds, bodies = float(os.environ["EDGE_SR_SOAK_S"]), list(hostile_bodies(150, seed=batch))
    settings = {"bundle": str(bundle), "backend": "fake", "precision": "fp32", "max_bytes": 2**20}
    with started(["-m", "edge_sr", "serve"], settings={**settings, "batch": batch}) as served:
        port, pid = served.port, served.process.pid
        for body in bodies * PASSES:
            send(port, body)
        load(port, min(20, seconds / 5))
        cost, before, began = cost_ms(served), held(pid), time.monotonic()
        with hostile(port, bodies) as refused, watching(pid, every_s=seconds / SAMPLES) as samples:
            answers = load(port, seconds)
        minutes, found = (time.monotonic() - began) / 60, trend(samples.at_s, samples.memory_mib)
        after, later, (early, late) = held(pid), cost_ms(served), waits_ms(answers)
        LOG.info("%d images, %s; %s, then %s", len(answers), dict(refused), before, after)
        LOG.info("a minute: %s MiB; an image: %.2f ms, then %.2f ms", found, cost, later)
        sixths = [round(float(np.mean(part)), 1) for part in np.array_split(samples.memory_mib, 6)]
        LOG.info("MiB, by sixths of the time: %s; refused: %d", sixths, sum(a.status == 429 for a in answers))
        LOG.info("waits, lower quartile: %.2f ms in the first sixth, %.2f ms in the last", early, late)
        assert {answer.status for answer in answers} <= {200, 429}
        assert sum(answer.status == 200 for answer in answers) > 0.99 * len(answers)
        assert not [status for status in refused if status >= 500]
        assert found.low * minutes < GROWTH * before.memory_mib, "memory grows"
        assert later < SLOWER * cost, "images cost more and more"
        assert late < WAITS * early, "images wait longer and longer"
        eventually(lambda: held(pid).files <= before.files and held(pid).threads <= before.threads)
        assert served.files == []
