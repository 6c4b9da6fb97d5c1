"""Golden inputs through every graph and the whole pipeline: what an owner runs first on a new machine.

The stored values are those of the FP32 model in torch. A graph is given the stored inputs, so that an error
in one does not hide behind another; then the whole loop is run from the stored noise. `check_graph` does the
same for one graph, before its engine is published.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Backend, Engine, Resource
from edge_sr.build.autotune import Measurement
from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError, EngineError
from edge_sr.measure import SECONDS, EnergyPerImage, energy_per_image
from edge_sr.pipeline import Guide, StageSeconds, Upscaler, make_guide, make_schedule
from edge_sr.schedule import coefficients
from edge_sr.spec import IMAGE, LATENT, OUTPUT, Component, Graph, Precision

__all__ = ["TOLERANCES", "Check", "SelfTest", "check_engine", "check_graph", "measure_golden", "run_selftest"]

TOLERANCES = {
    Precision.FP32: 1e-3,
    Precision.FP16: 2e-2,
    Precision.INT8: 0.12,
    Precision.INT8_FP16: 0.12,
}
"""Largest root-mean-square error of a tensor relative to the spread of the stored one, by precision.

FP32 differs by the order of sums alone. The others round: FP16 keeps 11 bits and INT8 8, layer after layer,
so that their limits are what a right build stays well inside of and a broken one (a wrong scale, a stale
engine, a refused run) does not."""

TIMED_RUNS = 5
TUNING_RUNS = 20
PSNR_DB = 30.0
"""What a model of this kind reaches against true images, where the bundle says nothing of its own."""

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
        energy: What an image costs; None where the machine has no rail that says so.
    """

    checks: tuple[Check, ...]
    latency_ms: dict[str, float]
    energy: EnergyPerImage | None = None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def run_selftest(upscaler: Upscaler, *, root: Path = Path("/"), energy_s: float = SECONDS) -> SelfTest:
    """Runs the golden inputs of the bundle.

    Args:
        upscaler: What to run; its whole loop is captured where the backend can, as it is for images.
        root: Where the machine's files are, for its rails.
        energy_s: How long power is read, idle and at work each, where there is a rail.

    Raises:
        BundleError: The bundle's golden file lacks something.
        BackendError: A graph failed.
    """
    bundle, tolerance = upscaler.bundle, TOLERANCES[upscaler.precision]
    golden = _golden(bundle)
    checks: list[Check] = []
    for component in (c for c in bundle.manifest.components if c is not Component.STEP):
        case = _Case(bundle, golden, upscaler.backend, upscaler.engines[component])
        checks += case.checks(component, tolerance)
    loop = _GoldenLoop(upscaler, golden)
    spent = [loop.run() for _ in range(TIMED_RUNS + 1)]
    checks.append(_compare("whole loop: output", loop.out, golden["output"], tolerance))
    stages = ("encode", "loop", "decode", "host")
    latency = {stage: 1e3 * float(np.median([getattr(s, stage) for s in spent[1:]])) for stage in stages}
    return SelfTest(tuple(checks), latency, energy_per_image(loop.run, root=root, seconds=energy_s))


def check_graph(backend: Backend, graph: Graph, bundle: Bundle) -> tuple[Check, ...]:
    """Runs one graph on the golden values of what it reads.

    The step runs through the whole default preset from the stored noise, and what it ends at is compared.

    Raises:
        BundleError: The bundle's golden file lacks something.
        BackendError: The backend refuses the graph, or it failed.
    """
    with backend.load(graph) as engine:
        case = _Case(bundle, _golden(bundle), backend, engine)
        return tuple(case.checks(graph.component, TOLERANCES[graph.precision]))


def check_engine(backend: Backend, graph: Graph, bundle: Bundle) -> str:
    """What `check_graph` says of an engine that was just built, in a few words.

    Raises:
        EngineError: It computes something else.
        BundleError, BackendError: As for `check_graph`.
    """
    worst = max(check_graph(backend, graph, bundle), key=lambda check: check.error)
    if not worst.passed:
        how = f"off by {_percent(worst.error)}" if math.isfinite(worst.error) else "no number"
        raise EngineError(
            f"the {graph.precision} {graph.component} that was built computes something else: "
            f"{worst.name} is {how}, at most {_percent(worst.tolerance)} passes",
            hint="nothing was published; attach the output of: edge-sr doctor --json, to a bug report",
        )
    return f"golden outputs within {_percent(worst.error)}"


def measure_golden(upscaler: Upscaler, *, runs: int = TUNING_RUNS) -> Measurement:
    """Times the golden image on the device, and estimates the quality that rounding leaves.

    There are no true images here. The distance to FP32's output is added to the error that the model has
    against true images anyway, as if the two were independent; of several measured figures, the best is
    taken, beside which a loss weighs most.

    Args:
        upscaler: What to run; its whole loop is captured where the backend can.
        runs: How many are timed, after a few that are not.

    Raises:
        BundleError: The bundle's golden file lacks something.
        BackendError: A graph failed.
    """
    golden = _golden(upscaler.bundle)
    loop = _GoldenLoop(upscaler, golden)
    spent = [loop.run() for _ in range(runs + TIMED_RUNS)]
    latency = tuple(1e3 * (s.encode + s.loop + s.decode) for s in spent[TIMED_RUNS:])
    quality = upscaler.bundle.manifest.quality
    measured = [row.metrics["psnr_db"] for row in quality if "psnr_db" in row.metrics]
    own = 10 ** (-max(measured, default=PSNR_DB) / 10)
    moved = float(np.mean(np.square((loop.out - golden["output"]) / 2, dtype=np.float64)))  # the range is 2
    return Measurement(latency, -10 * math.log10(own + moved) if math.isfinite(moved) else -math.inf)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _golden(bundle: Bundle) -> dict[str, Array]:
    """The stored values, all there.

    Raises:
        BundleError: Something is missing.
    """
    golden = bundle.golden()
    wanted = {IMAGE, OUTPUT, *(f"encoder.{name}" for name in _encoded(bundle))}
    if Component.STEP in bundle.manifest.graphs:
        wanted |= {"noise", _end_of_loop(bundle)}
    missing = wanted - set(golden)
    if missing:
        raise BundleError(
            f"the golden file lacks {', '.join(sorted(missing))}", hint="export the bundle again"
        )
    return golden


def _encoded(bundle: Bundle) -> list[str]:
    """The encoder's outputs by name, where there is one; every precision has the same."""
    graphs = bundle.manifest.graphs.get(Component.ENCODER)
    return [tensor.name for tensor in graphs[bundle.manifest.default_precision].outputs] if graphs else []


def _end_of_loop(bundle: Bundle) -> str:
    """The golden value that the loop ends at."""
    return LATENT if Component.DECODER in bundle.manifest.graphs else OUTPUT


class _GoldenLoop:
    """The whole loop of an upscaler on the golden image, from the stored noise."""

    def __init__(self, upscaler: Upscaler, golden: dict[str, Array]) -> None:
        self._engine = upscaler.tile_engine(upscaler.bundle.manifest.default_preset, len(golden[IMAGE]))
        shape = self._engine.latent_shape
        self._image, self._noise = golden[IMAGE], golden.get("noise", np.empty(shape, np.float32))
        self.out = np.empty(golden[OUTPUT].shape, np.float32)
        self._no_noise = np.zeros((len(self._engine.noisy_steps), *shape), np.float32)

    def run(self) -> StageSeconds:
        """One image, into `out`."""
        return self._engine.run(self._image, self._noise, self._no_noise, self.out)


@dataclass(frozen=True)
class _Case:
    """A graph on a backend, and the golden values."""

    bundle: Bundle
    golden: dict[str, Array]
    backend: Backend
    engine: Engine

    def checks(self, component: Component, tolerance: float) -> list[Check]:
        """The graph alone, on the stored values of what it reads."""
        golden = self.golden
        encoded = {name: golden[f"encoder.{name}"] for name in _encoded(self.bundle)}
        known = {IMAGE: golden[IMAGE], **encoded}
        bundle, batch = self.bundle, len(golden[IMAGE])
        guide = make_guide(bundle.manifest, bundle.class_embedding(), bundle.manifest.default_preset)
        rows = guide.evaluations * batch if guide and component is Component.STEP else batch
        with _Bench(self.backend, self.engine, rows) as bench:
            if component is Component.ENCODER:
                results, wanted = bench.run(known), encoded
            elif component is Component.DECODER:
                results = bench.run(golden | known)
                wanted = {OUTPUT: golden[OUTPUT]}
            else:
                end = _end_of_loop(self.bundle)
                results, wanted = {end: self._denoised(bench, known, guide)[:batch]}, {end: golden[end]}
        return [
            _compare(f"{component}: {name}", results[name], want, tolerance) for name, want in wanted.items()
        ]

    def _denoised(self, bench: _Bench, known: dict[str, Array], guide: Guide | None) -> Array:
        """What all steps of the default preset make of the stored noise, without further noise."""
        times, samples = guide.evaluations if guide else 1, len(self.golden["noise"])
        known = {name: np.concatenate([value] * times) for name, value in known.items()}
        if guide:
            known["guidance"] = np.repeat(guide.weights, samples, axis=0)
            known["partner"] = guide.partners(samples)
        x = np.concatenate([self.golden["noise"]] * times)
        batch, previous, nothing = len(x), np.zeros_like(x), np.zeros_like(x)
        schedule, table = (
            make_schedule(self.bundle, self.bundle.manifest.default_preset),
            self.bundle.time_embedding(),
        )
        for step, row in zip(schedule.steps, coefficients(schedule), strict=True):
            scalars = {"coefficients": np.repeat(row[None], batch, axis=0)}
            told = table[[step.timestep]]
            scalars["time_embedding"] = (
                guide.rows(told, samples)[0] if guide else np.repeat(told, batch, axis=0)
            )
            loop = {"x": x, "x0_previous": previous, "noise": nothing, **scalars}
            results = bench.run(known | loop)
            x, previous = results["x_next"], results["x0"]
        return x


class _Bench(Resource):
    """A graph with buffers and a stream of its own."""

    def __init__(self, backend: Backend, engine: Engine, batch: int) -> None:
        self._engine, self._batch = engine, batch
        with ExitStack() as held:
            self._stream = held.enter_context(backend.stream())
            self._buffers = {
                spec.name: held.enter_context(backend.allocate(spec.concrete(batch), spec.dtype))
                for spec in (*engine.inputs, *engine.outputs)
            }
            self._binding = engine.bind(self._buffers)
            held.callback(self._stream.synchronize)  # before the rest: what is under way uses it
            self._held = held.pop_all()

    def close(self) -> None:
        """Waits for what is under way, then frees buffers and stream."""
        self._held.close()

    def run(self, known: dict[str, Array]) -> dict[str, Array]:
        """One run: its outputs by name."""
        for spec in self._engine.inputs:
            value = np.ascontiguousarray(known[spec.name], np.dtype(spec.dtype))
            self._buffers[spec.name].upload(value, self._stream)
        self._binding.enqueue(self._stream)
        results = {s.name: np.empty(s.concrete(self._batch), np.dtype(s.dtype)) for s in self._engine.outputs}
        for name, array in results.items():
            self._buffers[name].download(array, self._stream)
        self._stream.synchronize()
        return results


def _compare(name: str, got: Array, want: Array, tolerance: float) -> Check:
    """NaN and infinity, on either side, are infinitely wrong."""
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return Check(name, float("inf"), tolerance)
    spread = float(np.std(want)) or 1.0
    error = float(np.sqrt(np.mean(np.square(got.astype(np.float64) - want)))) / spread
    return Check(name, error, tolerance)
