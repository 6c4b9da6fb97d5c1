"""Pairs of high- and low-resolution images for training, made on the fly from larger originals.

The HR and the LR image of a pair are both sampled from the original, as the proposal's preparation does it
with OpenCV's INTER_CUBIC, which does not antialias: four taps around each output pixel. Every geometric
augmentation happens before that, so it is identical for the two. A share of the pairs is degraded in other
ways, so that the model is not tuned to one resize.
"""

from __future__ import annotations

import csv
import itertools
import queue
import threading
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_sr.errors import ConfigError, UsageError
from edge_sr.image import Limits, read_image, split_luminance

HR, LR = 256, 64  # pixels a side, as in the proposal
HR_FOLDER, LR_FOLDER = f"hr_{HR}", f"lr_{LR}"  # where prepared pairs lie
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
Gray = npt.NDArray[np.uint8]
Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # lr, hr


@dataclass(frozen=True)
class Augmentation:
    """How strongly pairs are varied.

    Attributes:
        warp: Probability of a random rotation, scale and shift.
        rotation_deg: Largest rotation, either way.
        zoom: Smallest share of the original's side that a resized crop keeps, in (0, 1].
        brightness, contrast: Largest relative change, either way.
        degrade: Probability that the LR image is made by another kernel, with noise or JPEG.
    """

    warp: float = 0.5
    rotation_deg: float = 4.0
    zoom: float = 0.8
    brightness: float = 0.08
    contrast: float = 0.15
    degrade: float = 0.3


def load_folder(folder: Path, *, views: frozenset[str] = frozenset()) -> list[Gray]:
    """Reads every image of a folder as 8-bit gray.

    Args:
        folder: A folder of PNG, JPEG or TIFF files at least 256 pixels a side.
        views: Where not empty, only images whose `view` in `index.csv`, beside the folder, is one of these
            (the proposal trains on PA alone).

    Raises:
        ConfigError: No images, or none of these views, or no index to tell the views.
        ImageError: An image that cannot be read, or is too small.
    """
    names = _images_in(folder)
    if not names:
        raise ConfigError(f"no images in {folder}", hint="give a folder of PNG, JPEG or TIFF images")
    if views:
        kept = _names_of_views(folder.parent / "index.csv", views)
        names = [p for p in names if p.name in kept]
    if not names:
        raise ConfigError(
            f"no images of view {', '.join(sorted(views))} in {folder}", hint="leave out --views"
        )
    return [read_gray(path) for path in names]


def _images_in(folder: Path) -> list[Path]:
    found = folder.glob("*") if folder.is_dir() else ()
    return sorted(p for p in found if p.suffix.lower() in SUFFIXES)


def _names_of_views(index: Path, views: frozenset[str]) -> set[str]:
    """The file names whose view is one of these."""
    try:
        with index.open(newline="", encoding="utf-8") as file:
            return {Path(row["file"]).name for row in csv.DictReader(file) if row["view"] in views}
    except (OSError, UnicodeError, csv.Error) as error:
        hint = "leave out --views, or write the index with: python -m export prepare"
        raise ConfigError(f"{index}, which tells the views, cannot be read: {error}", hint=hint) from error
    except KeyError as error:
        raise ConfigError(f"{index} has no column {error}", hint="it needs file and view") from error


def read_gray(path: Path, *, min_side: int = HR) -> Gray:
    """Reads an image as 8-bit gray: colour becomes its luminance, 16 bits are rounded to 8.

    Returns:
        (H, W) uint8.

    Raises:
        ImageError: It cannot be read, is truncated or damaged, or has a side below `min_side` pixels.
    """
    pixels = read_image(path, limits=Limits(min_side=min_side)).pixels
    return _eight_bits(pixels if pixels.ndim == 2 else split_luminance(pixels)[0])


def _eight_bits(pixels: npt.NDArray[Any]) -> Gray:
    return np.rint(pixels / 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def plain_pair(original: Gray) -> tuple[Gray, Gray]:
    """The pair that models are judged on: the middle square, by INTER_CUBIC straight from the original.

    Args:
        original: (H, W) uint8.

    Returns:
        hr: (256, 256) uint8; lr: (64, 64) uint8.
    """
    crop = middle(original, min(original.shape))
    return _cubic(crop, HR), _cubic(crop, LR)


def make_pair(original: Gray, rng: np.random.Generator, augmentation: Augmentation) -> tuple[Gray, Gray]:
    """One varied HR and LR pair of an original.

    Args:
        original: (H, W) uint8, square or not, at least 256 a side.
        rng: Where every random choice comes from.
        augmentation: How strongly it is varied.

    Returns:
        hr: (256, 256) uint8; lr: (64, 64) uint8.
    """
    image = jitter(_warp(original, rng, augmentation), rng, augmentation)
    if image.shape[0] != 2 * HR:
        image = cv2.resize(image, (2 * HR, 2 * HR), interpolation=cv2.INTER_CUBIC)
    hr = quantise(_halve(image, rng.uniform(0.08, 0.14)))
    if rng.random() < augmentation.degrade:
        return hr, _degrade(hr, rng)
    return hr, quantise(_point_sample(image, rng.uniform(-0.02, 0.10)))


def middle(image: Gray, side: int) -> Gray:
    """The middle square of an image: (side, side)."""
    y, x = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[y : y + side, x : x + side]


def _cubic(image: Gray, side: int) -> Gray:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def quantise(image: npt.NDArray[np.float32]) -> Gray:
    """Rounded to 8 bits."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _warp(image: Gray, rng: np.random.Generator, augmentation: Augmentation) -> npt.NDArray[np.float32]:
    """A flip, and now and then a rotation with a resized crop, at twice the HR size."""
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    if rng.random() >= augmentation.warp:
        return middle(image, min(image.shape)).astype(np.float32)
    side = min(image.shape) * rng.uniform(augmentation.zoom, 1.0)
    slack_y, slack_x = (image.shape[0] - side) / 2, (image.shape[1] - side) / 2
    centre = (
        image.shape[1] / 2 + rng.uniform(-slack_x, slack_x),
        image.shape[0] / 2 + rng.uniform(-slack_y, slack_y),
    )
    angle = rng.uniform(-augmentation.rotation_deg, augmentation.rotation_deg)
    matrix = cv2.getRotationMatrix2D(centre, angle, 2 * HR / side)
    matrix[:, 2] += HR - np.asarray(centre)
    return np.asarray(
        cv2.warpAffine(
            image.astype(np.float32),
            matrix,
            (2 * HR, 2 * HR),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def jitter(
    image: npt.NDArray[np.float32], rng: np.random.Generator, augmentation: Augmentation
) -> npt.NDArray[np.float32]:
    """Brightness and contrast."""
    gain = 1 + rng.uniform(-augmentation.contrast, augmentation.contrast)
    shift = 255 * rng.uniform(-augmentation.brightness, augmentation.brightness)
    return (image - 127.5) * np.float32(gain) + np.float32(127.5 + shift)


def _four_taps(image: npt.NDArray[np.float32], k: float) -> npt.NDArray[np.float32]:
    """Values midway between pixels j and j + 1, from four taps an axis: the cubic kernel at one half.

    k = 0.09375 is OpenCV's INTER_CUBIC; larger is sharper, 0 is INTER_LINEAR.
    """
    taps = np.array([-k, 0.5 + k, 0.5 + k, -k], dtype=np.float32)
    return np.asarray(
        cv2.sepFilter2D(image, cv2.CV_32F, taps, taps, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    )


def _halve(image: npt.NDArray[np.float32], k: float) -> npt.NDArray[np.float32]:
    """(512, 512) -> (256, 256), sampled midway between pixels 2i and 2i + 1."""
    return _four_taps(image, k)[::2, ::2]


def _point_sample(image: npt.NDArray[np.float32], k: float) -> npt.NDArray[np.float32]:
    """(512, 512) -> (64, 64), sampled midway between pixels 8i + 3 and 8i + 4, without antialiasing."""
    return _four_taps(image, k)[3::8, 3::8]


def _degrade(hr: Gray, rng: np.random.Generator) -> Gray:
    """An LR image of the HR one by a random kernel, then perhaps noise and JPEG."""
    kind = rng.choice(["cubic", "area", "antialiased", "linear"])
    if kind == "antialiased":
        blurred = cv2.GaussianBlur(hr, (0, 0), rng.uniform(1.2, 2.2), borderType=cv2.BORDER_REPLICATE)
        lr = cv2.resize(blurred, (LR, LR), interpolation=cv2.INTER_CUBIC)
    else:
        kernel = {"cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}[str(kind)]
        lr = cv2.resize(hr, (LR, LR), interpolation=kernel)
    if rng.random() < 0.5:
        lr = quantise(lr + rng.normal(0, rng.uniform(0.5, 3.0), lr.shape).astype(np.float32))
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", lr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])
        lr = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return np.asarray(lr, dtype=np.uint8)


class PairStream:
    """An endless, seeded stream of batches, made by a thread while the model trains.

    Batch i depends on (seed, i) alone, so a resumed run sees what an unbroken one would have seen.
    """

    def __init__(
        self,
        images: list[Gray],
        *,
        batch: int,
        crop: int,
        seed: int,
        start: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Takes images of at least 256 a side; nothing is made yet.

        Args:
            images: The originals.
            batch: Pairs a batch.
            crop: HR side in pixels, a multiple of 8, at most 256.
            seed: Where every random choice comes from.
            start: The first batch's index.
            augmentation: How strongly pairs are varied; the defaults where None.

        Raises:
            UsageError: The batch or the crop is out of range.
        """
        if batch < 1 or crop % 8 or not 8 <= crop <= HR:
            raise UsageError(
                f"wanted a batch of 1 or more and a crop of 8, 16, ... {HR}, got {batch} and {crop}"
            )
        self._images, self._batch, self._crop, self._seed = images, batch, crop, seed
        self._augmentation = augmentation or Augmentation()
        self._start = start
        cv2.setNumThreads(0)  # its own pool would fight torch's for the cores

    def batch(self, index: int) -> Batch:
        """Batch `index`: lr (N, 1, crop/4, crop/4) and hr (N, 1, crop, crop), float32 in [-1, 1]."""
        rng = np.random.default_rng([self._seed, index])
        pairs: list[tuple[Gray, Gray]] = []
        while len(pairs) < self._batch:
            hr, lr = make_pair(self._images[rng.integers(len(self._images))], rng, self._augmentation)
            for _ in range(min(max(1, HR // self._crop), self._batch - len(pairs))):
                pairs.append(_crop(hr, lr, self._crop, rng))
        hrs, lrs = zip(*pairs, strict=True)
        return to_unit(np.stack(lrs)[:, None]), to_unit(np.stack(hrs)[:, None])

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from `start` on, four made ahead. The thread ends when the iterator is closed.

        What goes wrong in the thread is raised here.
        """
        ahead: queue.Queue[Batch | Exception] = queue.Queue(maxsize=4)
        stopped = threading.Event()

        def produce() -> None:
            for index in itertools.count(self._start):
                made = self._batch_or_error(index)
                while not stopped.is_set():
                    with suppress(queue.Full):
                        ahead.put(made, timeout=0.1)
                        break
                if stopped.is_set() or isinstance(made, Exception):
                    return

        thread = threading.Thread(target=produce, daemon=True)
        thread.start()
        try:
            while True:
                made = ahead.get()
                if isinstance(made, Exception):
                    raise made
                yield made
        finally:
            stopped.set()
            thread.join(timeout=10)  # no longer than a batch takes, and never for ever

    def _batch_or_error(self, index: int) -> Batch | Exception:
        try:
            return self.batch(index)
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the thread that waits
            return error


def _crop(hr: Gray, lr: Gray, side: int, rng: np.random.Generator) -> tuple[Gray, Gray]:
    """The same random window of both, on the grid of the latent (8 HR pixels, 2 LR pixels)."""
    slots = (HR - side) // 8 + 1
    y, x = int(rng.integers(slots)) * 2, int(rng.integers(slots)) * 2
    small = side // 4
    return hr[4 * y : 4 * y + side, 4 * x : 4 * x + side], lr[y : y + small, x : x + small]


def to_unit(image: Gray) -> npt.NDArray[np.float32]:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return np.asarray(image, dtype=np.float32) / np.float32(127.5) - np.float32(1)


def load_pairs(
    folder: Path, *, channels: int = 1, lr_side: int = LR, hr_side: int = HR
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[str]]:
    """Reads a folder of prepared pairs: `hr_256/NAME` and `lr_64/NAME`, or of other sides.

    Args:
        folder: Where they are.
        channels: 1 for gray, of colour the luminance; 3 for RGB, of gray three times the same.
        lr_side: Pixels a side, which the folder is named by.
        hr_side: Likewise.

    Returns:
        lr: (N, C, 64, 64), hr: (N, C, 256, 256), float32 in [-1, 1], and the names, sorted.

    Raises:
        ConfigError: No pairs, or an image of another size.
        ImageError: An HR image without its LR one, or an unreadable file.
    """
    low = f"lr_{lr_side}"
    hr, names = load_squares(folder, f"hr_{hr_side}", side=hr_side, channels=channels)
    if not (folder / low).is_dir():
        raise ConfigError(f"no pairs in {folder}", hint=f"it needs {low}/ with files of the same names")
    lr = [_read_square(folder / low / name, lr_side, channels) for name in names]
    return to_unit(np.stack(lr)), hr, names


def load_squares(
    folder: Path, kind: str, *, side: int, channels: int = 1
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Reads the images in `folder`/`kind`: (N, C, side, side) in [-1, 1], and their names, sorted.

    Raises:
        ConfigError: There are none, or one is of another size.
        ImageError: One cannot be read.
    """
    names = [path.name for path in _images_in(folder / kind)]
    if not names:
        raise ConfigError(f"no pairs in {folder}", hint=f"it needs images in {kind}/")
    return to_unit(np.stack([_read_square(folder / kind / name, side, channels) for name in names])), names


def _read_square(path: Path, side: int, channels: int) -> Gray:
    """(channels, side, side)."""
    is_gray, limits = channels == 1, Limits(min_side=8)
    image = read_gray(path, min_side=8) if is_gray else _eight_bits(read_image(path, limits=limits).pixels)
    if image.shape[:2] != (side, side):
        raise ConfigError(f"{path} is {image.shape[1]}x{image.shape[0]}, wanted {side}x{side}")
    return np.broadcast_to(image if image.ndim == 2 else image.transpose(2, 0, 1), (channels, side, side))
