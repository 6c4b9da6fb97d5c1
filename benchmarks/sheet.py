"""The contact sheet: LR, bicubic, ours, HR, the difference, for the best, the median and the worst image."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from benchmarks.page import PALE, Page
from benchmarks.pairs import Pairs
from benchmarks.records import QualityResult, RowResult
from benchmarks.rows import BICUBIC, MODEL
from benchmarks.scores import LPIPS_NAME, METRICS

__all__ = ["DIFFERENCE_TOP", "Pick", "contact_sheet", "difference_png", "panel_sheet", "picks", "scale_png"]

Gray = npt.NDArray[np.uint8]

DIFFERENCE_TOP = 40  # gray levels of 255 at the end of the difference's scale
COLOURS = "inferno"
GRAYS, RAMP = 216, 40  # entries of the palette, words are gray: a PNG with one is a third of the size
SIDE, GAP = 256, 10  # pixels a panel side, and between panels
LEFT, RIGHT, TOP, CAPTION, BOTTOM = 44, 92, 40, 30, 66  # pixels for text around the panels
SHOWN_SEED = 0
CAUTION = "Detail above the input's resolution is generated. Research use only, not for diagnosis."
INDEXED = 3  # the colour type of a PNG with a palette


@dataclass(frozen=True)
class Pick:
    """An image to show: what it stands for, and where it is among all."""

    title: str
    index: int


def picks(values: npt.ArrayLike, *, better: int) -> list[Pick]:
    """The best, the median and the worst image of one value an image; fewer where there are fewer images.

    Args:
        values: (N,).
        better: 1 where more is better, -1 where less is.
    """
    order = np.argsort(-better * np.asarray(values, dtype=np.float64), kind="stable")
    places = {"best": 0, "median": (len(order) - 1) // 2, "worst": len(order) - 1}
    chosen: dict[int, str] = {}
    for title, place in places.items():
        chosen.setdefault(int(order[place]), title)
    return [Pick(title, index) for index, title in chosen.items()]


def contact_sheet(result: QualityResult, images: Mapping[str, Gray], pairs: Pairs) -> bytes:
    """Draws the sheet, at one pixel a pixel.

    Args:
        result: Whose numbers stand beside the images.
        images: Row -> (S, N, H, W) uint8; the first seed is shown.
        pairs: The LR and HR images.

    Returns:
        A PNG file.
    """
    rows = {row.key: row for row in result.rows}
    metric = LPIPS_NAME if LPIPS_NAME in result.metrics else "psnr_db"
    chosen = picks(np.mean(rows[MODEL].values[metric], axis=0), better=METRICS[metric].better)
    height = TOP + len(chosen) * (SIDE + CAPTION) + BOTTOM
    page = Page(LEFT + 5 * (SIDE + GAP) + RIGHT, height)
    side = pairs.lr.shape[-1]
    headings = (f"LR, {side}×{side}", "bicubic", f"ours: {result.bundle.name}", "true HR", "|ours − HR|")
    for column, heading in enumerate(headings):
        page.text(_x(column) + SIDE / 2, TOP - 13, heading, size=17, weight="bold")
    for line, pick in enumerate(chosen):
        y = TOP + line * (SIDE + CAPTION)
        page.text(LEFT - 14, y + SIDE / 2, pick.title, size=17, weight="bold", rotation=90)
        panels = _panels(images, pairs, pick.index)
        for column, panel in enumerate(panels):
            page.paste(panel, _x(column), y)
        for column, key in ((1, BICUBIC), (2, MODEL)):
            page.text(_x(column) + SIDE / 2, y + SIDE + 20, _caption(rows[key], pick.index), size=14)
        page.text(_x(3) + SIDE / 2, y + SIDE + 20, result.data.images[pick.index], size=14, colour=PALE)
    _legend(page, _x(5) + 4, TOP, SIDE)
    _footer(page, result, metric)
    return _png(page)


def panel_sheet(columns: Mapping[str, Gray], lines: Sequence[tuple[str, int]], words: str) -> bytes:
    """Panels side by side, at one pixel a pixel.

    Args:
        columns: Heading -> (N, H, W) uint8.
        lines: What each line is called, and the image of it.
        words: What stands below.

    Returns:
        A PNG file.
    """
    page = Page(LEFT + len(columns) * (SIDE + GAP), TOP + len(lines) * (SIDE + GAP) + BOTTOM)
    for column, (heading, panels) in enumerate(columns.items()):
        page.text(_x(column) + SIDE / 2, TOP - 13, heading, size=17, weight="bold")
        for line, (_, index) in enumerate(lines):
            page.paste(_grays(panels[index]), _x(column), TOP + line * (SIDE + GAP))
    for line, (title, _) in enumerate(lines):
        y = TOP + line * (SIDE + GAP) + SIDE / 2
        page.text(LEFT - 14, y, title, size=17, weight="bold", rotation=90)
    page.text(LEFT, page.height - 40, words, size=14, align="left")
    page.text(LEFT, page.height - 16, CAUTION, size=14, align="left", colour=PALE)
    return _png(page)


def difference_png(image: Gray, truth: Gray) -> bytes:
    """A map of |image - truth| on the sheet's scale, which ends at `DIFFERENCE_TOP` gray levels.

    Args:
        image: (H, W) uint8.
        truth: (H, W) uint8.
    """
    return _indexed_png(_coloured(np.abs(image.astype(np.float64) - truth) / DIFFERENCE_TOP))


def scale_png(width: int, height: int) -> bytes:
    """That scale, from 0 at the left to its end at the right."""
    return _indexed_png(_coloured(np.linspace(0, 1, width)[None].repeat(height, axis=0)))


def _x(column: int) -> int:
    return LEFT + column * (SIDE + GAP)


def _panels(images: Mapping[str, Gray], pairs: Pairs, index: int) -> list[Gray]:
    """The five panels of a line, as entries of the palette."""
    small, truth = pairs.lr_pixels[index], pairs.hr_pixels[index]
    bicubic, ours = images[BICUBIC][0, index], images[MODEL][SHOWN_SEED, index]
    enlarged = len(truth) // len(small)
    pixelated = small.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    difference = np.abs(ours.astype(np.float64) - truth) / DIFFERENCE_TOP
    return [*map(_grays, (pixelated, bicubic, ours, truth)), _coloured(difference)]


def _coloured(values: npt.NDArray[np.float64]) -> Gray:
    """Values in [0, 1] -> entries of the palette's ramp."""
    return (GRAYS + np.rint(np.clip(values, 0, 1) * (RAMP - 1))).astype(np.uint8)


def _grays(values: npt.NDArray[np.integer[Any]]) -> Gray:
    """Values in 0..255 -> entries of the palette's grays."""
    return np.rint(values * ((GRAYS - 1) / 255)).astype(np.uint8)


def _palette() -> bytes:
    """256 colours, three bytes each: grays, then the ramp of the difference."""
    grays = np.rint(np.linspace(0, 255, GRAYS)).astype(np.uint8)[:, None].repeat(3, axis=1)
    ramp = colormaps[COLOURS](np.linspace(0, 1, RAMP), bytes=True)[:, :3].astype(np.uint8)
    return np.concatenate([grays, ramp]).tobytes()


def _with_palette(png: bytes, palette: bytes) -> bytes:
    """A gray 8-bit PNG whose values become entries of a palette.

    OpenCV writes no palettes, and others write them without filters, half as large again.
    """
    header = bytearray(png[12:29])  # "IHDR", width, height, depth, colour type, and three more bytes
    header[13] = INDEXED
    return png[:8] + _chunk(bytes(header)) + _chunk(b"PLTE" + palette) + png[33:]


def _chunk(content: bytes) -> bytes:
    """A chunk of a PNG, from its name and its data."""
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _caption(row: RowResult, index: int) -> str:
    """As in "29.83 dB, LPIPS 0.124", of the image that is shown."""
    told = [f"{row.values['psnr_db'][SHOWN_SEED][index]:.2f} dB"]
    if LPIPS_NAME in row.values:
        told.append(f"LPIPS {row.values[LPIPS_NAME][SHOWN_SEED][index]:.3f}")
    return ",  ".join(told)


def _legend(page: Page, x: int, y: int, height: int) -> None:
    """The difference's one scale, which all lines share."""
    ramp = np.linspace(1, 0, height)[:, None].repeat(14, axis=1)
    page.paste(_coloured(ramp), x, y)
    for level in (0, DIFFERENCE_TOP // 2, DIFFERENCE_TOP):
        text = f"{level}+" if level == DIFFERENCE_TOP else str(level)
        place = min(max(y + height * (1 - level / DIFFERENCE_TOP), y + 9), y + height - 6)
        page.text(x + 20, place, text, size=14, align="left")
    page.text(x + 74, y + height / 2, "gray levels of 255", size=14, colour=PALE, rotation=90)


def _footer(page: Page, result: QualityResult, metric: str) -> None:
    model = next(row for row in result.rows if row.key == MODEL)
    data, by = result.data, METRICS[metric].label.partition(",")[0]
    words = f"Best, median and worst of {len(data.images)} images of '{data.name}' by our {by}; "
    words += f"{model.note}, seed {result.seeds[SHOWN_SEED]}, {result.bundle.precision}."
    page.text(LEFT, page.height - 40, words, size=14, align="left")
    page.text(LEFT, page.height - 16, CAUTION, size=14, align="left", colour=PALE)


def _png(page: Page) -> bytes:
    """The page as a PNG with a palette."""
    return _indexed_png(page.overlay(_grays(page.render()[..., 0])))


def _indexed_png(pixels: Gray) -> bytes:
    """Entries of the palette as a PNG."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, png = cv2.imencode(".png", pixels, options)
    return _with_palette(png.tobytes(), _palette())
