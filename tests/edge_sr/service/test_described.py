"""The service does what /openapi.json says, and says what it does: schemathesis, over a real socket."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")
pytest.importorskip("tests.edge_sr.image.pictures")
pytest.importorskip("tests.edge_sr.dicom.objects")

from tests.edge_sr.service.rig import Rig, running
from tests.edge_sr.service.test_connection import serving
from tests.test_layering import ROOT

EXAMPLES = 10
"""Random requests an operation, besides those that schemathesis derives from every limit and type."""
GIVE_UP_S = 900
"""Some 260 requests take half a minute; one that is never answered must not hold up the tests for ever."""
LIMITS = {"max_steps": 8, "max_samples": 3}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None,
    reason="schemathesis is not installed (extra: api-check)",
)
def test_schemathesis_finds_no_answer_that_is_not_described(opened: Bundle, tmp_path: Path) -> None:
    hooks = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.edge_sr.service.schemathesis_media"}
    with serving(opened, **LIMITS) as port:
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
        command += [f"http://127.0.0.1:{port}/openapi.json", "--generation-deterministic", "--no-color"]
        command += ["--max-examples", str(EXAMPLES), "--continue-on-failure"]
        told = subprocess.run(
            command,
            env={**os.environ, **hooks},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=GIVE_UP_S,
        )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "Operations:       12 selected / 12 total" in told.stdout


def ranges(rig: Rig) -> dict[str, tuple[int, int]]:
    described = rig.client.get("/openapi.json").json()["paths"]["/v1/upscale"]["post"]
    numbers = {p["name"]: p["schema"] for p in described["parameters"] if p["schema"]["type"] == "integer"}
    return {name: (schema["minimum"], schema["maximum"]) for name, schema in numbers.items()}


def test_the_description_has_the_limits_of_this_service_and_of_its_model(opened: Bundle) -> None:
    seeds = {"seed": (0, 2**64 - 1)}
    with running(opened, **LIMITS) as rig:
        assert ranges(rig) == {"steps": (1, 8), "samples": (1, 3), "scale": (2, 16)} | seeds
    with running(opened) as rig:
        assert ranges(rig) == {"steps": (1, 20), "samples": (1, 16), "scale": (2, 16)} | seeds
