"""PNG, read and written (W3C PNG, third edition)."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.errors import ImageError, OutputError
from edge_sr.image.directory import exif_orientation
from edge_sr.image.library import opencv, quiet
from edge_sr.image.loaded import Prepared

__all__ = ["PNG_SIGNATURE", "encode_png", "png_size", "prepare_png", "read_png_text"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIECE = 2**20
"""Bytes that are unpacked at once."""
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height from IHDR.

    Raises:
        ImageError: The file does not begin with IHDR.
        struct.error: The file ends before.
    """
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise ImageError("damaged PNG: it does not begin with IHDR")
    return width, height


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk up to IEND, with the checksums checked."""
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageError(f"damaged PNG: wrong checksum in chunk {kind!r} at byte {at}")
        yield kind, data[at + 8 : end - 4]
        if kind == b"IEND":
            return
        at = end
    raise ImageError(f"truncated PNG: it ends after {len(data)} bytes without IEND")


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _check_unpacked(chunks: list[tuple[bytes, bytes]]) -> None:
    """Refuses pixels that unpack to more than the header says, which decoders unpack to the end all the same.

    Damaged data is left to the decoder.
    """
    width, height, depth, colour_type = struct.unpack_from(">IIBB", chunks[0][1])
    row = (width * depth * _PNG_CHANNELS[colour_type] + 7) // 8
    left = height * (row + 5) + 64  # a filter byte a row, and what seven interlaced passes round up
    inflater = zlib.decompressobj()
    try:
        for part in (content for kind, content in chunks if kind == b"IDAT"):
            while part and not inflater.eof:
                left -= len(inflater.decompress(part, _PIECE))
                part = inflater.unconsumed_tail
                if left < 0:
                    raise ImageError("damaged PNG: its data unpacks to more than its size")
    except zlib.error:
        return


def prepare_png(data: bytes) -> Prepared:
    """The chunks that make the picture, without what decoders treat differently (gamma, alpha, EXIF).

    Raises:
        ImageError: The file is truncated, damaged or animated.
    """
    chunks = list(_png_chunks(data))
    kinds = {kind for kind, _ in chunks}
    depth, colour_type = chunks[0][1][8:10]
    if depth not in _PNG_DEPTHS.get(colour_type, ()) or b"IDAT" not in kinds:
        raise ImageError(f"damaged PNG: colour type {colour_type} with {depth} bits and chunks {len(chunks)}")
    _check_unpacked(chunks)
    if b"acTL" in kinds:
        raise ImageError("is an animated PNG", hint="save the frame you want as a file of its own")
    notices = []
    if colour_type == 3:
        notices.append("palette expanded")
    elif depth < 8:
        notices.append(f"{depth}-bit gray expanded to 8 bits")
    if colour_type in (4, 6) or b"tRNS" in kinds:
        notices.append("alpha dropped")
    orientation = next((exif_orientation(body) for kind, body in chunks if kind == b"eXIf"), 1)
    kept = (_png_chunk(*chunk) for chunk in chunks if chunk[0] in (b"IHDR", b"PLTE", b"IDAT", b"IEND"))
    return Prepared(PNG_SIGNATURE + b"".join(kept), orientation, notices=tuple(notices))


# ---- writing, and the text beside the picture


def encode_png(pixels: NDArray[Any], *, text: Mapping[str, str]) -> bytes:
    """Encode a PNG with text chunks after its header.

    Args:
        pixels: (H, W) gray or (H, W, 3) RGB, uint8 or uint16.
        text: Keyword to text, written in this order: tEXt where it is plain ASCII, iTXt (UTF-8) otherwise.
            Keywords have 1 to 79 printable ASCII characters, with no space at either end or two in a row.

    Returns:
        The file. The same input and OpenCV version give the same bytes; no time is stored.

    Raises:
        OutputError: The pixels or a text cannot be stored in PNG.
        ImageError: OpenCV is not installed.
    """
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not is_image or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
        raise OutputError(f"PNG holds gray or RGB of 8 or 16 bits, got {pixels.dtype} of {pixels.shape}")
    chunks = b"".join(_text_chunk(keyword, value) for keyword, value in text.items())
    cv2 = opencv()
    stored = np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., ::-1])
    try:
        with quiet(cv2):
            done, encoded = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    except (cv2.error, MemoryError) as error:
        raise OutputError(f"PNG of {pixels.shape} could not be encoded: {error}") from error
    if not done:
        raise OutputError(f"PNG of {pixels.shape} could not be encoded")
    png: bytes = encoded.tobytes()
    header = len(PNG_SIGNATURE) + 12 + 13  # IHDR has 13 bytes
    return png[:header] + chunks + png[header:]


def _text_chunk(keyword: str, value: str) -> bytes:
    """A tEXt or iTXt chunk."""
    is_word = re.fullmatch(r"(?! )[ -~]{1,79}(?<! )", keyword) and "  " not in keyword
    if not is_word or "\0" in value:
        raise OutputError(f"PNG cannot store text under {keyword!r}: bad keyword, or a null in the text")
    if re.fullmatch(r"[\n -~]*", value):
        return _png_chunk(b"tEXt", keyword.encode("ascii") + b"\0" + value.encode("ascii"))
    try:
        return _png_chunk(b"iTXt", keyword.encode("ascii") + b"\0\0\0\0\0" + value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise OutputError(f"PNG cannot store the text under {keyword!r}: {error}") from error


def read_png_text(data: bytes) -> dict[str, str]:
    """Read the text of a PNG: tEXt, and uncompressed iTXt. Compressed text is left out.

    Args:
        data: The whole file.

    Returns:
        Keyword to text; the last of equal keywords.

    Raises:
        ImageError: The data is not a PNG, or is truncated or damaged.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise ImageError("is not a PNG")
    text: dict[str, str] = {}
    for kind, body in _png_chunks(data):
        keyword, _, rest = body.partition(b"\0")
        if kind == b"tEXt":
            text[keyword.decode("latin-1")] = rest.decode("latin-1")
        elif kind == b"iTXt" and rest[:1] == b"\0":
            value = rest[2:].split(b"\0", 2)[-1]  # after the language and the translated keyword
            text[keyword.decode("latin-1")] = value.decode("utf-8", errors="replace")
    return text
