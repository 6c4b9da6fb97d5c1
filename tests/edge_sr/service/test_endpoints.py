"""Everything but the images: health, figures, the Open Inference Protocol, the description."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("tests.edge_sr.service.rig")

from starlette.routing import Route

from edge_sr import __version__
from edge_sr.image import decode_image
from edge_sr.result import Settings, upscale_image
from edge_sr.service.counters import Counters
from edge_sr.service.openapi import document
from edge_sr.service.settings import ServiceSettings
from tests.edge_sr.service.rig import Rig, picture


def figures(rig: Rig) -> dict[str, float]:
    """Every sample of /metrics by its name and labels."""
    answer = rig.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_service_that_is_warm_is_ready(rig: Rig) -> None:
    assert rig.client.get("/healthz").json()["status"] == "alive"
    answer = rig.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_it_speaks_the_open_inference_protocol_as_far_as_health_and_metadata_go(rig: Rig) -> None:
    assert rig.client.get("/v2/health/live").json() == {"live": True}
    assert rig.client.get("/v2/health/ready").json() == {"ready": True}
    server = rig.client.get("/v2").json()
    assert server == {"name": "edge-sr", "version": __version__, "extensions": []}
    model = rig.client.get("/v2/models/tiny").json()
    assert (model["name"], model["versions"]) == ("tiny", ["0.1"])
    assert {"platform", "inputs", "outputs"} <= set(model)
    assert rig.client.get("/v2/models/other").status_code == 404


def test_requests_are_counted_by_endpoint_and_status(rig: Rig) -> None:
    rig.post(picture())
    rig.post(b"")
    rig.client.get("/nothing/1")
    found = figures(rig)
    assert found['edge_sr_requests_total{endpoint="upscale",status="200"}'] == 1
    assert found['edge_sr_requests_total{endpoint="upscale",status="422"}'] == 1
    assert found['edge_sr_requests_total{endpoint="none",status="404"}'] == 1
    assert found['edge_sr_request_seconds_count{endpoint="upscale"}'] == 2
    assert found["edge_sr_inference_seconds_count"] == 1
    assert found["edge_sr_inference_seconds_sum"] > 0
    assert found["edge_sr_queue_depth"] == 0
    assert found["edge_sr_ready"] == 1
    assert found["edge_sr_consistency_alarms_total"] == 0


def test_a_result_less_consistent_than_true_images_is_counted(rig: Rig) -> None:
    settings = Settings(rig.upscaler.bundle.diffusion.presets["even"])
    result = upscale_image(rig.upscaler, decode_image(picture(), name="a"), settings)
    counters = Counters(rig.worker)
    for alarm_db in (result.consistency_db + 1, result.consistency_db - 1, None):
        counters.count_result(replace(result, alarm_db=alarm_db))
    assert b"edge_sr_consistency_alarms_total 1.0" in counters.text()


def test_labels_are_those_that_are_known_beforehand(rig: Rig) -> None:
    rig.post(picture())
    names = {name for sample in figures(rig) for name in re.findall(r'(\w+)="', sample)}
    assert names == {"endpoint", "status", "le"}


def test_the_description_lists_every_route_and_nothing_else(rig: Rig) -> None:
    routes = [route for route in rig.client.app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    served = {(route.path, m.lower()) for route in routes for m in (route.methods or set()) - {"HEAD"}}
    described = rig.client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1.")
    assert {(path, method) for path, item in described["paths"].items() for method in item} == served


def test_every_reference_of_the_description_leads_somewhere() -> None:
    described = document(ServiceSettings(), None)
    for reference in re.findall(r"'\$ref': '([^']+)'", str(described)):
        found: Any = described
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert found["type"] == "object"


def test_every_status_that_an_image_is_answered_with_is_described(rig: Rig) -> None:
    described = rig.client.get("/openapi.json").json()["paths"]["/v1/upscale"]["post"]
    asked = [rig.post(picture()), rig.post(b""), rig.post(b"", content_type=""), rig.post(b"", accept="a/b")]
    assert {str(answer.status_code) for answer in asked} == {"200", "422", "415", "406"}
    for answer in asked:
        assert answer.headers["content-type"] in described["responses"][str(answer.status_code)]["content"]
    assert {p["name"] for p in described["parameters"] if p["in"] == "query"} == {
        "seed",
        "steps",
        "samples",
        "scale",
        "include",
    }


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/v1/upscale"])
def test_every_answer_has_an_id_and_is_of_the_type_it_says(rig: Rig, path: str) -> None:
    headers = rig.client.get(path).headers
    assert headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"
