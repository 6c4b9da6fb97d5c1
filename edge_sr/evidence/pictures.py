"""Evidence as pictures for people: a panel, a scale with units, and words that say what is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.evidence.colours import Colours, diverging, sequential
from edge_sr.evidence.regions import Region
from edge_sr.image import opencv

__all__ = ["change_picture", "nice_top", "uncertainty_picture"]

Plane = npt.NDArray[Any]

PAPER, INK, PALE = 16, 240, 165  # gray levels of the paper and of the words
PANEL = 768  # a smaller panel is enlarged by repetition to about this many pixels along its longer side
HEAD, FOOT, GAP, SCALE, LABELS = (
    40,
    64,
    14,
    18,
    110,
)  # pixels above, below, around, of the scale, of its words
LEAST_COVER, MOST_COVER = 0.3, 0.85  # of a pixel by its colour, where samples agree and where they do not
QUANTILE = 0.98  # of the magnitudes, from which the end of the scale is rounded up; markers lie far beyond
POOL = 3  # pixels a side over which the picture pools variances: a few samples tell a pixel's own badly
CAUTION = "AI-generated detail. Research use only. Not for diagnosis."


def uncertainty_picture(
    gray: Plane, std: Plane, *, regions: Sequence[Region], samples: int, top: int
) -> Colours:
    """The spread over samples as colour on the image, with the most uncertain regions numbered.

    The colour covers the image the more, the larger the spread is. Variances are pooled over 3x3 pixels.

    Args:
        gray: (H, W) uint8, the image underneath.
        std: (H, W), standard deviation in gray levels.
        regions: From `uncertain_regions`.
        samples: Over how many the deviation was taken.
        top: The largest gray level, 255 or 65535: the unit.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    pooled = np.sqrt(opencv().blur(np.square(std, dtype=np.float64), (POOL, POOL)))
    end = nice_top(pooled)
    share = np.clip(pooled / end, 0, 1)
    cover = (LEAST_COVER + (MOST_COVER - LEAST_COVER) * share)[..., None]
    panel = np.rint(gray[..., None] * (1 - cover) + sequential(share) * cover).astype(np.uint8)
    page = _Page(panel, f"Where {samples} samples differ")
    for number, region in enumerate(regions, start=1):
        page.box(region, str(number))
    ticks = [(0, "0"), (0.5, _number(end / 2)), (1, f"{_number(end)} or more")]
    page.scale(sequential(np.linspace(1, 0, page.height)), ticks)
    worst = f"; on average {_number(regions[0].mean_std)} in region 1" if regions else ""
    page.foot(f"Standard deviation over {samples} samples, gray levels of {top}{worst}")
    return page.pixels


def change_picture(change: Plane, *, top: int) -> Colours:
    """The signed change against bicubic: orange where light was added, purple where it was taken.

    Args:
        change: (H, W), in gray levels.
        top: The largest gray level, 255 or 65535: the unit.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    end = nice_top(np.abs(change))
    page = _Page(diverging(change / end), "What was changed against bicubic")
    half, whole = _number(end / 2), _number(end)
    ticks = [
        (0, f"-{whole} or less"),
        (0.25, f"-{half}"),
        (0.5, "0"),
        (0.75, f"+{half}"),
        (1, f"+{whole} or more"),
    ]
    page.scale(diverging(np.linspace(1, -1, page.height)), ticks)
    page.foot(f"Output less bicubic enlargement, gray levels of {top}: orange added light, purple took it")
    return page.pixels


def nice_top(values: Plane) -> float:
    """The end of a scale: 1, 2 or 5 times a power of ten that holds all but a fiftieth of the values.

    Args:
        values: Magnitudes, at least 0.

    Returns:
        At least 1, so that a scale never makes a thousandth of a gray level look large.
    """
    wanted = max(1.0, float(np.quantile(values, QUANTILE)))
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * (1 - 1e-9))


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


class _Page:
    """Dark paper with a panel, a title above it, a scale beside it, and two lines below."""

    def __init__(self, panel: Colours, title: str) -> None:
        self._times = max(1, round(PANEL / max(panel.shape[:2])))
        panel = panel.repeat(self._times, axis=0).repeat(self._times, axis=1)
        self.height, self.width = panel.shape[:2]
        shape = (HEAD + self.height + FOOT, max(GAP + self.width + GAP + SCALE + LABELS, 640), 3)
        self.pixels: Colours = np.full(shape, PAPER, np.uint8)
        self.pixels[HEAD : HEAD + self.height, GAP : GAP + self.width] = panel
        self._write(title, GAP, HEAD - 13, size=0.7)

    def box(self, region: Region, label: str) -> None:
        """Draws a region's outline, white on black, and its number."""
        cv2 = opencv()
        x, y = GAP + region.x * self._times, HEAD + region.y * self._times
        far = (x + region.width * self._times - 1, y + region.height * self._times - 1)
        for shade, thickness in ((0, 3), (255, 1)):
            cv2.rectangle(self.pixels, (x, y), far, (shade,) * 3, thickness, cv2.LINE_8)
        self.pixels[y + 1 : y + 23, x + 1 : x + 19] = PAPER
        self._write(label, x + 5, y + 18)

    def scale(self, ramp: Colours, ticks: Sequence[tuple[float, str]]) -> None:
        """Draws the scale, the ramp's first row on top; a tick has its place from 0 at the bottom to 1."""
        x = GAP + self.width + GAP
        self.pixels[HEAD : HEAD + self.height, x : x + SCALE] = ramp[:, None]
        for place, label in ticks:
            y = HEAD + round((1 - place) * (self.height - 1))
            self.pixels[y, x + SCALE : x + SCALE + 5] = INK
            self._write(label, x + SCALE + 9, min(max(y + 5, HEAD + 11), HEAD + self.height - 1), size=0.45)

    def foot(self, words: str) -> None:
        """Writes what is shown, and what it is not."""
        y = HEAD + self.height
        self._write(words, GAP, y + 25, size=0.5)
        self._write(CAUTION, GAP, y + 50, size=0.5, shade=PALE)

    def _write(self, text: str, x: int, y: int, *, size: float = 0.6, shade: int = INK) -> None:
        cv2 = opencv()
        colour = (shade, shade, shade)
        cv2.putText(self.pixels, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
