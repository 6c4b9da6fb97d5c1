"""Cut an image of any size into tiles, and put the results back together.

Tiles are placed on the low-resolution image. Each overlaps its neighbours, and the enlarged tiles are summed
under weights that add up to one at every pixel, so that a tile that equals the image gives the image back.

The noise of a diffusion sampler belongs to a place in the image, not to a tile: see `edge_sr.noise`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import UsageError
from edge_sr.noise import NOISE_BLOCK, position_noise, position_noise_into

__all__ = [
    "NOISE_BLOCK",
    "TileGrid",
    "axis_weights",
    "blend",
    "blend_window",
    "extract",
    "pad",
    "plan_tiles",
    "position_noise",
    "position_noise_into",
]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Where the tiles of one image lie. All lengths are low-resolution pixels.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        tile: Side of the square tiles.
        overlap: Least number of pixels that neighbouring tiles share.
        padded_height: Rows after padding at the bottom; at least ``height`` and ``tile``.
        padded_width: Columns after padding at the right.
        rows: First row of each row of tiles, ascending, multiples of the plan's ``align``.
        columns: First column of each column of tiles.
    """

    height: int
    width: int
    tile: int
    overlap: int
    padded_height: int
    padded_width: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.rows) * len(self.columns)

    @property
    def origins(self) -> tuple[tuple[int, int], ...]:
        """The (row, column) of each tile's first pixel, row by row: the order that `blend` expects."""
        return tuple((y, x) for y in self.rows for x in self.columns)

    @property
    def borders(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The inner rows and columns at which a tile begins or ends: where seams would lie."""
        return self._borders(self.rows, self.height), self._borders(self.columns, self.width)

    def _borders(self, origins: tuple[int, ...], length: int) -> tuple[int, ...]:
        ends = {place for origin in origins for place in (origin, origin + self.tile)}
        return tuple(sorted(place for place in ends if 0 < place < length))


def plan_tiles(height: int, width: int, *, tile: int, overlap: int, align: int = 1) -> TileGrid:
    """Place the fewest tiles that cover an image, evenly spread.

    Args:
        height: Rows of the image, at least 1.
        width: Columns of the image, at least 1.
        tile: Side of a tile, a multiple of ``align``.
        overlap: Least number of pixels shared by neighbours, from 0 up to what leaves a step of ``align``.
        align: Every origin is a multiple of it, so that tiles start on the latent grid. The image is padded
            by up to ``align - 1`` pixels where the last tile would not fall on it.

    Returns:
        The grid. Neighbours share more than ``overlap`` where the tiles do not divide the image evenly.

    Raises:
        UsageError: The sizes contradict each other.
    """
    if min(height, width, tile, align) < 1 or tile % align:
        raise UsageError(
            f"cannot tile {height}x{width} pixels with tiles of {tile} aligned to {align}",
            hint="sizes are at least 1, and the tile is a multiple of the alignment",
        )
    if not 0 <= overlap <= tile - align:
        raise UsageError(f"an overlap of {overlap} pixels is not in 0 to {tile - align} for tiles of {tile}")
    stride = (tile - overlap) // align
    rows, padded_height = _axis_origins(height, tile, stride, align)
    columns, padded_width = _axis_origins(width, tile, stride, align)
    return TileGrid(height, width, tile, overlap, padded_height, padded_width, rows, columns)


def _axis_origins(length: int, tile: int, stride: int, align: int) -> tuple[tuple[int, ...], int]:
    """The origins along one axis and the padded length; ``stride`` is in units of ``align``."""
    last = max(0, math.ceil((length - tile) / align))
    gaps = math.ceil(last / stride)
    steps = [i * last // gaps for i in range(gaps)] + [last]
    return tuple(align * step for step in steps), align * last + tile


def pad(image: NDArray[Any], grid: TileGrid) -> NDArray[Any]:
    """Extend an image at the bottom and the right to the padded size of its grid.

    Args:
        image: (..., height, width), any dtype.
        grid: The plan for this height and width.

    Returns:
        (..., padded_height, padded_width), same dtype, mirrored without repeating the edge pixel. An axis
        too short to mirror repeats its last pixel. The same array where nothing is to be added.

    Raises:
        UsageError: The image has another size than the grid was planned for.
    """
    if image.shape[-2:] != (grid.height, grid.width):
        raise UsageError(
            f"the grid is for {(grid.height, grid.width)} pixels, the image is {image.shape[-2:]}"
        )
    for axis, missing in ((-2, grid.padded_height - grid.height), (-1, grid.padded_width - grid.width)):
        if missing:
            widths = [(0, 0)] * image.ndim
            widths[axis] = (0, missing)
            image = np.pad(image, widths, mode="reflect" if missing < image.shape[axis] else "edge")
    return image


def extract(padded: NDArray[Any], grid: TileGrid, index: int) -> NDArray[Any]:
    """Cut out one tile.

    Args:
        padded: (..., padded_height, padded_width), from `pad`.
        grid: Its plan.
        index: Which tile, in the order of ``grid.origins``.

    Returns:
        (..., tile, tile): a view, not a copy.
    """
    y, x = grid.origins[index]
    return padded[..., y : y + grid.tile, x : x + grid.tile]


def blend_window(tile: int, overlap: int) -> NDArray[np.float64]:
    """The weight of each pixel along one side of a tile, before normalisation.

    Args:
        tile: Length in pixels.
        overlap: Length in pixels of the raised-cosine ramp at each end; 0 for none.

    Returns:
        (tile,) float64, in (0, 1], symmetric. Ramps longer than half the tile are multiplied.
    """
    ramp = np.ones(tile)
    ramp[:overlap] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / max(overlap, 1))
    window: NDArray[np.float64] = ramp * ramp[::-1]
    return window


def axis_weights(origins: tuple[int, ...], tile: int, overlap: int, scale: int) -> NDArray[np.float32]:
    """The normalised weights of every tile along one axis.

    Args:
        origins: First pixel of each tile, low-resolution.
        tile: Side of a tile, low-resolution pixels.
        overlap: Ramp length, low-resolution pixels.
        scale: Enlargement.

    Returns:
        (len(origins), tile * scale) float32. At every covered pixel the weights of all tiles add up to one.
    """
    window = blend_window(tile * scale, overlap * scale)
    total = np.zeros((origins[-1] + tile) * scale)
    for origin in origins:
        total[origin * scale : (origin + tile) * scale] += window
    shares = [window / total[origin * scale : (origin + tile) * scale] for origin in origins]
    return np.stack(shares).astype(np.float32)


def blend(tiles: Iterable[NDArray[np.float32]], grid: TileGrid, *, scale: int) -> NDArray[np.float32]:
    """Put enlarged tiles together into one image.

    Tiles are taken one at a time, so a generator keeps memory to the result and one tile. Their order is that
    of the grid because sums of float32 depend on it: the same tiles give the same bytes.

    Args:
        tiles: (..., tile * scale, tile * scale) float32 each, in the order of ``grid.origins``.
        grid: The plan they were cut by.
        scale: Enlargement from the grid's pixels to theirs, at least 1.

    Returns:
        (..., height * scale, width * scale) float32, without the padding. A single tile comes back unchanged.

    Raises:
        UsageError: There are too many or too few tiles, or one has the wrong size.
    """
    side = grid.tile * scale
    weights_y = axis_weights(grid.rows, grid.tile, grid.overlap, scale)
    weights_x = axis_weights(grid.columns, grid.tile, grid.overlap, scale)
    canvas: NDArray[np.float32] | None = None
    count = 0
    for count, tile in enumerate(tiles, start=1):
        if count > len(grid) or tile.shape[-2:] != (side, side):
            raise UsageError(f"tile {count} of {len(grid)} has shape {tile.shape}, wanted {side}x{side}")
        if canvas is None:
            size = (grid.padded_height * scale, grid.padded_width * scale)
            canvas = np.zeros((*tile.shape[:-2], *size), np.float32)
        row, column = divmod(count - 1, len(grid.columns))
        y, x = grid.rows[row] * scale, grid.columns[column] * scale
        canvas[..., y : y + side, x : x + side] += tile * weights_y[row][:, None] * weights_x[column]
    if canvas is None or count != len(grid):
        raise UsageError(f"{count} tiles were given for a grid of {len(grid)}")
    return canvas[..., : grid.height * scale, : grid.width * scale]
