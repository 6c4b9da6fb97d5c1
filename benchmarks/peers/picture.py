"""The peers as a small picture: time an image, one bar a runtime."""

from __future__ import annotations

import cv2
from matplotlib import rc_context

from benchmarks.page import INK, PALE, Page, points
from benchmarks.peers.protocol import OURS, OURS_FP32, OURS_OPENVINO
from benchmarks.peers.records import PeersResult

__all__ = ["peers_picture"]

WIDTH, ROW, HEAD, FOOT, LEFT, RIGHT = 900, 34, 78, 44, 250, 150  # pixels
TEXT_PX, TITLE_PX, SMALL_PX = 15, 20, 13
COLOURS = {OURS: "#009e73", OURS_FP32: "#66c5ab", OURS_OPENVINO: "#009e73"}
OTHERS = {"fp32": "#8c8c8c", "int8": "#56b4e9"}


def peers_picture(result: PeersResult) -> bytes:
    """Draws it.

    Returns:
        A PNG file.
    """
    rows = sorted(result.rows, key=lambda row: row.seconds.median)
    height = HEAD + ROW * len(rows) + FOOT
    with rc_context({"font.size": points(TEXT_PX), "axes.edgecolor": PALE}):
        page = Page(WIDTH, height)
        page.text(
            16, 30, "Seconds for one image, the same weights", size=TITLE_PX, align="left", weight="bold"
        )
        told = (
            f"{result.environment.cpu}, {result.environment.threads} threads, {result.preset.steps} steps; "
        )
        page.text(16, 54, told + "median and quartiles", size=SMALL_PX, align="left", colour=PALE)
        axes = page.axes(LEFT, HEAD, WIDTH - LEFT - RIGHT, ROW * len(rows))
        for place, row in enumerate(rows):
            time = row.seconds
            axes.barh(place, time.median, 0.66, color=COLOURS.get(row.key, OTHERS[row.precision]))
            axes.plot([time.low, time.high], [place, place], color=INK, linewidth=1.2)
            words = f"  {1e3 * time.median:.0f} ms" + (
                f", ×{row.over_ours.mean:.2f}" if row.key != OURS else ""
            )
            axes.text(max(time.high, time.median), place, words, va="center", color=INK)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0)
        axes.set_xticks([])
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(length=0, colors=INK)
        page.text(
            16, height - 16, f"{result.bundle.name} {result.bundle.version}; × is over edge-sr's INT8",
            size=SMALL_PX, align="left", colour=PALE,
        )  # fmt: skip
        pixels = page.render()
    return bytes(cv2.imencode(".png", pixels[..., ::-1])[1])
