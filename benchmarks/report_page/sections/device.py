"""What `edge-sr bench` measured on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.report_page.blocks import Answer, Block, Body, Chart, Charts, Prose, Question, Table, Verdict
from benchmarks.report_page.charts import chart
from benchmarks.report_page.numbers import count, milliseconds, percent, plain
from benchmarks.report_page.sections.ladder_charts import stage_bars
from benchmarks.report_page.topics import Context, Found, Topic
from edge_sr.bench.notices import case_name
from edge_sr.bench.records import BenchResult, Row
from edge_sr.statistics import median, percentile

__all__ = ["GPU", "TOPIC"]

GPU = ("tensorrt", "onnxruntime-cuda")
MIB = 1 << 20
PARTS = ("read", "encode", "loop", "decode", "host", "write")


def build(found: Sequence[Found[BenchResult]], context: Context) -> Body:
    """Every device."""
    blocks = [block for place, each in enumerate(found) for block in _device(each.record, place)]
    fast = tuple(sentence for each in found for sentence in (*_fast(each.record), *_doubts(each.record)))
    where = tuple(f"A device: {_machine(each.record)}." for each in found)
    verdict = _fastest(found[0].record)
    return Body(tuple(blocks), (Answer(Question.FAST, fast, verdict), Answer(Question.WHERE, where)))


def _fastest(result: BenchResult) -> Verdict:
    """The time of the fastest precision, of the first row's size and steps."""
    first = result.rows[0].case
    alike = [r for r in result.rows if (r.case.preset, r.case.size) == (first.preset, first.size)]
    row = min(alike, key=lambda row: median(row.stages.latency))
    time = milliseconds(1e3 * median(row.stages.latency))
    return Verdict(f"{time} an image, {row.case.precision.upper()}", "plain")


def _machine(result: BenchResult) -> str:
    here = result.environment
    mode = f", power mode {here.power_mode}" if here.power_mode else ""
    version = here.backend_version.removeprefix(here.backend).strip()
    runs = f"{here.backend} {version} ({here.provider})"
    return f"{here.device}, {count(here.cores, 'core')}{mode}, {runs}"


def _fast(result: BenchResult) -> Iterator[str]:
    for row in result.rows:
        latency = row.stages.latency
        yield (
            f"{result.environment.device}, {case_name(row.case)}: {milliseconds(1e3 * median(latency))} from "
            f"pixels to pixels in the median, {milliseconds(1e3 * median(row.stages.whole))} from file to "
            "file."
        )


def _doubts(result: BenchResult) -> Iterator[str]:
    if result.notices:
        yield f"{count(len(result.notices), 'note')} on {result.environment.device} should be read first."


def _device(result: BenchResult, place: int) -> Iterator[Block]:
    images = count(len(result.rows[0].stages.latency), "image")
    yield Prose(f"{_machine(result)}; {images} a row, in turns, after a warm-up; {result.created}.")
    yield Charts((_chart(result, place),))
    yield _times(result)
    if batches := tuple(_batches(result)):
        yield Table("Several tiles at once.", ("", "batch", "tiles a second", "a batch, median"), batches)
    if loads := tuple(_loads(result)):
        head = ("", "offered a second", "done a second", "median", "95 of 100")
        yield Table("Requests that come when they come: time from arrival to answer.", head, loads)
    yield from (Prose(f"Note: {notice}.") for notice in result.notices)


def _chart(result: BenchResult, place: int) -> Chart:
    parts = {case_name(row.case): _parts(row) for row in result.rows}
    told = "; ".join(
        f"{label}: " + ", ".join(f"{name} {milliseconds(value)}" for name, value in found.items())
        for label, found in parts.items()
    )
    return chart(
        lambda axes: stage_bars(axes, parts),
        key=f"bench-{place}",
        alt=f"Time of each stage of an image. {told}.",
        caption="Where the time of one image goes, from file to file: medians of the stages.",
        height=1.5 + 0.45 * len(parts),
    )


def _parts(row: Row) -> dict[str, float]:
    """Milliseconds of the stages that there are: a plain network has no loop."""
    found = {name: 1e3 * median(getattr(row.stages, name)) for name in PARTS}
    return {name: value for name, value in found.items() if value > 0}


def _times(result: BenchResult) -> Table:
    rows = tuple((case_name(row.case), *_latency(row), *_asks(row)) for row in result.rows)
    head = ("", "median", "90 of 100", "99 of 100", "most", "file to file")
    return Table(
        "Time of one image from pixels to pixels; from nothing to the first image; the most memory, MiB; "
        "energy of an image above idle, J, where the machine has a rail for it.",
        (*head, "first image", "memory", "energy"),
        rows,
    )


def _latency(row: Row) -> list[str]:
    latency = row.stages.latency
    values = [percentile(latency, share) for share in (0.5, 0.9, 0.99)]
    return [milliseconds(1e3 * v) for v in (*values, max(latency), median(row.stages.whole))]


def _asks(row: Row) -> list[str]:
    start, energy = row.start, row.energy
    first = [f"{plain(start.total, 2)} s", plain(start.peak_bytes / MIB, 0)] if start else ["–", "–"]
    return [*first, plain(energy.above_idle_j, 2) if energy else "–"]


def _batches(result: BenchResult) -> Iterator[tuple[str, ...]]:
    for row in result.rows:
        for batch in row.batches:
            middle = milliseconds(1e3 * median(batch.latency))
            yield case_name(row.case), str(batch.size), plain(batch.per_second, 2), middle


def _loads(result: BenchResult) -> Iterator[tuple[str, ...]]:
    for row in result.rows:
        for load in row.loads:
            times = [milliseconds(1e3 * percentile(load.latency, share)) for share in (0.5, 0.95)]
            offered = f"{plain(load.per_second, 2)} ({percent(load.share)})"
            yield case_name(row.case), offered, plain(load.achieved, 2), *times


TOPIC: Topic[BenchResult] = Topic(
    name="bench",
    kind="edge-sr/bench",
    model=BenchResult,
    title="On the device",
    what="time from file to file, throughput, memory and energy on the device itself",
    command="edge-sr bench --bundle BUNDLE --json FILE",
    asks=(),
    build=build,
)
