"""What an input may be, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Limits", "LoadedImage", "Prepared"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an input may be, checked before it is decoded.

    Attributes:
        max_bytes: Largest file, in bytes.
        max_pixels: Largest width times height.
        min_side: Shortest side in pixels. Below 8 there is nothing that could be enlarged with meaning, and
            a file of 1x1 is a mistake.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 64_000_000
    min_side: int = 8


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """One decoded image.

    Attributes:
        pixels: (H, W) gray or (H, W, 3) RGB, uint8 or uint16, the full range of its type.
        name: Where it came from, as it was given.
        format: "PNG", "JPEG" or "TIFF".
        notices: What was changed on the way in, a phrase each, for the user to see.
    """

    pixels: NDArray[Any]
    name: str
    format: str
    notices: tuple[str, ...] = ()

    @property
    def bit_depth(self) -> int:
        """Bits per sample: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def is_colour(self) -> bool:
        """Whether the pixels are RGB."""
        return self.pixels.ndim == 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was walked and found whole: what to decode, and what to do with the pixels."""

    payload: bytes
    orientation: int = 1  # as in EXIF; 0 for a field that cannot be read
    is_inverted: bool = False
    notices: tuple[str, ...] = ()
