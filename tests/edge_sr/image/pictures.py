"""Pictures to read, and files of them: by OpenCV, and by hand where its writers cannot make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sr import image

cv2: Any = pytest.importorskip("cv2", reason="OpenCV is not installed (extra: cpu)")

Pixels = NDArray[Any]


def picture(dtype: Any = np.uint8, *, channels: int = 0, height: int = 24, width: int = 20) -> Pixels:
    """Random pixels over the full range; asymmetric, so that every turn shows."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(height).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def encoded(pixels: Pixels, suffix: str, *options: int) -> bytes:
    stored = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(stored), list(options))
    assert done
    return bytes(data.tobytes())


def decoded(data: bytes, **limits: int) -> image.LoadedImage:
    return image.decode_image(data, name="scan", limits=image.Limits(**limits))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff(
    pixels: Pixels,
    *,
    order: Literal["<", ">"] = "<",
    pages: int = 1,
    strip: Callable[[bytes], bytes] = bytes,
    packed: bytes = b"",
    tags: dict[int, int] | None = None,
) -> bytes:
    """A TIFF of one strip, written by hand: what OpenCV's writer cannot make."""
    height, width, samples = (*pixels.shape, 1)[:3]
    data = packed or strip(pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())
    bits, kind = pixels.dtype.itemsize * 8, 3 if pixels.dtype.kind == "f" else 1
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: 1 if samples == 1 else 2, 273: 8}
    fields |= {277: samples, 278: height, 279: len(data), 339: kind}
    fields |= tags or {}
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data)) + data
    for page in range(pages):
        entries = b"".join(
            struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
            if value < 2**16
            else struct.pack(order + "HHII", tag, 4, 1, value)
            for tag, value in sorted(fields.items())
        )
        end = len(out) + 2 + len(entries) + 4
        following = 0 if page == pages - 1 else end
        out += struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following)
    return out


def packbits(data: bytes) -> bytes:
    runs = (data[at : at + 128] for at in range(0, len(data), 128))
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def lzw(data: bytes) -> bytes:
    """LZW without compression: a clear code before the table would outgrow nine bits."""
    codes = [code for at in range(0, len(data), 200) for code in (256, *data[at : at + 200])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


PACKERS: dict[int, Callable[[bytes], bytes]] = {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}


def exif(orientation: int) -> bytes:
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 274, 3, 1, orientation, 0, 0)
