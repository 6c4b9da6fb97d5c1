"""The service under load."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report_page.blocks import Body, Prose, Table
from benchmarks.report_page.numbers import count, milliseconds, percent, plain
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.service.records import Cell, ServiceResult

__all__ = ["TOPIC"]


def build(found: Sequence[Found[ServiceResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    made = result.environment
    told = (
        f"`edge-sr serve`, {result.bundle.precision.upper()}, on {made.cpu} with "
        f"{count(made.threads, 'thread')}: images of {result.small}×{result.small} pixels and, "
        f"{percent(result.large_share)} of them, {result.large}×{result.large}. One after the other it "
        f"answers {plain(result.capacity, 2)} requests a second. {_differing(result.differing)} A slowdown "
        "is the mean time over that of the same request by itself."
    )
    return Body((Prose(told), _table(result)))


def _differing(number: int) -> str:
    if number == 0:
        return "Every answer has the bytes that a server without batches gives."
    return f"The bytes of {count(number, 'answer')} differ from those of a server without batches."


def _table(result: ServiceResult) -> Table:
    head = ("load", "batch", "answers a second", "over one by one", "refused", "small: median", "99 of 100")
    return Table(
        "Open load: requests come on their own, as a share of that rate. Closed: clients that wait for their "
        "answer.",
        (*head, "slowdown, small", "large"),
        tuple(_row(cell) for cell in result.cells),
    )


def _row(cell: Cell) -> tuple[str, ...]:
    found = cell.summary
    load = (
        f"open, {plain(cell.load, 2)}"
        if cell.kind == "open"
        else f"closed, {count(round(cell.load), 'client')}"
    )
    middle, low, high = (plain(value, 2) for value in found.throughput_ratio)
    return (
        load,
        str(cell.batch),
        plain(found.throughput, 2),
        f"{middle} [{low}, {high}]",
        percent(found.refused),
        *[
            _or_dash(None if v is None else milliseconds(1e3 * v))
            for v in (found.small_p50_s, found.small_p99_s)
        ],
        *[_or_dash(None if v is None else plain(v, 1)) for v in (found.small_slowdown, found.large_slowdown)],
    )


def _or_dash(text: str | None) -> str:
    return "–" if text is None else text


TOPIC: Topic[ServiceResult] = Topic(
    name="service",
    kind="edge-sr/service",
    model=ServiceResult,
    title="As a service, under load",
    what="the service under load: throughput, waiting, refusals",
    command="python -m benchmarks service --bundle BUNDLE",
    asks=(),
    build=build,
    needs_loop=True,
)
