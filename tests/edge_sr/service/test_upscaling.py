"""POST /v1/upscale: what comes out, in which form, and what it says of itself."""

from __future__ import annotations

import base64
import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.image import decode_image, encode_png, read_png_text
from edge_sr.result import Settings, upscale_image

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.rig import DICOM, JSON, PNG, Rig, form, picture, running
from tests.fakes import write_tiny_bundle


def test_a_png_comes_back_four_times_larger_as_the_command_line_makes_it(rig: Rig) -> None:
    answer = rig.post(picture(), query="?seed=5")
    assert (answer.status_code, answer.headers["content-type"]) == (200, PNG)
    presets = rig.upscaler.bundle.diffusion.presets
    image = decode_image(picture(), name="a")
    wanted = upscale_image(rig.upscaler, image, Settings(presets["even"], 5))
    assert wanted.pixels.shape == (80, 96)
    assert answer.content == encode_png(wanted.pixels, text=wanted.provenance)


def test_sixteen_bits_stay_sixteen(rig: Rig) -> None:
    answer = rig.post(picture(dtype=np.uint16))
    assert decode_image(answer.content, name="a").pixels.dtype == np.uint16


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "image/jpeg"), (".tiff", "image/tiff")])
def test_jpeg_and_tiff_are_read_too(rig: Rig, suffix: str, kind: str) -> None:
    pictures = pytest.importorskip("tests.edge_sr.image.pictures")
    answer = rig.post(pictures.encoded(pictures.picture(), suffix), content_type=kind)
    assert answer.status_code == 200
    assert decode_image(answer.content, name="a").pixels.shape == (96, 80)


def test_the_seed_decides_the_bytes(rig: Rig) -> None:
    one, again, other = (rig.post(picture(), query=f"?seed={seed}").content for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_steps_samples_and_scale_reach_the_engine(rig: Rig) -> None:
    answer = rig.post(picture(), query="?steps=2&samples=3&scale=2", accept=JSON).json()
    assert (answer["width"], answer["height"], answer["scale"]) == (48, 40, 2)
    assert answer["provenance"]["preset"]["steps"] == 2
    assert answer["provenance"]["preset"]["samples"] == 3
    assert answer["uncertainty"] is not None


def test_a_form_with_one_file_gives_what_its_bytes_alone_give(rig: Rig) -> None:
    answer = rig.client.post("/v1/upscale", **form(picture()))
    assert answer.status_code == 200
    assert answer.content == rig.post(picture()).content


def test_json_has_the_figures_and_the_same_png(rig: Rig) -> None:
    answer = rig.post(picture(), accept=JSON)
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    plain = rig.post(picture())
    assert base64.b64decode(document["image"]["base64"]) == plain.content
    assert f"{document['consistency_db']:.2f}" == plain.headers["x-consistency-db"]
    assert "Not for diagnosis" in document["disclaimer"]


def test_an_answer_tells_its_consistency_its_purpose_and_its_time_by_stage(rig: Rig) -> None:
    headers = rig.post(picture()).headers
    assert float(headers["x-consistency-db"]) > 0
    assert headers["x-consistency-alarm"] == "unknown"  # the tiny bundle was not measured
    assert "Not for diagnosis" in headers["x-disclaimer"]
    assert headers["cache-control"] == "no-store"
    stages = re.findall(r"([a-z]+);dur=[0-9.]+", headers["server-timing"])
    assert {"receive", "read", "queue", "encode", "loop", "decode", "write"} <= set(stages)


@pytest.mark.parametrize("given", ["0af7651916cd43dd8448eb211c80319c", str(uuid.UUID(int=7))])
def test_a_request_id_that_is_a_trace_id_or_a_uuid_is_echoed(rig: Rig, given: str) -> None:
    assert rig.post(picture(), x_request_id=given).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "Kowalska", "12345678", "x" * 65, "a\x7fb"])
def test_a_request_id_that_could_name_somebody_is_replaced_by_a_new_request_id(rig: Rig, given: str) -> None:
    answer = rig.client.get("/healthz", headers={"x-request-id": given})
    assert str(uuid.UUID(answer.headers["x-request-id"])) == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", PNG),
        ("*/*", PNG),
        ("image/*", PNG),
        ("application/*", JSON),
        ("image/png;q=0.1, application/json", JSON),
        ("text/html, application/json;q=0.2", JSON),
        ("*/*, image/png;q=0", JSON),
        ("application/dicom, image/png;q=0.5", PNG),
    ],
)
def test_the_answer_is_of_the_type_that_is_preferred_and_possible(rig: Rig, accept: str, wanted: str) -> None:
    assert rig.post(picture(), accept=accept).headers["content-type"] == wanted


@pytest.fixture
def dx() -> tuple[Any, bytes]:
    """A radiograph of somebody: the data set, and its file."""
    objects = pytest.importorskip("tests.edge_sr.dicom.objects")
    dataset = objects.dx(PatientName="Grzegorzewska^Elzbieta")
    return dataset, objects.encoded(dataset)


def test_dicom_comes_back_as_a_derived_object_of_the_same_study(rig: Rig, dx: tuple[Any, bytes]) -> None:
    pydicom = pytest.importorskip("pydicom")
    source, data = dx
    answer = rig.post(data, content_type=DICOM, accept=DICOM)
    assert (answer.status_code, answer.headers["content-type"]) == (200, DICOM)
    made = pydicom.dcmread(io.BytesIO(answer.content))
    assert (made.Rows, made.Columns) == (4 * source.Rows, 4 * source.Columns)
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.SOPInstanceUID != source.SOPInstanceUID
    assert made.PatientName == source.PatientName


def test_dicom_comes_back_as_png_where_nothing_else_is_asked_for(rig: Rig, dx: tuple[Any, bytes]) -> None:
    answer = rig.post(dx[1], content_type=DICOM)
    assert answer.headers["content-type"] == PNG
    assert "Disclaimer" in read_png_text(answer.content)
    assert b"Grzegorzewska" not in answer.content


def test_dicom_in_a_form_can_come_back_as_dicom(rig: Rig, dx: tuple[Any, bytes]) -> None:
    answer = rig.client.post("/v1/upscale", headers={"accept": DICOM}, **form(dx[1]))
    assert answer.headers["content-type"] == DICOM


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Rig]:
    """A service of a bundle without a loop."""
    with running(write_tiny_bundle(tmp_path / "plain", family="regression"), queue_size=1) as found:
        yield found


def test_a_bundle_without_a_loop_answers_the_same_for_every_seed(plain: Rig) -> None:
    one, other = (plain.post(picture(), query=f"?seed={seed}") for seed in (1, 2))
    assert (one.status_code, one.content) == (200, other.content)


@pytest.mark.parametrize("name", ["steps", "samples"])
def test_what_only_a_loop_has_is_refused_without_one(plain: Rig, name: str) -> None:
    answer = plain.post(picture(), query=f"?{name}=2")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{name}: this model has no loop")


def test_a_model_of_colour_is_served_in_colour_and_takes_gray_too(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "rgb", family="regression", colours=3)
    colour = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    with running(bundle) as found:
        metadata = found.client.get(f"/v2/models/{bundle.manifest.name}").json()
        made, from_gray = (found.post(data).content for data in (encode_png(colour, text={}), picture()))
    assert metadata["inputs"][0]["shape"] == [-1, -1, 3]
    read = [decode_image(data, name="a") for data in (made, from_gray)]
    # The fake backend makes equal channels of everything: only their file tells the two apart.
    assert [image.notices for image in read] == [("equal colour channels read as gray",), ()]
    assert read[0].pixels.shape == (80, 96)


def test_a_class_and_its_guidance_reach_the_engine_and_are_warned_of(tmp_path: Path) -> None:
    with running(write_tiny_bundle(tmp_path / "guided", family="guided")) as rig:
        told = rig.post(picture(), query="?class=pneumonia&guidance=3", accept=JSON).json()
        nothing = rig.post(picture(), accept=JSON).json()
        described = rig.client.get("/openapi.json").json()["paths"]["/v1/upscale"]["post"]["parameters"]
        model = rig.client.get("/v1/info").json()["model"]
    assert (told["provenance"]["class"], told["provenance"]["guidance"]) == ("pneumonia", 3.0)
    assert any("guided by class pneumonia at 3" in notice for notice in told["notices"])
    assert (nothing["provenance"]["class"], nothing["provenance"]["guidance"]) == ("none", 1.0)
    assert told["image"] != nothing["image"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in described}
    assert (
        schemas["class"]["enum"] == ["normal", "pneumonia", "none"] and schemas["guidance"]["maximum"] == 8.0
    )
    assert model["classes"] == {
        "names": ["normal", "pneumonia", "none"],
        "null": "none",
        "guidance": 2.0,
        "most_guidance": 8.0,
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?class=covid", "class"),
        ("?class=normal&guidance=9", "guidance"),
        ("?guidance=2", "guidance"),
        ("?class=normal&guidance=nan", "guidance"),
        ("?class=normal&guidance=-1", "guidance"),
        ("?class_name=normal", "query"),
    ],
)
def test_a_class_or_a_guidance_that_is_not_there_is_refused(tmp_path: Path, query: str, field: str) -> None:
    with running(write_tiny_bundle(tmp_path / "guided", family="guided")) as rig:
        answer = rig.post(picture(), query=query)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_model_that_was_told_no_classes_refuses_one_and_describes_none(rig: Rig) -> None:
    answer = rig.post(picture(), query="?class=normal")
    assert (answer.status_code, answer.json()["field"]) == (422, "class")
    described = rig.client.get("/openapi.json").json()["paths"]["/v1/upscale"]["post"]["parameters"]
    assert not {"class", "guidance"} & {parameter["name"] for parameter in described}
    assert rig.client.get("/v1/info").json()["model"]["classes"] is None
