"""What the loop costs beside its engine calls, and the whole beside eager torch."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import LoopResult, Timing
from benchmarks.report_page.blocks import Body, Table
from benchmarks.report_page.numbers import milliseconds
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["TOPIC"]


def build(found: Sequence[Found[LoopResult]], context: Context) -> Body:
    """A table a precision."""
    return Body(tuple(_table(each.record) for each in found))


def _table(result: LoopResult) -> Table:
    timings = {**result.loop, **result.upscale}
    made = result.environment
    return Table(
        f"{result.bundle.precision.upper()}, {result.preset.steps} steps, {made.threads} threads, "
        f"{made.cpu}: in turns within one run. Torch has FP32, the same weights.",
        ("", "what", "median", "quartiles", "runs"),
        tuple(_row(name, timing) for name, timing in timings.items()),
    )


def _row(name: str, timing: Timing) -> tuple[str, ...]:
    low, high = (milliseconds(1e3 * value) for value in (timing.low, timing.high))
    count = str(len(timing.seconds))
    return name, timing.note.replace("`", ""), milliseconds(1e3 * timing.median), f"{low} to {high}", count


TOPIC: Topic[LoopResult] = Topic(
    name="loop",
    kind="edge-sr/loop",
    model=LoopResult,
    title="Loop and eager torch",
    what="what the loop costs beside its engine calls, and the whole beside eager torch",
    command="python -m benchmarks loop --bundle BUNDLE --precision int8",
    asks=(),
    build=build,
    needs_loop=True,
)
