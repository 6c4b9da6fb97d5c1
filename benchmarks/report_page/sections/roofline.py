"""How near the stages come to this machine's peak, and what stands between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report_page.blocks import Body, Chart, Charts, Items, Prose, Table
from benchmarks.report_page.charts import PALE, PRECISIONS, chart
from benchmarks.report_page.numbers import brief, count, milliseconds, percent, plain, typeset
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.roofline.records import RooflineResult, StageResult

__all__ = ["TOPIC"]


def build(found: Sequence[Found[RooflineResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    told = (
        f"What this machine can do at most was measured in the same run, with "
        f"{count(result.environment.threads, 'thread')}: {brief(1e3 * result.fp32_tops)} billion operations "
        f"a second in FP32, {brief(1e3 * result.int8_tops)} in INT8 (matrix products), and "
        f"{brief(result.memory_gb_s)} GB a second from memory. A stage reaches the share of that which its "
        "multiplications alone would need of its time."
    )
    return Body((Prose(told), Charts((_chart(result),)), _table(result), Items(_words(result))))


def _words(result: RooflineResult) -> tuple[str, ...]:
    return tuple(map(typeset, result.words))


def _name(stage: StageResult) -> str:
    return f"{stage.stage}, {stage.precision.upper()}"


def _chart(result: RooflineResult) -> Chart:
    told = "; ".join(f"{_name(stage)} {percent(stage.reached)}" for stage in result.stages)
    return chart(
        lambda axes: _draw(axes, result.stages),
        key="roofline",
        alt=f"Share of the machine's peak that each stage reaches. {told}.",
        caption="Share of the machine's own peak that each stage reaches. Pale: convolutions and matrix "
        "products alone, without what stands between them.",
        height=0.9 + 0.33 * len(result.stages),
    )


def _draw(axes: Any, stages: Sequence[StageResult]) -> None:
    for place, stage in enumerate(stages):
        colour = PRECISIONS.get(stage.precision, PALE)
        axes.barh(place, 100 * stage.products_reached, height=0.7, color=colour, alpha=0.3)
        axes.barh(place, 100 * stage.reached, height=0.7, color=colour)
        axes.text(100 * max(stage.reached, stage.products_reached), place, f" {percent(stage.reached)}",
                  va="center")  # fmt: skip
    axes.set_yticks(range(len(stages)), [_name(stage) for stage in stages])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the peak")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def _table(result: RooflineResult) -> Table:
    rows = tuple(
        (
            _name(stage),
            milliseconds(1e3 * stage.seconds.median),
            plain(stage.macs / 1e9, 2),
            percent(stage.int8_share),
            milliseconds(stage.mixed_ms),
            percent(stage.reached),
            percent(stage.products_reached),
        )
        for stage in result.stages
    )
    head = ("", "median time", "10⁹ multiplications", "in INT8", "at the peak", "reached", "products alone")
    return Table("One run of each stage.", head, rows)


TOPIC: Topic[RooflineResult] = Topic(
    name="roofline",
    kind="edge-sr/roofline",
    model=RooflineResult,
    title="Against the machine's limit",
    what="how near each stage comes to what the machine can do at most",
    command="python -m benchmarks roofline --bundle BUNDLE",
    asks=(),
    build=build,
    needs_loop=True,
)
