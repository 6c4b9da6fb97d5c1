"""OpenVINO: compiled models, an infer request each, numpy arrays in every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino


def load(folder: Path, threads: int) -> tuple[Any, ...]:
    """Compiles the models, and reads the table of steps."""
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    files = [folder / f"{name}.xml" for name in ("encoder", "step", "decoder")]
    requests = [core.compile_model(file, "CPU", settings).create_infer_request() for file in files]
    return (*requests, np.load(folder / "steps.npz"))


def upscale(
    pipeline: tuple[Any, ...], image: npt.NDArray[np.float32], noise: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Encodes, denoises, decodes."""
    encoder, step, decoder, table = pipeline
    values = {"image": image, "x": noise, "x0_previous": np.zeros_like(noise), "noise": np.zeros_like(noise)}
    values |= run(encoder, values)
    for coefficients, embedding in zip(table["coefficients"], table["embedding"], strict=True):
        values |= {"coefficients": coefficients, "time_embedding": embedding}
        made = run(step, values)
        values |= {"x": made["x_next"], "x0_previous": made["x0"]}
    return run(decoder, values | {"latent": values["x"]})["output"]


def run(request: Any, values: dict[str, Any]) -> dict[str, Any]:
    """One model: named values in, named values out."""
    names = [put.get_any_name() for put in request.model_inputs]
    made = request.infer({name: values[name] for name in names}, share_inputs=True)
    return {out.get_any_name(): made[out] for out in request.model_outputs}
