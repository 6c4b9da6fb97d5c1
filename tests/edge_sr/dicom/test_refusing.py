"""What cannot be enlarged with meaning is refused before its pixels are decoded, with what to do about it."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.dicom import read_dicom
from edge_sr.dicom.parsing import MAX_DEPTH
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import (
    EXPLICIT,
    IMPLICIT,
    J2K_LOSSLESS,
    RLE,
    codestream,
    decoded,
    dx,
    encoded,
    gradient,
    pydicom,
    table,
    wheel_file,
)

STORAGE = "1.2.840.10008.5.1.4.1.1."


def refusal(data: Any, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoded(data, **options)
    assert caught.value.message.startswith("scan.dcm: ")
    return caught.value


def with_syntax(uid: str) -> bytes:
    """A radiograph that claims another transfer syntax."""
    data = encoded(dx())
    claim = uid.encode().ljust(len(uid) + len(uid) % 2, b"\0")
    old = b"\x02\x00\x10\x00UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    assert data.count(old) == 1
    return data.replace(old, old[:6] + struct.pack("<H", len(claim)) + claim)


@pytest.mark.parametrize(
    ("uid", "words", "hint"),
    [
        ("1.2.840.10008.1.2.4.50", "JPEG ", "dcmdjpeg in.dcm out.dcm"),
        ("1.2.840.10008.1.2.4.70", "JPEG ", "dcmdjpeg in.dcm out.dcm"),
        ("1.2.840.10008.1.2.4.80", "JPEG-LS ", "dcmdjpls in.dcm out.dcm"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000", "Explicit VR Little Endian"),
        ("1.2.840.10008.1.2.4.102", "video", "export the frame"),
        ("1.2.3.4", "transfer syntax 1.2.3.4", "Explicit VR Little Endian"),
        ("Doe^Jane", "that is no UID", "Explicit VR Little Endian"),
    ],
)
def test_other_transfer_syntaxes_are_named_with_the_way_out(uid: str, words: str, hint: str) -> None:
    error = refusal(with_syntax(uid))
    assert words in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("uid", "words", "hint"),
    [
        ("66.4", "Segmentation Storage", "gray single-frame"),
        ("481.2", "RT Dose Storage", "gray single-frame"),
        ("1.1.1", "For Processing", "For Presentation"),
        ("4.1", "several frames", "export the frame"),
        ("7.2", "several frames", "export the frame"),
    ],
)
def test_other_kinds_of_object_are_named(uid: str, words: str, hint: str) -> None:
    error = refusal(dx(SOPClassUID=STORAGE + uid))
    assert words in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"colour \(RGB\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"colour \(PALETTE COLOR\)"),
        ({"PhotometricInterpretation": "DOE^JANE"}, "neither MONOCHROME1 nor MONOCHROME2$"),
        ({"BitsAllocated": 32}, "32 bits a pixel"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "1 bits a pixel"),
        ({"BitsStored": 17}, "17 of 16 bits"),
        ({"BitsStored": 1, "HighBit": 0}, "1 of 16 bits"),
        ({"HighBit": 15}, "12 of 16 bits up to bit 15"),
        ({"Rows": None}, "Rows is missing"),
        ({"PixelRepresentation": None}, "PixelRepresentation is missing"),
        ({"FloatPixelData": b"\0\0\0\0"}, "floating-point"),
        ({"SOPInstanceUID": None}, "no valid SOPInstanceUID"),
        ({"SeriesInstanceUID": ""}, "no valid SeriesInstanceUID"),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "no pixel that is not padding"),
    ],
    ids=str,
)
def test_what_the_header_says_is_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decoded(dx(**changes))


def test_a_table_that_rises_and_falls_is_refused() -> None:
    assert "rises and falls" in refusal(dx(ModalityLUTSequence=[table(0, 9, 3)])).message


def test_an_object_without_pixels_is_refused() -> None:
    source = dx()
    del source.PixelData
    assert "has no pixels" in refusal(source).message


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_what_is_no_dicom_is_refused(data: bytes) -> None:
    assert "is not a DICOM file" in refusal(data).message


def test_sizes_are_refused_by_the_header_alone() -> None:
    source = dx(Rows=60000, Columns=60000)
    assert "60000x60000 pixels, at most 64000000" in refusal(source).message
    assert "more than the 65535 of DICOM" in refusal(dx(Rows=8, Columns=20000)).message
    assert "more than the 4 GiB" in refusal(dx(Rows=4000, Columns=4000), scale=16).message
    assert "wanted at least 8 a side" in refusal(dx(gradient(12, rows=7))).message
    assert "bytes, at most 100 are read" in refusal(dx(), max_bytes=100).message
    assert "at most 1439" in refusal(dx(), max_pixels=1439).message


def test_pixels_of_another_length_are_refused() -> None:
    for rows, words in ((35, "damaged"), (37, "truncated")):
        assert f"{words} DICOM: 2880 bytes of pixels, wanted {rows * 80}" in refusal(dx(Rows=rows)).message


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, RLE])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(syntax: Any) -> None:
    data = encoded(dx(), syntax)
    for length in range(0, len(data), 13):
        refusal(data[:length])
    assert "damaged" in refusal(data[:-1]).message


def test_a_truncated_file_from_the_world_is_refused() -> None:
    path = wheel_file("MR_truncated.dcm")
    with pytest.raises(
        ImageError, match=r"truncated or damaged DICOM: \(7fe0,0010\) of 8192 bytes, and 8130 are left"
    ):
        read_dicom(path, scale=4)


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    lengths = struct.pack("<HI", 0, size) if vr in (b"SQ", b"UN", b"OB") else struct.pack("<H", size)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + lengths + value


def with_first(elements: bytes) -> bytes:
    """A radiograph whose data set begins with something else."""
    data = encoded(dx())
    start = data.index(b"\x08\x00\x05\x00CS")
    return data[:start] + elements + data[start:]


UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def nested(depth: int, vr: bytes = b"SQ") -> bytes:
    begin = element(0x00081140, vr, b"", length=UNDEFINED) + ITEM
    if vr == b"UN":  # what lies in it is implicit
        inner = struct.pack("<HHI", 0x0008, 0x1140, UNDEFINED) + ITEM
        return begin + inner * (depth - 1) + (ITEM_END + END) * depth
    return begin * depth + (ITEM_END + END) * depth


@pytest.mark.parametrize("vr", [b"SQ", b"UN"])
def test_sequences_are_followed_so_deep_and_no_deeper(vr: bytes) -> None:
    assert decoded(with_first(nested(MAX_DEPTH, vr))).stored.any()
    for depth in (MAX_DEPTH + 1, 30_000):
        assert f"deeper than {MAX_DEPTH}" in refusal(with_first(nested(depth, vr))).message


def test_a_flood_of_elements_is_refused_before_it_fills_the_memory() -> None:
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 30_000
    flood = element(0x00081140, b"SQ", items)
    assert "more than 20000 elements" in refusal(with_first(flood)).message


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        (element(0x00080000, b"UN", b"", length=2**31), "of 2147483648 bytes, and"),
        (element(0x00080001, b"XX", b""), "no value representation"),
        (element(0x00081140, b"SQ", b"\x08\0\x05\0CS\0\0"), "where an item should begin"),
        (element(0x00081140, b"SQ", ITEM + ITEM_END, length=12), "ends within an element"),
        (ITEM_END, "a delimiter that ends nothing"),
        (END, "a delimiter that ends nothing"),
        (element(0x00081140, b"SQ", b"", length=UNDEFINED) + ITEM + END, "a delimiter that ends nothing"),
        (element(0x00081140, b"OB", b"", length=UNDEFINED) + ITEM, "where a fragment should begin"),
    ],
)
def test_lengths_and_delimiters_must_fit(elements: bytes, words: str) -> None:
    assert words in refusal(with_first(elements)).message


def test_rle_that_is_damaged_is_refused() -> None:
    good = pydicom.pixels.get_encoder(RLE).encode(dx(), index=0)
    for frame, words in (
        (good[:40], "has no header"),
        (struct.pack("<I", 3) + good[4:], "RLE with 3 segments"),
        (good[:8] + struct.pack("<I", 10**6) + good[12:], "RLE with 2 segments"),
        (good[:-20], "an RLE segment of"),
        (good[:64] + b"\x81\x00" * 10**6, "RLE with 2 segments|an RLE segment of"),
    ):
        with pytest.raises(ImageError, match=words):
            decoded(encapsulated(frame, RLE))


def encapsulated(frame: bytes, syntax: Any, *, side: int | None = None) -> bytes:
    source = pydicom.dcmread(io.BytesIO(encoded(dx(), RLE)))
    source.Rows, source.Columns = (side, side) if side else (source.Rows, source.Columns)
    source.PixelData = pydicom.encaps.encapsulate([frame])
    source.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, source)
    return buffer.getvalue()


def test_jpeg_2000_that_is_damaged_or_larger_than_the_header_says_is_refused() -> None:
    good = codestream(dx())
    size, sot = struct.pack(">II", 40, 36), good.index(b"\xff\x90\0\x0a")
    for frame, words in (
        (good[:30], "ends within a segment"),
        (b"\0\0\0\x0cjP  " + good, "no JPEG 2000 codestream"),
        (good.replace(size, struct.pack(">II", 60000, 60000), 1), "60000x60000 with 1 components"),
        (good[: len(good) // 2], "ends within a segment"),
        (good[: len(good) // 2] + b"\xff\xd9", "ends within a segment"),
        (good[:-2] + b"\0\0", "or its end"),
        (good[:24] + struct.pack(">II", 20, 36) + good[32:], "lacks 1 of 2 tiles"),
        (good[:24] + struct.pack(">II", 0, 0) + good[32:], "tiles"),
        (good[:24] + struct.pack(">II", 1, 1) + good[32:], "lacks 1439 of 1440 tiles"),
        (good[: sot + 11] + b"\2" + good[sot + 12 :], "lacks 1 of 1 tiles"),
        (good[: sot + 16] + good[-2:], "ends within a segment"),
        (codestream(dx(gradient(15, rows=36), bits=15)), "do not fit in 12 bits"),
    ):
        with pytest.raises(ImageError, match=words):
            decoded(encapsulated(frame, J2K_LOSSLESS))


def test_pixels_that_contradict_the_transfer_syntax_are_refused() -> None:
    data = encoded(dx(), RLE)
    claim = RLE.encode() + b"\0"
    assert "not encoded as" in refusal(data.replace(claim, b"1.2.840.10008.1.2.1\0", 1)).message


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(encoded(dx()))
    for name, words in (
        ("absent", "no such file"),
        ("", "not a regular file"),
        ("pipe", "not a regular file"),
        ("null\0", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=words):
            read_dicom(tmp_path / name, scale=4)


def test_without_pydicom_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(dx())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    error = refusal(data)
    assert "pydicom is needed" in error.message
    assert "edge-sr[dicom]" in error.hint


def test_without_the_jpeg_2000_decoder_the_ways_to_read_it_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(dx(), J2K_LOSSLESS)
    monkeypatch.setitem(sys.modules, "openjpeg", None)
    error = refusal(data)
    assert "decoder is not installed" in error.message
    assert "gdcmconv --raw in.dcm out.dcm" in error.hint
    assert np.array_equal(decoded(encoded(dx(), RLE)).stored, gradient(12))  # which needs none


# ---- small files that would take a decoder hours or gigabytes


def codestream_of(side: int, *, layers: int = 1, precinct: int = 15, marker: int = 0xFF52) -> bytes:
    """A JPEG 2000 codestream of one tile without data, with precincts of 2^precinct pixels a side."""
    size = struct.pack(">H8IHBBB", 0, side, side, 0, 0, side, side, 0, 0, 1, 7, 1, 1)
    coding = struct.pack(">BBHBBBBBB", 1, 0, layers, 0, 0, 4, 4, 0, 1) + bytes([precinct | precinct << 4])
    segments = ((0xFF51, size), (marker, coding), (0xFF5C, b"\x40\x40"))
    head = b"".join(struct.pack(">HH", code, len(body) + 2) + body for code, body in segments)
    return b"\xff\x4f" + head + struct.pack(">HHHIBB", 0xFF90, 10, 0, 14, 0, 1) + b"\xff\x93\xff\xd9"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precinct": 0}, "262144 precincts"),
        ({"layers": 65535, "precinct": 6}, "65535 layers"),
        ({"marker": 0xFF53}, "of a component"),
    ],
)
def test_jpeg_2000_that_asks_for_far_more_than_its_pixels_need_is_refused(
    changes: dict[str, int], said: str
) -> None:
    data = encapsulated(codestream_of(512, **changes), J2K_LOSSLESS, side=512)
    with pytest.raises(ImageError, match=said):
        decoded(data)


def test_rle_full_of_codes_that_mean_nothing_is_refused() -> None:
    flood = struct.pack("<16I", 2, 64, 20_064, *[0] * 13) + b"\x80" * 40_000
    with pytest.raises(ImageError, match="that unpack to"):
        decoded(encapsulated(flood, RLE, side=16))
