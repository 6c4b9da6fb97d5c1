"""Hostile bodies: valid ones that were cut, flipped, swollen and lied about, and those made to hurt."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tests.edge_sr.dicom import objects
from tests.edge_sr.image import pictures
from tests.edge_sr.image.test_fuzzing import mend_checksums
from tests.edge_sr.service.rig import DICOM, PNG

__all__ = ["Hostile", "hostile_bodies"]

JPEG, TIFF = "image/jpeg", "image/tiff"
TYPES = (
    PNG,
    JPEG,
    TIFF,
    DICOM,
    "multipart/form-data; boundary=b",
    "application/octet-stream",
    "text/plain",
    "",
)
WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 0x7FC00000, 0x7F800000)
"""Sizes and counts that are off; the last two are a NaN and an infinity where a float is expected."""
TEXTS = ("NaN", "-inf", "1e999", "0", "-0.0", "", "1" * 16, "0x10", "1\\2", "\0")
"""Decimal strings of DICOM that are no sensible number."""
SQ, ITEM = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
Rng = np.random.Generator


@dataclass(frozen=True)
class Hostile:
    """A body, what it says that it is, and what was done to it."""

    kind: str
    data: bytes = field(repr=False)
    media_type: str


def hostile_bodies(count: int, *, seed: int) -> Iterator[Hostile]:
    """So many, the same for the same seed: first those that are made to hurt, then mutants in turns."""
    rng = np.random.default_rng(seed)
    crafted, valid, kinds = _all_crafted(), list(_valid()), list(MUTATIONS)
    yield from crafted[:count]
    for number in range(count - len(crafted)):
        media_type, data = valid[number % len(valid)]
        kind = kinds[number // len(valid) % len(kinds)]
        mutant, said = MUTATIONS[kind](data, rng), media_type
        if kind == "lied about":
            said = TYPES[rng.integers(len(TYPES))]
        yield Hostile(kind, *(_form(mutant, said, rng) if rng.random() < 0.15 else (mutant, said)))


def _valid() -> Iterator[tuple[str, bytes]]:
    """What mutants are made of: every format, depth and packing that is read."""
    yield PNG, pictures.encoded(pictures.picture(), ".png")
    yield PNG, pictures.encoded(pictures.picture(np.uint16), ".png")
    yield JPEG, pictures.encoded(pictures.picture(channels=3), ".jpg")
    yield TIFF, pictures.encoded(pictures.picture(np.uint16), ".tiff")
    yield TIFF, pictures.tiff(pictures.picture(), strip=zlib.compress, tags={259: 8, 274: 6})
    yield TIFF, pictures.tiff(pictures.picture().astype(np.float32) / 255)
    for syntax in (objects.EXPLICIT, objects.IMPLICIT, objects.BIG, objects.DEFLATED, objects.RLE):
        yield DICOM, objects.encoded(objects.dx(), syntax)
    yield DICOM, objects.encoded(objects.ct())


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data))]


def _flipped(data: bytes, rng: Rng) -> bytes:
    """One to eight bits, in headers more often than in pixels; a PNG's checksums right every other time."""
    out = bytearray(data)
    for place in rng.random(rng.integers(1, 9)):
        out[int(place**2 * len(out))] ^= 1 << int(rng.integers(8))
    return bytes(mend_checksums(out)) if data.startswith(b"\x89PNG") and rng.random() < 0.5 else bytes(out)


def _resized(data: bytes, rng: Rng) -> bytes:
    """A word of the header, of two or four bytes and either order, is now one of `WORDS`."""
    out, size = bytearray(data), int(rng.choice([2, 4]))
    at = int(rng.random() ** 2 * (len(out) - size))
    word = int(rng.choice(WORDS)) % (1 << 8 * size)
    out[at : at + size] = word.to_bytes(size, "little" if rng.random() < 0.5 else "big")
    return bytes(mend_checksums(out)) if data.startswith(b"\x89PNG") else bytes(out)


def _spliced(data: bytes, rng: Rng) -> bytes:
    """A stretch of it is repeated elsewhere, or taken out."""
    start, end = sorted(int(i) for i in rng.integers(0, len(data), 2))
    at = int(rng.integers(len(data)))
    return data[:at] + data[start:end] + data[at:] if rng.random() < 0.5 else data[:start] + data[end:]


def _same(data: bytes, _rng: Rng) -> bytes:
    return data


def _noise(_data: bytes, rng: Rng) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


MUTATIONS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "cut": _cut,
    "flipped": _flipped,
    "resized": _resized,
    "spliced": _spliced,
    "lied about": _same,
    "noise": _noise,
}


def _form(data: bytes, media_type: str, rng: Rng) -> tuple[bytes, str]:
    """In a multipart form that may itself be damaged."""
    head = (
        f'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\nContent-Type: {media_type}\r\n\r\n'
    )
    whole = head.encode() + data + b"\r\n--b--\r\n"
    return (_flipped(whole, rng) if rng.random() < 0.5 else whole), "multipart/form-data; boundary=b"


@cache  # packing what unpacks to so much takes seconds
def _all_crafted() -> tuple[Hostile, ...]:
    return tuple(_crafted())


def _crafted() -> Iterator[Hostile]:
    """Small bodies that ask for much."""
    for media_type in TYPES:
        yield Hostile("empty", b"", media_type)
    for width, height in ((0, 0), (0, 9), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (60_000, 60_000)):
        yield Hostile("size of a PNG", pictures.png(width, height, 8, 0, b"\0" * 99), PNG)
        yield Hostile(
            "size of a TIFF", pictures.tiff(pictures.picture(), tags={256: width, 257: height}), TIFF
        )
    yield Hostile("PNG that unpacks to 64 MiB", pictures.png(8, 8, 8, 0, bytes(2**26)), PNG)
    yield Hostile("PNG whose text does", _png_with(b"zTXt", b"t\0\0" + zlib.compress(bytes(2**26))), PNG)
    yield Hostile("PNG whose profile does", _png_with(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**26))), PNG)
    packed = zlib.compress(bytes(2**26))
    yield Hostile("TIFF that does", pictures.tiff(pictures.picture(), packed=packed, tags={259: 8}), TIFF)
    yield from (Hostile("DICOM", data, DICOM) for data in _crafted_dicom())
    yield Hostile("form of 5,000 parts", b"--b\r\n\r\n\r\n" * 5000, "multipart/form-data; boundary=b")
    yield Hostile("form of one endless header", b"--b\r\n" + b"x" * 60_000, "multipart/form-data; boundary=b")
    yield Hostile("boundary of much", b"x" * 1000, "multipart/form-data; boundary=" + "b" * 4000)


def _png_with(kind: bytes, content: bytes) -> bytes:
    return pictures.png(24, 20, 8, 0, bytes(25 * 20), (kind, content))


def _crafted_dicom() -> Iterator[bytes]:
    base = objects.encoded(objects.dx())
    start = base.index(b"DICM") + 16 + struct.unpack_from("<I", base, 140)[0]
    yield base[:start] + (SQ + ITEM) * 20_000
    yield base[:start] + (SQ + ITEM) * 40 + base[start:]
    yield base[:start] + b"\x09\0\x10\0LO\x02\0AB" * 60_000
    yield from (_numbered(name, text) for text in TEXTS for name in ("RescaleSlope", "ImagerPixelSpacing"))
    for rows, columns in ((0, 0), (65535, 65535), (0, 65535), (65535, 1)):
        yield objects.encoded(_changed(Rows=rows, Columns=columns))
    deflated = objects.encoded(objects.dx(), objects.DEFLATED)
    begun = deflated.index(b"DICM") + 16 + struct.unpack_from("<I", deflated, 140)[0]
    packer = zlib.compressobj(9, wbits=-15)
    yield deflated[:begun] + packer.compress(bytes(2**27)) + packer.flush()


def _changed(**values: Any) -> Any:
    dataset = objects.dx()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _numbered(name: str, text: str) -> bytes:
    """An object whose decimal string is this text, which pydicom's writer would not take."""
    data = objects.encoded(objects.dx())
    dataset = objects.pydicom.dcmread(io.BytesIO(data))
    element = dataset[name]
    tag = struct.pack("<HH", element.tag.group, element.tag.element)
    at = data.index(tag + b"DS")
    (length,) = struct.unpack_from("<H", data, at + 6)
    value = text.encode() + b" " * (len(text) % 2)
    return data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 8 + length :]
