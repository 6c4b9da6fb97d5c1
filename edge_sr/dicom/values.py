"""Stored values as a picture for the model, and back.

The model has learned from pictures with black at 0 and white at 1. Stored values have other ranges, and a
marker of lead or metal may lie far outside that of the body. So the range between two percentiles of the
values becomes black to white, and what lies beyond it (the excess) goes round the model: it is enlarged by
bicubic interpolation and added again. Nothing is clipped away, and a stored value means what it meant: the
way back is the exact inverse of the way in. An image of 8 bits is a picture already and keeps its range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.dicom.header import PixelFormat
from edge_sr.errors import ImageError
from edge_sr.image import resize_bicubic

__all__ = ["PERCENTILES", "ValueMap", "fit"]

PERCENTILES = (1.0, 99.0)
"""Of the values that are no padding: what the model sees as black and white."""

_TOP = 65535


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How stored values of one image become 16-bit gray.

    Attributes:
        low: The stored value at one end of the gray range.
        high: That at the other end; `low` is black unless `is_inverted`.
        least: Smallest that a result may have.
        greatest: Largest.
        is_inverted: Whether `high` is black.
        padding: First and last value that stand for no measurement.
    """

    low: int
    high: int
    least: int
    greatest: int
    is_inverted: bool
    padding: tuple[int, int] | None

    def to_gray(self, stored: NDArray[Any]) -> NDArray[np.uint16]:
        """Stored values, clipped to `low` and `high`, as gray over the whole range of 16 bits."""
        bits = 8 * stored.dtype.itemsize
        codes = np.arange(2**bits, dtype=f"<u{bits // 8}").view(stored.dtype).astype(np.float64)
        gray = np.rint(
            (np.clip(codes, self.low, self.high) - self.low) * (_TOP / max(1, self.high - self.low))
        )
        table = (_TOP - gray if self.is_inverted else gray).astype(np.uint16)
        return np.asarray(table[stored.view(f"<u{bits // 8}")], np.uint16)

    def from_gray(self, gray: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Undoes `to_gray` exactly for every value from `low` to `high`."""
        codes = np.arange(_TOP + 1, dtype=np.float64)
        table = np.rint(codes * ((self.high - self.low) / _TOP)).astype(np.int32) + self.low
        return (table[::-1] if self.is_inverted else table)[gray]

    def restore(self, gray: NDArray[np.uint16], stored: NDArray[Any], scale: int) -> NDArray[Any]:
        """The enlarged stored values.

        Args:
            gray: (H * scale, W * scale), what the model made of `to_gray`.
            stored: (H, W), the source.
            scale: At least 1; at 1, and with the gray unchanged, the source comes back.

        Returns:
            (H * scale, W * scale), the source's dtype, from `least` to `greatest`; padding where the source
            has it, and nowhere else.

        Raises:
            ImageError: There is an excess, and OpenCV is not installed.
        """
        values = self.from_gray(gray)
        self._add_excess(values, stored, scale)
        np.clip(values, self.least, self.greatest, out=values)
        if self.padding is not None:
            self._pad(values, stored, scale)
        return values.astype(stored.dtype)

    def _add_excess(self, values: NDArray[np.int32], stored: NDArray[Any], scale: int) -> None:
        """Adds what lies below `low` and above `high`, padding aside, without ringing to the other side."""
        for least, most, end in ((self.least, self.low, self.low), (self.high, self.greatest, self.high)):
            excess = np.clip(stored, least, most).astype(np.float32) - end
            excess[self._is_padding(stored)] = 0
            if excess.any():
                bounds = (least - end, 0) if end == self.low else (0, most - end)
                values += np.rint(np.clip(resize_bicubic(excess, scale), *bounds)).astype(np.int32)

    def _pad(self, values: NDArray[np.int32], stored: NDArray[Any], scale: int) -> None:
        """Padding where the source has it, and the next value where a result would be taken for it."""
        assert self.padding is not None
        first, last = self.padding
        values[(values >= first) & (values <= last)] = last + 1 if last < self.greatest else first - 1
        repeated = stored.repeat(scale, axis=0).repeat(scale, axis=1)
        is_padding = self._is_padding(repeated)
        values[is_padding] = repeated[is_padding]

    def _is_padding(self, stored: NDArray[Any]) -> NDArray[np.bool_]:
        if self.padding is None:
            return np.zeros(stored.shape, np.bool_)
        return np.asarray((stored >= self.padding[0]) & (stored <= self.padding[1]))


def fit(stored: NDArray[Any], form: PixelFormat) -> ValueMap:
    """The map for an image.

    Raises:
        ImageError: All of its pixels are padding.
    """
    valid = stored
    if form.padding is not None:
        valid = stored[(stored < form.padding[0]) | (stored > form.padding[1])]
    if not valid.size:
        raise ImageError("has no pixel that is not padding")
    if form.bits_stored == 8 and not form.is_signed:
        return ValueMap(0, 255, 0, 255, form.is_inverted, form.padding)
    least, greatest = int(valid.min()), int(valid.max())
    low, high = (int(v) for v in np.percentile(valid, PERCENTILES, method="nearest"))
    if low == high:
        low, high = least, greatest
    return ValueMap(low, high, least, greatest, form.is_inverted, form.padding)
