"""Random and damaged files are read or refused, and nothing else happens."""

from __future__ import annotations

import importlib.util
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_sr.dicom import Source
from edge_sr.dicom.parsing import MAX_DEPTH, parse
from edge_sr.dicom.part10 import SYNTAXES
from edge_sr.errors import ImageError, OutputError
from tests.edge_sr.dicom.objects import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K_LOSSLESS,
    RLE,
    ct,
    decoded,
    derived_file,
    dx,
    encoded,
    item,
)

fuzzed = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def rich(**changes: Any) -> Any:
    """An object with a bit of everything that is read."""
    source = ct(
        PixelPaddingValue=-2000,
        ShutterLeftVerticalEdge=3,
        VerticesOfThePolygonalShutter=[2, 3, 2, 20, 18, 11],
        RequestAttributesSequence=[item(ScheduledProcedureStepID="1")],
        **changes,
    )
    source.add_new(0x60000010, "US", 4)
    source.add_new(0x60000011, "US", 4)
    source.add_new(0x60003000, "OW", b"\x5a\xa5")
    return source


HAS_J2K = importlib.util.find_spec("openjpeg") is not None
SEEDS = [encoded(rich(), syntax) for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE)]
SEEDS += [encoded(dx(), J2K_LOSSLESS)] if HAS_J2K else []


def read_or_refused(data: bytes) -> Source | None:
    """The source, with limits that keep an example fast."""
    try:
        source = decoded(data, scale=2, max_pixels=10_000)
    except ImageError as error:
        assert error.message.startswith("scan.dcm: ")
        return None
    assert source.image.pixels.dtype == np.uint16
    assert source.image.pixels.shape == source.stored.shape
    return source


@fuzzed
@given(st.binary(max_size=300), st.sampled_from(SEEDS))
def test_random_data_sets_are_refused(data: bytes, seed: bytes) -> None:
    start = seed.index(b"DICM") + 16 + struct.unpack_from("<I", seed, 140)[0]
    assert read_or_refused(seed[:start] + data) is None


@fuzzed
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)),
        min_size=1,
        max_size=5,
    ),
)
def test_a_mutated_file_gives_an_object_or_an_error_and_nothing_else(
    seed: bytes, changes: list[tuple[float, bytes]]
) -> None:
    data = bytearray(seed)
    for place, change in changes:
        at = 132 + int(place**2 * (len(data) - 132 - len(change)))  # headers more often than pixels
        data[at : at + len(change)] = change
    if (source := read_or_refused(bytes(data))) is not None:
        try:
            assert decoded_again(derived_file(source))
        except OutputError as error:
            assert error.message.startswith("scan.dcm: ")


def decoded_again(data: bytes) -> bool:
    """Whether what was written is read again, but for having been made here."""
    with pytest.raises(ImageError, match="was made by edge-sr"):
        decoded(data, max_pixels=40_000)
    return True


@fuzzed
@given(
    seed=st.sampled_from(SEEDS[:3]),
    at=st.integers(0, 2000),
    length=st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]),
)
def test_a_changed_length_is_noticed_or_harmless(seed: bytes, at: int, length: int) -> None:
    data = bytearray(seed)
    struct.pack_into("<I", data, 132 + at % (len(data) - 136), length)
    read_or_refused(bytes(data))


TOKENS = st.sampled_from(
    [
        struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF),
        struct.pack("<HHI", 0xFFFE, 0xE000, 8),
        struct.pack("<HHI", 0xFFFE, 0xE00D, 0),
        struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff",
        b"\x08\0\x40\x11SQ\0\0\x10\0\0\0",
        b"\x08\0\x40\x11UN\0\0\xff\xff\xff\xff",
        b"\x09\0\x10\0LO\x02\0AB",
        b"\x10\0\x10\0PN\x02\0AB",
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff",
    ]
)


@fuzzed
@given(st.lists(TOKENS, max_size=60), st.sampled_from(list(SYNTAXES.values())))
@example(
    [b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)] * 20,
    SYNTAXES[EXPLICIT],
)
def test_any_order_of_sequences_and_delimiters_ends(tokens: list[bytes], syntax: Any) -> None:
    try:
        parsed = parse(b"".join(tokens), syntax)
    except ImageError:
        return
    assert depth(parsed.dataset) <= MAX_DEPTH


def depth(dataset: Any) -> int:
    return max((1 + depth(i) for e in dataset if e.VR == "SQ" for i in e.value), default=0)
