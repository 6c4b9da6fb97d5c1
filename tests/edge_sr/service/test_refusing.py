"""What is refused, with which status, in which words, and what no answer, log or figure says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.rig import DICOM, PNG, Rig, form, lost_engine, picture, running

SECRETS = ("Grzegorzewska", "PID-77123")


def problem(answer: Any, status: int, *, field: str | None = None) -> dict[str, Any]:
    """The problem of an answer that must be one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert document.get("field") == field
    return document


@pytest.fixture
def small(opened: Bundle) -> Iterator[Rig]:
    """A service with narrow limits."""
    with running(opened, max_bytes=4096, max_pixels=2000, max_output_pixels=10_000, max_steps=8) as found:
        yield found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("seed=-1", "seed"),
        ("seed=18446744073709551616", "seed"),
        ("steps=0", "steps"),
        ("steps=many", "steps"),
        ("steps=9", "steps"),
        ("samples=17", "samples"),
        ("scale=0", "scale"),
        ("scale=257", "scale"),
        ("seed=1&seed=2", "seed"),
        ("patient=Grzegorzewska", "query"),
    ],
)
def test_a_wrong_parameter_is_named_and_what_was_given_is_not(small: Rig, query: str, field: str) -> None:
    document = problem(small.post(picture(), query=f"?{query}"), 422, field=field)
    assert "many" not in document["detail"]
    assert "Grzegorzewska" not in str(document)


def test_a_scale_that_the_model_does_not_reach_is_refused(small: Rig) -> None:
    assert "17" in problem(small.post(picture(), query="?scale=17"), 422)["detail"]


def test_more_steps_than_the_model_has_timesteps_are_refused(rig: Rig) -> None:
    problem(rig.post(picture(), query="?steps=21"), 422, field="steps")


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(small: Rig) -> None:
    def body() -> Iterator[bytes]:
        yield pytest.fail("the body was read")

    headers = {"content-type": PNG, "content-length": "4097"}
    problem(small.client.post("/v1/upscale", content=body(), headers=headers), 413)


@pytest.mark.parametrize("length", ["4097", "9" * 30, "-1", "x"])
def test_a_length_beyond_the_limit_or_none_at_all_is_refused(small: Rig, length: str) -> None:
    problem(small.post(b"", content_length=length), 413)


def test_a_body_without_a_length_is_cut_off_at_the_limit(small: Rig) -> None:
    chunks = iter([picture(), b"\0" * 4096])
    problem(small.client.post("/v1/upscale", content=chunks, headers={"content-type": PNG}), 413)


def test_a_file_in_a_form_is_held_to_the_same_limit(small: Rig) -> None:
    problem(small.client.post("/v1/upscale", **form(picture() + b"\0" * 4096)), 413)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "image/gif", "multipart/form-data"])
def test_a_type_that_is_not_read_is_refused_with_those_that_are(rig: Rig, kind: str) -> None:
    answer = rig.post(picture(), content_type=kind)
    problem(answer, 415, field="Content-Type")
    assert PNG in answer.headers["accept-post"]


def test_a_compressed_body_is_refused(rig: Rig) -> None:
    problem(rig.post(picture(), content_encoding="gzip"), 415, field="Content-Encoding")


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", DICOM, "image/png;q=x"])
def test_an_answer_that_cannot_be_given_is_refused(rig: Rig, accept: str) -> None:
    problem(rig.post(picture(), accept=accept), 406, field="Accept")
    assert rig.upscaler.seeds == []


def test_a_png_in_a_form_cannot_become_dicom(rig: Rig) -> None:
    answer = rig.client.post("/v1/upscale", headers={"accept": DICOM}, **form(picture()))
    problem(answer, 406, field="Accept")


@pytest.mark.parametrize("data", [b"", b"Grzegorzewska", picture()[4:]])
def test_what_is_no_image_is_refused_and_not_repeated(rig: Rig, data: bytes) -> None:
    detail = problem(rig.post(data), 422, field="body")["detail"]
    assert data[:8].hex(" ") not in detail or not data


def test_an_image_of_another_type_than_it_says_is_refused(rig: Rig) -> None:
    detail = problem(rig.post(picture(), content_type="image/jpeg"), 422, field="body")["detail"]
    assert "image/jpeg" in detail
    assert "image/png" in detail


def test_a_damaged_image_is_refused(rig: Rig) -> None:
    assert "the image" in problem(rig.post(picture()[:-20]), 422)["detail"]


def test_an_image_beyond_the_limits_is_refused_before_it_is_decoded(small: Rig) -> None:
    assert "60x40" in problem(small.post(picture(40, 60)), 422)["detail"]


def test_an_output_beyond_the_limit_is_refused(small: Rig) -> None:
    assert "10000" in problem(small.post(picture(30, 30)), 422)["detail"]
    assert small.post(picture(30, 30), query="?scale=2").status_code == 200


@pytest.mark.parametrize("count", [0, 2])
def test_a_form_has_exactly_one_file(rig: Rig, count: int) -> None:
    arguments = form(picture(), n=count) if count else {"files": {"note": (None, b"Grzegorzewska")}}
    document = problem(rig.client.post("/v1/upscale", **arguments), 422, field="body")
    assert "one file" in document["detail"] or "wanted one" in document["detail"]


def test_a_file_in_a_form_of_a_type_that_is_not_read_is_refused(rig: Rig) -> None:
    answer = rig.client.post("/v1/upscale", **form(picture(), kind="text/csv"))
    problem(answer, 415, field="Content-Type")


@pytest.mark.parametrize(
    "body", [b"", b"--b\r\n", b"nonsense", b'--b\r\nContent-Disposition: form-data; name="f"']
)
def test_a_form_that_breaks_off_is_refused(rig: Rig, body: bytes) -> None:
    problem(rig.post(body, content_type="multipart/form-data; boundary=b"), 422, field="body")


def test_a_path_or_a_method_that_is_not_there_is_a_problem_too(rig: Rig) -> None:
    problem(rig.client.get("/Grzegorzewska"), 404)
    problem(rig.client.get("/healthz/"), 404)
    answer = rig.client.get("/v1/upscale")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_a_device_that_fails_is_told_by_kind_and_the_next_image_is_done(rig: Rig) -> None:
    rig.upscaler.error = lost_engine()
    detail = problem(rig.post(picture()), 500)["detail"]
    assert "EngineError" in detail
    assert "plan" not in detail
    assert rig.post(picture()).status_code == 200


def test_an_error_that_nobody_foresaw_is_an_answer_and_quotes_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.upscaler.error = KeyError("Grzegorzewska")
    assert "Grzegorzewska" not in str(problem(rig.post(picture()), 500))
    assert "KeyError" in caplog.text
    assert "Grzegorzewska" not in caplog.text
    assert rig.post(picture()).status_code == 200


def test_no_answer_log_or_figure_names_the_patient_the_file_or_the_query(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    objects = pytest.importorskip("tests.edge_sr.dicom.objects")
    data = objects.encoded(objects.dx(PatientName="Grzegorzewska^Elzbieta", PatientID=SECRETS[1]))
    whole, cut = (form(part, filename="Grzegorzewska.dcm", kind=DICOM) for part in (data, data[:-100]))
    with caplog.at_level(logging.DEBUG, logger="edge_sr"):
        answers = [
            rig.client.post("/v1/upscale", **whole),
            rig.client.post("/v1/upscale", **cut),
            rig.client.post("/v1/upscale?PID-77123=1", **whole),
            rig.client.get("/Grzegorzewska?id=PID-77123"),
            rig.client.get("/v2/models/Grzegorzewska"),
            rig.client.get("/healthz", headers={"x-request-id": "Grzegorzewska"}),
            rig.client.get("/metrics"),
        ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 404, 404, 200, 200]
    told = [answer.content.decode("latin-1") for answer in answers] + [caplog.text]
    assert len(caplog.records) >= len(answers)
    assert not [secret for secret in SECRETS for text in told if secret in text]
