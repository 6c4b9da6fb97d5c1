"""Whether tiles show in images larger than one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.report_page.blocks import Body, Prose, Table
from benchmarks.report_page.numbers import count, plain
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.seams.records import SeamsResult, Way

__all__ = ["TOPIC"]


def build(found: Sequence[Found[SeamsResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    told = (
        f"Squares of {result.side} pixels of {count(len(result.images), 'image')}, which take several tiles, "
        f"{result.bundle.precision.upper()}. At the same places bicubic, which has no tiles, measures "
        f"{plain(float(np.mean(result.bicubic_step_ratio)), 3)}: the measure's own noise. Another seed "
        f"changes the image by {plain(float(np.mean(result.seed_rms)), 2)} gray levels of 255."
    )
    table = Table(
        "Steps across tile borders over those beside them (1: nothing shows); difference of two tilings of "
        "the same image, gray levels of 255. Means over images.",
        ("", "overlap, pixels", "tiles", "steps across borders", "difference of tilings"),
        tuple(_row(way) for way in result.ways),
    )
    return Body((Prose(told), table))


def _row(way: Way) -> tuple[str, ...]:
    means = (float(np.mean(way.step_ratio)), float(np.mean(way.tiling_rms)))
    return way.label, str(way.overlap), str(way.tiles), plain(means[0], 3), plain(means[1], 2)


TOPIC: Topic[SeamsResult] = Topic(
    name="seams",
    kind="edge-sr/seams",
    model=SeamsResult,
    title="Do tiles show?",
    what="whether tiles show in images larger than one",
    command="python -m benchmarks seams --bundle BUNDLE --images FOLDER",
    asks=(),
    build=build,
    needs_loop=True,
)
