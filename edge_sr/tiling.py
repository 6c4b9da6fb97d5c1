"""Cut an image of any size into tiles, put the results back together, and draw noise by absolute position.

Tiles are placed on the low-resolution image. Each overlaps its neighbours, and the enlarged tiles are summed
under weights that add up to one at every pixel, so that a tile that equals the image gives the image back.

The noise of a diffusion sampler belongs to a place in the image, not to a tile: two tiles that share a latent
pixel see the same value there, whatever the tiling, the batch or the order of the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import UsageError

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

NOISE_BLOCK = 32
"""Side of the square blocks that noise is drawn in, in latent pixels. Changing it changes every result."""

_MASK64 = (1 << 64) - 1

# Taylor coefficients of sin(x), odd powers 17 down to 3: wrong by at most 5e-14 for |x| <= pi/2.
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, 0, -1))


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


def position_noise(
    seed: int, *, step: int, channels: int, y0: int, x0: int, height: int, width: int, sample: int = 0
) -> NDArray[np.float32]:
    """Standard normal noise for one window of the latent plane.

    Args:
        seed: 64-bit unsigned integer.
        step: Which draw of the trajectory, from 0; every step has noise of its own.
        channels: Latent channels, at least 1. Channel c is the same however many there are.
        y0: First row in latent pixels of the whole image; may be negative.
        x0: First column; may be negative.
        height: Rows.
        width: Columns.
        sample: Which of several samples of one image, 64-bit unsigned integer.

    Returns:
        (channels, height, width) float32, finite, at most 6.8 in size.

    Raises:
        UsageError: seed, sample or step is not a 64-bit unsigned integer.
    """
    out = np.empty((channels, height, width), np.float32)
    position_noise_into(out, seed, step=step, y0=y0, x0=x0, sample=sample)
    return out


def position_noise_into(
    out: NDArray[np.float32], seed: int, *, step: int, y0: int, x0: int, sample: int = 0
) -> None:
    """Fill a window with the noise that belongs to its place, as `position_noise`.

    The latent plane is divided into blocks of `NOISE_BLOCK` pixels a side. A block's random words come from
    Philox4x64-10 (Salmon et al. 2011) with key (seed, sample) and counter (0, block row, block column, step),
    so no two share any; the words of the window become normal deviates by Box and Muller (1958). numpy
    promises that Philox's raw words never change (NEP 19), and only IEEE-exact operations and one logarithm
    follow, so results are the same across numpy versions, and across processors but for a rounding of the
    logarithm that almost never reaches float32.

    Args:
        out: (channels, height, width) float32, written in place.
        seed: 64-bit unsigned integer.
        step: Which draw of the trajectory.
        y0: First row in latent pixels of the whole image; may be negative.
        x0: First column; may be negative.
        sample: Which of several samples of one image.

    Raises:
        UsageError: seed, sample or step is not a 64-bit unsigned integer.
    """
    for name, value in (("seed", seed), ("sample", sample), ("step", step)):
        if not 0 <= value <= _MASK64:
            raise UsageError(f"{name} is {value}, wanted a 64-bit unsigned integer (0 to {_MASK64})")
    key = np.array([seed, sample], np.uint64)
    words = np.empty(((out.shape[0] + 1) // 2, *out.shape[1:]), np.uint64)
    for by, rows, in_block_y in _block_spans(y0, out.shape[1]):
        for bx, columns, in_block_x in _block_spans(x0, out.shape[2]):
            counter = np.array([0, by & _MASK64, bx & _MASK64, step], np.uint64)
            raw = np.random.Philox(key=key, counter=counter).random_raw(len(words) * NOISE_BLOCK**2)
            block = raw.reshape(-1, NOISE_BLOCK, NOISE_BLOCK)
            words[:, rows, columns] = block[:, in_block_y, in_block_x]
    _box_muller(words, out)


def _block_spans(start: int, length: int) -> list[tuple[int, slice, slice]]:
    """For each block that [start, start + length) meets: its index, the part of the window, of the block."""
    spans = []
    for block in range(start // NOISE_BLOCK, -(-(start + length) // NOISE_BLOCK)):
        origin = block * NOISE_BLOCK
        first, last = max(start, origin), min(start + length, origin + NOISE_BLOCK)
        spans.append((block, slice(first - start, last - start), slice(first - origin, last - origin)))
    return spans


def _box_muller(words: NDArray[np.uint64], out: NDArray[np.float32]) -> None:
    """Turn each word into two deviates: even channels take the cosine, odd channels the sine.

    The upper half of a word gives the radius. The lower gives an angle in (-pi/2, pi/2), whose sine is a
    polynomial, and one bit for the sign of the cosine, a square root: faster than libm, same everywhere.
    """
    radius = (words >> np.uint64(32)).astype(np.float64)
    radius += 0.5
    radius *= 2.0**-32
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    lower = words.astype(np.uint32)  # keeps the lower half
    sine = _sine_of_half_turn(lower >> np.uint32(1))
    cosine = np.sqrt(np.maximum(1.0 - sine * sine, 0.0))
    sine *= radius
    cosine *= radius
    cosine *= 1.0 - 2.0 * (lower & np.uint32(1))
    out[0::2] = cosine
    out[1::2] = sine[: out.shape[0] // 2]


def _sine_of_half_turn(turn: NDArray[np.uint32]) -> NDArray[np.float64]:
    """sin(pi * ((turn + 0.5) / 2**31 - 0.5)) for 31-bit integers."""
    angle = turn.astype(np.float64)
    angle += 0.5 - 2.0**30
    angle *= np.pi * 2.0**-31
    square = angle * angle
    sine: NDArray[np.float64] = square * _SINE[0]
    for coefficient in _SINE[1:]:
        sine += coefficient
        sine *= square
    sine += 1.0
    sine *= angle
    return sine
