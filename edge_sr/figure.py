"""Small pictures for people: panels side by side, with titles and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr.image import opencv

__all__ = ["panels"]

Gray = npt.NDArray[np.uint8]
GAP, HEAD, FOOT = 12, 34, 56  # pixels between panels, above and below them
SIDE = 512  # pixels a panel side on the picture


def panels(images: Sequence[tuple[str, Gray]], *, captions: Sequence[str], footer: str) -> Gray:
    """Images side by side, enlarged by repetition to one size, on black.

    Args:
        images: Title and (h, w) uint8 each, square.
        captions: A line under each.
        footer: A line under all.

    Returns:
        (H, W) uint8.
    """
    cv2 = opencv()
    width = len(images) * (SIDE + GAP) + GAP
    picture = np.full((HEAD + SIDE + FOOT, width), 16, np.uint8)
    for index, ((title, image), caption) in enumerate(zip(images, captions, strict=True)):
        x = GAP + index * (SIDE + GAP)
        picture[HEAD : HEAD + SIDE, x : x + SIDE] = cv2.resize(
            image, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST
        )
        _write(cv2, picture, title, x, HEAD - 11, shade=255)
        _write(cv2, picture, caption, x, HEAD + SIDE + 22, shade=220)
    _write(cv2, picture, footer, GAP, HEAD + SIDE + 46, shade=150)
    return picture


def _write(cv2: Any, picture: Gray, text: str, x: int, y: int, *, shade: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.55, shade, 1, cv2.LINE_AA)
