"""The roofline as data.

History of the format:
    edge-sr/roofline 1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.records import BundleFacts, Environment, Record, Timing

__all__ = ["Rate", "RooflineResult", "StageResult"]


class Rate(Record):
    """What a piece of work reached.

    Attributes:
        name: What it is.
        kind: What is counted: operations of FP32 or INT8, or bytes.
        per_second: Operations (two a multiply-accumulate) or bytes a second; the best of all rounds.
        seconds: Of one run, every round.
    """

    name: str
    kind: Literal["fp32", "int8", "bytes"]
    per_second: float
    seconds: Timing


class StageResult(Record):
    """One run of a graph.

    Attributes:
        stage, precision: Which graph.
        macs: Multiply-accumulates.
        traffic_bytes: Weights and activations, each moved once, at the graph's precision.
        int8_share: Of the multiply-accumulates those in INT8.
        seconds: Of one run.
        floor_ms: `edge_sr.roofline.bound_ms` with the rates of this run, as if no layer were out of INT8.
        mixed_ms: The arithmetic alone, each part at the peak of its precision.
        reached: `mixed_ms` over the median time.
        shares: Kind of operator -> its share of the time, by ONNX Runtime's profiler.
        products_reached: `mixed_ms` over the time of the products alone, by the profiler.
        operators: Operator -> milliseconds, likewise.
    """

    stage: str
    precision: str
    macs: int
    traffic_bytes: int
    int8_share: float
    seconds: Timing
    floor_ms: float
    mixed_ms: float
    reached: float
    shares: dict[str, float]
    products_reached: float
    operators: dict[str, float]


class RooflineResult(Record):
    """All stages of a bundle on one machine.

    Attributes:
        fp32_tops, int8_tops: The peaks: the best rate in the precision, in units of 1e12 operations a second.
        bandwidth_gb_s: Stage and precision -> rate of a copy as large as its traffic, in 1e9 bytes a second.
        memory_gb_s: The same for a copy that no cache holds.
        words: What stands between the stages and the peaks.
    """

    kind: Literal["edge-sr/roofline"] = "edge-sr/roofline"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    rounds: int
    steps: int
    rates: tuple[Rate, ...]
    fp32_tops: float
    int8_tops: float
    memory_gb_s: float
    bandwidth_gb_s: dict[str, float]
    stages: tuple[StageResult, ...]
    words: tuple[str, ...]
