"""A floor under the time that a graph can take on a device, from its operations and the bytes it moves.

The roofline model (Williams, Waterman & Patterson 2009): a graph takes at least as long as its arithmetic at
the peak rate, and at least as long as its traffic at the peak bandwidth. A measurement below the floor means
that the table, the count or the clock is wrong. It is not a forecast: small graphs come nowhere near it.

Assumptions: peak rates are dense, at the power mode's highest clock; FP32 runs on the CUDA cores, so TF32 on
tensor cores could go below that floor; weights and activations are each moved once per run, as if nothing
stayed in a cache; launches, host work and DLA are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_sr.errors import BundleError, DeviceError, UsageError
from edge_sr.manifest import Manifest
from edge_sr.spec import Component, Precision

__all__ = ["PEAKS", "WIDTHS", "GraphCost", "Peak", "bound_ms", "cost_of", "floor_ms"]


@dataclass(frozen=True)
class GraphCost:
    """What one run of a graph costs at a given batch.

    Attributes:
        macs: Multiply-accumulates; each counts as two operations.
        weight_bytes: Bytes of weights at the graph's precision.
        activation_bytes: Bytes of tensors written plus bytes of tensors read, at the graph's precision.
    """

    macs: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class Peak:
    """Peak rates of a device: operations in units of 1e12 a second, bandwidth in 1e9 bytes a second.

    Attributes:
        name: What is meant, with its power mode.
        fp32_tops: Dense FP32 without tensor cores.
        fp16_tops: Dense FP16.
        int8_tops: Dense INT8; None where the hardware has none.
        bandwidth_gb_s: Of the memory.
        source: Where the figures come from; "recalled" marks those that have not been looked up.
    """

    name: str
    fp32_tops: float
    fp16_tops: float
    int8_tops: float | None
    bandwidth_gb_s: float
    source: str


# FP32 is CUDA cores x 2 x clock: 1024 x 2 x 0.625 GHz and 1.02 GHz; 128 x 2 x 0.9216 GHz; 384 x 2 x 1.1 GHz.
PEAKS = {
    "orin-nano": Peak(
        "Jetson Orin Nano 8 GB, 15 W", 1.28, 10.0, 20.0, 68.0,
        "NVIDIA's 40 sparse INT8 TOPS halved, 68 GB/s; FP16 recalled",
    ),
    "orin-nano-super": Peak(
        "Jetson Orin Nano 8 GB, MAXN_SUPER", 2.09, 16.7, 33.0, 102.0,
        "NVIDIA's 67 sparse INT8 TOPS halved, 102 GB/s; FP16 recalled",
    ),
    "nano": Peak(
        "Jetson Nano (original), 10 W", 0.236, 0.472, None, 25.6,
        "NVIDIA: 472 GFLOP/s FP16, 25.6 GB/s; FP32 is half",
    ),
    "xavier-nx": Peak(
        "Jetson Xavier NX, GPU without DLA", 0.845, 6.8, 13.5, 51.2,
        "data sheet DA-09366-001: 48 tensor cores at 1.1 GHz, LPDDR4x-3200 x 128 bit; 64 FMA per tensor core "
        "and clock recalled",
    ),
}  # fmt: skip


def floor_ms(cost: GraphCost, device: str, *, precision: Precision) -> float:
    """The time in milliseconds below which `device` cannot run a graph once.

    Args:
        cost: What the graph costs at that precision.
        device: A key of `PEAKS`.
        precision: The arithmetic of the graph; both INT8 forms count as INT8.

    Raises:
        UsageError: If the device is not in the table.
        DeviceError: If the device has no hardware for the precision.
    """
    if device not in PEAKS:
        raise UsageError(f"no device named {device!r}", hint=f"one of {', '.join(PEAKS)}")
    return bound_ms(cost, PEAKS[device], precision=precision)


def bound_ms(cost: GraphCost, peak: Peak, *, precision: Precision) -> float:
    """The same for a device by its rates.

    Raises:
        DeviceError: If the device has no hardware for the precision.
    """
    tops = {Precision.FP32: peak.fp32_tops, Precision.FP16: peak.fp16_tops}.get(precision, peak.int8_tops)
    if tops is None:
        raise DeviceError(f"{peak.name} has no INT8 hardware", hint="use fp16")
    compute_ms = 2 * cost.macs / (tops * 1e12) * 1e3
    traffic_ms = (cost.weight_bytes + cost.activation_bytes) / (peak.bandwidth_gb_s * 1e9) * 1e3
    return max(compute_ms, traffic_ms)


WIDTHS = {Precision.FP32: 4, Precision.FP16: 2, Precision.INT8: 1, Precision.INT8_FP16: 1}
"""Bytes of a number; for INT8 as if no layer were left out of it, which a floor may assume."""


def cost_of(manifest: Manifest, component: Component, precision: Precision) -> GraphCost:
    """What a bundle says that a graph costs for a batch of one; where it does not, what follows from FP32's.

    A graph of another precision does the same operations on narrower numbers.

    Raises:
        BundleError: Neither was counted.
    """
    graphs = manifest.graphs[component]
    own = graphs[precision].cost if precision in graphs else None
    if own is not None:
        return GraphCost(**own.model_dump())
    wide = graphs[Precision.FP32].cost if Precision.FP32 in graphs else None
    if wide is None:
        raise BundleError(
            f"bundle {manifest.name} does not say what its {component} costs",
            hint="export it again: python -m export bundle",
        )
    weights, activations = (n * WIDTHS[precision] // 4 for n in (wide.weight_bytes, wide.activation_bytes))
    return GraphCost(wide.macs, weights, activations)
