"""A DICOM file as a picture to enlarge, and the enlarged picture as a DICOM file."""

from __future__ import annotations

import copy
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sr.dicom.derived import add_origin, encode, enlarge_header, state_lossy
from edge_sr.dicom.frames import stored_values
from edge_sr.dicom.header import Identity, PixelFormat, read_format, read_identity
from edge_sr.dicom.identity import Record
from edge_sr.dicom.library import guarded
from edge_sr.dicom.parsing import Parsed, parse
from edge_sr.dicom.part10 import J2K_ANY, Part10, open_part10
from edge_sr.dicom.values import ValueMap, fit
from edge_sr.errors import ImageError, OutputError
from edge_sr.image import Limits, LoadedImage

__all__ = ["Source", "decode_dicom", "derive", "read_dicom"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A DICOM image that was read, checked, and found fit to be enlarged.

    Its representation says nothing that is in the file.

    Attributes:
        image: What the model enlarges: 16-bit gray, black at zero whatever the photometric interpretation.
        scale: How many times larger the derived image will be.
        header: pydicom data set for the enlarged pixels, without them; not to be changed.
        stored: (rows, columns), the values as stored.
        values: How the image's gray came from them.
        identity: The source's UIDs.
    """

    image: LoadedImage = field(repr=False)
    scale: int
    header: Any = field(repr=False)
    stored: NDArray[Any] = field(repr=False)
    values: ValueMap = field(repr=False)
    identity: Identity = field(repr=False)


def read_dicom(path: str | Path, *, scale: int, limits: Limits | None = None) -> Source:
    """Reads a DICOM file.

    Args:
        path: A regular file.
        scale: How many times larger the derived image will be.
        limits: What it may be; the defaults of `Limits` where None.

    Raises:
        ImageError: The file is missing, not a file, cannot be read, or is refused by `decode_dicom`.
    """
    limits = limits or Limits()
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: is not a regular file, wanted a DICOM file")
        if status.st_size > limits.max_bytes:
            raise ImageError(f"{path}: {status.st_size} bytes, at most {limits.max_bytes} are read")
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file", hint="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return decode_dicom(data, name=str(path), scale=scale, limits=limits)


def decode_dicom(data: bytes, *, name: str, scale: int, limits: Limits | None = None) -> Source:
    """Decodes a DICOM file from memory, and prepares all of the derived object that is known by now.

    No message quotes a value that could identify a patient.

    Args:
        data: The whole file.
        name: What to call it in messages.
        scale: How many times larger the derived image will be.
        limits: What it may be; the defaults of `Limits` where None.

    Raises:
        ImageError: The data is not DICOM, too large, truncated, damaged, or of a kind that is not enlarged:
            see docs/dicom-conformance.md; or pydicom, or the decoder that it needs, is not installed.
    """
    limits = limits or Limits()
    try:
        if len(data) > limits.max_bytes:
            raise ImageError(f"{len(data)} bytes, at most {limits.max_bytes} are read")
        file = open_part10(data, max_bytes=limits.max_bytes)
        parsed = guarded("its data set cannot be read", lambda: parse(file.body, file.syntax))
        return guarded("its header cannot be read", lambda: _prepared(file, parsed, name, scale, limits))
    except ImageError as error:
        raise ImageError(f"{name}: {error.message}", hint=error.hint) from error


def _prepared(file: Part10, parsed: Parsed, name: str, scale: int, limits: Limits) -> Source:
    dataset = parsed.dataset
    identity = read_identity(dataset)
    if parsed.pixels is None:
        raise ImageError("has no pixels")
    form = read_format(dataset, scale=scale, limits=limits)
    enlarge_header(dataset, scale)
    stored = stored_values(file.body, parsed.pixels, file.syntax, form)
    if file.uid == J2K_ANY:
        compressed = sum(end - start for start, end in parsed.pixels.parts)
        state_lossy(dataset, compressed_bytes=compressed, pixel_bytes=stored.nbytes)
    values = fit(stored, form)
    image = LoadedImage(values.to_gray(stored), name, "DICOM", _notices(form, parsed))
    return Source(image, scale, dataset, stored, values, identity)


def _notices(form: PixelFormat, parsed: Parsed) -> tuple[str, ...]:
    notices = []
    if form.is_inverted:
        notices.append("larger stored values are darker: inverted for the model, and back in DICOM")
    if parsed.private_elements:
        notices.append(f"{parsed.private_elements} private elements do not go into a derived object")
    return tuple(notices)


def derive(source: Source, pixels: NDArray[np.uint16], record: Record) -> bytes:
    """Makes the derived object.

    Args:
        source: What was enlarged.
        pixels: (rows * scale, columns * scale), what the model made of `source.image`.
        record: What made them.

    Returns:
        The file. The same source, pixels and record give the same bytes.

    Raises:
        OutputError: The pixels are of another shape or type, or the object cannot be written.
    """
    wanted = tuple(side * source.scale for side in source.stored.shape)
    if pixels.shape != wanted or pixels.dtype != np.uint16:
        raise OutputError(f"wanted 16-bit pixels of {wanted}, got {pixels.dtype} of {pixels.shape}")
    try:
        return guarded("the derived object cannot be written", lambda: _derived(source, pixels, record))
    except ImageError as error:
        raise OutputError(f"{source.image.name}: {error.message}", hint=error.hint) from error


def _derived(source: Source, pixels: NDArray[np.uint16], record: Record) -> bytes:
    header = copy.deepcopy(source.header)
    add_origin(header, source.identity, record, source.scale)
    stored = source.values.restore(pixels, source.stored, source.scale)
    return encode(header, stored.tobytes(), 8 * stored.dtype.itemsize)
