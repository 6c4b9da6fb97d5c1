"""Other models on the same images: what they give, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.models import AS_GOOD, ModelFacts, ModelsResult
from benchmarks.models_report import in_less
from benchmarks.records import RowResult
from benchmarks.report_page.blocks import Body, Prose, Table
from benchmarks.report_page.numbers import milliseconds, plain
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.rows import BICUBIC
from benchmarks.scores import METRICS

__all__ = ["TOPIC"]

MIB = 2**20


def build(found: Sequence[Found[ModelsResult]], context: Context) -> Body:
    """A table a result, and who does as well in less."""
    blocks: list[Table | Prose] = []
    for each in found:
        blocks.append(_table(each.record, context))
        blocks += [Prose(sentence) for sentence in in_less(each.record)]
    return Body(tuple(blocks))


def _table(result: ModelsResult, context: Context) -> Table:
    rows = {row.key: row for row in result.scores.rows}
    names = [name for name in AS_GOOD if name in result.scores.metrics]
    made = result.environment
    return Table(
        f"{context.images(result.scores.data)}; {made.threads} threads, {made.cpu}, {made.cores} cores under "
        f"a load of {made.load}: timed in turns, so read the ratios.",
        ("", "how", *[METRICS[name].label for name in names], "an image", "peak memory, MiB"),
        (
            (rows[BICUBIC].label, "", *_means(rows[BICUBIC], names), "", ""),
            *[_row(model, rows[model.row], names) for model in result.models],
        ),
    )


def _row(model: ModelFacts, row: RowResult, names: Sequence[str]) -> tuple[str, ...]:
    time, memory = milliseconds(1e3 * model.timing.median), plain(model.peak_bytes / MIB, 0)
    return row.label, row.note, *_means(row, names), time, memory


def _means(row: RowResult, names: Sequence[str]) -> list[str]:
    return [plain(row.statistics[name].mean, METRICS[name].digits) for name in names]


TOPIC: Topic[ModelsResult] = Topic(
    name="models",
    kind="edge-sr/models",
    model=ModelsResult,
    title="Other models on the same images",
    what="other models on the same images, with their time and memory",
    command="python -m benchmarks models --model BUNDLE --model OTHER --pairs FOLDER --lpips FOLDER",
    asks=(),
    build=build,
)
