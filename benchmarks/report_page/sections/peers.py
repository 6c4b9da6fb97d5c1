"""Other runtimes with the same weights, in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.protocol import OURS, OURS_FP32
from benchmarks.peers.records import PeerResult, PeersResult
from benchmarks.report_page.blocks import Answer, Block, Body, Chart, Charts, Prose, Question, Table
from benchmarks.report_page.charts import INK, PEER, PRECISIONS, chart, shorten
from benchmarks.report_page.numbers import count, interval, milliseconds, plain, span
from benchmarks.report_page.sections.front import Point
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["TOPIC", "peer_points"]

MB, MIB = 1e6, 1 << 20
COLOURS = {OURS: PRECISIONS["int8"], OURS_FP32: PRECISIONS["fp32"]}


def peer_points(result: PeersResult) -> Iterator[Point]:
    """The other runtimes whose images were held against the truth, beside edge-sr in FP32."""
    ours = result.row(OURS_FP32)
    if ours is None or not ours.to_truth_db:
        return
    for row in _others(result):
        if row.to_truth_db:
            ratio = float(np.median(np.divide(row.seconds.seconds, ours.seconds.seconds)))
            gain = float(np.mean(row.to_truth_db) - np.mean(ours.to_truth_db))
            yield Point(row.label, 1e3 * row.seconds.median, ratio, gain, PEER, is_ours=False)


def build(found: Sequence[Found[PeersResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    images = context.images(result.data) if result.data else "a made-up image"
    told = (
        f"The same weights, {count(result.preset.steps, 'step')} and noise through every runtime, each in a "
        f"process of its own with {count(result.environment.threads, 'CPU thread')}, in turns: {images}, "
        f"{count(result.rounds, 'round')}. A ratio above 1 means that the runtime takes longer than edge-sr "
        "at its default precision."
    )
    left_out = [Prose(f"{out.key} was left out: {out.reason}.") for out in result.left_out]
    blocks: tuple[Block, ...] = (
        Prose(told),
        Charts((_chart(result),)),
        _times(result),
        _asks(result),
        *left_out,
    )
    return Body(blocks, (Answer(Question.AGAINST, tuple(_against(result))),))


def _others(result: PeersResult) -> list[PeerResult]:
    return [row for row in result.rows if row.key not in (OURS, OURS_FP32)]


def _against(result: PeersResult) -> Iterator[str]:
    """Which runtimes edge-sr is ahead of beyond doubt, and which are ahead of it."""
    others = _others(result)
    slower = [row for row in others if row.over_ours.low > 1]
    faster = [row for row in others if row.over_ours.high < 1]
    level = [row for row in others if row not in slower and row not in faster]
    yield (
        f"In time, the same weights in {count(len(others), 'other runtime')}: edge-sr is faster than "
        f"{len(slower)} of them beyond doubt{_named(slower)}."
    )
    if faster:
        yield f"Faster than edge-sr: {_named(faster).removeprefix(': ')}."
    if level:
        yield f"No difference beyond doubt: {_named(level).removeprefix(': ')}."


def _named(rows: Sequence[PeerResult]) -> str:
    """Each with its time over edge-sr's, the closest first."""
    ordered = sorted(rows, key=lambda row: row.over_ours.mean)
    told = [f"{r.label} {plain(r.over_ours.mean, 2)} times ({span(r.over_ours, 2)})" for r in ordered]
    return f": {', '.join(told)}" if told else ""


def _chart(result: PeersResult) -> Chart:
    rows = sorted(result.rows, key=lambda row: row.seconds.median)
    told = "; ".join(f"{row.label} {milliseconds(1e3 * row.seconds.median)}" for row in rows)
    return chart(
        lambda axes: _draw(axes, rows),
        key="peers-time",
        alt=f"Median time of an image. {told}.",
        caption="Median time of an image, and quartiles. Purple: other runtimes.",
        height=0.7 + 0.27 * len(rows),
    )


def _draw(axes: Any, rows: Sequence[PeerResult]) -> None:
    for place, row in enumerate(rows):
        low, middle, high = (1e3 * value for value in (row.seconds.low, row.seconds.median, row.seconds.high))
        axes.barh(place, middle, height=0.65, color=COLOURS.get(row.key, PEER))
        axes.plot([low, high], [place, place], color=INK, linewidth=1)
        axes.text(max(middle, high), place, f" {milliseconds(middle)}", va="center")
    axes.set_yticks(range(len(rows)), [shorten(row.label) for row in rows], fontsize=7.5)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_xlim(0)
    axes.set_xlabel("ms")
    axes.tick_params(axis="y", length=0)


def _times(result: PeersResult) -> Table:
    rows = [
        (
            row.label,
            row.precision.upper(),
            milliseconds(1e3 * row.seconds.median),
            interval(row.over_ours, 2),
            interval(row.over_ours_alike, 2),
            _agreement(row),
        )
        for row in result.rows
    ]
    head = ("", "precision", "median time", "over edge-sr", "at the same precision", "agreement, dB")
    return Table(
        "Time of one image; ratio to edge-sr within a round, median [95 % interval]; agreement: the lowest "
        "PSNR against edge-sr in FP32 from the same noise.",
        head,
        tuple(rows),
    )


def _agreement(row: PeerResult) -> str:
    found = [value for value in row.to_ours_db if value is not None]
    return plain(min(found), 1) if found else "equal"


def _asks(result: PeersResult) -> Table:
    rows = [
        (
            row.label,
            plain(row.footprint.installed_bytes / MB, 0),
            f"{plain(float(np.median(row.footprint.import_s)), 2)} s",
            f"{plain(row.open_s, 2)} s",
            plain(row.peak_bytes / MIB, 0),
            str(row.footprint.lines),
        )
        for row in result.rows
    ]
    head = ("", "installed, MB", "import", "to the first image", "peak memory, MiB", "lines to write")
    return Table("What a runtime asks for.", head, tuple(rows))


TOPIC: Topic[PeersResult] = Topic(
    name="peers",
    kind="edge-sr/peers",
    model=PeersResult,
    title="Other runtimes",
    what="time, memory and size of other runtimes with the same weights",
    command="python -m benchmarks peers --bundle BUNDLE --pairs PAIRS",
    asks=(),
    build=build,
    needs_loop=True,
)
