"""From a file to pixels: the kind, the size, the walk through the file, then OpenCV, then one layout."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import ImageError
from edge_sr.image.jpeg import jpeg_size, prepare_jpeg
from edge_sr.image.library import opencv, quiet
from edge_sr.image.loaded import Limits, LoadedImage, Prepared
from edge_sr.image.png import PNG_SIGNATURE, png_size, prepare_png
from edge_sr.image.tiff import prepare_tiff, tiff_size

__all__ = ["decode_image", "read_image"]

_FORMATS: dict[str, tuple[Callable[[bytes], tuple[int, int]], Callable[[bytes], Prepared]]] = {
    "PNG": (png_size, prepare_png),
    "JPEG": (jpeg_size, prepare_jpeg),
    "TIFF": (tiff_size, prepare_tiff),
}


def read_image(path: str | Path, *, limits: Limits | None = None) -> LoadedImage:
    """Read a PNG, JPEG or TIFF file.

    Args:
        path: A regular file.
        limits: What it may be; the defaults of `Limits` where None.

    Returns:
        The image, as `decode_image`.

    Raises:
        ImageError: The file is missing, not a file, cannot be read, or is refused by `decode_image`.
    """
    limits = limits or Limits()
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(f"{path}: is {kind}, wanted an image file")
        if status.st_size > limits.max_bytes:
            raise ImageError(f"{path}: {status.st_size} bytes, at most {limits.max_bytes} are read")
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file", hint="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return decode_image(data, name=str(path), limits=limits)


def decode_image(data: bytes, *, name: str, limits: Limits | None = None) -> LoadedImage:
    """Decode a PNG, JPEG or TIFF from memory.

    Colour stays RGB, except that equal channels become gray. Palettes and 1 to 4-bit gray are expanded to 8
    bits, alpha is dropped, EXIF orientation is applied, white-is-zero is inverted, float TIFF in [0, 1]
    becomes 16 bits: each with a notice. Colour profiles and gamma are ignored.

    Args:
        data: The whole file.
        name: What to call it in messages.
        limits: What it may be; the defaults of `Limits` where None.

    Returns:
        The image.

    Raises:
        ImageError: The data is empty, too large, of an unknown or unsupported kind, truncated, damaged, has
            several pages, or has values that are no intensities; or OpenCV is not installed.
    """
    limits = limits or Limits()
    try:
        if not data:
            raise ImageError("the file is empty")
        if len(data) > limits.max_bytes:
            raise ImageError(f"{len(data)} bytes, at most {limits.max_bytes} are read")
        kind = _sniff(data)
        read_size, prepare = _FORMATS[kind]
        width, height = read_size(data)
        _check_size(width, height, limits)
        prepared = prepare(data)
        pixels = _decode(prepared.payload, height, width)
        pixels, notices = _normalise(pixels, prepared)
    except struct.error as error:
        raise ImageError(f"{name}: truncated or damaged: a field lies outside the file") from error
    except ImageError as error:
        raise ImageError(f"{name}: {error.message}", hint=error.hint) from error
    return LoadedImage(pixels, name, kind, notices)


def _check_size(width: int, height: int, limits: Limits) -> None:
    """Refuse a size outside the limits."""
    if min(width, height) < limits.min_side:
        raise ImageError(f"{width}x{height} pixels, wanted at least {limits.min_side} a side")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{width}x{height} pixels, at most {limits.max_pixels} are decoded",
            hint="cut the image into parts",
        )


_OTHER_KINDS = (
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (0, b"II\x2b\0", "a BigTIFF"),
    (0, b"MM\0\x2b", "a BigTIFF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"<", "HTML or XML"),
    (4, b"ftyp", "an HEIC, AVIF or video file"),
    (8, b"WEBP", "a WebP"),
)


def _sniff(data: bytes) -> str:
    """The format by its signature."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"II\x2a\0", b"MM\0\x2a")):
        return "TIFF"
    if data[128:132] == b"DICM":
        raise ImageError("is DICOM, not PNG, JPEG or TIFF", hint="DICOM needs the extra: edge-sr[dicom]")
    for offset, magic, kind in _OTHER_KINDS:
        if data.startswith(magic, offset):
            raise ImageError(f"is {kind}", hint="convert it to PNG, JPEG or TIFF")
    raise ImageError(f"is not a PNG, JPEG or TIFF (begins with {data[:8].hex(' ')})")


def _decode(payload: bytes, height: int, width: int) -> NDArray[Any]:
    """What OpenCV makes of a file that was found whole: as stored, BGR where coloured."""
    cv2 = opencv()
    try:
        with quiet(cv2):
            pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise ImageError(f"could not be decoded: {error}") from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise ImageError("could not be decoded: the file is damaged or of a kind that OpenCV does not read")
    decoded: NDArray[Any] = pixels
    return decoded


def _normalise(pixels: NDArray[Any], prepared: Prepared) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Gray or RGB in whole numbers, upright, black at zero; and what had to be done for that."""
    notices = list(prepared.notices)
    if pixels.dtype in (np.float32, np.float64):
        pixels = _quantise(pixels)
        notices.append("float values in [0, 1] converted to 16 bits")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"has samples of type {pixels.dtype}, wanted 8 or 16 bits without sign")
    if pixels.ndim == 3:
        pixels = pixels[..., 2::-1]  # BGR or BGRA to RGB
        if (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
            notices.append("equal colour channels read as gray")
    if prepared.is_inverted:
        pixels = np.iinfo(pixels.dtype).max - pixels
        notices.append("white-is-zero inverted")
    if prepared.orientation in _UPRIGHT:
        pixels = _UPRIGHT[prepared.orientation](pixels)
        notices.append(f"turned upright (orientation {prepared.orientation})")
    elif prepared.orientation != 1:
        notices.append("orientation field is damaged: left as stored")
    return np.ascontiguousarray(pixels), tuple(notices)


def _quantise(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Floats in [0, 1] as 16-bit numbers."""
    if not np.isfinite(values).all():
        raise ImageError("has NaN or infinite values", hint="save it as 16-bit TIFF or PNG")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise ImageError(
            f"has float values from {low:g} to {high:g}, wanted 0 to 1",
            hint="scale it yourself, so that the scale is known, or save it as 16 bits",
        )
    return np.rint(values.astype(np.float64) * 65535).astype(np.uint16)


# Exif 2.3, table 6: what brings pixels stored under each orientation upright.
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}
