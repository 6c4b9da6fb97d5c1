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

import pytest

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.image.pictures")
pytest.importorskip("tests.edge_sr.dicom.objects")

from benchmarks.faults.watch import held, trend, watching
from benchmarks.service.load import Answer, Image, closed_loop, post
from benchmarks.service.server import Served, started
from tests.edge_sr.service.hostile import Hostile, hostile_bodies
from tests.edge_sr.service.rig import PATIENCE_S, eventually, picture
from tests.edge_sr.service.test_hostile import send

LOG = logging.getLogger(__name__)
CLIENTS, SAMPLES, BURST = 3, 400, 200
GROWTH = 0.05
"""Of the memory, over the whole time: what the allocator's arenas may still take, and no leak stays below."""
SLOWER = 2.0
"""Of the processor time of an image: on cores that other work had too, it changed by up to 1.4 by itself."""
PASSES = 3
"""Of all hostile bodies, before anything is measured: after two the allocator holds all that it will."""
IMAGES = (Image(picture(), is_large=False), Image(picture(40, 48), is_large=True))


@contextmanager
def hostile(port: int, bodies: Sequence[Hostile]) -> Iterator[Counter[int]]:
    """Sends one body after the other while the body of the `with` runs; statuses of the answers."""
    told, done = Counter[int](), threading.Event()

    def send_all() -> None:
        for body in itertools.cycle(bodies):
            if done.wait(0.05):
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
    return closed_loop(port, IMAGES, clients=CLIENTS, seconds=seconds, draw=lambda n: n % 5 == 0)[0]


@pytest.mark.soak
@pytest.mark.parametrize("batch", [1, 4])
def test_memory_files_threads_and_costs_stay_as_they_are(bundle: Path, batch: int) -> None:
    """Images of two sizes from three clients; and, beside them, one hostile body after the other."""
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
        after, later = held(pid), cost_ms(served)
        LOG.info("%d images, %s; %s, then %s", len(answers), dict(refused), before, after)
        LOG.info("a minute: %s MiB; an image: %.2f ms, then %.2f ms", found, cost, later)
        assert {answer.status for answer in answers} == {200}
        assert not [status for status in refused if status >= 500]
        assert found.low * minutes < GROWTH * before.memory_mib, "memory grows"
        assert later < SLOWER * cost, "images cost more and more"
        eventually(lambda: held(pid).files <= before.files and held(pid).threads <= before.threads)
        assert served.files == []
