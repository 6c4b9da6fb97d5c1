"""The ladder as data.

History of the format:
    edge-sr/ladder   1  first version
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from benchmarks.records import Check, DataFacts, Environment, Estimate, Record, Statistics
from edge_sr.manifest import Calibration, Preset

__all__ = [
    "Against",
    "Judgement",
    "LadderResult",
    "Latency",
    "Memory",
    "RungResult",
    "Source",
    "StageTimes",
    "Trajectory",
]

Numbers = tuple[float, ...]
Raw = dict[str, tuple[Numbers, ...]]


class Source(Record):
    """A bundle that graphs come from, and how they were calibrated."""

    name: str
    version: str
    digest: str
    calibration: Calibration | None


class Against(Record):
    """Images held against others than the true ones.

    Attributes:
        values: Metric -> one list a seed of one value an image.
        statistics: Metric -> what the table says.
    """

    values: Raw
    statistics: dict[str, Statistics]


class Trajectory(Record):
    """How far the latent is from FP32's after each step; both began with the same noise.

    Attributes:
        rmse: Root mean square difference: seed -> image -> step.
        rmse_mean: Over seeds and images, one a step.
        relative: One a step: the difference over the standard deviation of FP32's latent of that image, mean
            over seeds; its mean over images, and the interval.
    """

    rmse: tuple[tuple[Numbers, ...], ...]
    rmse_mean: Numbers
    relative: tuple[Estimate, ...]


class StageTimes(Record):
    """Milliseconds of one stage.

    Attributes:
        p50, p90, p99: Percentiles, between neighbours by interpolation.
        samples: Raw, in the order in which they were taken.
    """

    p50: float
    p90: float
    p99: float
    samples: Numbers


class Latency(Record):
    """One image of one tile on one CPU.

    Attributes:
        is_meaningful: Whether the times say something of the precision; FP16's on a CPU do not.
        encoder, step, decoder: One run of the graph; 0 where the model has none.
        whole: An image, all steps, without reading and writing files.
    """

    is_meaningful: bool
    encoder: StageTimes
    step: StageTimes
    decoder: StageTimes
    whole: StageTimes


class Memory(Record):
    """Resident memory of a process of its own that enlarges one image, in bytes.

    Attributes:
        before: The most before the bundle was opened: interpreter and libraries.
        peak: The most in all.
    """

    before: int
    peak: int


class RungResult(Record):
    """A row of the ladder.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        source: Whose graphs.
        precision: Which of them.
        runs_on: What the backend says of itself.
        file_bytes: Component -> size of the graph's file.
        memory: Of one image.
        values: Metric against the true HR image -> one list a seed of one value an image.
        statistics: Metric -> what the table says.
        change: Metric -> this row less FP32, image by image, mean over seeds.
        lpips_change: The ratio of the mean LPIPS to FP32's, less 1.
        to_fp32: Against FP32's own image of the same seed.
        trajectory: Latents against FP32's.
        latency: Of one image.
        speedup: FP32's time for an image over this row's in the same round: the median over rounds (in the
            field `mean`), and its interval.
    """

    key: str
    label: str
    note: str
    source: Literal["bundle", "control"]
    precision: str
    runs_on: dict[str, str]
    file_bytes: dict[str, int]
    memory: Memory
    values: Raw
    statistics: dict[str, Statistics]
    change: dict[str, Estimate]
    lpips_change: Estimate | None
    to_fp32: Against | None
    trajectory: Trajectory | None
    latency: Latency
    speedup: Estimate | None


class Judgement(Check):
    """A claim about a measured value that has an interval.

    Attributes:
        low, high: The 95 % interval of `value`.
        is_certain: Whether the whole interval is on the side of the limit that `holds` says.
    """

    low: float
    high: float
    is_certain: bool


class LadderResult(Record):
    """All rows of one run.

    Attributes:
        bundle, control: What was judged, and the control.
        timesteps: Of the steps, in the order in which they run.
        seed_noise: Metric -> the spread that the choice of the seed makes; null for a single seed.
        seed_noise_definition: What that is, in words.
        other_seed: FP32 with seeds 1, 2, ... against FP32 with seed 0, one list a seed.
        latent_std: Standard deviation of FP32's latent: seed -> image -> step.
        verdicts: Row -> in words.
    """

    kind: Literal["edge-sr/ladder"] = "edge-sr/ladder"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: Source
    control: Source
    data: DataFacts
    preset: Preset
    timesteps: tuple[int, ...]
    seeds: tuple[int, ...]
    rounds: int
    bootstrap: dict[str, int]
    lpips: str | None
    metrics: dict[str, str]
    seed_noise: dict[str, float | None]
    seed_noise_definition: str
    rows: Annotated[tuple[RungResult, ...], Field(min_length=1)]
    other_seed: Against | None
    latent_std: tuple[tuple[Numbers, ...], ...]
    checks: tuple[Judgement, ...]
    verdicts: dict[str, str]
    notices: tuple[str, ...]

    def row(self, key: str) -> RungResult:
        """A row by its key."""
        return next(row for row in self.rows if row.key == key)
