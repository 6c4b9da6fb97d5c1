"""The four charts of the ladder's picture. Each draws one thing into axes that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.ladder.records import LadderResult, RungResult
from benchmarks.ladder.rungs import FP16, FP32, INT8, NAIVE
from benchmarks.ladder.verdict import LPIPS_BUDGET, PSNR_BUDGET_DB
from benchmarks.ladder.words import NOT_MEANINGFUL
from benchmarks.page import INK, PALE
from benchmarks.records import Estimate
from benchmarks.scores import LPIPS_NAME

__all__ = ["COLOURS", "draw_latency", "draw_lpips", "draw_psnr", "draw_trajectory"]

BAND = "#e9e4cf"
COLOURS = {FP32: "#4d4d4d", FP16: "#0072b2", INT8: "#009e73", NAIVE: "#d55e00"}
STAGE_SHADES = {"encoder": 0.45, "steps": 1.0, "decoder": 0.65, "rest": 0.2}
MARGIN = 1.35  # how far the scale of differences goes beyond what INT8 and the seed noise need


def draw_psnr(axes: Any, result: LadderResult) -> None:
    """Differences of PSNR to FP32 with their intervals, on the band of the seed noise."""
    rows = _others(result)
    budgets = [PSNR_BUDGET_DB.get(row.key) for row in rows]
    changes = [row.change["psnr_db"] for row in rows]
    _differences(axes, rows, changes, budgets=budgets, noise=result.seed_noise["psnr_db"], unit="dB")
    axes.set_title("PSNR less FP32's, dB", loc="left", color=INK)


def draw_lpips(axes: Any, result: LadderResult) -> None:
    """The same of LPIPS in % of FP32's, or of SSIM where LPIPS is left out."""
    rows = _others(result)
    if LPIPS_NAME not in result.metrics:
        changes = [row.change["ssim"] for row in rows]
        none: list[float | None] = [None] * len(rows)
        _differences(axes, rows, changes, budgets=none, noise=result.seed_noise["ssim"], unit="")
        axes.set_title("SSIM less FP32's", loc="left", color=INK)
        return
    changes = [_percent(row.lpips_change) for row in rows if row.lpips_change]
    noise, mean = result.seed_noise[LPIPS_NAME], result.row(FP32).statistics[LPIPS_NAME].mean
    in_percent = None if noise is None else 100 * noise / mean
    budgets = [100 * LPIPS_BUDGET if row.key == INT8 else None for row in rows]
    _differences(axes, rows, changes, budgets=budgets, noise=in_percent, unit="%")
    axes.set_title("LPIPS less FP32's, % (less is better)", loc="left", color=INK)


def draw_latency(axes: Any, result: LadderResult) -> None:
    """Median times of the stages in a bar, and the 90th and 99th percentile of the whole."""
    rows = result.rows
    for place, row in enumerate(rows):
        if not row.latency.is_meaningful:
            axes.text(0, place, f"  {NOT_MEANINGFUL} on a CPU", va="center", color=PALE, style="italic")
            continue
        _bar(axes, place, row, steps=result.preset.steps)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.3 * max(row.latency.whole.p99 for row in rows if row.latency.is_meaningful))
    axes.set_title("Time of one image on this CPU, ms", loc="left", color=INK)
    stages = f"median of encoder, {result.preset.steps} steps, decoder, rest; ticks: p90 and p99"
    axes.set_xlabel(stages, color=PALE, fontsize="small")
    axes.grid(axis="x", color="#e5e5e5")
    axes.set_axisbelow(True)


def draw_trajectory(axes: Any, result: LadderResult) -> None:
    """The latent's error after every step, relative to FP32's latent, with the intervals over images."""
    steps = np.arange(1, len(result.timesteps) + 1)
    for row in _others(result):
        assert row.trajectory is not None
        found = row.trajectory.relative
        low, middle, high = (
            np.array([100 * getattr(e, name) for e in found]) for name in ("low", "mean", "high")
        )
        axes.fill_between(steps, low, high, color=COLOURS[row.key], alpha=0.25, linewidth=0)
        axes.plot(steps, middle, color=COLOURS[row.key], linewidth=2.5, label=row.label)
        axes.annotate(
            f" {middle[-1]:{'.0f' if middle[-1] >= 10 else '.2g'}} %",
            (steps[-1], middle[-1]),
            color=COLOURS[row.key],
            va="center",
            fontsize="small",
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(1, steps[-1] + max(1, len(steps) // 8))
    axes.set_xlabel("after step", color=PALE)
    axes.set_title("Latent's error along the loop, % of FP32's spread", loc="left", color=INK)
    axes.grid(color="#e5e5e5")
    axes.legend(frameon=False, loc="best", fontsize="small", ncols=len(_others(result)))


def _others(result: LadderResult) -> list[RungResult]:
    return [row for row in result.rows if row.key != FP32]


def _percent(found: Estimate) -> Estimate:
    return Estimate(mean=100 * found.mean, low=100 * found.low, high=100 * found.high)


def _differences(
    axes: Any,
    rows: Sequence[RungResult],
    changes: Sequence[Estimate],
    *,
    budgets: Sequence[float | None],
    noise: float | None,
    unit: str,
) -> None:
    """A point and its interval a row; a row that would dwarf the others is an arrow at the edge."""
    reach = MARGIN * _reach(rows, changes, budgets, noise)
    if noise is not None:
        axes.axvspan(-noise, noise, color=BAND, linewidth=0)
    key = ("shaded: seed noise", "dashed: budget")
    words = ", ".join(text for text, shown in zip(key, (noise, any(budgets)), strict=True) if shown)
    axes.text(-reach, -0.78, f" {words}", va="center", color=PALE, fontsize="small")
    axes.plot([0, 0], [-0.5, len(rows)], color=INK, linewidth=1)
    for place, (row, change, budget) in enumerate(zip(rows, changes, budgets, strict=True)):
        _point(axes, place, change, reach=reach, colour=COLOURS[row.key])
        for limit in (-budget, budget) if budget else ():
            axes.plot([limit] * 2, [place - 0.32, place + 0.32], color=INK, linestyle=(0, (2, 1.5)))
        axes.text(1.02, place, _told(change, unit), transform=axes.get_yaxis_transform(), va="center",
                  color=COLOURS[row.key])  # fmt: skip
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.45, -1.0)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])


def _reach(
    rows: Sequence[RungResult],
    changes: Sequence[Estimate],
    budgets: Sequence[float | None],
    noise: float | None,
) -> float:
    """How far from zero the scale goes: as far as everything but the control needs."""
    bounds = [
        max(abs(change.low), abs(change.high))
        for row, change in zip(rows, changes, strict=True)
        if row.key != NAIVE
    ]
    return max([*bounds, *[budget for budget in budgets if budget], noise or 0.0])


def _point(axes: Any, place: int, change: Estimate, *, reach: float, colour: str) -> None:
    if abs(change.mean) > reach:
        tip, tail = (np.sign(change.mean) * reach * share for share in (0.99, 0.8))
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5, "mutation_scale": 22}
        axes.annotate("", (tip, place), (tail, place), arrowprops=arrow)
        return
    axes.plot([change.low, change.high], [place, place], color=colour, linewidth=4, solid_capstyle="butt")
    axes.plot([change.mean], [place], "o", color=colour, markersize=9)


def _told(change: Estimate, unit: str) -> str:
    """The value over its interval, with as many digits as its size asks for."""
    digits = (2 if abs(change.mean) < 1 else 1) if unit == "%" else (3 if abs(change.mean) >= 0.01 else 4)
    bounds = f"[{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
    return f"{change.mean:+.{digits}f} {unit}\n{bounds}".replace("-", "−")


def _bar(axes: Any, place: int, row: RungResult, *, steps: int) -> None:
    """The stages end to end; what is left of the whole is the host's part."""
    times, start = row.latency, 0.0
    stages = {"encoder": times.encoder.p50, "steps": steps * times.step.p50, "decoder": times.decoder.p50}
    stages["rest"] = max(0.0, times.whole.p50 - sum(stages.values()))
    for stage, width in stages.items():
        axes.barh(place, width, left=start, height=0.62, color=COLOURS[row.key], alpha=STAGE_SHADES[stage],
                  edgecolor="white")  # fmt: skip
        start += width
    axes.plot([times.whole.p50, times.whole.p99], [place, place], color=INK, linewidth=1.2)
    axes.plot([times.whole.p90, times.whole.p99], [place, place], "|", color=INK, markersize=11)
    speed = f", {row.speedup.mean:.2f}x" if row.speedup else ""
    label = f"  {times.whole.p50:.0f} ms{speed}"
    axes.text(times.whole.p99, place, label, va="center", color=INK)
