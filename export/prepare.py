"""Makes a data set of a folder of chest X-rays and a table of what they show.

    OUT/index.csv            file, split, patient_id, view, age, sex, finding_labels, original
    OUT/left_out.csv         original, reason
    OUT/train/NAME.png       the originals, reduced to 512 on their shorter side by INTER_AREA where larger
    OUT/val/hr_256/NAME.png, OUT/val/lr_64/NAME.png, and OUT/test likewise

The pairs are the proposal's: the middle square, by INTER_CUBIC, both straight from the original. Training
images stay larger than HR so that crops, scales and rotations have something to choose from; as PNG, so that
no compression is learned. The folder appears whole or not at all, and no original is written to.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edge_sr.bundle import new_folder
from edge_sr.errors import ConfigError, ImageError, OutputError, UsageError
from edge_sr.image import encode_png, resize_area
from export.data import HR, HR_FOLDER, LR_FOLDER, SUFFIXES, plain_pair, read_gray

SIDES = ("train", "val", "test")
TRAIN_SIDE = 2 * HR  # pixels: what the augmentation works at
INDEX, LEFT_OUT = "index.csv", "left_out.csv"
COLUMNS = {  # a field, and what it is called in our index and in NIH's Data_Entry_2017.csv
    "original": ("file", "Image Index"),
    "patient_id": ("patient_id", "Patient ID"),
    "view": ("view", "View Position"),
    "age": ("age", "Patient Age"),
    "sex": ("sex", "Patient Gender"),
    "finding_labels": ("finding_labels", "Finding Labels"),
}
WANTED = ("original", "patient_id", "view")  # the others may be missing
Gray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A row of the table: where the image lies below the folder of originals, and what is known of it."""

    original: str
    patient_id: str
    view: str
    age: str = ""
    sex: str = ""
    finding_labels: str = ""


@dataclass(frozen=True)
class Report:
    """What became of the images.

    Attributes:
        images: How many, by side.
        left_out: Why each image that was found is in none of them, by its path below the originals' folder.
        absent: Rows of the table, of the wanted views, whose image is not in the folder.
    """

    images: dict[str, int]
    left_out: dict[str, str]
    absent: int


def prepare_dataset(
    images: Path,
    metadata: Path,
    out: Path,
    *,
    views: frozenset[str] = frozenset({"PA"}),
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Report:
    """Writes a data set, whole or not at all.

    Args:
        images: Folder of PNG, JPEG or TIFF files, with folders in it or not.
        metadata: The table: NIH ChestX-ray14's Data_Entry_2017.csv, or one with file, patient_id and view.
        out: The new folder.
        views: Only images of these; all where empty.
        shares: Percent of the patients for each of `SIDES`; 70, 20, 10 where None.
        seed: Of the split.

    Raises:
        ConfigError: The table cannot be read or lacks a column, names two images alike, or too few images
            remain for a side.
        OutputError: The folder is not new or empty, or cannot be written.
        UsageError: The shares are no percentages.
    """
    shares = dict(zip(SIDES, (70.0, 20.0, 10.0), strict=True)) if shares is None else shares
    _check_places(images, out)
    entries = [entry for entry in read_metadata(metadata) if not views or entry.view in views]
    if not entries:
        raise ConfigError(f"{metadata} has no images of view {', '.join(sorted(views))}")
    paths, absent = _locate(images, entries)
    if not paths:
        raise ConfigError(f"none of the {len(entries)} images of {metadata} is in {images}")
    _check_names(paths)
    sides = split_patients((entry.patient_id for entry in paths), shares=shares, seed=seed)
    left_out: dict[str, str] = {}
    with new_folder(out) as folder:
        rows = []
        for entry, path in tqdm(paths.items(), desc="preparing", unit="image", disable=None):
            try:
                file = _write_image(
                    read_gray(path), folder, sides[entry.patient_id], Path(entry.original).stem
                )
                rows.append({"file": file, "split": sides[entry.patient_id], **vars(entry)})
            except ImageError as error:
                left_out[entry.original] = error.message.removeprefix(f"{path}: ")
        counts = Counter(row["split"] for row in rows)
        if empty := [side for side in SIDES if shares[side] > 0 and not counts[side]]:
            raise ConfigError(
                f"no images remain for {', '.join(empty)}", hint="give more, or another --split"
            )
        _write_table(folder / INDEX, rows)
        _write_table(folder / LEFT_OUT, [{"original": n, "reason": r} for n, r in left_out.items()])
    return Report({side: counts[side] for side in SIDES}, left_out, absent)


def parse_views(text: str) -> frozenset[str]:
    """The views of a list such as PA,AP; none for an empty one, which means all."""
    return frozenset(filter(None, (view.strip() for view in text.split(","))))


def parse_shares(text: str) -> dict[str, float]:
    """Percentages for train, val and test, as in "70,20,10".

    Raises:
        UsageError: It is not three numbers, from 0 up, whose sum is 100.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(SIDES) or not all(value >= 0 for value in values) or abs(sum(values) - 100) > 1e-6:
        raise UsageError(
            f"wanted a split of three percentages whose sum is 100, got {text!r}", hint="70,20,10"
        )
    return dict(zip(SIDES, values, strict=True))


def split_patients(patients: Iterable[str], *, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Gives every patient a side.

    The order in which patients come, and how often, makes no difference. A side with a share gets one patient
    at least, where there are as many patients as such sides; else each has its share within one patient.

    Args:
        patients: Their numbers.
        shares: Percent of the patients, by side.
        seed: Of the shuffling.

    Returns:
        The side of each patient.

    Raises:
        ConfigError: There are fewer patients than sides with a share.
    """
    shuffled = sorted(
        set(patients), key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    )
    wanted = [side for side in shares if shares[side] > 0]
    if len(shuffled) < len(wanted):
        raise ConfigError(f"{len(shuffled)} patients cannot be split into {', '.join(wanted)}")
    counts = _counts(len(shuffled), {side: shares[side] for side in wanted})
    given = iter(shuffled)
    return {next(given): side for side, count in counts.items() for _ in range(count)}


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers with this total in these proportions (largest remainders), none of them zero."""
    whole = sum(shares.values())
    exact = {side: total * share / whole for side, share in shares.items()}
    counts = {side: int(value) for side, value in exact.items()}
    by_remainder = sorted(shares, key=lambda side: counts[side] - exact[side])
    for side in by_remainder[: total - sum(counts.values())]:
        counts[side] += 1
    for side in shares:
        if not counts[side]:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[side] = 1
    return counts


def read_metadata(path: Path) -> list[Entry]:
    """The rows of a table, whichever of the two kinds it is.

    Raises:
        ConfigError: It cannot be read, lacks a column, or has a row without a file or a patient.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            found, rows = reader.fieldnames or [], list(reader)
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a table: {error}", hint="it is a CSV file") from error
    columns = {field: next((n for n in names if n in found), "") for field, names in COLUMNS.items()}
    if missing := [" or ".join(map(repr, COLUMNS[field])) for field in WANTED if not columns[field]]:
        raise ConfigError(f"{path} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}")
    entries = []
    for line, row in enumerate(rows, start=2):
        fields = {field: (row[name] or "").strip() for field, name in columns.items() if name}
        if not fields["original"] or not fields["patient_id"]:
            raise ConfigError(f"{path}, record {line}: no file or no patient")
        entries.append(Entry(**fields))
    return entries


def _check_places(images: Path, out: Path) -> None:
    if not images.is_dir():
        raise ConfigError(f"{images} is no folder")
    if out.resolve().is_relative_to(images.resolve()):
        raise OutputError(f"{out} lies in the folder of originals", hint="name a folder elsewhere")
    try:
        is_taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    if is_taken:
        raise OutputError(f"{out} exists and is not empty", hint="name a new folder, or remove this one")


def _locate(images: Path, entries: Iterable[Entry]) -> tuple[dict[Entry, Path], int]:
    """Where each image lies, by its path or, as NIH spreads its images over folders, by its name alone.

    Returns:
        The path of each entry whose image is there, and how many are not.

    Raises:
        ConfigError: A name without a folder is that of several images.
    """
    known: dict[str, list[Path]] = {}
    for path in sorted(images.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            for name in {path.name, path.relative_to(images).as_posix()}:
                known.setdefault(name, []).append(path)
    found, absent = {}, 0
    for entry in entries:
        candidates = known.get(entry.original) or known.get(Path(entry.original).name, [])
        if len(candidates) > 1:
            raise ConfigError(f"{entry.original} is the name of {', '.join(map(str, candidates))}")
        if candidates:
            found[entry] = candidates[0]
        absent += not candidates
    return found, absent


def _check_names(entries: Iterable[Entry]) -> None:
    """Refuses two images that would be written to one file, or one that is listed twice."""
    counts = Counter(Path(entry.original).stem for entry in entries)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        shown = ", ".join(repeated[:5]) + (", ..." if len(repeated) > 5 else "")
        raise ConfigError(f"{len(repeated)} names stand for several images: {shown}", hint="rename them")


def _write_image(image: Gray, folder: Path, side: str, name: str) -> str:
    """Writes what a side has of an image; returns the path, below the folder, that the index names."""
    if side == "train":
        return _write_png(folder, f"{side}/{name}.png", _reduced(image))
    hr, lr = plain_pair(image)
    _write_png(folder, f"{side}/{LR_FOLDER}/{name}.png", lr)
    return _write_png(folder, f"{side}/{HR_FOLDER}/{name}.png", hr)


def _reduced(image: Gray) -> Gray:
    """At most `TRAIN_SIDE` on the shorter side, of the same proportions."""
    height, width = image.shape
    if min(height, width) <= TRAIN_SIDE:
        return image
    factor = TRAIN_SIDE / min(height, width)
    return np.asarray(resize_area(image, (round(height * factor), round(width * factor))), dtype=np.uint8)


def _write_png(folder: Path, file: str, image: Gray) -> str:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image, text={}))
    return file


def _write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
