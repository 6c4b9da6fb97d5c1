"""ONNX Runtime as it is mostly written: default options, `session.run` and numpy arrays in every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime


def load(folder: Path, threads: int) -> tuple[Any, ...]:
    """Makes the sessions, and reads the table of steps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    files = [str(folder / f"{name}.onnx") for name in ("encoder", "step", "decoder")]
    sessions = [onnxruntime.InferenceSession(file, options) for file in files]
    return (*sessions, np.load(folder / "steps.npz"))


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


def run(session: Any, values: dict[str, Any]) -> dict[str, Any]:
    """One graph: named values in, named values out."""
    made = session.run(None, {put.name: values[put.name] for put in session.get_inputs()})
    return dict(zip([out.name for out in session.get_outputs()], made, strict=True))
