"""What a seam would be seen by, in numbers; no true image is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.tiling import TileGrid, blend

__all__ = ["overlaps", "rms_difference", "step_ratio"]

Image = npt.NDArray[Any]
Plane = npt.NDArray[np.float64]
Tiles = npt.NDArray[np.float32]

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


def overlaps(tiles: Tiles, grid: TileGrid, scale: int) -> tuple[float, float]:
    """How far the tiles that a pixel is blended of are from it, and how much of their detail it keeps.

    Tiles count as much as the blend lets them: at its edge a tile has artefacts that nobody sees.

    Args:
        tiles: (tiles, T, T), in the grid's order.
        grid: The plan.
        scale: Enlargement.

    Returns:
        Over all pixels of the image that several tiles made: the root of the mean weighted squared difference
        of a tile from the blend, in the tiles' units; and mean |Laplacian| of the blend over the weighted
        one of the tiles. 0 and 1 where nothing overlaps.
    """
    blended, shared = blend(tiles, grid, scale=scale), _coverage(grid, scale) > 1
    if not shared.any():
        return 0.0, 1.0
    beyond = [
        (0, grid.padded_height * scale - len(blended)),
        (0, grid.padded_width * scale - blended.shape[1]),
    ]
    padded = np.pad(blended, beyond)
    apart = [(tile - padded[place]) ** 2 for tile, place in zip(tiles, _places(grid, scale), strict=True)]
    detail = [_laplacian(tile).astype(np.float32) for tile in tiles]
    distance, own = (blend(planes, grid, scale=scale)[shared] for planes in (apart, detail))
    return float(np.sqrt(distance.mean())), float(_laplacian(blended)[shared].mean() / own.mean())


def _places(grid: TileGrid, scale: int) -> list[tuple[slice, slice]]:
    """Where each tile lies on the padded, enlarged image."""
    side = grid.tile * scale
    return [(slice(y * scale, y * scale + side), slice(x * scale, x * scale + side)) for y, x in grid.origins]


def _coverage(grid: TileGrid, scale: int) -> npt.NDArray[np.int64]:
    """How many tiles see each pixel of the enlarged image."""
    seen = np.zeros((grid.padded_height * scale, grid.padded_width * scale), np.int64)
    for place in _places(grid, scale):
        seen[place] += 1
    return seen[: grid.height * scale, : grid.width * scale]


def _laplacian(image: Image) -> Plane:
    """|4-neighbour Laplacian|, borders mirrored."""
    p = np.pad(image.astype(np.float64), 1, mode="reflect")
    found: Plane = np.abs(p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1])
    return found
