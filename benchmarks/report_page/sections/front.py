"""Quality against time, of every precision and every other runtime: which of them nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ladder.records import LadderResult
from benchmarks.ladder.rungs import FP16, FP32
from benchmarks.ladder.words import NOT_MEANINGFUL
from benchmarks.records import QualityResult
from benchmarks.report_page.blocks import Chart, Charts, Prose, Section, Table
from benchmarks.report_page.charts import BAND, PALE, PRECISIONS, chart, shorten
from benchmarks.report_page.numbers import milliseconds, plain, signed
from benchmarks.rows import MODEL
from edge_sr.bench.records import BenchResult
from edge_sr.statistics import median

__all__ = ["Point", "bench_points", "front_of", "front_section", "ladder_points"]

SAME_DB = 3  # decimals from which on two gains count as one
FEW = 4  # points whose names have room beside them
MARKERS = {True: "o", False: "s"}


@dataclass(frozen=True)
class Point:
    """A way to enlarge an image with this model.

    Attributes:
        label: Its name.
        time_ms: The median for an image.
        ratio: Its time over FP32's of the same run.
        gain_db: Its PSNR less FP32's of the same run.
        colour: In the chart.
        is_ours: Whether edge-sr runs it.
    """

    label: str
    time_ms: float
    ratio: float
    gain_db: float
    colour: str
    is_ours: bool


def ladder_points(result: LadderResult) -> Iterator[Point]:
    """The precisions whose time means something."""
    for row in result.rows:
        if row.latency.is_meaningful:
            ratio = 1 / row.speedup.mean if row.speedup else 1.0
            gain = 0.0 if row.key == FP32 else row.change["psnr_db"].mean
            yield Point(row.label, row.latency.whole.p50, ratio, gain, PRECISIONS[row.key], is_ours=True)


def front_of(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats in time without losing in quality: the Pareto front, fastest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.ratio, -p.gain_db)):
        if not front or round(point.gain_db, SAME_DB) > round(front[-1].gain_db, SAME_DB):
            front.append(point)
    return front


def bench_points(qualities: Sequence[QualityResult], benches: Sequence[BenchResult]) -> Iterator[Point]:
    """The precisions that were judged on the same images and timed in one run, where no ladder was."""
    gains = _gains(qualities)
    rows = {str(row.case.precision): row for result in benches[:1] for row in result.rows[::-1]}
    if FP32 not in gains or FP32 not in rows:
        return
    fp32 = median(rows[FP32].stages.latency)
    for precision in (p for p in PRECISIONS if p in gains and p in rows and p != FP16):
        time = median(rows[precision].stages.latency)
        colour = PRECISIONS[precision]
        yield Point(precision.upper(), 1e3 * time, time / fp32, gains[precision], colour, is_ours=True)


def _gains(qualities: Sequence[QualityResult]) -> dict[str, float]:
    """PSNR less FP32's on the same images, by precision."""
    fp32 = next((result for result in qualities if result.bundle.precision == FP32), None)
    alike = [result for result in qualities if fp32 and result.data.sha256 == fp32.data.sha256]
    found = {str(result.bundle.precision): _psnr(result) for result in alike[::-1]}
    return {precision: value - found[FP32] for precision, value in found.items()}


def _psnr(result: QualityResult) -> float:
    return next(row for row in result.rows if row.key == MODEL).statistics["psnr_db"].mean


def front_section(points: Sequence[Point], *, noise: float | None, untimed: Sequence[str] = ()) -> Section:
    """The picture, and the same in figures.

    Args:
        points: The precisions and other runtimes, each against edge-sr in FP32 in a run of its own.
        noise: What another seed changes in PSNR, where that is known.
        untimed: Labels of what has no place here, since its time means nothing.
    """
    front = front_of(points)
    names = ", ".join(point.label for point in front)
    told = f"On the Pareto front, which nothing here beats in both: {names}. "
    told += "Times and qualities are held against edge-sr in FP32 in the same run, never across runs."
    if untimed:
        told += f" {', '.join(untimed)}: the time on a CPU is {NOT_MEANINGFUL}, so it has no place here."
    blocks = (Prose(told), Charts((_chart(points, front, noise),)), _table(points, front))
    return Section("front", "Quality against time", blocks)


def _chart(points: Sequence[Point], front: Sequence[Point], noise: float | None) -> Chart:
    told = "; ".join(f"{p.label}: {plain(p.ratio, 2)}, {signed(p.gain_db, 3)} dB" for p in points)
    shaded = "" if noise is None else f" Shaded: what another seed changes, {plain(noise, 3)} dB."
    return chart(
        lambda axes: _draw(axes, points, front, noise),
        key="front",
        alt=f"Time of an image over FP32's, and PSNR less FP32's. {told}.",
        caption="Up and to the left is better. Line: the Pareto front. Circles: edge-sr; squares: others."
        + shaded,
        height=3.8,
    )


def _draw(axes: Any, points: Sequence[Point], front: Sequence[Point], noise: float | None) -> None:
    if noise is not None:
        axes.axhspan(-noise, noise, color=BAND, linewidth=0)
    reach = [point.ratio for point in points]
    axes.step(
        [*[p.ratio for p in front], 2 * max(reach)],
        [*[p.gain_db for p in front], front[-1].gain_db],
        where="post",
        color=PALE,
        linewidth=1,
        linestyle="--",
    )
    for point in points:
        axes.plot(point.ratio, point.gain_db, MARKERS[point.is_ours], color=point.colour, markersize=7)
    _label(axes, points)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.set_xlim(0.8 * min(reach), (1.6 if len(points) <= FEW else 1.3) * max(reach))
    axes.set_xlabel("time of an image, over FP32's in the same run")
    axes.set_ylabel("PSNR less FP32's, dB")
    axes.grid()


def _label(axes: Any, points: Sequence[Point]) -> None:
    """A name beside each of a few points; those of many stand above the chart, each tied to its own."""
    if len(points) <= FEW:
        for point in points:
            place = (7, -11) if point.gain_db >= 0 else (7, 5)
            axes.annotate(
                shorten(point.label), (point.ratio, point.gain_db), xytext=place, textcoords="offset points"
            )
        return
    ordered = sorted(points, key=lambda point: point.ratio)
    tie = {"arrowstyle": "-", "color": PALE, "linewidth": 0.5, "shrinkB": 4, "relpos": (0, 0)}
    for point, place in zip(ordered, np.linspace(0, 0.74, len(ordered)), strict=True):
        axes.annotate(
            shorten(point.label),
            (point.ratio, point.gain_db),
            xytext=(place, 1.03),
            textcoords="axes fraction",
            rotation=38,
            rotation_mode="anchor",
            fontsize=7.5,
            arrowprops=tie,
        )


def _table(points: Sequence[Point], front: Sequence[Point]) -> Table:
    rows = [
        (
            point.label,
            milliseconds(point.time_ms),
            plain(point.ratio, 2),
            signed(point.gain_db, SAME_DB),
            "yes" if point in front else "no",
        )
        for point in sorted(points, key=lambda p: p.ratio)
    ]
    head = ("", "median time", "time over FP32's", "PSNR less FP32's, dB", "on the front")
    return Table("The same in figures, the fastest first.", head, tuple(rows))
