"""Labelled radiographs: who is ill, which patient it is, and on which side of the split.

A table says so, with the columns file (relative to the data folder), split, patient_id and label. Training
images may lie anywhere; test images are pairs, hr_256/NAME and lr_64/NAME in one folder.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.diagnostic.resnet import SIDE
from edge_sr.errors import ConfigError
from export.data import HR_FOLDER, read_gray
from export.labelled import read_table
from export.prepare import split_patients

__all__ = ["HEALTHY", "ILL", "LABELS", "Case", "Cases", "digest", "read_cases", "read_images"]

LABELS = "other_index.csv"
HEALTHY, ILL = "normal", "pneumonia"  # the second one begins the label: pneumonia_virus
SHARES = {"train": 85.0, "val": 15.0}  # percent of the patients that are there to train on
SPLIT_SEED = 0
Gray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A labelled image.

    Attributes:
        path: The file.
        patient: Who it is of.
        is_ill: Whether it is labelled pneumonia, of whatever kind.
    """

    path: Path
    patient: str
    is_ill: bool


@dataclass(frozen=True)
class Cases:
    """All labelled images, no patient on two sides.

    Attributes:
        train, val: To train the judge, and to choose it.
        test: To judge with; they lie in one folder.
        ignored: Label -> how many rows have it and are left out, being neither normal nor pneumonia.
    """

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]
    ignored: dict[str, int]

    @property
    def pairs_folder(self) -> Path:
        """The folder with hr_256/ and lr_64/ of the test images."""
        return self.test[0].path.parents[1]


def read_cases(data: Path, table: Path) -> Cases:
    """Reads the table and splits the patients.

    Args:
        data: The folder that the files are named from.
        table: The CSV file.

    Raises:
        ConfigError: The table cannot be read, a side lacks a class, or a patient is on two sides.
    """
    sides: dict[str, list[Case]] = {"train": [], "test": []}
    ignored: Counter[str] = Counter()
    for row in read_table(table):
        label = row["label"]
        if label != HEALTHY and not label.startswith(ILL):
            ignored[label] += 1
        elif row["split"] not in sides:
            raise ConfigError(f"{table}: wanted a split train or test, got {row['split']!r}")
        else:
            sides[row["split"]].append(Case(data / row["file"], row["patient_id"], label != HEALTHY))
    _check_patients(table, sides)
    given = split_patients((c.patient for c in sides["train"]), shares=SHARES, seed=SPLIT_SEED)
    train, val = (tuple(c for c in sides["train"] if given[c.patient] == side) for side in SHARES)
    cases = Cases(train, val, tuple(sides["test"]), dict(ignored))
    _check(table, cases)
    return cases


def _check_patients(table: Path, sides: dict[str, list[Case]]) -> None:
    """A patient on both sides would be recognised instead of judged.

    Raises:
        ConfigError: There is one.
    """
    train, test = ({case.patient for case in sides[side]} for side in ("train", "test"))
    if both := train & test:
        raise ConfigError(
            f"{table}: {len(both)} patients are on both sides, train and test",
            hint="split by patient: the judge must not have seen whom it judges",
        )


def _check(table: Path, cases: Cases) -> None:
    """Every side needs both classes, and the test images one folder.

    Raises:
        ConfigError: Something is missing.
    """
    for side in ("train", "val", "test"):
        found: Sequence[Case] = getattr(cases, side)
        if len({case.is_ill for case in found}) < 2:
            raise ConfigError(
                f"{table}: {len(found)} images to {side} with, wanted some labelled {HEALTHY} and some {ILL}"
            )
    if len({case.path.parent for case in cases.test}) > 1 or cases.test[0].path.parent.name != HR_FOLDER:
        raise ConfigError(f"{table}: wanted all test images in one folder, named {HR_FOLDER}")


def read_images(cases: Iterable[Case]) -> Gray:
    """The images, reduced to the judge's size where they are larger: (N, 256, 256).

    Raises:
        ImageError: One cannot be read, or is smaller.
    """
    return np.stack([_sized(read_gray(case.path, min_side=SIDE)) for case in cases])


def _sized(image: Gray) -> Gray:
    if image.shape == (SIDE, SIDE):
        return image
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def digest(cases: Sequence[Case], images: Gray) -> str:
    """SHA-256 over pixels, labels and patients."""
    told = "".join(f"{case.patient},{case.is_ill:d};" for case in cases)
    return hashlib.sha256(images.tobytes() + told.encode()).hexdigest()
