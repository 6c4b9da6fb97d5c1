"""A result of `edge-sr bench` as lines of text, in trtexec's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_sr.bench.comparison import LEAST_SAMPLES, compare_rows, verdict
from edge_sr.bench.notices import case_name
from edge_sr.bench.records import BenchResult, Load, Row, Start
from edge_sr.statistics import Ratio, median, percentile, samples_needed

__all__ = ["interval", "result_lines"]

SHARES = (0.9, 0.95, 0.99)
GPU = ("tensorrt", "onnxruntime-cuda")
STAGES = {
    "encode": "  encode",
    "loop": "  loop",
    "step": "    one step",
    "decode": "  decode",
}


def result_lines(result: BenchResult) -> list[str]:
    """The whole table."""
    here, bundle = result.environment, result.bundle
    mode = f", power mode {here.power_mode}" if here.power_mode else ""
    lines = [
        f"{bundle.name} {bundle.version} on {here.backend} {here.backend_version} ({here.provider})",
        f"{here.device}, {here.cores} cores{mode}",
    ]
    for row in result.rows:
        lines += ["", *_row_lines(row, here.backend)]
    lines += _ratio_lines(result.rows)
    return [*lines, "", *_machine_lines(result), *_footnotes(result)]


def _row_lines(row: Row, backend: str) -> Iterator[str]:
    stages, images = row.stages, len(row.stages.latency)
    compute = "GPU Compute Time" if backend in GPU else "Compute Time"
    yield f"{case_name(row.case)}: {images} images after {len(row.warm_up.seconds)} to warm up"
    heads = ("min", "mean", "median", *(f"{share:.0%}" for share in SHARES), "max")
    yield f"  {'ms':<20}" + "".join(f"{head:>10}" for head in heads)
    yield _series("Latency", stages.latency)
    yield _series(compute, stages.compute)
    for name, label in STAGES.items():
        if any(seconds := getattr(stages, name)):  # a bundle may lack the stage
            yield _series(label, seconds)
    yield _series("Host Time", stages.host)
    if row.batches:
        yield _series("Enqueue Time", row.batches[0].enqueue)
    yield _series("Read", stages.read)
    yield _series("Write", stages.write)
    yield _series("File to file", stages.whole)
    yield f"  Throughput: {images / sum(stages.latency):.3g} qps, one image after the other"
    for batch in row.batches:
        runs = len(batch.latency)
        middle = median(batch.latency)
        yield (
            f"  Batch {batch.size:<3} {batch.per_second:>8.3g} qps (tiles): a batch in {_ms(middle)} ms, "
            f"{_ms(middle / batch.size)} ms a tile ({runs} runs)"
        )
    yield from map(_load_line, row.loads)
    if row.start:
        yield from _start_lines(row.start)
    if energy := row.energy:
        yield (
            f"  Energy: {energy.gross_j:.3f} J an image, {energy.above_idle_j:.3f} J above idle; "
            f"{energy.mean_w:.2f} W, idle {energy.idle_w:.2f} W, at {energy.rail} ({energy.images} images)"
        )


def _series(name: str, seconds: Sequence[float]) -> str:
    """A line of the table; a percentile of too few samples is marked."""
    figures = [f"{_ms(v)} " for v in (min(seconds), sum(seconds) / len(seconds), median(seconds))]
    for share in SHARES:
        mark = " " if len(seconds) >= samples_needed(share) else "*"
        figures.append(f"{_ms(percentile(seconds, share))}{mark}")
    figures.append(f"{_ms(max(seconds))} ")
    return f"  {name:<20}" + "".join(f"{figure:>10}" for figure in figures)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}" if seconds < 0.1 else f"{1e3 * seconds:.1f}"


def _load_line(load: Load) -> str:
    latency = load.latency
    tail = f"{_ms(percentile(latency, 0.95))}{'' if len(latency) >= samples_needed(0.95) else '*'}"
    return (
        f"  Offered {load.per_second:.3g} a second ({load.share:.0%} of what file to file allows): "
        f"{load.achieved:.3g} qps; "
        f"with the wait median {_ms(median(latency))}, 95% {tail}, max {_ms(max(latency))} ms "
        f"({len(latency)} requests)"
    )


def _start_lines(start: Start) -> Iterator[str]:
    engines = ", ".join(f"{name} {_ms(seconds)}" for name, seconds in start.engines.items())
    yield (
        f"  Cold start: {_ms(start.total)} ms to the first image: import {_ms(start.imported)}, bundle "
        f"{_ms(start.bundle)}, backend {_ms(start.backend)}, {engines}, first image {_ms(start.first)}"
    )
    device = "" if start.device_bytes is None else f"; {start.device_bytes / 2**20:.0f} MiB of the device's"
    yield (
        f"  Memory: {start.peak_bytes / 2**20:.0f} MiB at most, {start.base_bytes / 2**20:.0f} of it before "
        f"the bundle{device}"
    )


def _ratio_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Every row after the first, against it."""
    first, *others = rows
    for row in others:
        latency = compare_rows(first, row, are_pairs=True).metrics[0]
        yield ""
        yield (
            f"{case_name(row.case)} against {case_name(first.case)}: {interval(latency.ratio)} of its "
            f"latency, {verdict(latency.ratio, latency.samples)}"
        )


def interval(ratio: Ratio) -> str:
    """A ratio with its bounds."""
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def _machine_lines(result: BenchResult) -> Iterator[str]:
    """What the machine was like before and after."""
    before, after = result.before, result.after
    for label, unit, was, now in (
        ("Clocks", "MHz", before.clocks_mhz, after.clocks_mhz),
        ("Temperature", "°C", before.temperatures_c, after.temperatures_c),
    ):
        if now:
            changes = ", ".join(f"{n} {was.get(n, v):.0f} to {v:.0f}" for n, v in now.items())
            yield f"{label}, {unit}: {changes}"
    if (had := result.processors) is not None:
        yield (
            f"Processors while images were timed: {had.own:.2f} for this, {had.others:.2f} for other "
            f"processes, {had.stolen:.2f} for other machines, of {result.environment.cores}"
        )


def _footnotes(result: BenchResult) -> Iterator[str]:
    least = {f"{share:.0%}": samples_needed(share) for share in SHARES}
    counts = [len(row.stages.latency) for row in result.rows]
    counts += [len(load.latency) for row in result.rows for load in row.loads]
    counts += [len(batch.latency) for row in result.rows for batch in row.batches]
    if min(counts) < max(least.values()):
        wanted = ", ".join(f"{name} wants {count}" for name, count in least.items())
        yield f"* too few samples for that percentile ({wanted}): slower images may not have been seen"
    if len(result.rows) > 1 and min(counts) >= LEAST_SAMPLES:
        yield "[ ] 95 % interval of the ratio of medians, for this run; another day may give another ratio"
