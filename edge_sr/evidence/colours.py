"""Colour maps that hold for colour-blind eyes and in a gray print, as small tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["diverging", "sequential"]

Colours = npt.NDArray[np.uint8]

ENTRIES = 255  # odd, so that zero has an entry of its own in the middle

# Eleven colours of cividis (Nuñez, Anderton and Renslow 2018, doi 10.1371/journal.pone.0199239), whose
# lightness rises evenly and which looks nearly the same with any colour vision.
_CIVIDIS = (
    "00224d", "083370", "35456c", "4e566c", "666970", "7c7b78", "948e77", "aea271", "c8b765", "e4ce51",
    "fde737",
)  # fmt: skip

# PuOr of ColorBrewer 2.0 (Brewer, Harrower and Penn State, Apache-2.0), from purple to orange through white:
# on their list of colour-blind-safe maps.
_PURPLE_ORANGE = (
    "2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "f7f7f7", "fee0b6", "fdb863", "e08214", "b35806",
    "7f3b08",
)  # fmt: skip


def sequential(values: npt.NDArray[Any]) -> Colours:
    """Values in [0, 1], clipped, as RGB from dark blue to yellow: (...) -> (..., 3) uint8."""
    return _look_up(_CIVIDIS, np.asarray(values, np.float64))


def diverging(values: npt.NDArray[Any]) -> Colours:
    """Values in [-1, 1], clipped, as RGB from purple through white to orange: (...) -> (..., 3) uint8."""
    return _look_up(_PURPLE_ORANGE, (np.asarray(values, np.float64) + 1) / 2)


def _look_up(anchors: tuple[str, ...], places: npt.NDArray[np.float64]) -> Colours:
    """Interpolates linearly between evenly spaced colours, over a table."""
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in anchors], np.float64)
    at, ends = np.linspace(0, 1, ENTRIES), np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(at, ends, channel) for channel in colours.T], axis=1)
    entries: Colours = np.rint(table).astype(np.uint8)
    return entries[np.rint(np.clip(places, 0, 1) * (ENTRIES - 1)).astype(np.intp)]
