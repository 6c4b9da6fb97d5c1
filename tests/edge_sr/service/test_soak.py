"""A service that is asked and asked, for EDGE_SR_SOAK_S seconds, holds no more at the end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.image.pictures")
pytest.importorskip("tests.edge_sr.dicom.objects")

from benchmarks.faults.watch import held, trend, watching
from benchmarks.service.load import Image, closed_loop
from benchmarks.service.server import started
from tests.edge_sr.service.hostile import hostile_bodies
from tests.edge_sr.service.rig import PATIENCE_S, eventually, picture
from tests.edge_sr.service.test_hostile import send

LOG = logging.getLogger(__name__)
CLIENTS, SAMPLES = 3, 400
GROWTH = 0.05
"""Of the memory, over the whole time: what the allocator's arenas may still take, and no leak stays below."""
QUARTERS = 4
PASSES = 3
"""Of all hostile bodies, before anything is measured: after two the allocator holds all that it will."""


@pytest.mark.soak
@pytest.mark.parametrize("batch", [1, 4])
def test_memory_files_threads_and_waits_stay_as_they_are(bundle: Path, batch: int) -> None:
    """Images of two sizes from three clients; and, beside them, one hostile body after the other."""
    seconds = float(os.environ["EDGE_SR_SOAK_S"])
    settings = {
        "bundle": str(bundle),
        "backend": "fake",
        "precision": "fp32",
        "batch": batch,
        "max_bytes": 2**20,
    }
    images = (Image(picture(), is_large=False), Image(picture(40, 48), is_large=True))
    bodies, refused, done = list(hostile_bodies(150, seed=batch)), Counter[int](), threading.Event()

    def hostile() -> None:
        while not done.is_set():
            for body in bodies:
                refused[send(port, body)[0]] += 1
                if done.wait(0.05):
                    return

    with started(["-m", "edge_sr", "serve"], settings=settings) as served:
        port, pid = served.port, served.process.pid
        for body in bodies * PASSES:
            send(port, body)
        closed_loop(port, images, clients=CLIENTS, seconds=min(20, seconds / 5), draw=lambda n: n % 5 == 0)
        before = held(pid)
        beside = threading.Thread(target=hostile)
        beside.start()
        began = time.monotonic()
        with watching(pid, every_s=seconds / SAMPLES) as samples:
            answers, _ = closed_loop(
                port, images, clients=CLIENTS, seconds=seconds, draw=lambda n: n % 5 == 0
            )
        done.set()
        beside.join(PATIENCE_S)
        found = trend(samples.at_s, samples.memory_mib)
        minutes = (time.monotonic() - began) / 60
        LOG.info(
            "%s",
            f"{len(answers)} images, {dict(refused)}; {before} then {held(pid)}; a minute: {found} MiB",
        )
        assert {answer.status for answer in answers} == {200}
        assert not [status for status in refused if status >= 500]
        assert found.low * minutes < GROWTH * before.memory_mib, "memory grows"
        eventually(lambda: held(pid).files <= before.files and held(pid).threads <= before.threads)
        small = [answer.latency_s for answer in answers if not answer.is_large]
        first, *_, last = (np.median(part) for part in np.array_split(small, QUARTERS))
        LOG.info(
            "%s",
            f"median wait of small images: {first:.4f} s in the first quarter, {last:.4f} s in the last",
        )
        assert served.files == []
