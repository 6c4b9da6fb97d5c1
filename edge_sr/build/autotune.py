"""Lets quality and the clock decide between INT8 and FP16: both are built and timed here, one is published.

INT8 is often slower than FP16 on small networks, and never better. So it is taken only where it is faster by
more than the timings scatter, and loses no more than the budget.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_sr.backends.engine_store import EngineStore, default_engine_dir
from edge_sr.build import BuildReport, Built
from edge_sr.errors import UsageError
from edge_sr.spec import Precision

__all__ = ["BUDGET_DB", "Build", "Choice", "Measure", "Measurement", "autotune", "choose"]

BUDGET_DB = 0.12
"""What the seed alone moves the PSNR of a diffusion model by; a smaller loss cannot be told from it."""


@dataclass(frozen=True)
class Measurement:
    """What a precision costs and gives on this device.

    Attributes:
        latency_ms: One figure a run, at least two runs.
        psnr_db: Against the true images, or against FP32's output; the same for both precisions.
    """

    latency_ms: tuple[float, ...]
    psnr_db: float

    @property
    def median_ms(self) -> float:
        """The middle of the latencies."""
        return statistics.median(self.latency_ms)

    @property
    def quartiles_ms(self) -> tuple[float, float]:
        """The lower and the upper quartile of the latencies."""
        lower, _, upper = statistics.quantiles(self.latency_ms, n=4)
        return lower, upper


@dataclass(frozen=True)
class Choice:
    """Which precision is published, and why, in one sentence."""

    precision: Precision
    reason: str


Build = Callable[[Precision, Path], BuildReport]
"""Builds the bundle at a precision into a folder."""

Measure = Callable[[Precision, Path], Measurement]
"""Runs the bundle at a precision with the engines of a folder."""


def choose(int8: Measurement, fp16: Measurement, *, budget_db: float = BUDGET_DB) -> Choice:
    """INT8 where it is clearly faster and inside the budget, FP16 otherwise.

    Args:
        int8: What was measured for INT8.
        fp16: What was measured for FP16.
        budget_db: Most PSNR that INT8 may lose against FP16, in dB.

    Raises:
        UsageError: Fewer than two runs were timed.
    """
    if min(len(int8.latency_ms), len(fp16.latency_ms)) < 2:
        raise UsageError("two runs or more must be timed to tell a difference from noise")
    times = f"{int8.median_ms:.2f} ms against {fp16.median_ms:.2f} ms"
    loss = fp16.psnr_db - int8.psnr_db
    if loss > budget_db:
        return Choice(
            Precision.FP16, f"INT8 loses {loss:.2f} dB, more than the budget of {budget_db:.2f} dB ({times})"
        )
    if int8.quartiles_ms[1] >= fp16.quartiles_ms[0]:
        return Choice(Precision.FP16, f"INT8 is not clearly faster than FP16 here: {times}")
    return Choice(Precision.INT8, f"INT8 takes {times} of FP16, and loses {max(loss, 0.0):.2f} dB")


def autotune(
    build: Build, measure: Measure, *, engine_dir: Path | None = None, budget_db: float = BUDGET_DB
) -> tuple[Choice, BuildReport]:
    """Builds INT8 and FP16, measures both, and publishes the one that is chosen.

    Args:
        build: Builds a precision into a folder, by `build_engines`.
        measure: Runs and times a precision with the engines of a folder.
        engine_dir: Where the chosen engines go; `default_engine_dir()` where None.
        budget_db: See `choose`.

    Raises:
        EdgeSRError: What `build` and `measure` raise; nothing is published then.
    """
    store = EngineStore(engine_dir or default_engine_dir())
    reports: dict[Precision, BuildReport] = {}
    measured: dict[Precision, Measurement] = {}
    with ExitStack() as stack:
        for precision in (Precision.FP16, Precision.INT8):
            folder = stack.enter_context(store.staging())
            reports[precision] = build(precision, folder)
            measured[precision] = measure(precision, folder)
        choice = choose(measured[Precision.INT8], measured[Precision.FP16], budget_db=budget_db)
        chosen = reports[choice.precision]
        return choice, BuildReport(_published(store, chosen.engines, choice), chosen.target, chosen.notes)


def _published(store: EngineStore, engines: Sequence[Built], choice: Choice) -> tuple[Built, ...]:
    """Moves engines from their folder into the store, with the reason in their sidecars."""
    moved = []
    for built in engines:
        sidecar = built.sidecar.model_copy(update={"notes": (*built.sidecar.notes, choice.reason)})
        moved.append(Built(store.publish(built.path, sidecar), sidecar, was_reused=False))
    return tuple(moved)
