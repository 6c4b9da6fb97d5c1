"""What a derived object says of itself, keeps of its source, and leaves out."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pytest

from edge_sr import __version__
from edge_sr.dicom import Record, derive
from edge_sr.errors import ImageError, OutputError
from tests.edge_sr.dicom.objects import (
    BIG,
    FACTS,
    IMPLICIT,
    RECORD,
    RLE,
    ct,
    decoded,
    derived,
    derived_file,
    dx,
    encoded,
    gradient,
    item,
    pydicom,
    repeated,
    table,
)


def record(**changes: Any) -> Record:
    return Record.of(FACTS | changes)


def test_it_is_a_new_instance_of_the_same_class_in_a_new_series_of_the_same_study() -> None:
    source, back = dx(), derived(dx())
    for keyword in ("SOPClassUID", "StudyInstanceUID", "PatientName", "PatientID", "AccessionNumber"):
        assert back[keyword] == source[keyword]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert back[keyword].value != source[keyword].value
        assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", back[keyword].value)
    assert back.SeriesNumber == 9003
    assert back.InstanceNumber == 1


def test_the_file_is_explicit_little_endian_and_names_its_object() -> None:
    for syntax in (IMPLICIT, BIG, RLE):
        back = derived(encoded(dx(), syntax))
        assert back.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID
        assert back.file_meta.MediaStorageSOPClassUID == back.SOPClassUID
        assert back.file_meta.ImplementationVersionName == f"EDGE_SR_{__version__}"[:16]


def test_it_says_that_it_is_derived_from_what_and_by_what() -> None:
    back = derived(ct(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "X"]))
    assert back.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "X"]
    assert coded(back.DerivationCodeSequence) == [("113085", "DCM", "Spatial resampling")]
    (source,) = back.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4.5.6.7"
    assert source.ReferencedSOPClassUID == back.SOPClassUID
    purpose = ("121322", "DCM", "Source image for image processing operation")
    assert coded(source.PurposeOfReferenceCodeSequence) == [purpose]
    (equipment,) = back.ContributingEquipmentSequence
    assert coded(equipment.PurposeOfReferenceCodeSequence) == [("109102", "DCM", "Processing Equipment")]
    assert equipment.ManufacturerModelName == "edge-sr"
    assert equipment.SoftwareVersions == [f"edge-sr {__version__}", "cxr-x4 1", FACTS["bundle_sha256"]]
    assert back.Manufacturer == "Maker"  # of what took the image


def coded(sequence: Any) -> list[tuple[str, str, str]]:
    return [(i.CodeValue, i.CodingSchemeDesignator, i.CodeMeaning) for i in sequence]


def test_the_description_has_bundle_precision_steps_and_seed_and_forbids_diagnosis() -> None:
    back = derived(dx())
    for fact in (FACTS["bundle_sha256"], "cxr-x4 1", "int8", "20 ddim steps", "seed 7", "x4"):
        assert fact in back.DerivationDescription
    assert "Not for diagnosis" in back.DerivationDescription
    assert back.SeriesDescription == "x4 AI-derived, not for diagnosis | Thorax pa"
    assert back.ImageComments.startswith("AI-derived, not for diagnosis")


def test_the_equipment_item_has_every_setting_as_json_as_long_as_it_fits() -> None:
    (equipment,) = derived(dx()).ContributingEquipmentSequence
    mark, _, settings = equipment.ContributionDescription.partition(": ")
    assert mark == "AI-derived, not for diagnosis"
    assert json.loads(settings) == json.loads(RECORD.settings)
    assert json.loads(settings)["preset"] == FACTS["preset"]
    (equipment,) = derived(dx(), record(extra="x" * 1000)).ContributingEquipmentSequence
    assert "seed 7" in equipment.ContributionDescription
    assert len(equipment.ContributionDescription) <= 1024


def test_what_was_said_before_is_kept_as_far_as_there_is_room() -> None:
    old = item(CodeValue="113040", CodingSchemeDesignator="DCM", CodeMeaning="Lossy Compression")
    other = item(Manufacturer="Other", ManufacturerModelName="Denoiser")
    back = derived(
        dx(
            DerivationDescription="before " * 200,
            DerivationCodeSequence=[old],
            ContributingEquipmentSequence=[other],
            SeriesDescription="s" * 64,
            ImageComments="comment",
        )
    )
    assert [c[0] for c in coded(back.DerivationCodeSequence)] == ["113040", "113085"]
    models = [equipment.ManufacturerModelName for equipment in back.ContributingEquipmentSequence]
    assert models == ["Denoiser", "edge-sr"]
    assert len(back.DerivationDescription) <= 1024
    assert "before before" in back.DerivationDescription
    assert len(back.SeriesDescription) == 64
    assert back.ImageComments.endswith("| comment")


def test_the_meaning_of_values_stays_as_it_was() -> None:
    source = dx(
        RescaleSlope="0.684",
        RescaleIntercept="-12.5",
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        VOILUTFunction="SIGMOID",
        VOILUTSequence=[table(0, 4095, bits=12)],
        BurnedInAnnotation="YES",
        PixelPaddingValue=5,
        LossyImageCompression="01",
        LossyImageCompressionRatio="12.5",
    )
    back = derived(source)
    kept = """BitsAllocated BitsStored HighBit PixelRepresentation PhotometricInterpretation RescaleSlope
        RescaleIntercept WindowCenter WindowWidth VOILUTFunction VOILUTSequence PresentationLUTShape
        BurnedInAnnotation PixelPaddingValue LossyImageCompression LossyImageCompressionRatio ContentDate"""
    for keyword in kept.split():
        assert back[keyword] == source[keyword], keyword


def test_what_is_no_longer_true_is_left_out() -> None:
    icon = item(Rows=2, Columns=2, BitsAllocated=8, PixelData=b"\0" * 4)
    source = dx(
        IconImageSequence=[icon],
        SmallestImagePixelValue=0,
        LargestImagePixelValue=4095,
        SmallestPixelValueInSeries=0,
        LargestPixelValueInSeries=4095,
        InstanceCreationDate="20240102",
        InstanceCreationTime="101112",
        InstanceCreatorUID="1.2.3",
        HistogramSequence=[],
        DigitalSignaturesSequence=[],
        DataSetTrailingPadding=b"\0\0",
    )
    back = derived(source)
    gone = """IconImageSequence SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries
        LargestPixelValueInSeries InstanceCreationDate InstanceCreationTime InstanceCreatorUID
        HistogramSequence DigitalSignaturesSequence DataSetTrailingPadding"""
    assert not [keyword for keyword in gone.split() if keyword in back]


def test_an_icon_with_compressed_pixels_of_its_own_does_not_stop_the_reading() -> None:
    icon = item(Rows=2, Columns=2)
    icon.add_new("PixelData", "OB", pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"]))
    icon["PixelData"].is_undefined_length = True
    assert np.array_equal(decoded(dx(IconImageSequence=[icon])).stored, gradient(12))


def test_doing_it_again_gives_the_same_bytes() -> None:
    assert derived_file(decoded(dx())) == derived_file(decoded(dx()))


def test_a_source_makes_any_number_of_objects_and_stays_as_it_is() -> None:
    source = decoded(dx())
    first = derived_file(source)
    derived_file(source, record(seed=8))
    assert derived_file(source) == first


def test_the_transfer_syntax_of_the_source_does_not_change_the_uids() -> None:
    assert derived(encoded(dx(), RLE)).SOPInstanceUID == derived(dx()).SOPInstanceUID


def test_the_class_that_a_model_was_told_is_named() -> None:
    told = derived(dx(), record(**{"class": "pneumonia", "guidance": 2.0})).DerivationDescription
    assert "20 ddim steps told class pneumonia at guidance 2, seed 7" in told
    assert "class" not in derived(dx()).DerivationDescription


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 8},
        {"bundle_sha256": "f" * 64},
        {"precision": "fp16"},
        {"preset": {"steps": 25, "sampler": "ddim", "samples": 1}},
        {"preset": {"steps": 20, "sampler": "ddim", "samples": 4}},
        {"back_projection": "area"},
        {"class": "pneumonia", "guidance": 2.0},
    ],
    ids=str,
)
def test_another_setting_gives_another_instance_and_another_series(changes: dict[str, Any]) -> None:
    one, other = derived(dx()), derived(dx(), record(**changes))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


def test_what_decides_no_pixel_changes_no_uid() -> None:
    again = derived(dx(), record(threads="64", consistency_db=12.0))
    assert again.SOPInstanceUID == derived(dx()).SOPInstanceUID


def test_images_of_one_series_stay_in_one_series() -> None:
    one, other = derived(dx()), derived(dx(SOPInstanceUID="1.2.3.4.5.6.8"))
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    elsewhere = derived(dx(SeriesInstanceUID="1.2.3.4.5.9"))
    assert elsewhere.SeriesInstanceUID != one.SeriesInstanceUID


def test_a_series_and_an_instance_of_the_same_uid_get_two() -> None:
    back = derived(dx(SeriesInstanceUID="1.2.3.4.5.6.7"))
    assert back.SOPInstanceUID != back.SeriesInstanceUID


def test_a_derived_object_is_not_enlarged_again() -> None:
    with pytest.raises(ImageError, match="was made by edge-sr") as refusal:
        decoded(derived_file(decoded(dx())))
    assert "original" in refusal.value.hint


@pytest.mark.parametrize("number", [None, "", "2147483647"])
def test_a_series_number_that_cannot_be_raised_is_left_alone(number: str | None) -> None:
    source = dx(SeriesNumber=number)
    assert str(derived(source).get("SeriesNumber") or "") == (number or "")


def test_pixels_that_do_not_belong_to_the_source_are_refused() -> None:
    source = decoded(dx())
    right = repeated(source.image.pixels)
    wrongs: list[Any] = [right[1:], right.astype(np.uint8), source.image.pixels]
    for wrong in wrongs:
        with pytest.raises(OutputError, match="wanted 16-bit pixels"):
            derive(source, wrong, RECORD)


def test_an_odd_number_of_bytes_is_padded() -> None:
    data = derived_file(decoded(dx(gradient(8, rows=9, columns=11), bits=8), scale=3))
    back = pydicom.dcmread(io.BytesIO(data))
    assert len(back.PixelData) == 9 * 11 * 9 + 1
    assert back["PixelData"].VR == "OB"
