"""The charts of the precisions: stages, how long images take, the error along the loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.ladder.records import LadderResult, RungResult
from benchmarks.ladder.rungs import FP32
from benchmarks.report_page.blocks import Chart
from benchmarks.report_page.charts import INK, PALE, PRECISIONS, SERIES, chart, shorten
from benchmarks.report_page.numbers import brief, milliseconds, percent

__all__ = ["distribution", "stage_bars", "stages", "trajectory"]

BLUE, STEPS_COLOUR, GREEN, PINK = SERIES
STAGE_COLOURS = {
    **dict.fromkeys(("encoder", "encode"), BLUE),
    **dict.fromkeys(("decoder", "decode"), GREEN),
    **dict.fromkeys(("rest", "host"), PINK),
    "read": PALE,
    "write": INK,
}
LINES = {"fp32": "-", "fp16": ":", "int8": "-", "naive": "--"}


def stages(result: LadderResult) -> Chart:
    """Where the time of an image goes."""
    rows, steps = _timed(result), result.preset.steps
    parts = {row.label: _parts(row, steps) for row in rows}
    told = "; ".join(
        f"{label}: " + ", ".join(f"{name} {milliseconds(value)}" for name, value in found.items())
        for label, found in parts.items()
    )
    return chart(
        lambda axes: stage_bars(axes, parts),
        key="stages",
        alt=f"Time of each stage of an image. {told}.",
        caption="Where the time of one image goes: medians of the stages. Rest: noise, copies, rounding.",
        height=1.4 + 0.45 * len(rows),
    )


def stage_bars(axes: Any, parts: dict[str, dict[str, float]]) -> None:
    """A bar a row, its stages end to end, in milliseconds."""
    for place, found in enumerate(parts.values()):
        start = 0.0
        for name, value in found.items():
            label, colour = name if place == 0 else None, STAGE_COLOURS.get(name, STEPS_COLOUR)
            axes.barh(place, value, left=start, height=0.6, color=colour, label=label)
            start += value
        axes.text(start, place, f" {milliseconds(start)}", va="center")
    axes.set_yticks(range(len(parts)), [shorten(label) for label in parts])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.margins(x=0.2)
    axes.set_xlim(0)
    axes.set_xlabel("ms")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_title("Time by stage")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.28 if len(parts) > 2 else -0.4), ncols=6,
                columnspacing=1, handlelength=1)  # fmt: skip


def _timed(result: LadderResult) -> list[RungResult]:
    return [row for row in result.rows if row.latency.is_meaningful]


def _parts(row: RungResult, steps: int) -> dict[str, float]:
    """Milliseconds of the stages; what is left of the whole is the rest."""
    times = row.latency
    found = {
        "encoder": times.encoder.p50,
        f"{steps} steps": steps * times.step.p50,
        "decoder": times.decoder.p50,
    }
    return found | {"rest": max(0.0, times.whole.p50 - sum(found.values()))}


def distribution(result: LadderResult) -> Chart:
    """How many images were done within how long."""
    rows = _timed(result)
    told = "; ".join(
        f"{row.label}: half within {milliseconds(row.latency.whole.p50)}, 99 of 100 within "
        f"{milliseconds(row.latency.whole.p99)}"
        for row in rows
    )
    return chart(
        lambda axes: _draw_distribution(axes, rows),
        key="distribution",
        alt=f"Share of images done within a time. {told}.",
        caption=f"Share of {len(rows[0].latency.whole.samples)} images that were done within a time.",
    )


def _draw_distribution(axes: Any, rows: list[RungResult]) -> None:
    for row in rows:
        samples = np.sort(row.latency.whole.samples)
        share = 100 * np.arange(1, len(samples) + 1) / len(samples)
        colour = PRECISIONS[row.key]
        axes.step(
            samples, share, where="post", color=colour, linestyle=LINES[row.key], label=shorten(row.label)
        )
    axes.set_ylim(0, 101)
    axes.set_xlim(0)
    axes.set_xlabel("ms")
    axes.set_ylabel("% of images")
    axes.set_title("How long an image takes")
    axes.grid()
    axes.legend(loc="lower right")


def trajectory(result: LadderResult) -> Chart:
    """How the error builds up along the loop."""
    rows = [row for row in result.rows if row.key != FP32 and row.trajectory]
    told = "; ".join(f"{row.label} {_last(row)}" for row in rows)
    return chart(
        lambda axes: _draw_trajectory(axes, rows, len(result.timesteps)),
        key="trajectory",
        alt=f"Difference of the latent from FP32's after each step; after the last: {told}.",
        caption="How far the latent image is from FP32's after each step, in % of its spread; bands: 95 %.",
    )


def _last(row: RungResult) -> str:
    assert row.trajectory is not None
    return percent(row.trajectory.relative[-1].mean, 1)


def _draw_trajectory(axes: Any, rows: list[RungResult], count: int) -> None:
    steps = np.arange(1, count + 1)
    for row in rows:
        assert row.trajectory is not None
        low, middle, high = (
            np.array([100 * getattr(found, name) for found in row.trajectory.relative])
            for name in ("low", "mean", "high")
        )
        colour = PRECISIONS[row.key]
        axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(steps, middle, color=colour, linestyle=LINES[row.key], label=shorten(row.label))
        axes.text(steps[-1], middle[-1], f" {brief(middle[-1])} %", va="center")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(1, max(2, count * 1.2))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("after step")
    axes.set_ylabel("%")
    axes.set_title("Error along the loop")
    axes.grid()
    axes.legend(loc="lower right")
