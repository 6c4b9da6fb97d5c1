"""Where a request is, for whoever has its id; and what can come beside its result."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from edge_sr.bundle import Bundle
from edge_sr.image import decode_image, resize_bicubic
from edge_sr.result import Settings, upscale_image

pytest.importorskip("tests.edge_sr.service.rig")

from edge_sr.service.progress import Progress
from tests.edge_sr.service.rig import DICOM, JSON, PNG, Rig, eventually, form, picture, running

ONE, TWO = f"{1:032x}", f"{2:032x}"


def pixels(file: dict[str, Any]) -> Any:
    return decode_image(base64.b64decode(file["base64"]), name="a").pixels


def test_a_request_goes_through_its_stages_and_is_then_forgotten() -> None:
    progress, seen = Progress(), []
    with progress.track("a") as ticket:
        for lap in ("receive", "read", "queue", "device", "write"):
            seen.append(progress.of("a")["stage"])
            ticket.ended(lap)
    assert seen == ["receiving", "reading", "waiting", "running", "writing"]
    assert progress.of("a") == progress.of("b") == {"stage": "unknown", "place": None, "seconds": None}


def test_places_are_counted_among_those_that_wait() -> None:
    progress = Progress()
    with progress.track("a") as a, progress.track("b") as b, progress.track("c") as c:
        for ticket in (c, a):
            ticket.ended("receive")
            ticket.ended("read")
        assert [progress.of(n)["place"] for n in "abc"] == [2, None, 1]
        c.ended("queue")
        assert [progress.of(n)["place"] for n in "abc"] == [1, None, None]
        b.ended("read")
        assert progress.of("b")["place"] == 2


def test_of_two_requests_with_one_id_the_first_does_not_take_the_second_with_it() -> None:
    progress = Progress()
    first = progress.track("a")
    first.__enter__().ended("receive")
    with progress.track("a"):
        first.__exit__(None, None, None)
        assert progress.of("a")["stage"] == "receiving"


def test_a_client_sees_that_its_image_runs_and_that_another_one_waits(rig: Rig) -> None:
    rig.upscaler.go.clear()
    one = rig.threads.submit(rig.post, picture(), x_request_id=ONE)
    rig.upscaler.await_entered()
    two = rig.threads.submit(rig.post, picture(), x_request_id=TWO)
    eventually(lambda: rig.worker.waiting == 1)
    running_one, waiting_two = (rig.client.get(f"/v1/progress/{name}").json() for name in (ONE, TWO))
    assert (running_one["stage"], running_one["place"]) == ("running", None)
    assert (waiting_two["stage"], waiting_two["place"]) == ("waiting", 1)
    assert running_one["seconds"] >= 0
    rig.upscaler.go.set()
    assert one.result().status_code == two.result().status_code == 200
    assert rig.client.get(f"/v1/progress/{ONE}").json()["stage"] == "unknown"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_what_is_asked_for_comes_beside_the_result_and_is_what_the_engine_made(rig: Rig, kind: Any) -> None:
    query = "?seed=5&samples=3&include=input,bicubic,change,uncertainty,dicom"
    answer = rig.post(picture(dtype=kind), query=query)
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    beside, top = document["images"], int(np.iinfo(kind).max)
    image = decode_image(picture(dtype=kind), name="a")
    preset = rig.upscaler.bundle.diffusion.presets["even"].model_copy(update={"samples": 3})
    wanted = upscale_image(rig.upscaler, image, Settings(preset, 5))
    assert wanted.std_levels is not None
    assert set(beside) == {"input", "bicubic", "change", "uncertainty", "dicom"}
    assert np.array_equal(pixels(document["image"]), wanted.pixels)
    assert np.array_equal(pixels(beside["input"]), image.pixels)
    assert np.array_equal(pixels(beside["bicubic"]), resize_bicubic(image.pixels, 4))
    for name, plane in (("change", wanted.change), ("uncertainty", wanted.std_levels)):
        found = beside[name]
        values = (pixels(found).astype(float) - found["zero"]) * found["step"]
        assert np.abs(values - plane).max() <= 0.51 * found["step"], "half a unit of a 16-bit map"
        assert found["unit"] == f"gray levels of {top}"
        assert len(found["colours"]) == 255
    assert beside["dicom"] is None
    assert beside["change"]["low"] == -beside["change"]["high"] < 0 == beside["uncertainty"]["low"]
    assert document["change"]["most_added"] == pytest.approx(wanted.change.max(), abs=1e-3)


def test_colour_comes_beside_in_colour(rig: Rig) -> None:
    pictures = pytest.importorskip("tests.edge_sr.image.pictures")
    data = pictures.encoded(pictures.picture(channels=3), ".png")
    beside = rig.post(data, query="?include=bicubic,input,uncertainty").json()["images"]
    height, width = pixels(beside["input"]).shape[:2]
    assert pixels(beside["bicubic"]).shape == (4 * height, 4 * width, 3)
    assert beside["uncertainty"] is None, "one sample has no spread"


def test_the_derived_object_beside_the_picture_is_the_one_that_is_answered_alone(rig: Rig) -> None:
    objects = pytest.importorskip("tests.edge_sr.dicom.objects")
    data = objects.encoded(objects.dx())
    beside = rig.post(data, query="?include=dicom", content_type=DICOM).json()["images"]["dicom"]
    alone = rig.post(data, content_type=DICOM, accept=DICOM)
    assert beside["media_type"] == DICOM
    assert base64.b64decode(beside["base64"]) == alone.content


def test_without_asking_nothing_comes_beside(rig: Rig) -> None:
    assert rig.post(picture(), accept=JSON).json()["images"] == {}


@pytest.mark.parametrize("accept", [PNG, DICOM])
def test_what_comes_beside_wants_json(rig: Rig, accept: str) -> None:
    answer = rig.client.post("/v1/upscale?include=input", headers={"accept": accept}, **form(picture()))
    assert (answer.status_code, answer.json()["field"]) == (406, "Accept")


@pytest.mark.parametrize("given", ["", "patient", "input,", "input,Grzegorzewska"])
def test_what_is_unknown_is_refused_and_not_repeated(rig: Rig, given: str) -> None:
    answer = rig.post(picture(), query=f"?include={given}")
    assert (answer.status_code, answer.json()["field"]) == (422, "include")
    assert "Grzegorzewska" not in answer.text


def test_what_comes_beside_counts_as_output(opened: Bundle) -> None:
    with running(opened, max_output_pixels=20 * 24 * 16 * 2) as rig:
        assert rig.post(picture(), query="?include=bicubic,input").status_code == 200
        refused = rig.post(picture(), query="?include=bicubic,change")
    assert refused.status_code == 422
    assert "2 more beside it" in refused.json()["detail"]
    assert "less beside it" in refused.json()["hint"]
