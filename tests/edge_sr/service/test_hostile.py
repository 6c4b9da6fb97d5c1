"""A thousand hostile bodies: refused in words or answered with an image, and nothing is left."""

from __future__ import annotations

import http.client
import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_sr.image import decode_image

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.image.pictures")
pytest.importorskip("tests.edge_sr.dicom.objects")

from benchmarks.service.server import Served, started
from tests.edge_sr.service.hostile import Hostile, hostile_bodies
from tests.edge_sr.service.rig import PATIENCE_S, PNG, picture

LOG = logging.getLogger(__name__)
BODIES, SEED = 1000, 20260
SETTINGS = {"max_bytes": 2**20, "max_pixels": 100_000, "max_output_pixels": 2_000_000, "backend": "fake"}
GROWTH_KIB = 96 * 1024
"""Of the peak, over that after a valid image of the largest size. Bombs here unpack to 64 and 128 MiB."""
REFUSALS = {400, 406, 413, 415, 422}


@pytest.fixture
def served(bundle: Path) -> Iterator[Served]:
    settings = {**SETTINGS, "bundle": str(bundle), "precision": "fp32"}
    with started(["-m", "edge_sr", "serve"], settings=settings) as found:
        yield found


def send(port: int, body: Hostile) -> tuple[int, str, bytes]:
    """Status, type and content of the answer, on a connection of its own, which must be in step then."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as client:
        headers = {"Content-Type": body.media_type} if body.media_type else {}
        client.request("POST", "/v1/upscale?steps=1", body.data, headers)
        answer = client.getresponse()
        told = answer.status, answer.headers["content-type"], answer.read()
        client.request("GET", "/v2/health/live")
        assert json.loads(client.getresponse().read()) == {"live": True}
        return told


def is_honest(status: int, media_type: str, data: bytes) -> bool:
    """Whether an answer is a refusal that says what it is, or an image that can be read."""
    if status == 200:
        return media_type == PNG and decode_image(data, name="answer").pixels.size > 0
    said = json.loads(data)
    is_problem = media_type == "application/problem+json" and said["status"] == status
    return status in REFUSALS and is_problem and bool(said["detail"])


def peak_kib(served: Served) -> int:
    status = Path(f"/proc/{served.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.slow
def test_every_hostile_body_is_answered_honestly_and_leaves_nothing_behind(served: Served) -> None:
    valid = Hostile("valid", picture(300, 330), PNG)
    assert send(served.port, valid)[0] == 200
    before, told, wrong = peak_kib(served), Counter[tuple[str, int]](), []
    for number, body in enumerate(hostile_bodies(BODIES, seed=SEED)):
        answer = send(served.port, body)
        told[body.kind, answer[0]] += 1
        if not is_honest(*answer):
            wrong.append((number, body, answer[0], answer[2][:200]))
    assert not wrong
    assert sum(told.values()) == BODIES
    assert {status for kind, status in told if kind == "flipped"} >= {200, 422}, "some get through"
    assert send(served.port, valid)[0] == 200
    assert served.files == []
    assert "ERROR" not in served.log and "Traceback" not in served.log
    growth = peak_kib(served) - before
    LOG.info("%s", f"peak {before} KiB, grown by {growth} KiB; {dict(told)}")
    assert growth < GROWTH_KIB


def test_the_same_seed_gives_the_same_bodies_and_another_gives_others() -> None:
    first, second, other = (list(hostile_bodies(150, seed=seed)) for seed in (1, 1, 2))
    assert first == second
    assert [body.data for body in first] != [body.data for body in other]
