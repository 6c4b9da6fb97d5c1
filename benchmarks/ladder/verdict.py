"""What the numbers come to: claims held against the budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.board import estimate
from benchmarks.ladder.records import Judgement, RungResult
from benchmarks.ladder.rungs import FP16, FP32, INT8, NAIVE
from benchmarks.records import Estimate
from benchmarks.scores import LPIPS_NAME, METRICS

__all__ = ["LPIPS_BUDGET", "PSNR_BUDGET_DB", "SEED_NOISE", "VISIBLE_IN", "judge_all", "seed_noise_of"]

PSNR_BUDGET_DB = {FP16: 0.02, INT8: 0.10}
LPIPS_BUDGET = 0.02  # of FP32's
SPEED_BUDGET = 1.8  # times as fast as FP32, end to end
VISIBLE_IN = ("psnr_db", "ssim", LPIPS_NAME)
"""The control counts as visibly worse where it is worse in each of these, beyond the seed noise and doubt."""

SEED_NOISE = (
    "standard deviation (one degree of freedom less than seeds) over the seeds of FP32's mean over all "
    "images; a seed draws the same noise for every image, as `edge-sr upscale --seed` does"
)


def seed_noise_of(rows: Mapping[str, RungResult]) -> dict[str, float | None]:
    """The seed noise of every metric; see `SEED_NOISE`."""
    return {name: found.seed_std for name, found in rows[FP32].statistics.items()}


def judge_all(rows: Mapping[str, RungResult]) -> tuple[Judgement, ...]:
    """Every claim of the budget, and whether the control is visibly worse."""
    checks = [_psnr(rows[key]) for key in PSNR_BUDGET_DB]
    checks += _lpips(rows[INT8])
    checks.append(_speed(rows[INT8]))
    noise = seed_noise_of(rows)
    names = [name for name in VISIBLE_IN if name in rows[NAIVE].values]
    return tuple(checks + [_control(rows[NAIVE], rows[INT8], name, noise[name]) for name in names])


def _psnr(row: RungResult) -> Judgement:
    limit = PSNR_BUDGET_DB[row.key]
    return _within(f"{row.label}: PSNR within {limit:g} dB of FP32's", row.change["psnr_db"], limit)


def _lpips(row: RungResult) -> list[Judgement]:
    """Both readings of "within 2 %": not worse, and not different."""
    if row.lpips_change is None:
        return []
    percent = f"{LPIPS_BUDGET:.0%}".replace("%", " %")
    return [
        _at_most(f"{row.label}: LPIPS at most {percent} worse than FP32's", row.lpips_change, LPIPS_BUDGET),
        _within(
            f"{row.label}: LPIPS within {percent} of FP32's, better or worse", row.lpips_change, LPIPS_BUDGET
        ),
    ]


def _speed(row: RungResult) -> Judgement:
    assert row.speedup is not None
    claim = f"{row.label}: at least {SPEED_BUDGET}x faster than FP32 end to end"
    return _at_least(claim, row.speedup, SPEED_BUDGET)


def _control(control: RungResult, ours: RungResult, name: str, noise: float | None) -> Judgement:
    """Whether the control is worse than ours; "how much" counts as positive."""
    theirs, own = (np.mean(row.values[name], axis=0) for row in (control, ours))
    worse = estimate((own - theirs) * METRICS[name].better)
    label = METRICS[name].label.partition(",")[0]
    beyond = "by more than the seed noise" if noise is not None else "(seed noise not known)"
    claim = f"{control.label}: worse than INT8 in {label} {beyond}"
    return _above(claim, worse, noise or 0.0)


def _within(claim: str, found: Estimate, limit: float) -> Judgement:
    holds = abs(found.mean) <= limit
    inside = -limit <= found.low and found.high <= limit
    outside = found.high < -limit or found.low > limit
    return _judgement(claim, found, limit, holds=holds, is_certain=inside if holds else outside)


def _at_most(claim: str, found: Estimate, limit: float) -> Judgement:
    holds = found.mean <= limit
    is_certain = found.high <= limit if holds else found.low > limit
    return _judgement(claim, found, limit, holds=holds, is_certain=is_certain)


def _at_least(claim: str, found: Estimate, limit: float) -> Judgement:
    holds = found.mean >= limit
    is_certain = found.low >= limit if holds else found.high < limit
    return _judgement(claim, found, limit, holds=holds, is_certain=is_certain)


def _above(claim: str, found: Estimate, limit: float) -> Judgement:
    holds = found.mean > limit
    is_certain = found.low > limit if holds else found.high <= limit
    return _judgement(claim, found, limit, holds=holds, is_certain=is_certain)


def _judgement(claim: str, found: Estimate, limit: float, *, holds: bool, is_certain: bool) -> Judgement:
    value, low, high, limit = (float(f"{v:.6g}") for v in (found.mean, found.low, found.high, limit))
    return Judgement(
        claim=claim, value=value, low=low, high=high, limit=limit, holds=holds, is_certain=is_certain
    )
