"""What telling a class does, as a picture: missed and invented findings, and the images that turned."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context

from benchmarks.diagnostic.outputs import Output
from benchmarks.diagnostic.picture import (
    BELOW,
    BLUE,
    CAPTION,
    CHART,
    FONT,
    FOOT,
    HEAD,
    LABELS,
    LEFT,
    LETTERS,
    MIDDLE,
    ORANGE,
    RIGHT,
    SIDE,
    SMALL,
    TEXT,
    WIDTH,
    column_x,
    encoded,
    foot,
    judged,
    panel,
)
from benchmarks.diagnostic.records import DiagnosticResult
from benchmarks.diagnostic.telling import GUIDANCES, STRONGEST, told_key
from benchmarks.ladder.rungs import FP32
from benchmarks.page import INK, PALE, Page
from benchmarks.pairs import Pairs
from benchmarks.rows import HR

__all__ = ["draw_told", "turned"]

Gray = npt.NDArray[np.uint8]
IMAGES = 4
HEADINGS = ("LR, the input", "told nothing", "told normal", "told pneumonia", "true image")
RATES = {"false_negative_rate": "pneumonia missed", "false_positive_rate": "pneumonia invented"}


def draw_told(result: DiagnosticResult, outputs: Sequence[Output], pairs: Pairs) -> bytes:
    """Draws it: a PNG file.

    Args:
        result: Whose numbers are shown; its rows have been told classes.
        outputs: With the images.
        pairs: The LR images.
    """
    shown, sheet = turned(result), HEAD + CHART + BELOW
    with rc_context(FONT):
        page = Page(WIDTH, sheet + len(shown) * (SIDE + CAPTION) + 54 + FOOT)
        for line, text in enumerate(textwrap.wrap(_headline(result), LETTERS)[:2]):
            page.text(40, 38 + 30 * line, text, size=22, weight="bold", align="left")
        half = (WIDTH - LEFT - LABELS - MIDDLE - RIGHT) // 2
        for (rate, title), x in zip(RATES.items(), (LEFT, WIDTH - RIGHT - half - LABELS), strict=True):
            _chart(page.axes(x, HEAD, half + LABELS, CHART), result, rate, title)
        _sheet(page, result, shown, {o.key: o.images for o in outputs}, pairs, y=sheet)
        foot(page, result)
        return encoded(page)


def turned(result: DiagnosticResult) -> list[int]:
    """The images, decided rightly where they are true, that the wrong class leads farthest astray."""
    ill = np.asarray(result.is_ill, np.bool_)
    logits = {key: _logits(result, key) for key in (HR, told_key("wrong", STRONGEST))}
    margin = {key: np.where(ill, values, -values) for key, values in logits.items()}
    order = np.argsort(margin[told_key("wrong", STRONGEST)], kind="stable")
    right = [int(i) for i in order if margin[HR][i] > 0]
    halves = [[i for i in right if ill[i] == is_ill][: IMAGES // 2] for is_ill in (False, True)]
    return [i for half in halves for i in half]


def _logits(result: DiagnosticResult, key: str) -> npt.NDArray[np.float64]:
    """Of the first seed."""
    row = result.row(key)
    assert row is not None, f"no row {key}"
    return np.asarray(row.logits[0])


def _headline(result: DiagnosticResult) -> str:
    def share(key: str, rate: str) -> str:
        row = result.row(key)
        found = row and row.rates[rate]
        return f"{100 * found.value:.0f} %" if found else "none"

    wrong = told_key("wrong", STRONGEST)
    return (
        f"Told the wrong class at guidance {STRONGEST:g}, pneumonia is found in "
        f"{share(wrong, 'false_positive_rate')} of the healthy and missed in "
        f"{share(wrong, 'false_negative_rate')} of the ill; told nothing, in "
        f"{share(FP32, 'false_positive_rate')} and {share(FP32, 'false_negative_rate')}."
    )


def _chart(axes: Any, result: DiagnosticResult, rate: str, title: str) -> None:
    """A rate over guidance, told the true and the wrong class; those of null and true images as lines."""
    for kind, colour in (("true", BLUE), ("wrong", ORANGE)):
        rows = [result.row(told_key(kind, guidance)) for guidance in GUIDANCES]
        found = [row.rates[rate] for row in rows if row]
        points = [(g, s.value, s.low, s.high) for g, s in zip(GUIDANCES, found, strict=True) if s]
        x, middle, low, high = (
            100 * np.array(v) if i else np.array(v) for i, v in enumerate(zip(*points, strict=True))
        )
        axes.errorbar(
            x,
            middle,
            yerr=(middle - low, high - middle),
            fmt="o-",
            color=colour,
            label=f"told the {kind} class",
            capsize=3,
        )
    for key, style, label in ((FP32, "--", "told nothing"), (HR, ":", "true images")):
        row = result.row(key)
        if row and (share := row.rates[rate]):
            axes.axhline(
                100 * share.value,
                color=INK if key == FP32 else PALE,
                linestyle=style,
                linewidth=1.2,
                label=label,
            )
    axes.set(xlabel="guidance", xticks=GUIDANCES, ylim=(-3, 103))
    axes.set_ylabel("% of the ill" if rate == "false_negative_rate" else "% of the healthy")
    axes.set_title(f"{title.capitalize()}, with 95 % intervals", loc="left")
    axes.legend(loc="upper left", frameon=False)


def _sheet(
    page: Page,
    result: DiagnosticResult,
    shown: Sequence[int],
    images: dict[str, Gray],
    pairs: Pairs,
    *,
    y: int,
) -> None:
    title = f"Right where true, and led farthest astray by the wrong class at guidance {STRONGEST:g} (seed 0)"
    page.text(40, y, title, size=TEXT, weight="bold", align="left")
    for column, label in enumerate(HEADINGS):
        page.text(column_x(column) + SIDE / 2, y + 34, label, size=SMALL)
    for line, image in enumerate(shown):
        top, is_ill = y + 42 + line * (SIDE + CAPTION), bool(result.is_ill[image])
        page.text(
            LEFT - 26,
            top + SIDE / 2,
            "pneumonia" if is_ill else "normal",
            size=TEXT,
            weight="bold",
            rotation=90,
        )
        panel(page, 0, top, pairs.lr_pixels[image])
        true, wrong = (told_key(kind, STRONGEST) for kind in ("true", "wrong"))
        keys = (FP32, wrong, true, HR) if is_ill else (FP32, true, wrong, HR)
        for column, key in enumerate(keys, start=1):
            panel(page, column, top, images[key][0, image])
            judged(page, column, top, result, key, 0, image=image)
