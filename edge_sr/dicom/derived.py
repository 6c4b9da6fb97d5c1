"""The header of a derived object (PS3.3, C.7.6.1.1.2 to C.7.6.1.1.4, and C.12.1), and the file."""

from __future__ import annotations

import io
from typing import Any

from edge_sr import __version__
from edge_sr.dicom.geometry import enlarge_geometry
from edge_sr.dicom.header import Identity
from edge_sr.dicom.identity import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    MODEL_NAME,
    Record,
    derived_uid,
)
from edge_sr.dicom.library import pydicom
from edge_sr.dicom.overlays import enlarge_overlays
from edge_sr.dicom.part10 import EXPLICIT_LITTLE

__all__ = ["add_origin", "encode", "enlarge_header", "state_lossy"]

_MARK = "AI-derived, not for diagnosis"
_RESAMPLING = ("113085", "DCM", "Spatial resampling")
_SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
_PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")
_SERIES_NUMBERS = 9000  # how far the numbers of derived series lie above those of their sources

# What is no longer true of the enlarged pixels, or was said of the source as a file.
_LEFT_OUT = (
    "DataSetTrailingPadding",
    "DigitalSignaturesSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "HistogramSequence",
    "IconImageSequence",
    "ImagePosition",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "LargestImagePixelValue",
    "LargestImagePixelValueInPlane",
    "LargestPixelValueInSeries",
    "MACParametersSequence",
    "PixelDataProviderURL",
    "ReferencedPerformedProcedureStepSequence",
    "SmallestImagePixelValue",
    "SmallestImagePixelValueInPlane",
    "SmallestPixelValueInSeries",
)


def enlarge_header(header: Any, scale: int) -> None:
    """Makes a header, in place, that of the enlarged pixels: all that does not depend on what made them.

    Raises:
        ImageError: Its geometry or an overlay cannot be enlarged.
    """
    for keyword in _LEFT_OUT:
        if keyword in header:
            del header[keyword]
    enlarge_overlays(header, scale)
    enlarge_geometry(header, scale)
    kind = header.get("ImageType") or []
    kept = [] if isinstance(kind, str) else [str(value) for value in kind][2:]
    header.ImageType = ["DERIVED", "SECONDARY", *kept]


def state_lossy(header: Any, *, compressed_bytes: int, pixel_bytes: int) -> None:
    """Says that pixels which came as JPEG 2000 were compressed with loss, where their header says nothing.

    The codestream does not tell: one with the reversible wavelet may have been cut short.

    Args:
        header: Changed in place.
        compressed_bytes: What the pixels took in the source.
        pixel_bytes: What they take uncompressed.
    """
    if header.get("LossyImageCompression"):
        return
    header.LossyImageCompression = "01"
    header.LossyImageCompressionRatio = f"{pixel_bytes / max(1, compressed_bytes):.3f}"
    header.LossyImageCompressionMethod = "ISO_15444_1"


def add_origin(header: Any, identity: Identity, record: Record, scale: int) -> None:
    """Says in a header, in place, what it is derived from and by what."""
    header.SOPInstanceUID = derived_uid("instance", identity.instance, record)
    header.SeriesInstanceUID = derived_uid("series", identity.series, record)
    number = header.get("SeriesNumber")
    if number is not None and abs(int(number)) < 2**31 - _SERIES_NUMBERS:
        header.SeriesNumber = int(number) + _SERIES_NUMBERS
    header.SeriesDescription = _joined(f"x{scale} {_MARK}", header.get("SeriesDescription"), 64)
    header.ImageComments = _joined(f"{_MARK}.", header.get("ImageComments"), 10240)
    description = _description(record, scale)
    header.DerivationDescription = _joined(description, header.get("DerivationDescription"), 1024)
    _append(header, "DerivationCodeSequence", _code(*_RESAMPLING))
    header.SourceImageSequence = pydicom().Sequence([_source_item(identity)])
    _append(header, "ContributingEquipmentSequence", _equipment_item(record, description))


def _description(record: Record, scale: int) -> str:
    how = f"{record.loop}, seed {record.seed}" if record.loop else "one pass of a regression network"
    return (
        f"AI super-resolution x{scale} by {'diffusion' if record.loop else 'regression'}: "
        f"{MODEL_NAME} {__version__}, bundle {record.bundle} (sha256 {record.bundle_sha256}), "
        f"precision {record.precision}, {how}. "
        "Detail above the resolution of the source is generated. "
        "Research use only. Not for diagnosis."
    )


def _joined(own: str, before: Any, length: int) -> str:
    """Our text, then what was there, as far as the value representation allows."""
    texts = [before] if before is None or isinstance(before, str) else list(before)
    return " | ".join([own, *(str(text) for text in texts if text)])[:length].rstrip()


def _append(header: Any, keyword: str, item: Any) -> None:
    setattr(header, keyword, pydicom().Sequence([*(header.get(keyword) or ()), item]))


def _item(**elements: Any) -> Any:
    item = pydicom().Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str, meaning: str) -> Any:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _source_item(identity: Identity) -> Any:
    return _item(
        ReferencedSOPClassUID=identity.sop_class,
        ReferencedSOPInstanceUID=identity.instance,
        SpatialLocationsPreserved="YES",
        PurposeOfReferenceCodeSequence=pydicom().Sequence([_code(*_SOURCE_IMAGE)]),
    )


def _equipment_item(record: Record, description: str) -> Any:
    settings = f"{_MARK}: {record.settings}"
    return _item(
        Manufacturer=f"{MODEL_NAME} contributors",
        ManufacturerModelName=MODEL_NAME,
        SoftwareVersions=[f"{MODEL_NAME} {__version__}", record.bundle[:64], record.bundle_sha256],
        ContributionDescription=settings if len(settings) <= 1024 else description,
        PurposeOfReferenceCodeSequence=pydicom().Sequence([_code(*_PROCESSING_EQUIPMENT)]),
    )


def encode(header: Any, pixels: bytes, bits_allocated: int) -> bytes:
    """The file, in Explicit VR Little Endian. The same header and pixels give the same bytes.

    Args:
        header: The complete header.
        pixels: Little endian.
        bits_allocated: 8 or 16.
    """
    library = pydicom()
    vr = "OB" if bits_allocated == 8 else "OW"
    header.PixelData = pixels + b"\0" * (len(pixels) % 2)
    header["PixelData"].VR = vr
    header.file_meta = library.dataset.FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE
    header.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    header.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    buffer = io.BytesIO()
    library.dcmwrite(buffer, header, enforce_file_format=True)
    return buffer.getvalue()
