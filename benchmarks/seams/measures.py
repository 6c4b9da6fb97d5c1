"""What a seam would be seen by, in numbers; no true image is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.tiling import TileGrid

__all__ = ["overlaps", "rms_difference", "step_ratio"]

Image = npt.NDArray[Any]
Plane = npt.NDArray[np.float64]

NEAR = range(2, 9)  # pixels from a border, to either side, that it is compared with


def step_ratio(image: Image, rows: tuple[int, ...], columns: tuple[int, ...]) -> float:
    """Mean |step| from pixel to pixel across borders, over that across lines two to eight pixels away.

    Args:
        image: (H, W).
        rows: Where a tile begins or ends, in the image's pixels.
        columns: Likewise.

    Returns:
        1 where borders are as smooth as what lies beside them; above, where they show.
    """
    at, near = 0.0, 0.0
    for axis, borders in ((0, rows), (1, columns)):
        steps = np.abs(np.diff(image.astype(np.float64), axis=axis)).mean(axis=1 - axis)
        for border in borders:
            sides = [steps[p] for k in NEAR for p in (border - 1 - k, border - 1 + k) if 0 <= p < len(steps)]
            at, near = at + float(steps[border - 1]), near + float(np.mean(sides))
    return at / near if near else 1.0


def rms_difference(a: Image, b: Image) -> float:
    """The root mean square difference of two images of one shape, in their units."""
    return float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b))))


def overlaps(
    tiles: npt.NDArray[np.float32], blended: Plane, grid: TileGrid, scale: int
) -> tuple[float, float]:
    """How far tiles disagree where they overlap, and how much of their detail the blend keeps there.

    Args:
        tiles: (tiles, T, T), in the grid's order.
        blended: (height * scale, width * scale), what became of them.
        grid: The plan.
        scale: Enlargement.

    Returns:
        The root mean square difference of two tiles at a pixel that both made, in the tiles' units; and mean
        |Laplacian| of the blend at such pixels over the tiles' own.
    """
    side = grid.tile * scale
    count, total, squares, detail = np.zeros((4, grid.padded_height * scale, grid.padded_width * scale))
    for tile, (row, column) in zip(tiles.astype(np.float64), grid.origins, strict=True):
        place = (slice(row * scale, row * scale + side), slice(column * scale, column * scale + side))
        for canvas, values in ((count, 1.0), (total, tile), (squares, tile**2), (detail, _laplacian(tile))):
            canvas[place] += values
    shared = np.zeros(count.shape, np.bool_)
    shared[: grid.height * scale, : grid.width * scale] = True
    shared &= count > 1
    n, mean = count[shared], total[shared] / count[shared]
    variance = np.maximum(squares[shared] / n - mean**2, 0)
    kept = _laplacian(blended)[shared[: blended.shape[0], : blended.shape[1]]].mean()
    return float(np.sqrt(np.mean(2 * n / (n - 1) * variance))), float(kept / (detail[shared] / n).mean())


def _laplacian(image: Image) -> Plane:
    """|4-neighbour Laplacian|, borders mirrored."""
    p = np.pad(image.astype(np.float64), 1, mode="reflect")
    found: Plane = np.abs(p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1])
    return found
