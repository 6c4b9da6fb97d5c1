"""A data set is made of a folder and a table: each patient on one side, pairs as the task wants them."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sr.errors import ConfigError, OutputError, UsageError
from export.data import load_folder, load_pairs, plain_pair
from export.prepare import SIDES, Report, parse_shares, prepare_dataset, split_patients
from tests.export.tiny import original

NIH = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,Width"
EQUAL = {"train": 34.0, "val": 33.0, "test": 33.0}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Originals of nine patients, spread over folders as NIH does it, four of them amiss."""
    folder = tmp_path_factory.mktemp("nih")
    for index in range(9):
        place = folder / f"images_{index % 2:03d}" / "images"
        place.mkdir(parents=True, exist_ok=True)
        image = original(index, height=600 if index % 3 else 1024, width=700)
        cv2.imwrite(str(place / f"{index:08d}_000.png"), image)
    _, coded = cv2.imencode(".jpg", original(0))
    (folder / "half.jpg").write_bytes(coded.tobytes()[: len(coded) // 2])
    (folder / "empty.png").write_bytes(b"")
    cv2.imwrite(str(folder / "small.png"), original(0, height=200, width=300))
    cv2.imwrite(str(folder / "unlisted.png"), original(0))
    return folder


@pytest.fixture(scope="module")
def table(images: Path) -> Path:
    """The table of NIH, with a lateral view, and an image that is not there."""
    path = images.parent / f"{images.name}.csv"
    rows = [
        f"{i:08d}_000.png,Mass|Nodule,0,{i // 2},{40 + i},F,{'AP' if i == 8 else 'PA'},700" for i in range(9)
    ]
    rows += [
        f"{name},No Finding,0,{p},9,M,PA,1"
        for p, name in ((0, "half.jpg"), (1, "empty.png"), (2, "small.png"))
    ]
    path.write_text(
        "\n".join([NIH, *rows, "absent.png,No Finding,0,77,1,M,PA,1"]) + "\n", encoding="utf-8-sig"
    )
    return path


@pytest.fixture(scope="module")
def out(images: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared") / "cxr"


@pytest.fixture(scope="module")
def report(images: Path, table: Path, out: Path) -> Report:
    return prepare_dataset(images, table, out, shares=EQUAL, seed=3)


def index(out: Path) -> list[dict[str, str]]:
    with (out / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_no_patient_is_on_two_sides(report: Report, out: Path) -> None:
    rows = index(out)
    sides = {(row["patient_id"], row["split"]) for row in rows}
    assert len(sides) == len({patient for patient, _ in sides}) == 4
    assert {side for _, side in sides} == set(SIDES)
    assert Counter(row["split"] for row in rows) == report.images


def test_only_the_wanted_views_are_kept_and_the_index_says_what_is_known(report: Report, out: Path) -> None:
    rows = {row["original"]: row for row in index(out)}
    assert sorted(rows) == [f"{i:08d}_000.png" for i in range(8)]
    row = rows["00000003_000.png"]
    known = [row[name] for name in ("patient_id", "view", "age", "sex", "finding_labels")]
    assert known == ["1", "PA", "43", "F", "Mass|Nodule"]
    assert all((out / row["file"]).is_file() for row in rows.values())


def test_damaged_and_small_images_are_left_out_and_named_with_the_reason(report: Report, out: Path) -> None:
    assert sorted(report.left_out) == ["empty.png", "half.jpg", "small.png"]
    assert report.left_out["empty.png"] == "the file is empty"
    assert "300x200" in report.left_out["small.png"]
    assert report.absent == 1
    with (out / "left_out.csv").open(newline="") as file:
        assert {row["original"]: row["reason"] for row in csv.DictReader(file)} == report.left_out


def test_pairs_are_made_straight_from_the_original(report: Report, images: Path, out: Path) -> None:
    for row in index(out):
        if row["split"] == "train":
            continue
        (path,) = images.rglob(row["original"])
        hr, lr = plain_pair(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8))
        written = out / row["file"]
        for image, file in ((hr, written), (lr, written.parents[1] / "lr_64" / written.name)):
            assert np.array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), image)


def test_training_images_are_reduced_to_512_on_the_shorter_side_and_keep_their_proportions(
    report: Report, images: Path, out: Path
) -> None:
    rows = [row for row in index(out) if row["split"] == "train"]
    assert rows
    for row in rows:
        (path,) = images.rglob(row["original"])
        height, width = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).shape
        image = cv2.imread(str(out / row["file"]), cv2.IMREAD_UNCHANGED)
        assert min(image.shape) == 512
        assert image.shape[0] / image.shape[1] == pytest.approx(height / width, abs=0.002)


def test_what_is_made_can_be_trained_on(report: Report, out: Path) -> None:
    assert len(load_folder(out / "train", views=frozenset({"PA"}))) == report.images["train"]
    assert len(load_pairs(out / "val")[2]) == report.images["val"]


def test_the_originals_are_untouched_and_the_same_command_makes_the_same_files(
    report: Report, images: Path, table: Path, out: Path, tmp_path: Path
) -> None:
    before = digest(images)
    assert prepare_dataset(images, table, tmp_path / "again", shares=EQUAL, seed=3) == report
    assert digest(images) == before
    assert digest(tmp_path / "again") == digest(out)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_our_own_index_is_a_table_too(report: Report, out: Path, tmp_path: Path) -> None:
    """Its columns are file, patient_id and view, and its files have folders before their names."""
    metadata = tmp_path / "index.csv"
    rows = [row for row in index(out) if row["split"] == "train"]
    metadata.write_text(
        "file,patient_id,view\n" + "".join(f"{r['file']},{r['patient_id']},PA\n" for r in rows)
    )
    whole = {"train": 100.0, "val": 0.0, "test": 0.0}
    made = prepare_dataset(out, metadata, tmp_path / "new", shares=whole)
    assert made.images == {"train": len(rows), "val": 0, "test": 0}
    assert index(tmp_path / "new")[0]["original"] == rows[0]["file"]


def write(folder: Path, content: str) -> Path:
    path = folder / "table.csv"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no column 'file' or 'Image Index', 'patient_id' or 'Patient ID', 'view'"),
        ("file,view\na.png,PA\n", "has no column 'patient_id' or 'Patient ID'; it has file, view"),
        ("file,patient_id,view\na.png,,PA\n", "record 2: no file or no patient"),
        ("file,patient_id,view\na.png\n", "record 2: no file or no patient"),
        ("file,patient_id,view\n00000001_000.png,1,AP\n", "has no images of view PA"),
        ("file,patient_id,view\nnone.png,1,PA\n", "none of the 1 images"),
        ("file,patient_id,view\n00000001_000.png,1,PA\n", "1 patients cannot be split into train, val, test"),
        (
            "file,patient_id,view\n00000001_000.png,1,PA\nunlisted.png,2,PA\n00000001_000.png,3,PA\n",
            "1 names stand for several images: 00000001_000",
        ),
        (
            "file,patient_id,view\nhalf.jpg,1,PA\n00000001_000.png,2,PA\nunlisted.png,3,PA\n",
            "no images remain for",
        ),
        ('file,patient_id,view\n"a.png,1,PA\n', "cannot be read as a table"),
    ],
)
def test_a_table_that_makes_no_data_set_is_refused_and_nothing_is_written(
    images: Path, tmp_path: Path, content: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        prepare_dataset(images, write(tmp_path, content), tmp_path / "out")
    assert problem in raised.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_table_that_is_no_text_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError, match="cannot be read as a table"):
        prepare_dataset(images, tmp_path / "table.csv", tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be read as a table"):
        prepare_dataset(images, tmp_path / "none.csv", tmp_path / "out")


def test_a_name_that_is_in_two_folders_is_refused_unless_the_table_says_which(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        cv2.imwrite(str(images / name / "1.png"), original(ord(name)))
    whole = {"train": 100.0, "val": 0.0, "test": 0.0}
    ambiguous = write(tmp_path, "file,patient_id,view\n1.png,1,PA\n")
    with pytest.raises(ConfigError, match=r"1\.png is the name of .*a/1\.png, .*b/1\.png"):
        prepare_dataset(images, ambiguous, tmp_path / "out", shares=whole)
    exact = write(tmp_path, "file,patient_id,view\nb/1.png,1,PA\n")
    prepare_dataset(images, exact, tmp_path / "out", shares=whole)
    assert np.array_equal(load_folder(tmp_path / "out/train")[0], original(ord("b")))


def test_a_folder_with_something_in_it_is_not_written_to(images: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(OutputError, match="is not empty"):
        prepare_dataset(images, table, tmp_path, shares=EQUAL)
    with pytest.raises(OutputError, match="lies in the folder of originals"):
        prepare_dataset(images, table, images / "new", shares=EQUAL)
    with pytest.raises(ConfigError, match="is no folder"):
        prepare_dataset(tmp_path / "none", table, tmp_path / "new", shares=EQUAL)


patients = st.lists(st.text(min_size=1, max_size=4), min_size=3, max_size=60)
shares = (
    st.tuples(*[st.integers(0, 100)] * 3)
    .filter(any)
    .map(lambda values: dict(zip(SIDES, values, strict=True)))
)


@given(patients=patients, shares=shares, seed=st.integers(0, 2**31))
def test_every_patient_has_one_side_whatever_the_order_of_the_images(
    patients: list[str], shares: dict[str, int], seed: int
) -> None:
    wanted = [side for side in SIDES if shares[side]]
    if len(set(patients)) < len(wanted):
        with pytest.raises(ConfigError, match="cannot be split"):
            split_patients(patients, shares=shares, seed=seed)
        return
    sides = split_patients(patients, shares=shares, seed=seed)
    assert set(sides) == set(patients)
    assert set(sides.values()) == set(wanted)
    assert split_patients(reversed(patients * 2), shares=shares, seed=seed) == sides


@given(count=st.integers(10, 400), seed=st.integers(0, 2**31))
def test_each_side_has_its_share_of_the_patients_within_one(count: int, seed: int) -> None:
    counts = Counter(
        split_patients(map(str, range(count)), shares=parse_shares("70,20,10"), seed=seed).values()
    )
    for side, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert abs(counts[side] - share * count) <= 1


def test_another_seed_splits_otherwise() -> None:
    one, other = (split_patients(map(str, range(50)), shares=EQUAL, seed=seed) for seed in (0, 1))
    assert one != other


@pytest.mark.parametrize("text", ["", "70,30", "70,20,20", "70,40,-10", "a,b,c", "nan,50,50", "inf,0,0"])
def test_a_split_that_is_no_three_percentages_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="three percentages"):
        parse_shares(text)
