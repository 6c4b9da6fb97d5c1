"""Pictures: how ranges drift along the loop, and what INT8 costs layer by layer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.errors import CalibrationError
from calibration.layers import Layer
from calibration.recording import Recording
from calibration.sensitivity import Candidate, Row
from edge_sr.image import write_atomic
from edge_sr.spec import Component

__all__ = ["drift", "plot_drift", "plot_sensitivity"]

SHOWN = 40  # rows of a picture at most


def drift(recording: Recording) -> tuple[list[str], npt.NDArray[np.float64]]:
    """How far the range of each of the step graph's tensors moves along the loop, the most restless first.

    Returns:
        Names, and (R, S) float64: log2 of the largest magnitude at each step over its median over the steps.
    """
    found = {}
    for name, histogram in recording.histograms[Component.STEP].items():
        amax = np.maximum(-histogram.low, histogram.high)
        if np.all(amax > 0):
            found[name] = np.log2(amax / np.median(amax))
    order = sorted(found, key=lambda name: -float(np.ptp(found[name])))
    return order, np.array([found[name] for name in order])


def plot_drift(recording: Recording, layers: list[Layer], path: Path) -> None:
    """Draws `drift` as a PNG, tensors named after the layers of the step graph that read or write them.

    Raises:
        CalibrationError: matplotlib is not installed, or nothing was recorded.
    """
    names, values = drift(recording)
    if not names:
        raise CalibrationError("the step graph's ranges were not recorded")
    figure, axes = _figure(1, height=1.5 + 0.22 * min(len(names), SHOWN))
    shown = values[:SHOWN]
    limit = max(1.0, float(np.abs(shown).max()))
    picture = axes[0].imshow(
        shown, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    labels = {layer.output: f"{layer.name} writes" for layer in layers}
    labels |= {name: f"{layer.name} reads" for layer in reversed(layers) for name in layer.inputs}
    axes[0].set_yticks(range(len(shown)), [labels.get(name, name) for name in names[:SHOWN]], fontsize=7)
    axes[0].set_xticks(
        range(len(recording.facts.timesteps)), recording.facts.timesteps, fontsize=7, rotation=90
    )
    axes[0].set_xlabel("timestep, in the order of the loop")
    figure.colorbar(picture, label="log2 of the range over its median")
    figure.suptitle(f"Ranges along the loop: the {len(shown)} that move most, of {len(names)}")
    _save(figure, path)


def plot_sensitivity(rows: list[Row], candidates: list[Candidate], chosen: str, path: Path) -> None:
    """Draws the error of each layer, and the plans in the plane of error and speed, as a PNG.

    Raises:
        CalibrationError: matplotlib is not installed.
    """
    shown = rows[:SHOWN]
    figure, (left, right) = _figure(2, height=1.5 + 0.22 * len(shown))
    colours = {Component.ENCODER: "tab:green", Component.STEP: "tab:blue", Component.DECODER: "tab:orange"}
    left.barh(
        [f"{r.layer}" for r in shown],
        [r.image_error for r in shown],
        color=[colours[r.component] for r in shown],
    )
    left.invert_yaxis()
    left.tick_params(axis="y", labelsize=7)
    left.set_xlabel("difference from FP32, gray levels of 255 (RMS)")
    left.set_title("one layer alone in INT8 (green encoder, blue step, orange decoder)", fontsize=9)
    for candidate in candidates:
        marker = "*" if candidate.name == chosen else "o"
        right.plot(
            candidate.image_error,
            candidate.speedup,
            marker,
            color="black",
            markersize=12 if marker == "*" else 5,
        )
        right.annotate(
            candidate.name,
            (candidate.image_error, candidate.speedup),
            fontsize=7,
            xytext=(4, 4),
            textcoords="offset points",
        )
    right.set_xlabel("difference from FP32, gray levels of 255 (RMS)")
    right.set_ylabel("times as fast as FP32, end to end")
    right.set_title("whole plans (star: chosen)", fontsize=9)
    _save(figure, path)


def _figure(columns: int, *, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CalibrationError("pictures need matplotlib", hint="pip install -e '.[calibration]'") from error
    figure = Figure(figsize=(7 * columns, max(height, 4)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomic(path, buffer.getvalue())
