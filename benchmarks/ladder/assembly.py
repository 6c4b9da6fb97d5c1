"""From what was measured to the rows of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.board import BOOTSTRAP_SEED, estimate, raw, rounded, summarise
from benchmarks.ladder.latency import Stages
from benchmarks.ladder.memory import Peak
from benchmarks.ladder.records import (
    Against,
    Latency,
    Memory,
    Numbers,
    RungResult,
    Source,
    StageTimes,
    Trajectory,
)
from benchmarks.ladder.rungs import FP32, NAIVE, Rung
from benchmarks.ladder.samples import SeedResult, Values
from benchmarks.records import Estimate
from benchmarks.scores import LPIPS_NAME
from benchmarks.summary import bootstrap, bootstrap_ratio
from edge_sr.bundle import Bundle
from edge_sr.spec import Precision

__all__ = ["Measured", "assemble_row", "latent_std", "other_seeds", "source"]

Table = npt.NDArray[np.float64]  # (S, N): a line a seed, a column an image
Tables = dict[str, Table]  # by metric
DIGITS = 4  # of the raw latents' errors and times: enough for what they are known to


@dataclass(frozen=True)
class Measured:
    """All that was measured of all rows.

    Attributes:
        seeds: One a seed.
        stages: Row -> one a round.
        peaks: Row -> memory.
        runs_on: Row -> the backend's description.
        other: FP32 with another seed, against FP32; see `benchmarks.ladder.samples.compare_seeds`.
    """

    seeds: Sequence[SeedResult]
    stages: Mapping[str, Sequence[Stages]]
    peaks: Mapping[str, Peak]
    runs_on: Mapping[str, dict[str, str]]
    other: Values


def source(bundle: Bundle) -> Source:
    """What a result says of a bundle."""
    manifest = bundle.manifest
    return Source(
        name=manifest.name, version=manifest.version, digest=bundle.digest, calibration=manifest.calibration
    )


def assemble_row(rung: Rung, measured: Measured) -> RungResult:
    """One row of the record."""
    key, is_base = rung.key, rung.key == FP32
    own, base = (_tables([seed.values[k] for seed in measured.seeds]) for k in (key, FP32))
    graphs = rung.bundle.manifest.graphs
    peak = measured.peaks[key]
    return RungResult(
        key=key,
        label=rung.label,
        note=rung.note,
        source="control" if key == NAIVE else "bundle",
        precision=str(rung.precision),
        runs_on=measured.runs_on[key],
        file_bytes={str(c): found[rung.precision].bytes for c, found in graphs.items()},
        memory=Memory(before=peak.before, peak=peak.peak),
        values={name: raw(table) for name, table in own.items()},
        statistics={name: summarise(table) for name, table in own.items()},
        change={name: estimate((own[name] - base[name]).mean(axis=0)) for name in own},
        lpips_change=None if is_base else _lpips_change(own, base),
        to_fp32=None if is_base else _against([seed.to_fp32[key] for seed in measured.seeds]),
        trajectory=None if is_base else _trajectory(key, measured.seeds),
        latency=_latency(measured.stages[key], is_meaningful=rung.precision is not Precision.FP16),
        speedup=None if is_base else _speedup(measured.stages[FP32], measured.stages[key]),
    )


def _against(seeds: Sequence[Mapping[str, npt.NDArray[np.float64]]]) -> Against:
    """Metrics of images held against others, one mapping a seed."""
    tables = _tables(seeds)
    return Against(
        values={name: raw(table) for name, table in tables.items()},
        statistics={name: summarise(table) for name, table in tables.items()},
    )


def latent_std(seeds: Sequence[SeedResult]) -> tuple[tuple[Numbers, ...], ...]:
    """Of FP32's latent: seed -> image -> step."""
    return tuple(_lines(seed.latent_std) for seed in seeds)


def _tables(seeds: Sequence[Mapping[str, npt.NDArray[np.float64]]]) -> Tables:
    return {name: np.stack([seed[name] for seed in seeds]) for name in seeds[0]}


def _lpips_change(own: Tables, base: Tables) -> Estimate | None:
    """The ratio of mean LPIPS, less 1; None where LPIPS is left out."""
    if LPIPS_NAME not in own:
        return None
    tables = (own[LPIPS_NAME].mean(axis=0), base[LPIPS_NAME].mean(axis=0))
    ratio = bootstrap_ratio(*tables, seed=BOOTSTRAP_SEED)
    return Estimate(mean=ratio.mean - 1, low=ratio.low - 1, high=ratio.high - 1)


def _speedup(base: Sequence[Stages], own: Sequence[Stages]) -> Estimate:
    """The median over rounds of the ratio of the two times of a round: what slows a round slows both."""
    times = (np.array([stages.whole for stages in side]) for side in (base, own))
    found = bootstrap(np.divide(*times), centre=np.median, seed=BOOTSTRAP_SEED)
    return Estimate(mean=found.mean, low=found.low, high=found.high)


def _trajectory(key: str, seeds: Sequence[SeedResult]) -> Trajectory:
    errors = np.stack([seed.errors[key] for seed in seeds])  # (S, N, T)
    relative = (errors / np.stack([seed.latent_std for seed in seeds])).mean(axis=0)
    return Trajectory(
        rmse=tuple(map(_lines, errors)),
        rmse_mean=tuple(map(rounded, errors.mean(axis=(0, 1)))),
        relative=tuple(estimate(step) for step in relative.T),
    )


def _lines(table: Table) -> tuple[Numbers, ...]:
    return tuple(tuple(map(_short, line)) for line in table)


def _latency(rounds: Sequence[Stages], *, is_meaningful: bool) -> Latency:
    steps = [seconds for stages in rounds for seconds in stages.steps]
    return Latency(
        is_meaningful=is_meaningful,
        encoder=_times([stages.encoder for stages in rounds]),
        step=_times(steps),
        decoder=_times([stages.decoder for stages in rounds]),
        whole=_times([stages.whole for stages in rounds]),
    )


def _times(seconds: Sequence[float]) -> StageTimes:
    samples = np.asarray(seconds) * 1e3
    p50, p90, p99 = (rounded(float(v)) for v in np.quantile(samples, [0.5, 0.9, 0.99]))
    return StageTimes(p50=p50, p90=p90, p99=p99, samples=tuple(map(_short, samples)))


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def other_seeds(found: Values) -> Against | None:
    """What another seed changes; None for a single seed."""
    return _against(list(found.values())) if found else None
