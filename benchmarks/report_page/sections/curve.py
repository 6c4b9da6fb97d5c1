"""What perceptual quality costs in fidelity, over all that a preset can set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.curve import FAMILIES, PUBLISHED, margins
from benchmarks.records import QualityResult, RowResult
from benchmarks.report_page.blocks import Body, Chart, Charts, Prose, Table
from benchmarks.report_page.charts import INK, PALE, SERIES, chart
from benchmarks.report_page.numbers import plain, signed
from benchmarks.report_page.sections.quality import is_curve
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.rows import BICUBIC, MEAN, MODEL
from benchmarks.scores import LPIPS_NAME

__all__ = ["TOPIC"]

KNOWN = {BICUBIC: ("bicubic", "P"), MEAN: ("regression alone", "D"), MODEL: ("default", "*")}


def build(found: Sequence[Found[QualityResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    told = (
        "A sharper image is further from the truth pixel by pixel (Blau and Michaeli 2018). Each line "
        f"varies one setting and leaves the rest at the default: {context.images(result.data)}, "
        f"{result.bundle.precision.upper()}. Published methods stand where their own papers put them against "
        "their own bicubic: other images, and another network for LPIPS, so they are for orientation alone."
    )
    return Body((Prose(told), Charts((_chart(result),)), _table(result)))


def _members(result: QualityResult, family: str) -> list[RowResult]:
    return [row for row in result.rows if row.key.startswith(f"{family}-")]


def _chart(result: QualityResult) -> Chart:
    rows = {row.key: row for row in result.rows}
    gain, ratio = margins(rows[MODEL], rows[BICUBIC])
    alt = (
        "PSNR less bicubic's against LPIPS as a share of bicubic's, a line for each setting; the default is "
        f"at {signed(gain, 2)} dB and {plain(ratio, 2)}."
    )
    return chart(
        lambda axes: _draw(axes, result, rows),
        key="curve",
        alt=alt,
        caption="Up and to the right is better. Crosses: published methods, each against its own bicubic.",
        height=3.8,
    )


def _draw(axes: Any, result: QualityResult, rows: dict[str, RowResult]) -> None:
    bicubic = rows[BICUBIC]
    for (family, (words, _)), colour, marker in zip(FAMILIES.items(), SERIES, "os^D", strict=True):
        points = [margins(row, bicubic) for row in _members(result, family)]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4, label=words)
    for key, (words, marker) in KNOWN.items():
        if key in rows:
            _mark(axes, margins(rows[key], bicubic), words, marker, INK)
    for words, point in PUBLISHED.items():
        _mark(axes, point, words, "x", PALE)
    axes.invert_yaxis()
    axes.axvline(0, color=PALE, linewidth=0.8, linestyle=":")
    axes.set_xlabel("PSNR less bicubic's, dB")
    axes.set_ylabel("LPIPS, share of bicubic's")
    axes.legend(loc="lower left")


def _mark(axes: Any, point: tuple[float, float], words: str, marker: str, colour: str) -> None:
    axes.plot(*point, marker, color=colour, markersize=8 if marker == "*" else 5)
    axes.annotate(words, point, xytext=(5, -9), textcoords="offset points", color=colour, fontsize=7)


def _table(result: QualityResult) -> Table:
    rows = {row.key: row for row in result.rows}
    wanted = [row for row in result.rows if BICUBIC in row.versus and LPIPS_NAME in row.statistics]
    cells = []
    for row in wanted:
        gain, ratio = margins(row, rows[BICUBIC])
        cells.append(
            (f"{row.label}: {row.note}" if row.preset else row.label, signed(gain, 2), plain(ratio, 3))
        )
    return Table(
        "The same in figures.", ("", "PSNR less bicubic's, dB", "LPIPS, share of bicubic's"), tuple(cells)
    )


TOPIC: Topic[QualityResult] = Topic(
    name="curve",
    kind="edge-sr/quality",
    model=QualityResult,
    title="Fidelity against perception",
    what="what perceptual quality costs in fidelity, over steps, noise and samples",
    command="python -m benchmarks curve --bundle BUNDLE --pairs PAIRS --lpips FOLDER",
    asks=(),
    build=build,
    needs_loop=True,
    belongs=is_curve,
)
