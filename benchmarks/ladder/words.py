"""The verdict of each row, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.ladder.records import Judgement, RungResult
from benchmarks.ladder.rungs import FP32, NAIVE
from benchmarks.ladder.verdict import LPIPS_BUDGET
from benchmarks.records import Estimate

__all__ = ["DOUBT", "NOT_MEANINGFUL", "headline", "verdicts"]

NOT_MEANINGFUL = "not meaningful"
"""What is printed for the latency of FP16 on a CPU, which computes it in FP32."""

DOUBT = " (the interval reaches across the limit)"
"""Behind an outcome that so many images or rounds do not settle."""


def verdicts(
    rows: Mapping[str, RungResult], checks: Sequence[Judgement], noise: Mapping[str, float | None]
) -> dict[str, str]:
    """A verdict for every row but FP32.

    Args:
        rows: All of them by key.
        checks: From `benchmarks.ladder.verdict.judge_all`.
        noise: Metric -> seed noise.
    """
    return {
        key: " ".join(_sentences(row, rows[FP32], checks, noise=noise))
        for key, row in rows.items()
        if key != FP32
    }


def headline(row: RungResult, noise: float | None) -> str:
    """Cost in PSNR, beside the seed noise, and speed: one sentence.

    Args:
        row: Not FP32's.
        noise: Of the seeds, in dB; None for a single seed.
    """
    cost = f"{row.label} {_psnr(row.change['psnr_db'])}, {_beside_noise(row.change['psnr_db'], noise)}"
    return f"{cost}, and {_speed(row)}."


def _sentences(
    row: RungResult, base: RungResult, checks: Sequence[Judgement], *, noise: Mapping[str, float | None]
) -> list[str]:
    own = [check for check in checks if check.claim.startswith(f"{row.label}:")]
    told = [headline(row, noise["psnr_db"])]
    if row.lpips_change is not None:
        told.append(_lpips(row.lpips_change))
        if row.lpips_change.mean < -LPIPS_BUDGET:
            told.append(_grain(row, base))
    told.append(_control(own) if row.key == NAIVE else _budget(row, own))
    return [sentence for sentence in told if sentence]


def _psnr(change: Estimate) -> str:
    """As in "costs 0.041 dB (95 % CI 0.031 to 0.052)"."""
    is_cost = change.mean < 0
    bounds = (-change.high, -change.low) if is_cost else (change.low, change.high)
    low, high = (_db(bound, change.mean) for bound in bounds)
    verb = "costs" if is_cost else "gains"
    return f"{verb} {_db(abs(change.mean), change.mean)} dB (95 % CI {low} to {high}{_perhaps(change)})"


def _perhaps(change: Estimate) -> str:
    """What to say of an interval that has zero in it."""
    return ", so perhaps nothing" if change.low <= 0 <= change.high else ""


def _db(value: float, like: float) -> str:
    """Three decimals, or four beside a value that three would hide."""
    text = f"{value:.{3 if abs(like) >= 0.01 else 4}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _beside_noise(change: Estimate, noise: float | None) -> str:
    if noise is None:
        return "with a seed noise that one seed cannot tell"
    where = "inside" if abs(change.mean) <= noise else "beyond"
    return f"{where} the seed noise of {_db(noise, noise)} dB"


def _speed(row: RungResult) -> str:
    if not row.latency.is_meaningful or row.speedup is None:
        return f"its latency on a CPU is {NOT_MEANINGFUL}"
    found = row.speedup
    how = "faster" if found.mean >= 1 else "as fast, which is slower,"
    return f"is {found.mean:.2f}x {how} on this CPU (95 % CI {found.low:.2f} to {found.high:.2f})"


def _lpips(change: Estimate) -> str:
    is_better = change.mean < 0
    bounds = (-change.high, -change.low) if is_better else (change.low, change.high)
    low, high = (f"{100 * bound:.2f}" for bound in bounds)
    how = "lower, which is better" if is_better else "higher, which is worse"
    return f"LPIPS is {100 * abs(change.mean):.2f} % {how} (95 % CI {low} to {high} %{_perhaps(change)})."


def _grain(row: RungResult, base: RungResult) -> str:
    """What else moved where LPIPS got better by more than the budget: not to be hidden, nor to be praised."""
    grain = row.statistics["laplacian_variance"].mean / base.statistics["laplacian_variance"].mean - 1
    ssim = row.change["ssim"].mean
    more = f"more than {100 * LPIPS_BUDGET:.0f} %"
    moved = f"Laplacian variance moves by {100 * grain:+.1f} % and SSIM by {ssim:+.4f}"
    return f"That is {more}, so it is not FP32's picture: {moved}; rounding may add grain that LPIPS likes."


def _budget(row: RungResult, checks: Sequence[Judgement]) -> str:
    told = [f"{check.claim.removeprefix(f'{row.label}: ')}: {_outcome(check)}" for check in checks]
    return f"Budget: {'; '.join(told)}." if told else ""


def _outcome(check: Judgement) -> str:
    """Pass or fail, and whether the interval leaves a doubt."""
    return ("pass" if check.holds else "FAIL") + ("" if check.is_certain else DOUBT)


def _control(checks: Sequence[Judgement]) -> str:
    """Whether the control is visibly worse than INT8, metric by metric."""
    proved = [check for check in checks if check.holds and check.is_certain]
    worse = ", ".join(map(_by_how_much, proved))
    is_known = all(check.limit > 0 for check in checks)
    beyond = "beyond the seed noise" if is_known else "beyond doubt, the seed noise not being known"
    if len(proved) == len(checks):
        return f"It is visibly worse than INT8: {worse}, each {beyond}."
    rest = ", ".join(_metric(check) for check in checks if check not in proved)
    return f"It is not visibly worse than INT8: {worse or 'nothing'} is {beyond}, {rest} is not."


def _by_how_much(check: Judgement) -> str:
    metric = _metric(check)
    return f"{metric} by {check.value:.3g}{' dB' if metric == 'PSNR' else ''}"


def _metric(check: Judgement) -> str:
    return check.claim.partition("worse than INT8 in ")[2].partition(" ")[0]
