"""The data set of a DICOM file, walked by hand (PS3.5, section 7).

pydicom reads damaged files as far as it can and says so in warnings; here a length that does not fit is an
error, nesting and the number of elements have limits, and nothing recurses. What comes out is a pydicom data
set in Explicit VR Little Endian, whatever came in, with values as the bytes that they were: none is decoded,
so none can be damaged. Private elements are left out, and what comes after the pixels (padding, signatures).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_sr.dicom.library import pydicom
from edge_sr.dicom.part10 import Syntax
from edge_sr.errors import ImageError

__all__ = ["MAX_DEPTH", "MAX_ELEMENTS", "Parsed", "PixelBytes", "parse"]

MAX_ELEMENTS = 20_000
"""Most elements, items and fragments; a radiograph has some hundred."""
MAX_DEPTH = 16
"""Deepest nesting of sequences; real headers have up to about five."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA, _PIXEL_REPRESENTATION = 0x7FE00010, 0x00280103
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # 4-byte lengths
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_TEXT = frozenset(vr.decode() for vr in b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UR UT".split())
_WORD_BYTES = {
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_AMBIGUOUS = {"OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}


@dataclass(frozen=True, slots=True)
class PixelBytes:
    """Where the pixels lie.

    Attributes:
        vr: Value representation of Pixel Data.
        parts: Start and end of the value, or of each fragment behind the offset table.
        is_encapsulated: Whether those are fragments.
    """

    vr: str
    parts: tuple[tuple[int, int], ...]
    is_encapsulated: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """A data set that was found whole: its public elements before the pixels, and where these are."""

    dataset: Any
    pixels: PixelBytes | None
    private_elements: int


@dataclass(slots=True)
class _Open:
    """A data set or a sequence that was begun."""

    end: int
    is_delimited: bool
    is_implicit: bool
    content: dict[int, Any] | list[Any]  # elements by tag, or items
    tag: int = 0


def parse(data: bytes, syntax: Syntax) -> Parsed:
    """Walks a data set up to its pixels.

    Raises:
        ImageError: A length leaves what it lies in, a delimiter is missing or misplaced, a value
            representation does not exist, there are more than `MAX_ELEMENTS` or deeper than `MAX_DEPTH`; or
            pydicom is not installed.
    """
    return _Walk(data, syntax).run()


class _Walk:
    """One pass over a data set."""

    def __init__(self, data: bytes, syntax: Syntax) -> None:
        self._data, self._order = data, syntax.order
        self._at = self._count = self._private = 0
        self._pydicom, self._dictionary = pydicom(), pydicom("pydicom.datadict")
        self._charset, self._raw = pydicom("pydicom.charset"), pydicom("pydicom.dataelem").RawDataElement
        self._root: dict[int, Any] = {}
        self._stack = [_Open(len(data), False, syntax.is_implicit, self._root)]

    def run(self) -> Parsed:
        pixels = None
        while pixels is None:
            top = self._stack[-1]
            if self._at == top.end and not top.is_delimited:
                if len(self._stack) == 1:
                    break
                self._close()
                continue
            pixels = self._take(top)
        return Parsed(self._dataset(self._root), pixels, self._private)

    def _take(self, top: _Open) -> PixelBytes | None:
        """One element, item or delimiter; the pixels if it was them."""
        tag, vr, length = self._header(top)
        if tag == (_SEQUENCE_END if isinstance(top.content, list) else _ITEM_END) and top.is_delimited:
            self._close()
        elif isinstance(top.content, list):
            if tag != _ITEM:
                raise self._damaged(f"{_shown(tag)} where an item should begin")
            self._begin(length, {}, is_implicit=top.is_implicit)
        elif tag >> 16 == 0xFFFE:
            raise self._damaged("a delimiter that ends nothing")
        elif tag == _PIXEL_DATA and len(self._stack) == 1:
            return self._pixels(vr, length)
        elif self._is_sequence(tag, vr, length, is_implicit=top.is_implicit):
            self._begin(length, [], tag=tag, is_implicit=top.is_implicit or vr == "UN")
        elif length == _UNDEFINED:
            self._fragments()  # of a picture inside a sequence, such as an icon: it is not kept
        else:
            self._value(top.content, tag, vr, length)
        return None

    def _header(self, top: _Open) -> tuple[int, str, int]:
        """Tag, value representation ("" where it says none) and length of what comes next."""
        self._count += 1
        if self._count > MAX_ELEMENTS:
            raise ImageError(f"has more than {MAX_ELEMENTS} elements, which is the most that are read")
        group, element, vr, length = self._unpack("HH2sH", self._at, top.end)
        tag, start = group << 16 | element, self._at + 8
        if group == 0xFFFE or top.is_implicit:
            vr, (length,) = b"", self._unpack("I", self._at + 4, top.end)
        elif vr in _LONG:
            (length,) = self._unpack("I", start, top.end)
            start += 4
        elif vr not in _SHORT:
            raise self._damaged(f"{_shown(tag)} has no value representation")
        if length != _UNDEFINED and start + length > top.end:
            raise self._damaged(f"{_shown(tag)} of {length} bytes, and {top.end - start} are left")
        self._at = start
        return tag, vr.decode("ascii"), length

    def _unpack(self, form: str, at: int, end: int) -> tuple[Any, ...]:
        if at + struct.calcsize(self._order + form) > end:
            raise self._damaged("it ends within an element")
        return struct.unpack_from(self._order + form, self._data, at)

    def _is_sequence(self, tag: int, vr: str, length: int, *, is_implicit: bool) -> bool:
        if is_implicit:
            known = self._known_vr(tag)
            return known == "SQ" or (length == _UNDEFINED and (known == "UN" or tag >> 16 & 1 == 1))
        return vr == "SQ" or (vr == "UN" and length == _UNDEFINED)  # PS3.5, section 6.2.2, note 1

    def _begin(
        self, length: int, content: dict[int, Any] | list[Any], *, is_implicit: bool, tag: int = 0
    ) -> None:
        is_delimited = length == _UNDEFINED
        end = self._stack[-1].end if is_delimited else self._at + length
        self._stack.append(_Open(end, is_delimited, is_implicit, content, tag))
        if len(self._stack) > 2 * MAX_DEPTH + 1:
            raise ImageError(
                f"has sequences nested deeper than {MAX_DEPTH}, which is the deepest that is read"
            )

    def _close(self) -> None:
        """Hands what has ended to what it lies in."""
        done = self._stack.pop()
        parent = self._stack[-1].content
        if isinstance(done.content, dict):
            assert isinstance(parent, list)
            parent.append(self._dataset(done.content))
        elif self._is_kept(done.tag):
            sequence = self._pydicom.Sequence(done.content)
            parent[done.tag] = self._pydicom.DataElement(done.tag, "SQ", sequence)

    def _dataset(self, elements: dict[int, Any]) -> Any:
        """A pydicom data set that believes it was read as Explicit VR Little Endian, and so copies bytes."""
        dataset = self._pydicom.Dataset({self._pydicom.tag.BaseTag(t): e for t, e in elements.items()})
        named = dataset.get("SpecificCharacterSet")
        encoding = self._charset.convert_encodings(named) if named else self._charset.default_encoding
        dataset.set_original_encoding(False, True, encoding)
        return dataset

    def _value(self, elements: dict[int, Any], tag: int, vr: str, length: int) -> None:
        value = self._data[self._at : self._at + length]
        self._at += length
        if not self._is_kept(tag):
            return
        vr = vr or self._known_vr(tag)
        if self._order == ">":
            if vr == "UN":
                return  # nobody knows which bytes to swap
            value = self._swapped(value, vr, tag)
        value += (b" " if vr in _TEXT else b"\0") * (length % 2)
        tag = self._pydicom.tag.BaseTag(tag)
        elements[tag] = self._raw(tag, vr, len(value), value, 0, False, True)

    def _known_vr(self, tag: int) -> str:
        """What the dictionary says of a tag; UN where it knows nothing."""
        try:
            vr = str(self._dictionary.dictionary_VR(tag))
        except KeyError:
            return "UN"
        if vr == "US or SS":
            sign = self._root.get(_PIXEL_REPRESENTATION)
            return "SS" if sign is not None and sign.value[:1] == b"\1" else "US"
        return _AMBIGUOUS.get(vr, vr)

    def _is_kept(self, tag: int) -> bool:
        """Whether an element goes on: no private one, no group length, none of commands and directories."""
        is_private = tag >> 16 & 1 == 1
        self._private += is_private
        return not is_private and tag & 0xFFFF != 0 and tag >> 16 > 0x0007

    def _swapped(self, value: bytes, vr: str, tag: int) -> bytes:
        size = _WORD_BYTES.get(vr, 1)
        if len(value) % size:
            raise self._damaged(f"{_shown(tag)} of {len(value)} bytes is not whole {vr} values")
        return np.frombuffer(value, f">u{size}").astype(f"<u{size}").tobytes()

    def _pixels(self, vr: str, length: int) -> PixelBytes:
        if length == _UNDEFINED:
            return PixelBytes(vr or "OB", self._fragments()[1:], is_encapsulated=True)
        return PixelBytes(vr or "OW", ((self._at, self._at + length),), is_encapsulated=False)

    def _fragments(self) -> tuple[tuple[int, int], ...]:
        """Start and end of every item, up to the sequence delimiter (PS3.5, annex A.4)."""
        top = self._stack[-1]
        parts: list[tuple[int, int]] = []
        while True:
            tag, _, length = self._header(top)
            if tag == _SEQUENCE_END:
                return tuple(parts)
            if tag != _ITEM or length == _UNDEFINED:
                raise self._damaged(f"{_shown(tag)} where a fragment should begin")
            parts.append((self._at, self._at + length))
            self._at += length

    def _damaged(self, what: str) -> ImageError:
        return ImageError(f"truncated or damaged DICOM: {what}, at byte {self._at} of the data set")


def _shown(tag: int) -> str:
    return f"({tag >> 16:04x},{tag & 0xFFFF:04x})"
