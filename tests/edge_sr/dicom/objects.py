"""DICOM objects to read: made by hand, and those that the wheels of pydicom and pydicom-data carry."""

from __future__ import annotations

import importlib.util
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sr.dicom import Record, Source, decode_dicom, derive
from edge_sr.image import Limits

pydicom: Any = pytest.importorskip("pydicom", reason="pydicom is not installed (extra: dicom)")

Pixels = NDArray[Any]
SCALE = 4
ROWS, COLUMNS = 36, 40  # JPEG 2000 is not written below 32
EXPLICIT, IMPLICIT = pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian
BIG, DEFLATED = pydicom.uid.ExplicitVRBigEndian, pydicom.uid.DeflatedExplicitVRLittleEndian
RLE, J2K, J2K_LOSSLESS = pydicom.uid.RLELossless, pydicom.uid.JPEG2000, pydicom.uid.JPEG2000Lossless

FACTS: dict[str, Any] = {
    "bundle": "cxr-x4 1",
    "bundle_sha256": "0123456789abcdef" * 4,
    "precision": "int8",
    "seed": 7,
    "preset": {"steps": 20, "sampler": "ddim", "samples": 1},
    "scale": SCALE,
    "consistency_db": 41.5,
    "threads": "2",
}
RECORD = Record.of(FACTS)


def gradient(bits: int = 12, *, signed: bool = False, rows: int = ROWS, columns: int = COLUMNS) -> Pixels:
    """Every pixel another value, over the whole stored range, and asymmetric."""
    least = -(2 ** (bits - 1)) if signed else 0
    kind = f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    values = np.linspace(least, least + 2**bits - 1, rows * columns).reshape(rows, columns)
    return np.rint(values).astype(kind)


_DX: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["ORIGINAL", "PRIMARY", ""],
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "SOPInstanceUID": "1.2.3.4.5.6.7",
    "StudyDate": "20240102",
    "ContentDate": "20240102",
    "AcquisitionDate": "20240102",
    "StudyTime": "101112",
    "ContentTime": "101112",
    "AcquisitionTime": "101112",
    "AccessionNumber": "A1",
    "Modality": "DX",
    "PresentationIntentType": "FOR PRESENTATION",
    "Manufacturer": "Maker",
    "ManufacturerModelName": "Detector",
    "SoftwareVersions": "1",
    "DeviceSerialNumber": "1",
    "ReferringPhysicianName": "Referrer^Some",
    "SeriesDescription": "Thorax pa",
    "PatientName": "Doe^Jane",
    "PatientID": "P1",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "BodyPartExamined": "CHEST",
    "DetectorType": "DIRECT",
    "DetectorTemperature": "20",
    "ImagerPixelSpacing": ["0.143", "0.139"],
    "PositionerType": "NONE",
    "StudyInstanceUID": "1.2.3.4.5",
    "SeriesInstanceUID": "1.2.3.4.5.6",
    "StudyID": "S1",
    "SeriesNumber": "3",
    "InstanceNumber": "1",
    "PatientOrientation": ["L", "F"],
    "ImageLaterality": "U",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelIntensityRelationship": "LIN",
    "PixelIntensityRelationshipSign": 1,
    "RescaleIntercept": "0",
    "RescaleSlope": "1",
    "RescaleType": "US",
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
    "WindowCenter": ["2000", "1500"],
    "WindowWidth": ["3000", "1000"],
}


def code(value: str, meaning: str, scheme: str = "SCT") -> Any:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def item(**elements: Any) -> Any:
    """A data set of these elements, valid or not; those whose value is None are left out."""
    dataset = pydicom.Dataset()
    with pydicom.config.disable_value_validation():
        for keyword, value in elements.items():
            if value is not None:
                setattr(dataset, keyword, value)
    return dataset


def table(*entries: int, bits: int = 16, **elements: Any) -> Any:
    """A lookup table that begins at zero."""
    dataset = item(LUTDescriptor=[len(entries), 0, bits], **elements)
    dataset.add_new("LUTData", "US", list(entries))
    return dataset


def dx(pixels: Pixels | None = None, *, bits: int = 12, **changes: Any) -> Any:
    """A digital chest radiograph for presentation; a change to None takes the element out."""
    pixels = gradient(bits) if pixels is None else pixels
    dataset = item(**{**_DX, **_format(pixels, bits), **changes})
    dataset.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", pixels.tobytes())
    return dataset


def _format(pixels: Pixels, bits: int) -> dict[str, Any]:
    return {
        "AnatomicRegionSequence": [code("51185008", "Chest")],
        "ViewCodeSequence": [code("399348003", "postero-anterior")],
        "AcquisitionContextSequence": [],
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }


def ct(**changes: Any) -> Any:
    """The same as a slice with a position in the patient, and signed values."""
    geometry = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ImagePositionPatient": ["-100.5", "-120", "33.25"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "PixelSpacing": ["0.5", "0.25"],
        "ImagerPixelSpacing": None,
    }
    return dx(gradient(12, signed=True), **geometry | changes)


def encoded(dataset: Any, syntax: Any = EXPLICIT) -> bytes:
    """The dataset as a file, valid or not, its words swapped or its pixels compressed where they must be."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(_written(dataset, EXPLICIT)))
        if syntax == RLE:
            dataset.compress(syntax, generate_instance_uid=False)
        if syntax in (J2K, J2K_LOSSLESS):
            dataset.PixelData = pydicom.encaps.encapsulate([codestream(dataset, is_lossy=syntax == J2K)])
            dataset["PixelData"].VR = "OB"
        if syntax == BIG:
            for element in dataset.iterall():
                if element.VR == "OW":
                    element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
        return _written(dataset, syntax)


def _written(dataset: Any, syntax: Any) -> bytes:
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"  # overwritten by the object's, where it has one
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def codestream(dataset: Any, *, is_lossy: bool = False) -> bytes:
    """The pixels as JPEG 2000, lossy by no more than shows in the last bits."""
    openjpeg = pytest.importorskip("openjpeg", reason="pylibjpeg-openjpeg is not installed (extra: dicom)")
    ratios = {"signal_noise_ratios": [80]} if is_lossy else {}
    kind = f"<{'ui'[dataset.PixelRepresentation]}{dataset.BitsAllocated // 8}"
    pixels = np.frombuffer(dataset.PixelData, kind, dataset.Rows * dataset.Columns)
    stream: bytes = openjpeg.encode(
        pixels.reshape(dataset.Rows, dataset.Columns),
        bits_stored=dataset.BitsStored,
        photometric_interpretation=2,
        **ratios,
    )
    return stream


def decoded(data: bytes | Any, *, scale: int = SCALE, **limits: int) -> Source:
    """What is read from a file, or from a dataset written to one."""
    data = data if isinstance(data, bytes) else encoded(data)
    return decode_dicom(data, name="scan.dcm", scale=scale, limits=Limits(**limits))


def repeated(pixels: Pixels, scale: int = SCALE) -> Pixels:
    """What a model would make that changes nothing."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def derived_file(source: Source, record: Record = RECORD) -> bytes:
    """The derived object of a model that changes nothing."""
    return derive(source, repeated(source.image.pixels, source.scale), record)


def derived(data: bytes | Any, record: Record = RECORD, *, scale: int = SCALE) -> Any:
    """The same from a file or a dataset, as pydicom reads it."""
    return pydicom.dcmread(io.BytesIO(derived_file(decoded(data, scale=scale), record)))


def wheel_files() -> list[Path]:
    """All files that pydicom and pydicom-data carry for tests, in order."""
    folders = [Path(pydicom.__file__).parent / "data"]
    data = importlib.util.find_spec("data_store")  # pydicom-data
    folders += [Path(place) for place in (data.submodule_search_locations or ())] if data else []
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def wheel_file(name: str) -> Path:
    """One of them; the test is skipped where pydicom-data is not installed."""
    for path in wheel_files():
        if path.name == name:
            return path
    pytest.skip(f"{name} is not here: pydicom-data carries it")
