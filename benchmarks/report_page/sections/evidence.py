"""Whether what a result says of itself can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.evidence.records import EvidenceResult, Residuals
from benchmarks.report_page.blocks import Answer, Block, Body, Chart, Charts, Prose, Question, Table
from benchmarks.report_page.charts import PALE, SERIES, chart
from benchmarks.report_page.numbers import count, interval, percent, plain
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["TOPIC"]


def build(found: Sequence[Found[EvidenceResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    known, spread = result.consistency.known, result.spread
    told = (
        f"A result names how well it agrees with the image that it was made from, and is alarmed below "
        f"{plain(known.alarm_db, 2)} dB, which {percent(1 - known.quantile)} of {known.images} true images "
        f"reach. Here: {context.images(result.data)}, {result.bundle.precision.upper()}; faults were made on "
        f"purpose. The map of uncertainty is the spread over {count(spread.samples, 'sample')}: the error is "
        f"{plain(spread.factor, 2)} times what it predicts, and is where it points with a correlation of "
        f"{interval(spread.correlation_blocks, 2)} in blocks of 8×8 pixels."
    )
    blocks: list[Block] = [Prose(told), _alarms(result), Charts((_chart(result),))]
    if result.invention:
        blocks.append(_invented(result))
    blocks += [Prose(f"Note: {notice}.") for notice in result.notices]
    return Body(tuple(blocks), (_answer(result),))


def _answer(result: EvidenceResult) -> Answer:
    caught, missed = ([f for f in result.consistency.faults if (f.alarmed > 0.5) == is_caught]
                      for is_caught in (True, False))  # fmt: skip
    told = [f"It raises an alarm at most images with: {_names(caught)}."] if caught else []
    told += [f"It stays silent at most images with: {_names(missed)}."] if missed else []
    return Answer(Question.TRUST, (*told, _false_alarms(result), _map(result.spread.factor)))


def _names(found: Sequence[Residuals]) -> str:
    return "; ".join(f.label for f in found)


def _false_alarms(result: EvidenceResult) -> str:
    most = max(found.alarmed for found in result.consistency.outputs)
    return f"Without a fault it alarms {f'up to {percent(most)}' if most else 'none'} of the images."


def _map(factor: float) -> str:
    if factor <= 1:
        return "The map of uncertainty does not understate the error."
    return (
        f"The error is {plain(factor, 1)} times what the map of uncertainty predicts: the map shows where to "
        "look, not how wrong the image is."
    )


def _alarms(result: EvidenceResult) -> Table:
    consistency = result.consistency
    rows = [_row(found, "") for found in (consistency.true, *consistency.outputs)]
    rows += [_row(found, "fault: ") for found in consistency.faults]
    return Table(
        "Agreement with the input, dB, and the share of images that are alarmed.",
        ("", "median", "lowest", "alarmed"),
        tuple(rows),
    )


def _row(found: Residuals, kind: str) -> tuple[str, ...]:
    cells = (plain(found.median, 1), plain(min(found.values), 1), percent(found.alarmed))
    return (kind + found.label, *cells)


def _chart(result: EvidenceResult) -> Chart:
    bins = result.spread.bins
    told = "; ".join(f"{plain(b.predicted, 1)} and {plain(b.found, 1)}" for b in bins)
    return chart(
        lambda axes: _draw(axes, result),
        key="spread",
        alt=f"Predicted and found error in gray levels, tenths of the pixels: {told}.",
        caption="Error that the map of uncertainty predicts, and that was found; dotted: the two are equal.",
    )


def _draw(axes: Any, result: EvidenceResult) -> None:
    predicted, found = ([getattr(b, name) for b in result.spread.bins] for name in ("predicted", "found"))
    top = 1.05 * max(*predicted, *found)
    axes.plot([0, top], [0, top], color=PALE, linewidth=1, linestyle=":")
    axes.plot(predicted, found, "o-", color=SERIES[0], markersize=4)
    axes.set_xlim(0, 1.05 * max(predicted))
    axes.set_ylim(0, top)
    axes.set_xlabel("predicted error, gray levels of 255")
    axes.set_ylabel("found")
    axes.set_title("Is the uncertainty right?")
    axes.grid()


def _invented(result: EvidenceResult) -> Table:
    rows = [(i.label, interval(i.hallucinated, 2), interval(i.lost, 2)) for i in result.invention]
    return Table(
        "Pixels that are brighter (invented) or darker (lost) than the truth by more than the autoencoder's "
        f"own error, {plain(result.invention[0].threshold_levels, 1)} gray levels on average; % [95 % "
        "interval].",
        ("", "invented, %", "lost, %"),
        tuple(rows),
    )


TOPIC: Topic[EvidenceResult] = Topic(
    name="evidence",
    kind="edge-sr/evidence",
    model=EvidenceResult,
    title="What a result says of itself",
    what="whether a result says of itself when it is wrong",
    command="python -m benchmarks evidence --bundle BUNDLE --pairs PAIRS --lpips FOLDER",
    asks=(Question.TRUST,),
    build=build,
    needs_loop=True,
)
