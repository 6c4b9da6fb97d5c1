"""Labelled images for class-guided training: a table says what each image shows, and of whom it is."""

from __future__ import annotations

import csv
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_sr.errors import ConfigError, UsageError
from export.data import HR, Augmentation, Gray, jitter, middle, quantise, read_gray, to_unit
from export.prepare import split_patients

COLUMNS = ("file", "split", "patient_id", "label")
SHARES = {"train": 90.0, "val": 10.0}  # percent of the patients of the table's split "train"
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Labelled:
    """Images and their classes.

    Attributes:
        images: (256, 256) uint8 each.
        labels: (N,) int64, the place of each image's class among the names.
    """

    images: tuple[Gray, ...]
    labels: npt.NDArray[np.int64]


def read_labelled(table: Path, names: Sequence[str]) -> tuple[Labelled, Labelled]:
    """The images of a table's split "train", those of a tenth of the patients kept apart to validate with.

    Args:
        table: CSV with file (relative to the table's folder), split, patient_id and label.
        names: The classes; a label belongs to the one that it begins with, as pneumonia_virus to pneumonia.
            Others are left out.

    Returns:
        To train, and to validate with.

    Raises:
        ConfigError: The table cannot be read, or a side lacks a class.
        ImageError: An image cannot be read, or has a side below 256.
    """
    rows = [row for row in read_table(table) if row["split"] == "train" and _label(row["label"], names) >= 0]
    sides = split_patients((row["patient_id"] for row in rows), shares=SHARES, seed=0)
    found = []
    for side in SHARES:
        mine = [row for row in rows if sides[row["patient_id"]] == side]
        labels = np.array([_label(row["label"], names) for row in mine], np.int64)
        if lacking := [name for index, name in enumerate(names) if index not in labels]:
            raise ConfigError(f"{table}: no images to {side} with of {', '.join(lacking)}")
        images = tuple(_square(read_gray(table.parent / row["file"])) for row in mine)
        found.append(Labelled(images, labels))
    return found[0], found[1]


def read_table(table: Path) -> list[dict[str, str]]:
    """The rows of a table of labelled images: file, split, patient_id, label, and what else it has.

    Raises:
        ConfigError: It cannot be read, is empty, or lacks a column.
    """
    hint = f"it is a CSV file with the columns {', '.join(COLUMNS)}"
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"{table}, which tells the labels, cannot be read: {error}", hint=hint) from error
    if missing := [name for name in COLUMNS if not rows or rows[0].get(name) is None]:
        raise ConfigError(f"{table} has no rows with {', '.join(missing)}", hint=hint)
    return rows


def _label(text: str, names: Sequence[str]) -> int:
    """The class that a label belongs to; -1 for none."""
    return next((index for index, name in enumerate(names) if text.startswith(name)), -1)


def _square(image: Gray) -> Gray:
    """The middle square, reduced to 256 a side where it is larger."""
    side = min(image.shape)
    crop = middle(image, side)
    if side == HR:
        return crop
    return np.asarray(cv2.resize(crop, (HR, HR), interpolation=cv2.INTER_AREA), np.uint8)


class LabelledStream:
    """An endless, seeded stream of labelled pairs, each class as often as the others.

    Batch i depends on (seed, i) alone, so a resumed run sees what an unbroken one would have seen.
    """

    def __init__(
        self,
        data: Labelled,
        *,
        batch: int,
        crop: int,
        scale: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Takes images; nothing is made yet.

        Args:
            data: The images.
            batch: Pairs a batch.
            crop: HR side in pixels, a multiple of 4 times the scale, at most 256.
            scale: HR pixels an LR pixel.
            seed: Where every random choice comes from.
            augmentation: How strongly brightness and contrast are varied; the defaults where None.

        Raises:
            UsageError: The batch or the crop is out of range.
        """
        if batch < 1 or crop % (4 * scale) or not 0 < crop <= HR:
            step = 4 * scale
            crops = f"{step}, {2 * step}, ... {HR}"
            raise UsageError(f"wanted a batch of 1 or more and a crop of {crops}, got {batch} and {crop}")
        self._data, self._batch, self._crop, self._scale, self._seed = data, batch, crop, scale, seed
        self._augmentation = augmentation or Augmentation()
        self._groups = [np.flatnonzero(data.labels == label) for label in np.unique(data.labels)]
        cv2.setNumThreads(0)  # its own pool would fight torch's for the cores

    def batch(self, index: int) -> tuple[Float, Float, npt.NDArray[np.int64]]:
        """Batch `index`: lr (N, 1, crop/s, crop/s), hr (N, 1, crop, crop) in [-1, 1], labels (N,)."""
        rng = np.random.default_rng([self._seed, index])
        chosen = [int(rng.choice(self._groups[(index + i) % len(self._groups)])) for i in range(self._batch)]
        pairs = [reduced(self._vary(self._data.images[image], rng), self._scale) for image in chosen]
        lr, hr = (to_unit(np.stack(side)[:, None]) for side in zip(*pairs, strict=True))
        return lr, hr, self._data.labels[chosen]

    def batches(self, start: int) -> Generator[tuple[Float, Float, npt.NDArray[np.int64]], None, None]:
        """Batches from `start` on."""
        while True:
            yield self.batch(start)
            start += 1

    def _vary(self, image: Gray, rng: np.random.Generator) -> Gray:
        """A crop, perhaps mirrored, of another brightness and contrast."""
        y, x = rng.integers(HR - self._crop + 1, size=2)
        part = image[y : y + self._crop, x : x + self._crop]
        part = part[:, ::-1] if rng.random() < 0.5 else part
        return quantise(jitter(part.astype(np.float32), rng, self._augmentation))


def reduced(hr: Gray, scale: int) -> tuple[Gray, Gray]:
    """The pair of an image: its LR image, by INTER_CUBIC from it, and itself."""
    side = hr.shape[0] // scale
    hr = np.ascontiguousarray(hr)
    return np.asarray(cv2.resize(hr, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8), hr
