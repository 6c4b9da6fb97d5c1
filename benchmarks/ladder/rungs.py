"""The rungs of the ladder: which graphs of which bundle. Imports nothing but edge_sr: see `memory`."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sr.backends import Backend
from edge_sr.backends.ort import OnnxRuntimeBackend
from edge_sr.backends.unsigned import has_vnni
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.manifest import Preset
from edge_sr.spec import Component, Precision

__all__ = [
    "FP16",
    "FP32",
    "INT8",
    "NAIVE",
    "Rung",
    "calibrated",
    "deployed_preset",
    "int8_form",
    "plain_backend",
    "plan_rungs",
]

FP32, FP16, INT8, NAIVE = "fp32", "fp16", "int8", "naive"
"""Keys of the rows, in the ladder's order."""

FP16_NOTE = (
    "weights and the output of every operator that is FP16 in the shipped graph rounded to FP16, sums inside "
    "an operator, latents and step update FP32"
)
NAIVE_HINT = "make one with: python -m calibration quantize --method minmax --no-exclusions --out FOLDER"


@dataclass(frozen=True)
class Rung:
    """A row of the ladder.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        bundle: Whose graphs.
        precision: Which of them.
    """

    key: str
    label: str
    note: str
    bundle: Bundle
    precision: Precision


def plan_rungs(bundle: Bundle, control: Bundle) -> tuple[Rung, ...]:
    """The rows: FP32, FP16 and INT8 of a bundle, and INT8 of the control.

    Raises:
        ConfigError: The control is not the same model quantised in another way, or a precision is missing.
    """
    _check_precisions(bundle, control)
    _check_control(bundle, control)
    return (
        Rung(FP32, "FP32", "what the others are held against", bundle, Precision.FP32),
        Rung(FP16, "FP16 (emulated)", FP16_NOTE, bundle, Precision.FP16),
        Rung(INT8, "INT8", f"{calibrated(bundle)}, {int8_form()}", bundle, Precision.INT8),
        Rung(NAIVE, "Naive INT8", f"control: {calibrated(control)}, {int8_form()}", control, Precision.INT8),
    )


def int8_form() -> str:
    """The form in which INT8 graphs are loaded here; see `edge_sr.backends.unsigned`."""
    return "unsigned activations (VNNI)" if has_vnni() else "signed activations (no VNNI)"


def deployed_preset(bundle: Bundle) -> Preset:
    """The default preset, of one sample."""
    diffusion = bundle.diffusion
    return diffusion.presets[diffusion.default].model_copy(update={"samples": 1})


def plain_backend(threads: int) -> Backend:
    """ONNX Runtime with the graphs as they are shipped: no models that an earlier command has optimised."""
    return OnnxRuntimeBackend(threads=threads, unsigned=has_vnni())


def _check_precisions(bundle: Bundle, control: Bundle) -> None:
    """Asks for what the rows need.

    Raises:
        ConfigError: Something is missing.
    """
    wanted = {Precision.FP32, Precision.FP16, Precision.INT8}
    for which, found, needs in (("bundle", bundle, wanted), ("control", control, {Precision.INT8})):
        if missing := sorted(needs - set(found.precisions())):
            raise ConfigError(
                f"the {which} {found.manifest.name} has no {', '.join(map(str, missing))} graphs",
                hint="make them with: python -m calibration quantize",
            )


def _check_control(bundle: Bundle, control: Bundle) -> None:
    """A control differs in how it was quantised, and in nothing else.

    Raises:
        ConfigError: It is another model, or the same quantisation.
    """
    ours, theirs = (_hashes(b, Precision.FP32) for b in (bundle, control))
    if other := [str(c) for c in ours if ours[c] != theirs.get(c)]:
        raise ConfigError(
            f"the control's FP32 graphs differ from the bundle's: {', '.join(other)}", hint=NAIVE_HINT
        )
    if _hashes(bundle, Precision.INT8) == _hashes(control, Precision.INT8):
        raise ConfigError("the control's INT8 graphs are the bundle's own", hint=NAIVE_HINT)


def _hashes(bundle: Bundle, precision: Precision) -> dict[Component, str]:
    graphs = bundle.manifest.graphs
    return {c: graphs[c][precision].sha256 for c in bundle.manifest.components if precision in graphs[c]}


def calibrated(bundle: Bundle) -> str:
    """How the INT8 graphs were made, in a few words."""
    record = bundle.manifest.calibration
    if record is None:
        return "calibration not recorded"
    left_out = f"{len(record.excluded)} layers left out" if record.excluded else "no layer left out"
    return f"{record.method} ranges, {left_out}"
