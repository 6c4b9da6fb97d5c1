"""What is stored is what is read, however it was encoded."""

from __future__ import annotations

import importlib.util
import io
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.dicom import is_dicom, read_dicom
from edge_sr.errors import ImageError
from tests.edge_sr.dicom.objects import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K,
    J2K_LOSSLESS,
    RLE,
    codestream,
    ct,
    decoded,
    derived,
    dx,
    encoded,
    gradient,
    item,
    pydicom,
    table,
    wheel_files,
)

HAS_J2K = importlib.util.find_spec("openjpeg") is not None
needs_j2k = pytest.mark.skipif(not HAS_J2K, reason="pylibjpeg-openjpeg is not installed (extra: dicom)")
SYNTAXES = [EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE, pytest.param(J2K_LOSSLESS, marks=needs_j2k)]
every_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)


@every_syntax
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_every_stored_value_is_read_and_comes_back(bits: int, signed: bool, syntax: Any) -> None:
    pixels = gradient(bits, signed=signed)
    source = decoded(encoded(dx(pixels, bits=bits), syntax))
    assert source.stored.dtype == pixels.dtype
    assert np.array_equal(source.stored, pixels)
    back = derived(encoded(dx(pixels, bits=bits), syntax), scale=1)
    assert np.array_equal(back.pixel_array, pixels)


@needs_j2k
def test_lossy_jpeg_2000_is_read_and_said_to_be_lossy() -> None:
    data = encoded(dx(gradient(12), LossyImageCompression=None), J2K)
    assert np.abs(decoded(data).stored.astype(int) - gradient(12)).max() < 8  # a PSNR of 200 dB was asked for
    back = derived(data)
    assert back.LossyImageCompression == "01"
    assert back.LossyImageCompressionMethod == "ISO_15444_1"
    assert float(back.LossyImageCompressionRatio) > 0


@needs_j2k
@pytest.mark.parametrize("signed", [False, True])
def test_a_codestream_that_contradicts_its_header_on_the_sign_is_read_by_the_header(signed: bool) -> None:
    pixels = gradient(12, signed=signed)
    bits = pixels.view("<u2") & 0x0FFF
    others = bits if signed else ((bits << 4).view("<i2") >> 4)
    file = pydicom.dcmread(io.BytesIO(encoded(dx(pixels), J2K_LOSSLESS)))
    file.PixelData = pydicom.encaps.encapsulate([codestream(dx(others))])
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    assert np.array_equal(decoded(buffer.getvalue()).stored, pixels)


@every_syntax
def test_the_rest_of_the_header_stays_as_it_was(syntax: Any) -> None:
    soft = table(*range(0, 160, 10), LUTExplanation="soft")
    source = dx(PixelPaddingValue=0, VOILUTSequence=[soft], AcquisitionDeviceProcessingDescription="a")
    source.add_new("RedPaletteColorLookupTableData", "OW", b"\x01\x02\x03\x04")
    plain, read = derived(encoded(source)), derived(encoded(source, syntax))
    del plain.PixelData, read.PixelData
    assert list(plain.keys()) == list(read.keys())
    entries = read.VOILUTSequence[0].pop("LUTData").value
    del plain.VOILUTSequence[0].LUTData
    for element in plain:
        assert read[element.tag] == element
    if isinstance(entries, bytes):  # Implicit VR does not say that they are numbers
        entries = np.frombuffer(entries, "<u2").tolist()
    assert entries == list(range(0, 160, 10))


def test_text_goes_through_byte_for_byte_even_where_its_character_set_does_not_fit() -> None:
    source = dx(PatientName="marked", SpecificCharacterSet="ISO_IR 192")  # UTF-8, which those bytes are not
    for syntax in (EXPLICIT, IMPLICIT):
        data = encoded(source, syntax).replace(b"marked", b"\xd4\xff^\x80\xfe ")
        assert derived(data).get_item("PatientName").value == b"\xd4\xff^\x80\xfe "


def test_a_value_of_odd_length_is_padded_as_its_kind_is() -> None:
    data = encoded(dx(StationName="marked")).replace(b"SH\6\0marked", b"SH\5\0marke")
    assert derived(data).get_item("StationName").value == b"marke "
    data = encoded(dx(FrameOfReferenceUID="1.2.33")).replace(b"UI\6\x001.2.33", b"UI\5\x001.2.3")
    assert derived(data).get_item("FrameOfReferenceUID").value == b"1.2.3\0"


def test_a_frame_in_several_fragments_is_put_together() -> None:
    file = pydicom.dcmread(io.BytesIO(encoded(dx(), RLE)))
    frame = next(pydicom.encaps.generate_frames(file.PixelData, number_of_frames=1))
    file.PixelData = pydicom.encaps.encapsulate([frame], fragments_per_frame=3)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    assert np.array_equal(decoded(buffer.getvalue()).stored, gradient(12))


@pytest.mark.parametrize("signed", [False, True])
def test_what_lies_in_unused_bits_is_no_part_of_a_value(signed: bool) -> None:
    pixels = gradient(12, signed=signed)
    dirty = (pixels.view("<u2") & 0x0FFF) | 0xA000
    assert np.array_equal(decoded(dx(dirty.view(pixels.dtype))).stored, pixels)


def test_larger_values_are_brighter_in_the_picture_whatever_the_header_means() -> None:
    falling = item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US")
    falling.add_new(0x00283006, "OW", np.arange(4096, dtype="<u2")[::-1].tobytes())
    pictures = {
        "plain": decoded(dx()),
        "white at zero": decoded(dx(PhotometricInterpretation="MONOCHROME1")),
        "falling slope": decoded(dx(RescaleSlope="-2")),
        "both": decoded(dx(PhotometricInterpretation="MONOCHROME1", RescaleSlope="-2")),
        "falling table": decoded(dx(ModalityLUTSequence=[falling], RescaleSlope=None)),
    }
    rises = {name: bool(p.image.pixels[0, 0] < p.image.pixels[-1, -1]) for name, p in pictures.items()}
    expected = {"plain": True, "white at zero": False, "falling slope": False, "both": True}
    assert rises == expected | {"falling table": False}
    for name, picture in pictures.items():
        assert bool(picture.image.notices) != rises[name]


def test_eight_bits_are_the_same_picture_as_a_png_of_them() -> None:
    pixels = gradient(8)[5:15]
    assert np.array_equal(decoded(dx(pixels, bits=8)).image.pixels, pixels.astype(np.uint16) * 257)


def test_a_file_is_told_by_its_signature_and_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.write_bytes(encoded(dx()))
    assert is_dicom(path.read_bytes()[:132])
    assert not is_dicom(b"\x89PNG")
    source = read_dicom(path, scale=4)
    assert source.image.name == str(path)
    assert source.image.format == "DICOM"
    assert source.image.pixels.dtype == np.uint16


def test_values_padded_for_their_sign_are_understood() -> None:
    """-2000 was written as an unsigned number by more than one maker."""
    pixels = gradient(16, signed=True)
    pixels[:4] = -2000
    source = ct(BitsStored=16, HighBit=15)
    source.PixelData = pixels.tobytes()
    source.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert decoded(source).values.padding == (-2000, -2000)


def test_private_elements_are_counted_and_left_out_at_every_depth() -> None:
    source = dx()
    inner = item(CodeMeaning="kept")
    for dataset in (source, inner):
        dataset.private_block(0x0011, "MAKER", create=True).add_new(1, "SQ", [item(CodeMeaning="secret")])
    source.ProcedureCodeSequence = [inner]
    for syntax in (EXPLICIT, IMPLICIT):
        data = encoded(source, syntax)
        back = derived(data)
        assert not [e for e in back.iterall() if e.tag.is_private]
        assert back.ProcedureCodeSequence[0].CodeMeaning == "kept"
        assert any("private" in notice for notice in decoded(data).image.notices)


@pytest.mark.parametrize("largest", [300_000, pytest.param(2**30, marks=pytest.mark.slow)])
def test_real_files_are_read_as_pydicom_reads_them(largest: int) -> None:
    read = 0
    for path in (path for path in wheel_files() if path.stat().st_size < largest):
        try:
            source = read_dicom(path, scale=2)
        except ImageError:
            continue
        read += 1
        theirs = pydicom.dcmread(path)
        assert np.array_equal(source.stored, theirs.pixel_array), path
        for keyword in ("PatientName", "WindowCenter", "RescaleSlope", "StudyDate", "StudyInstanceUID"):
            assert source.header.get(keyword) == theirs.get(keyword), path
    assert read >= 48  # and more with pydicom-data and with the decoder of JPEG 2000


def test_a_deflated_file_is_inflated_no_further_than_the_limit() -> None:
    bomb = zlib.compressobj(wbits=-15)
    squeezed = bomb.compress(bytes(2**24)) + bomb.flush()
    head = encoded(dx(), DEFLATED)
    meta_end = 132 + 12 + int.from_bytes(head[140:144], "little")
    tracemalloc.start()
    with pytest.raises(ImageError, match="inflates to more than 1048576 bytes"):
        decoded(head[:meta_end] + squeezed, max_bytes=2**20)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**23  # of the 2**24 that it would be
    with pytest.raises(ImageError, match="deflated data set has no end"):
        decoded(head[:-10])
