"""The decisions as a picture: rates, scores beside the true images', and the images that went wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import rc_context

from benchmarks.diagnostic.outputs import Output
from benchmarks.diagnostic.records import DiagnosticResult, RowResult, Share
from benchmarks.diagnostic.words import find_pair, percent
from benchmarks.ladder.rungs import FP32, INT8
from benchmarks.page import INK, PALE, Page, points
from benchmarks.pairs import Pairs
from benchmarks.records import Estimate
from benchmarks.rows import BICUBIC, HR

__all__ = ["Shown", "column_x", "draw", "encoded", "foot", "judged", "panel", "worst"]

Gray = npt.NDArray[np.uint8]
SIDE, GAP, COLUMNS, LINES = 192, 12, 5, 4  # pixels of a panel and between; panels across, images down
LEFT, RIGHT, HEAD, CHART, BELOW, CAPTION, FOOT = 84, 40, 118, 250, 92, 30, 76  # pixels
WIDTH = LEFT + COLUMNS * (SIDE + GAP) + RIGHT
LABELS, MIDDLE = 90, 110  # beside a chart and between the two
TEXT, SMALL, LARGE = 17, 15, 22  # heights of letters
LETTERS = 78  # of the headline, a line
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito's, which hold for colour-blind eyes
WRONG, RIGHT_INK = ORANGE, INK
FONT = {"font.size": points(SMALL), "axes.spines.top": False, "axes.spines.right": False}
SHOWN_RATES = {"recall": (BLUE, "recall"), "specificity": (GREEN, "specificity"), "auc": (ORANGE, "AUC")}


@dataclass(frozen=True)
class Shown:
    """An image of the sheet.

    Attributes:
        image: Its place among the images.
        seed: Of the outputs beside it: the one that leads farthest astray.
        is_wrong: Whether one of them is decided wrongly.
    """

    image: int
    seed: int
    is_wrong: bool


def draw(result: DiagnosticResult, outputs: Sequence[Output], pairs: Pairs) -> bytes:
    """Draws it.

    Args:
        result: Whose numbers are shown.
        outputs: With the images.
        pairs: The LR images.

    Returns:
        A PNG file; of an invalid judge, one that says so and no more.
    """
    shown = worst(result) if result.judge.is_valid else []
    sheet = HEAD + CHART + BELOW if shown else HEAD
    with rc_context(FONT):
        page = Page(WIDTH, sheet + len(shown) * (SIDE + CAPTION) + (54 if shown else 0) + FOOT)
        for line, text in enumerate(textwrap.wrap(_headline(result), LETTERS)[:2]):
            page.text(40, 38 + 30 * line, text, size=LARGE, weight="bold", align="left")
        if shown:
            half = (WIDTH - LEFT - LABELS - MIDDLE - RIGHT) // 2
            _rates(page.axes(LEFT + LABELS, HEAD, half, CHART), result)
            _scores(page.axes(WIDTH - RIGHT - half, HEAD, half, CHART), result)
            _sheet(page, result, shown, {o.key: o.images for o in outputs}, pairs, y=sheet)
        foot(page, result)
        return encoded(page)


def encoded(page: Page) -> bytes:
    """A page as a PNG file."""
    pixels = page.overlay(page.render())
    _, png = cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(png.tobytes())


def worst(result: DiagnosticResult) -> list[Shown]:
    """The images that are decided rightly where they are true and whose outputs lead farthest astray.

    FP32 and INT8 alone count, with every seed.
    """
    ill = np.asarray(result.is_ill, np.bool_)
    made = np.array([row.logits for row in result.rows if row.key in (FP32, INT8)])  # (rows, S, N)
    margin = np.where(ill, made, -made).min(axis=0)
    seeds, least = margin.argmin(axis=0), margin.min(axis=0)
    is_right = (np.asarray(result.rows[0].logits[0]) > 0) == ill
    order = [int(i) for i in np.argsort(least, kind="stable") if is_right[i]]
    wrong = (made > 0).any(axis=0) & ~ill | (made <= 0).any(axis=0) & ill
    return [Shown(i, int(seeds[i]), bool(wrong[:, i].any())) for i in order[:LINES]]


def _headline(result: DiagnosticResult) -> str:
    if not result.judge.is_valid:
        return result.verdicts[0]
    against, other = (find_pair(result.pairs, FP32, key) for key in (INT8, FP32))
    if against is None:
        return result.verdicts[0]
    text = f"INT8 and FP32 lead the judge to different decisions on {percent(against.discordance.value)}"
    text += f" of {len(result.is_ill)} images"
    return text + (f", two seeds of FP32 on {percent(other.discordance.value)}." if other else ".")


def _rates(axes: Any, result: DiagnosticResult) -> None:
    """Three rates a row, with their intervals."""
    rows = list(reversed(result.rows))
    for place, (name, (colour, label)) in enumerate(SHOWN_RATES.items()):
        found = [row.auc if name == "auc" else row.rates[name] for row in rows]
        told = [(y + 0.2 - 0.2 * place, *_bounds(f)) for y, f in enumerate(found) if f is not None]
        heights, middles, lows, highs = np.transpose(told)
        axes.errorbar(
            middles, heights, xerr=(middles - lows, highs - middles), fmt="o", color=colour, label=label, ms=4
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_title("Decisions, with 95 % intervals", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, frameon=False)


def _bounds(found: Share | Estimate) -> tuple[float, float, float]:
    """The value and its interval, which a resampled one may lie a hair outside of."""
    value = found.value if isinstance(found, Share) else found.mean
    return value, min(value, found.low), max(value, found.high)


def _scores(axes: Any, result: DiagnosticResult) -> None:
    """The logit of every output beside that of its true image."""
    row = result.row(INT8) or result.row(FP32)
    assert row is not None
    true, made = np.asarray(result.rows[0].logits[0]), np.asarray(row.logits[0])
    ill = np.asarray(result.is_ill, np.bool_)
    for which, colour, label in ((ill, ORANGE, "pneumonia"), (~ill, BLUE, "normal")):
        axes.plot(true[which], made[which], "o", color=colour, alpha=0.6, ms=4, label=label)
    low, high = min(true.min(), made.min()) - 0.5, max(true.max(), made.max()) + 0.5
    axes.plot([low, high], [low, high], color=PALE, linewidth=1, linestyle="--")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_xlabel("logit of the true image")
    axes.set_ylabel(f"logit of {row.label}, seed 0")
    axes.set_title("Score beside the true image's", loc="left")
    axes.legend(loc="upper left", frameon=False)


def _sheet(
    page: Page,
    result: DiagnosticResult,
    shown: Sequence[Shown],
    images: dict[str, Gray],
    pairs: Pairs,
    *,
    y: int,
) -> None:
    page.text(40, y, _sheet_title(result, shown), size=TEXT, weight="bold", align="left")
    keys = [key for key in (BICUBIC, FP32, INT8, HR) if key in images]
    for line, one in enumerate(shown):
        top = y + 42 + line * (SIDE + CAPTION)
        truth = "pneumonia" if result.is_ill[one.image] else "normal"
        page.text(LEFT - 26, top + SIDE / 2, truth, size=TEXT, weight="bold", rotation=90)
        page.text(LEFT - 8, top + SIDE / 2, result.data.images[one.image], size=11, rotation=90, colour=PALE)
        panel(page, 0, top, pairs.lr_pixels[one.image])
        for column, key in enumerate(keys, start=1):
            made = images[key]
            seed = one.seed if len(made) > 1 else 0
            panel(page, column, top, made[seed, one.image])
            judged(page, column, top, result, key, seed, image=one.image)
        if line == 0:
            _headings(page, result, keys, top)


def _headings(page: Page, result: DiagnosticResult, keys: Sequence[str], top: int) -> None:
    labels = ["LR, the input", *[row.label for key in keys if (row := result.row(key))]]
    for column, label in enumerate(labels):
        page.text(column_x(column) + SIDE / 2, top - 8, label, size=SMALL)


def judged(
    page: Page, column: int, top: int, result: DiagnosticResult, key: str, seed: int, *, image: int
) -> None:
    """What the judge says of a panel, in colour where it is wrong."""
    row = result.row(key)
    assert isinstance(row, RowResult)
    logit = row.logits[seed][image]
    is_right = (logit > 0) == bool(result.is_ill[image])
    drawn = f", seed {seed}" if len(row.logits) > 1 else ""
    words = f"p {1 / (1 + np.exp(-logit)):.2f} {'right' if is_right else 'WRONG'}{drawn}"
    colour = RIGHT_INK if is_right else WRONG
    page.text(column_x(column) + SIDE / 2, top + SIDE + 18, words, size=SMALL, colour=colour)


def _sheet_title(result: DiagnosticResult, shown: Sequence[Shown]) -> str:
    count = len({f.image for f in result.failures if f.key in (FP32, INT8)})
    wrong = sum(one.is_wrong for one in shown)
    text = f"Images right where true, wrong from FP32 or INT8 with any seed: {count}"
    if wrong == len(shown):
        return f"{text}; those farthest astray"
    return f"{text}; below, {'these, and ' if wrong else ''}the closest to it"


def panel(page: Page, column: int, y: int, image: Gray) -> None:
    """An image of the sheet, in a column, with its upper edge at y."""
    kind = cv2.INTER_AREA if len(image) > SIDE else cv2.INTER_NEAREST
    small = np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=kind), np.uint8)
    page.paste(small[:, :, None].repeat(3, axis=2), column_x(column), y)


def foot(page: Page, result: DiagnosticResult) -> None:
    """Whose results these are, and the caution."""
    bundle, data = result.bundle, result.data
    words = f"{bundle.name} {bundle.version} ({bundle.digest[:12]}), '{data.name}': {result.source}"
    page.text(40, page.height - 40, textwrap.shorten(words, 125), size=SMALL, align="left")
    caution = "Detail above the input's resolution is generated. Research use only, not for diagnosis."
    page.text(40, page.height - 16, caution, size=SMALL, align="left", colour=PALE)


def column_x(column: int) -> int:
    """Where a column begins."""
    return LEFT + column * (SIDE + GAP)
