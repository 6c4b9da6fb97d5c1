"""Seams as Markdown."""

from __future__ import annotations

import numpy as np

from benchmarks.records import Estimate
from benchmarks.report import CAUTION, check_table, footer, markdown_table
from benchmarks.rows import describe
from benchmarks.seams.records import SeamsResult, Way

__all__ = ["seams_report"]


def seams_report(result: SeamsResult) -> str:
    """All of it."""
    bundle, side = result.bundle, result.side
    head = ["", "overlap", "count", "step ratio", "tiles", "other tiling", "detail kept"]
    lines = [
        f"# Seams of {bundle.name} {bundle.version}, {bundle.precision}",
        "",
        f"{len(result.images)} images of {side}x{side} pixels, enlarged: {describe(result.preset)}. Means "
        "over images [95 % interval].",
        "",
        *check_table(result.checks),
        *markdown_table(head, [_row(way) for way in result.ways]),
        "",
        "- step ratio: steps from pixel to pixel across tile borders over those beside them; 1 where nothing "
        f"shows. Bicubic, which has no tiles, has {np.mean(result.bicubic_step_ratio):.3f} there.",
        "- overlap: fewest LR pixels that tiles share; they are spread evenly, so that they may share more.",
        "- tiles: root mean square difference of a tile from the image where tiles overlap, weighted as they "
        "are blended, gray levels of 255.",
        f"- other tiling: difference to tiles with an overlap of {result.other_overlap} from the same noise, "
        f"gray levels of 255. Another seed changes {np.mean(result.seed_rms):.2f}.",
        "- detail kept: |Laplacian| of the image where tiles overlap over that of the tiles, weighted "
        "likewise; below 1 where blending blurs.",
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _row(way: Way) -> list[str]:
    found = way.estimates
    return [
        way.label,
        str(way.overlap),
        str(way.tiles),
        _told(found["step_ratio"], 3),
        _told(found["tile_rms"], 2),
        _told(found["tiling_rms"], 2),
        _told(found["detail_ratio"], 3),
    ]


def _told(found: Estimate, digits: int) -> str:
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
