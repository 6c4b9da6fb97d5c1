"""A sheet of paper for pictures of results: words and charts by matplotlib, panels pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["INK", "PALE", "PAPER", "Page", "points"]

Pixels = npt.NDArray[np.uint8]
INK, PALE, PAPER = "#1e1e1e", "#606060", "#ffffff"
DPI = 100


class Page:
    """Pixels are coordinates, from the upper left.

    Args:
        width: In pixels.
        height: In pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self._pasted: list[tuple[Pixels, int, int]] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int,
        align: str = "center",
        colour: str = INK,
        weight: str = "normal",
        rotation: int = 0,
    ) -> None:
        """Words on a line that stands on y, or around y where they are turned; the size is in pixels."""
        self._figure.text(
            x / self.width,
            1 - y / self.height,
            words,
            fontsize=points(size),
            ha="center" if rotation else align,
            va="center" if rotation else "baseline",
            color=colour,
            weight=weight,
            rotation=rotation,
            parse_math=False,
        )

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Matplotlib's axes in the rectangle with its upper left corner at x, y."""
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self._figure.add_axes(place)

    def paste(self, panel: Pixels, x: int, y: int) -> None:
        """A panel with its upper left corner at x, y, one pixel a pixel; see `overlay`."""
        self._pasted.append((panel, x, y))

    def render(self) -> Pixels:
        """Words and charts as (H, W, 3) uint8, without the panels."""
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def overlay(self, pixels: Pixels) -> Pixels:
        """Puts the panels onto pixels of the page, which have as many channels as they have."""
        for panel, x, y in self._pasted:
            pixels[y : y + panel.shape[0], x : x + panel.shape[1]] = panel
        return pixels


def points(pixels: float) -> float:
    """A size of letters as matplotlib wants it."""
    return pixels * 72 / DPI
