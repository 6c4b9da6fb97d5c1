"""The ladder as a picture: four charts, and one image at every precision with what it changes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rc_context

from benchmarks.ladder.charts import draw_latency, draw_lpips, draw_psnr, draw_trajectory
from benchmarks.ladder.records import LadderResult
from benchmarks.ladder.rungs import FP32, INT8
from benchmarks.ladder.samples import SeedResult
from benchmarks.ladder.words import headline
from benchmarks.page import INK, PALE, Page, points
from benchmarks.pairs import Pairs
from benchmarks.rows import describe
from benchmarks.scores import LPIPS_NAME

__all__ = ["DIFFERENCE_TOP", "ladder_picture"]

Gray = npt.NDArray[np.uint8]
Colour = npt.NDArray[np.uint8]

DIFFERENCE_TOP = 16  # gray levels of 255 at the end of the differences' scale
RAMP = 33  # colours of that scale: few enough for a small file
SCALE_COLOURS = "inferno"
SIDE, GAP, COLUMNS = 256, 12, 5  # pixels a panel side, between panels; panels side by side
LEFT, RIGHT = 40, 100
WIDTH = LEFT + COLUMNS * (SIDE + GAP) + RIGHT
HEAD, CHART, CHART_GAP, TITLE, SCORE, LABEL, FOOT = 118, 210, 92, 76, 28, 32, 84  # heights in pixels
LABELS_PX, WORDS_PX, MIDDLE_PX = 150, 200, 24  # beside a chart: rows' labels, their values, a gap
TEXT_PX, SMALL_PX, HEADLINE_PX = 18, 16, 24
HEADLINE_LETTERS = 104
FONT = {
    "font.size": points(TEXT_PX),
    "axes.titlesize": points(TEXT_PX),
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE,
    "xtick.color": PALE,
    "ytick.color": INK,
}
SHOWN_SEED = 0


def ladder_picture(result: LadderResult, seeds: Sequence[SeedResult], pairs: Pairs) -> bytes:
    """Draws it.

    Args:
        result: Whose numbers are shown.
        seeds: With the images; the first seed's are shown.
        pairs: The true images.

    Returns:
        A PNG file.
    """
    charts = HEAD + 2 * (CHART + CHART_GAP)
    with rc_context(FONT):
        page = Page(WIDTH, charts + TITLE + 2 * SIDE + SCORE + LABEL + FOOT)
        _head(page, result)
        for place, draw in enumerate((draw_psnr, draw_lpips, draw_latency, draw_trajectory)):
            draw(_chart_axes(page, place), result)
        _strip(page, result, seeds, pairs, y=charts)
        _foot(page, result)
        return _png(page)


def _head(page: Page, result: LadderResult) -> None:
    words = headline(result.row(INT8), result.seed_noise["psnr_db"])
    for line, text in enumerate(textwrap.wrap(words, HEADLINE_LETTERS)[:2]):
        page.text(LEFT, 34 + 32 * line, text, size=HEADLINE_PX, weight="bold", align="left")


def _chart_axes(page: Page, place: int) -> Any:
    """Two charts side by side, twice; the upper ones have words to their right."""
    row, column = divmod(place, 2)
    half = (WIDTH - LEFT) // 2
    beside = LABELS_PX + MIDDLE_PX + (WORDS_PX if row == 0 else 0)
    x, y = LEFT + LABELS_PX + column * half, HEAD + row * (CHART + CHART_GAP)
    return page.axes(x, y, half - beside, CHART)


def _strip(page: Page, result: LadderResult, seeds: Sequence[SeedResult], pairs: Pairs, *, y: int) -> None:
    """The image that INT8 changes most: truth and every row above, differences below."""
    shown = seeds[SHOWN_SEED]
    index = int(np.argmin(shown.to_fp32[INT8]["psnr_db"]))
    page.text(LEFT, y + 26, _strip_title(result, index), size=TEXT_PX, weight="bold", align="left")
    upper, lower = y + TITLE, y + TITLE + SIDE + SCORE + LABEL
    _panel(page, 0, upper, _gray(pairs.hr_pixels[index]), label="true HR")
    base = shown.images[FP32][index]
    for column, row in enumerate(result.rows, start=1):
        image = shown.images[row.key][index]
        _panel(page, column, upper, _gray(image), label=row.label)
        page.text(_x(column), upper + SIDE + 21, _score(shown, row.key, index), size=SMALL_PX, align="left")
        if row.key != FP32:
            _difference(page, column, lower, image, base, label=f"less FP32, RMS {_rms(image, base):.2f}")
    _panel(page, 0, lower, _enlarged(pairs.lr_pixels[index]), label="LR, the input")
    if len(seeds) > 1:
        other = seeds[1].images[FP32][index]
        _difference(page, 1, lower, other, base, label=f"another seed, RMS {_rms(other, base):.2f}")
    _legend(page, _x(COLUMNS), lower)


def _strip_title(result: LadderResult, index: int) -> str:
    name, count = result.data.images[index], len(result.data.images)
    return f"The image of {count} that INT8 changes most ({name}); below, differences on one scale"


def _score(shown: SeedResult, key: str, index: int) -> str:
    """As in "29.83 dB, LPIPS 0.124"."""
    values = shown.values[key]
    lpips = f", LPIPS {values[LPIPS_NAME][index]:.3f}" if LPIPS_NAME in values else ""
    return f"{values['psnr_db'][index]:.2f} dB{lpips}"


def _panel(page: Page, column: int, y: int, panel: Colour, *, label: str) -> None:
    page.text(_x(column), y - 8, label, size=SMALL_PX, align="left")
    page.paste(panel, _x(column), y)


def _difference(page: Page, column: int, y: int, image: Gray, base: Gray, *, label: str) -> None:
    change = np.abs(image.astype(np.float64) - base)
    _panel(page, column, y, _coloured(change / DIFFERENCE_TOP), label=label)


def _rms(image: Gray, base: Gray) -> float:
    """Root mean square difference in gray levels of 255."""
    return float(np.sqrt(np.mean((image.astype(np.float64) - base) ** 2)))


def _legend(page: Page, x: int, y: int) -> None:
    ramp = np.linspace(1, 0, SIDE)[:, None].repeat(16, axis=1)
    page.paste(_coloured(ramp), x, y)
    for level in (0, DIFFERENCE_TOP // 2, DIFFERENCE_TOP):
        text = f"{level}+" if level == DIFFERENCE_TOP else str(level)
        place = min(max(y + SIDE * (1 - level / DIFFERENCE_TOP) + 6, y + 13), y + SIDE)
        page.text(x + 22, place, text, size=SMALL_PX, align="left")
    page.text(x + 74, y + SIDE / 2, "gray levels of 255", size=SMALL_PX, colour=PALE, rotation=90)


def _foot(page: Page, result: LadderResult) -> None:
    """What was measured, and what it is not."""
    bundle, data, made = result.bundle, result.data, result.environment
    words = f"{bundle.name} {bundle.version}, {len(data.images)} images of '{data.name}', seeds: "
    words += f"{len(result.seeds)}, {describe(result.preset)}; {made.cpu}, {made.threads} threads."
    page.text(LEFT, page.height - 44, words, size=SMALL_PX, align="left")
    caution = "Detail above the input's resolution is generated. Research use only, not for diagnosis."
    page.text(LEFT, page.height - 18, caution, size=SMALL_PX, align="left", colour=PALE)


def _x(column: int) -> int:
    return LEFT + column * (SIDE + GAP)


def _enlarged(small: Gray) -> Colour:
    """Each pixel repeated."""
    times = SIDE // len(small)
    return _gray(small.repeat(times, axis=0).repeat(times, axis=1))


def _gray(image: Gray) -> Colour:
    return image[:, :, None].repeat(3, axis=2)


def _coloured(values: npt.NDArray[np.float64]) -> Colour:
    """Values in [0, 1] -> colours of the scale."""
    steps = np.rint(np.clip(values, 0, 1) * (RAMP - 1)) / (RAMP - 1)
    return np.asarray(colormaps[SCALE_COLOURS](steps, bytes=True)[..., :3], np.uint8)


def _png(page: Page) -> bytes:
    pixels = page.overlay(page.render())
    _, png = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(png.tobytes())
