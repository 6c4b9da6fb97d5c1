"""The outside of a DICOM file: preamble, file meta information, transfer syntax (PS3.10, section 7)."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from edge_sr.errors import ImageError

__all__ = ["EXPLICIT_LITTLE", "J2K_ANY", "SYNTAXES", "Part10", "Syntax", "is_dicom", "open_part10"]

_META_BYTES = 65536  # real ones have some hundred bytes
_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT")

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
J2K_ANY = "1.2.840.10008.1.2.4.91"
_NATIVE_HINT = "ask the sender for Explicit VR Little Endian (1.2.840.10008.1.2.1)"


@dataclass(frozen=True, slots=True)
class Syntax:
    """How a data set and its pixels are encoded."""

    name: str
    coding: Literal["native", "deflated", "rle", "j2k"] = "native"
    is_implicit: bool = False
    order: Literal["<", ">"] = "<"


SYNTAXES = {
    "1.2.840.10008.1.2": Syntax("Implicit VR Little Endian", is_implicit=True),
    EXPLICIT_LITTLE: Syntax("Explicit VR Little Endian"),
    "1.2.840.10008.1.2.1.99": Syntax("Deflated Explicit VR Little Endian", "deflated"),
    "1.2.840.10008.1.2.2": Syntax("Explicit VR Big Endian", order=">"),
    "1.2.840.10008.1.2.5": Syntax("RLE Lossless", "rle"),
    "1.2.840.10008.1.2.4.90": Syntax("JPEG 2000 (lossless only)", "j2k"),
    J2K_ANY: Syntax("JPEG 2000", "j2k"),
}
"""What is read, by transfer syntax UID."""

_REFUSED = (
    (r"1\.2\.840\.10008\.1\.2\.4\.([56]\d|70)", "JPEG", "decompress it first: dcmdjpeg in.dcm out.dcm"),
    (r"1\.2\.840\.10008\.1\.2\.4\.8[01]", "JPEG-LS", "decompress it first: dcmdjpls in.dcm out.dcm"),
    (r"1\.2\.840\.10008\.1\.2\.4\.20[1-5]", "High-Throughput JPEG 2000", _NATIVE_HINT),
    (r"1\.2\.840\.10008\.1\.2\.4\.1\d\d(\.1)?", "video", "export the frame you want as an image"),
)


@dataclass(frozen=True, slots=True)
class Part10:
    """A file whose outside was read.

    Attributes:
        uid: Its transfer syntax.
        syntax: What that means.
        body: The data set, inflated where it was deflated.
    """

    uid: str
    syntax: Syntax
    body: bytes


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM by its signature; its first 132 bytes are enough."""
    return data[128:132] == b"DICM"


def open_part10(data: bytes, *, max_bytes: int) -> Part10:
    """Reads the outside of a file.

    Args:
        data: The whole file.
        max_bytes: Most bytes that the data set may inflate to.

    Raises:
        ImageError: It is no DICOM file, is truncated or damaged, inflates to more, or its transfer syntax is
            missing or not read here.
    """
    if not is_dicom(data):
        raise ImageError(
            "is not a DICOM file: it has no DICM at byte 128", hint="check what the sender writes"
        )
    try:
        uid, at = _read_meta(data)
    except struct.error as error:
        raise ImageError("truncated DICOM: it ends within its file meta information") from error
    syntax = _known(uid)
    body = data[at:]
    return Part10(uid, syntax, _inflated(body, max_bytes) if syntax.coding == "deflated" else body)


def _read_meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where group 2 ends."""
    uid, at = "", 132
    while data[at : at + 2] == b"\x02\x00":
        element, vr, length = struct.unpack_from("<H2sH", data, at + 2)
        start = at + 8
        if vr in _LONG_LENGTHS:
            (length,) = struct.unpack_from("<I", data, start)
            start += 4
        at = start + length
        if at > len(data) or at > _META_BYTES:
            raise ImageError(f"damaged DICOM: (0002,{element:04x}) has a length of {length} bytes")
        if element == 0x0010:
            uid = data[start:at].decode("ascii", "replace").rstrip("\0 ")
    return uid, at


def _known(uid: str) -> Syntax:
    """The syntax of a UID."""
    if uid in SYNTAXES:
        return SYNTAXES[uid]
    if not uid:
        raise ImageError("has no transfer syntax in its file meta information", hint=_NATIVE_HINT)
    for pattern, name, hint in _REFUSED:
        if re.fullmatch(pattern, uid):
            raise ImageError(f"is compressed as {name} ({uid}), which is not decoded here", hint=hint)
    shown = uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "that is no UID"
    raise ImageError(f"has a transfer syntax {shown}, which is not read here", hint=_NATIVE_HINT)


def _inflated(body: bytes, max_bytes: int) -> bytes:
    """A deflated data set (PS3.5, annex A.5), never more than the limit of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise ImageError("damaged DICOM: its deflated data set cannot be inflated") from error
    if len(whole) > max_bytes:
        raise ImageError(f"inflates to more than {max_bytes} bytes, which is the most that is read")
    if not inflater.eof:
        raise ImageError("truncated DICOM: its deflated data set has no end")
    return whole
