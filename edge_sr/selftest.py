"""Golden inputs through every graph and the whole pipeline: what an owner runs first on a new machine.

The stored values are those of the FP32 model in torch. A graph is given the stored inputs, so that an error in
one does not hide behind another; then the whole loop is run from the stored noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.errors import BundleError
from edge_sr.pipeline import TileEngine, Upscaler, make_schedule
from edge_sr.spec import Component, Precision

__all__ = ["TOLERANCES", "Check", "SelfTest", "run_selftest"]

TOLERANCES = {
    Precision.FP32: 1e-3,
    Precision.FP16: 2e-2,
    Precision.INT8: 0.12,
    Precision.INT8_FP16: 0.12,
}
"""Largest root-mean-square error of a tensor relative to the spread of the stored one, by precision.

FP32 differs by the order of sums alone. The others round: FP16 keeps 11 bits and INT8 8, layer after layer, so
that their limits are what a right build stays well inside of and a broken one (a wrong scale, a stale engine, a
refused run) does not."""

TIMED_RUNS = 5
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: What was compared.
        error: Root-mean-square error relative to the stored tensor's standard deviation.
        tolerance: The most that passes.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class SelfTest:
    """The outcome.

    Attributes:
        checks: Every comparison, in the order in which an image passes.
        latency_ms: Median wall time of a stage, in ms, over a few runs after a warm-up.
    """

    checks: tuple[Check, ...]
    latency_ms: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def run_selftest(upscaler: Upscaler) -> SelfTest:
    """Runs the golden inputs of the bundle.

    Raises:
        BundleError: The bundle's golden file lacks something.
        BackendError: A graph failed.
    """
    golden = upscaler.bundle.golden()
    encoded = {f"encoder.{spec.name}" for spec in upscaler.engines[Component.ENCODER].outputs}
    missing = {"image", "noise", "output", "latent"} | encoded
    missing -= set(golden)
    if missing:
        raise BundleError(f"the golden file lacks {', '.join(sorted(missing))}", hint="export the bundle again")
    tolerance = TOLERANCES[upscaler.precision]
    diffusion = upscaler.bundle.manifest.diffusion
    preset = diffusion.presets[diffusion.default]
    checks = _graph_checks(upscaler, golden, tolerance)
    with TileEngine(
        upscaler.backend,
        upscaler.engines,
        schedule=make_schedule(upscaler.bundle, preset),
        batch=len(golden["image"]),
        embedding=upscaler.bundle.time_embedding(),
    ) as engine:
        out = np.empty(golden["output"].shape, np.float32)
        no_noise = np.zeros((len(engine.noisy_steps), *engine.latent_shape), np.float32)
        spent = [engine.run(golden["image"], golden["noise"], no_noise, out) for _ in range(TIMED_RUNS + 1)]
    checks.append(_compare("whole loop: output", out, golden["output"], tolerance))
    stages = ("encode", "loop", "decode", "host")
    latency = {stage: 1e3 * float(np.median([getattr(s, stage) for s in spent[1:]])) for stage in stages}
    return SelfTest(tuple(checks), latency)


def _graph_checks(upscaler: Upscaler, golden: dict[str, Array], tolerance: float) -> list[Check]:
    """Encoder and decoder alone, on the stored values of what they read."""
    names = [spec.name for spec in upscaler.engines[Component.ENCODER].outputs]
    encoded = {name: golden[f"encoder.{name}"] for name in names}
    checks = []
    for component, known in (
        (Component.ENCODER, {"image": golden["image"]}),
        (Component.DECODER, {"latent": golden["latent"], **encoded}),
    ):
        results = _run_once(upscaler, component, known)
        wanted = encoded if component is Component.ENCODER else {"output": golden["output"]}
        for name, want in wanted.items():
            checks.append(_compare(f"{component}: {name}", results[name], want, tolerance))
    return checks


def _run_once(upscaler: Upscaler, component: Component, known: dict[str, Array]) -> dict[str, Array]:
    """One run of one graph: its outputs by name."""
    backend, engine = upscaler.backend, upscaler.engines[component]
    stream = backend.stream()
    batch = len(next(iter(known.values())))
    specs = (*engine.inputs, *engine.outputs)
    buffers = {s.name: backend.allocate(s.concrete(batch), s.dtype) for s in specs}
    for spec in engine.inputs:
        buffers[spec.name].upload(np.ascontiguousarray(known[spec.name], np.dtype(spec.dtype)), stream)
    engine.bind(buffers).enqueue(stream)
    results = {s.name: np.empty(s.concrete(batch), np.dtype(s.dtype)) for s in engine.outputs}
    for name, array in results.items():
        buffers[name].download(array, stream)
    stream.synchronize()
    for resource in (*buffers.values(), stream):
        resource.close()
    return results


def _compare(name: str, got: Array, want: Array, tolerance: float) -> Check:
    """NaN and infinity, on either side, are infinitely wrong."""
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return Check(name, float("inf"), tolerance)
    spread = float(np.std(want)) or 1.0
    error = float(np.sqrt(np.mean(np.square(got.astype(np.float64) - want)))) / spread
    return Check(name, error, tolerance)
