"""Undoes part of INT8's error in the sampler's own numbers, at no cost when it runs.

INT8 distorts the prediction in a way that is partly linear (He et al. 2023, PTQD). For each step the numbers
alpha and gamma are fitted for which alpha * prediction + gamma * x comes closest to FP32's prediction on the
same inputs. A step computes x0 = p * x + q * prediction, so they fold into p + gamma * q and alpha * q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.images import CalibrationSet
from calibration.observe import ObservingBackend
from calibration.plan import Plan
from calibration.quantize import emit
from calibration.trial import Float, Outcome, Trials
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler, make_schedule
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision

__all__ = ["Correction", "Verdict", "corrected", "fit", "judge"]

P, Q = 0, 1  # columns of the coefficients


@dataclass(frozen=True)
class Correction:
    """alpha and gamma of every step."""

    alpha: tuple[float, ...]
    gamma: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """INT8 against FP32 without and with a correction, on images that it was not fitted on.

    Attributes:
        plain_image, corrected_image: Root mean square difference in gray levels of 255.
        plain_latent, corrected_latent: The same of the latent, in its standard deviations.
    """

    plain_image: float
    corrected_image: float
    plain_latent: float
    corrected_latent: float

    @property
    def is_better(self) -> bool:
        """Whether the correction brings both closer to FP32."""
        return self.corrected_image < self.plain_image and self.corrected_latent < self.plain_latent


def corrected(table: Float, correction: Correction) -> Float:
    """The sampler's table with a correction folded in: (S, 7) float32 -> (S, 7) float32."""
    folded = table.astype(np.float64)
    folded[:, P] += np.asarray(correction.gamma) * table[:, Q]
    folded[:, Q] *= np.asarray(correction.alpha)
    return folded.astype(np.float32)


def fit(trials: Trials, plan: Plan) -> Correction:
    """Fits a correction along FP32's trajectories: INT8 is asked beside it at every step.

    Raises:
        CalibrationError: The prediction is clipped, which hides what INT8 did to it.
        BundleError: There is no loop.
    """
    bundle = trials.bundle
    if bundle.diffusion.clip is not None:
        raise CalibrationError("a correction cannot be fitted where x0 is clipped")
    model = emit(_step_graph(bundle), plan.components[Component.STEP], Precision.INT8)
    table = coefficients(make_schedule(bundle, trials.preset))
    fitter = _Fitter(model, table)
    backend = ObservingBackend({c: [] for c in plan.components}, fitter)
    with Upscaler(bundle, backend, precision=Precision.FP32) as upscaler:
        for index, image in enumerate(trials.images.images):
            upscaler.upscale(image, preset=trials.preset, seed=trials.seed + index)
    return fitter.solve()


def judge(trials: Trials, plan: Plan, correction: Correction) -> Verdict:
    """What a correction is worth, end to end."""
    bundle = trials.bundle
    graphs = {c: read_graph(bundle.graph(c, Precision.FP32).path) for c in plan.components}
    models = {c: emit(graph, plan.components[c], Precision.INT8) for c, graph in graphs.items()}
    table = coefficients(make_schedule(bundle, trials.preset))
    reference, plain = trials.run({}), trials.run(models)
    better: Outcome = trials.run(models, coefficients=corrected(table, correction))
    return Verdict(
        plain.image_error(reference),
        better.image_error(reference),
        plain.latent_error(reference),
        better.latent_error(reference),
    )


def halves(images: CalibrationSet) -> tuple[CalibrationSet, CalibrationSet]:
    """Every other image: to fit on, and to judge on."""
    parts = [(images.names[i::2], images.images[i::2]) for i in (0, 1)]
    first, second = (CalibrationSet(names, values, images.digest) for names, values in parts)
    return first, second


class _Fitter:
    """Least squares of FP32's prediction in INT8's prediction and x, for every step."""

    def __init__(self, model: Any, table: Float) -> None:
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
        self.table = table.astype(np.float64)
        self.left = np.zeros((len(table), 2, 2))
        self.right = np.zeros((len(table), 2))
        self.step = -1

    def __call__(self, component: Component, values: dict[str, npt.NDArray[Any]]) -> None:
        if component is not Component.STEP:
            return
        self.step = (self.step + 1) % len(self.table)
        feeds = {value.name: values[value.name] for value in self.session.get_inputs()}
        x0 = self.session.run(["x0"], feeds)[0]
        wanted, found = (self._prediction(values["x"], v) for v in (values["x0"], x0))
        terms = np.stack([found, values["x"].astype(np.float64).ravel()])
        self.left[self.step] += terms @ terms.T
        self.right[self.step] += terms @ wanted

    def solve(self) -> Correction:
        solutions = [np.linalg.solve(a, b) for a, b in zip(self.left, self.right, strict=True)]
        return Correction(tuple(float(s[0]) for s in solutions), tuple(float(s[1]) for s in solutions))

    def _prediction(self, x: npt.NDArray[Any], x0: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        p, q = self.table[self.step, [P, Q]]
        return ((x0.astype(np.float64) - p * x) / q).ravel()


def _step_graph(bundle: Bundle) -> Any:
    return read_graph(bundle.graph(Component.STEP, Precision.FP32).path)
