"""What makes a measurement doubtful, and what its figures do not mean, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge_sr.backends import Announces
from edge_sr.bench.records import Case, Processors, Row, State
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.statistics import drift, spread

__all__ = ["backend_notices", "case_name", "row_notices", "state_notices"]

HALVES = (Precision.FP16, Precision.INT8_FP16)
CPU_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
UNSTEADY = 0.1
"""Quartiles further apart than this share of the median make a run doubtful."""

DRIFT = 0.05
OTHERS = 0.05
"""Share of the machine that others may have before it is told."""

STOLEN = 0.01
HOTTER_C = 10.0


def case_name(case: Case) -> str:
    """A case in a few words."""
    threads = f"{case.threads} thread{'s' if case.threads > 1 else ''}"
    return f"{case.precision}, {_loop_words(case.preset)}, {case.size}x{case.size}, {threads}"


def _loop_words(preset: Preset | None) -> str:
    if preset is None:
        return "one pass"
    samples = f", {preset.samples} samples" if preset.samples > 1 else ""
    return f"{preset.steps} {preset.sampler} step{'s' if preset.steps > 1 else ''}{samples}"


def backend_notices(upscalers: Iterable[Upscaler]) -> Iterator[str]:
    """What the backends have to say, and what their figures do not mean."""
    for upscaler in upscalers:
        backend = upscaler.backend
        yield from backend.notes if isinstance(backend, Announces) else ()
        yield from upscaler.notes
        if backend.name == "fake":
            yield "the fake backend has no weights: its times say nothing of the model"
        if backend.name in CPU_NAMES and upscaler.precision in HALVES:
            yield (
                f"{upscaler.precision}: {CPU_NAMES[backend.name]} computes FP16 in FP32 on a CPU; its times "
                "say nothing of a device that has FP16"
            )


def row_notices(row: Row) -> Iterator[str]:
    """What makes a row's own samples doubtful."""
    name, latency = case_name(row.case), row.stages.latency
    if not row.warm_up.is_stable:
        yield f"{name}: never settled in {len(row.warm_up.seconds)} runs before those that count"
    if (apart := spread(latency)) > UNSTEADY:
        yield f"{name}: unsteady, its quartiles are {apart:.0%} of the median apart"
    if abs(moved := drift(latency)) > DRIFT:
        how = "slower" if moved > 0 else "faster"
        yield f"{name}: the last third of its runs was {abs(moved):.0%} {how} than the first"


def state_notices(before: State, after: State, shares: Processors | None, *, cores: int) -> Iterator[str]:
    """What makes a measurement doubtful, told by the machine, in sentences.

    Args:
        before: Its state before.
        after: And after.
        shares: Who had the processors meanwhile.
        cores: Those that this process may use.
    """
    if before.power_mode != after.power_mode:
        yield f"the power mode changed from {before.power_mode} to {after.power_mode} while it was measured"
    for name, count in after.throttle_counters.items():
        if (slowed := count - before.throttle_counters.get(name, count)) > 0:
            yield f"the machine was throttled {slowed} times while it was measured ({name})"
    for name in after.active_throttles:
        yield f"the machine was being slowed down at the end ({name})"
    for name, degrees in after.temperatures_c.items():
        if (gained := degrees - before.temperatures_c.get(name, degrees)) >= HOTTER_C:
            yield f"{name} became {gained:.0f} °C hotter and had {degrees:.0f} °C: longer runs may be slower"
    if "gpu" in after.clocks_mhz and "gpu" not in after.locked:
        yield "the GPU's clock is not locked; steadier figures: sudo jetson_clocks"
    if shares is not None and shares.others > OTHERS * cores:
        yield f"other processes had {shares.others:.2f} processors while images were timed, of {cores}"
    if shares is not None and shares.stolen > STOLEN * cores:
        yield f"other virtual machines had {shares.stolen:.2f} processors while images were timed, of {cores}"
