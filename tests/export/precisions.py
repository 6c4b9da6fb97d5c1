"""A bundle in every precision, and how far each is from FP32: what the tests of every family ask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.images import CalibrationSet
from calibration.plan import make_plan
from calibration.quantize import quantize_bundle
from calibration.record import record
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Precision
from export.bundle import phantom

ON_TENSORRT = (Precision.FP32, Precision.FP16, Precision.INT8_FP16)


def quantised_from(bundle: Bundle, folder: Path, *, preset: str | None, images: int = 4) -> Bundle:
    """The bundle in every precision, in `folder`, from a recording of phantoms of several shades."""
    manifest = bundle.manifest
    shades = np.linspace(0.3, 1, images, dtype=np.float32)
    pictures = tuple(phantom(manifest.tile, manifest.channels) * shade for shade in shades)
    calibration = CalibrationSet(tuple(map(str, range(images))), pictures, "0" * 64)
    plan = make_plan(bundle, record(bundle, calibration, preset=preset, seed=0), method="mse")
    return quantize_bundle(bundle, plan, folder)


def errors_to_fp32(
    bundle: Bundle, image: npt.NDArray[np.float32], *, preset: Preset | None, root: Path
) -> dict[Precision, float]:
    """RMS of FP16's and INT8's image against FP32's, once each has passed the self-test in `root`."""
    made = {}
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8):
        with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=precision) as upscaler:
            assert run_selftest(upscaler, root=root).passed
            made[precision] = upscaler.upscale(image, preset=preset, seed=0).mean
    exact = made.pop(Precision.FP32)
    return {precision: float(np.sqrt(np.mean((found - exact) ** 2))) for precision, found in made.items()}


def check_compiles(bundle: Bundle) -> None:
    """Asserts that TensorRT-RTX builds every graph, and finds its INT8 as it was planned."""
    from calibration.trt_verdict import judge_graph, open_rtx

    library = open_rtx()
    for component in bundle.manifest.components:
        for precision in ON_TENSORRT:
            verdict = judge_graph(bundle.graph(component, precision), library, bundle.manifest)
            assert verdict.is_good, (component, precision, verdict.findings)
