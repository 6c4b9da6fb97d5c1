"""What the residual tells apart: true images, outputs, and outputs with something made wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from benchmarks.evidence.records import ConsistencyFacts, Residuals
from benchmarks.pairs import Pairs
from edge_sr.card import Consistency
from edge_sr.evidence import residual_db
from edge_sr.manifest import Manifest

__all__ = ["FAULTS", "judge_consistency"]

Gray = npt.NDArray[np.uint8]
Fault = Callable[[Gray], Gray]

QUANTILE = 0.05  # of these images, where the bundle knows no threshold
SHIFT = 4  # HR pixels
PATCH = slice(96, 128)  # rows and columns of a patch, of 256


def _shifted(images: Gray) -> Gray:
    return np.concatenate([images[:, :, :1]] * SHIFT + [images[:, :, :-SHIFT]], axis=2)


def _flattened(images: Gray) -> Gray:
    means = images.mean(axis=(1, 2), keepdims=True)
    return np.rint((images - means) * 0.75 + means).astype(np.uint8)


def _wiped(images: Gray) -> Gray:
    wiped = images.copy()
    wiped[:, PATCH, PATCH] = np.rint(images[:, PATCH, PATCH].mean(axis=(1, 2), keepdims=True))
    return wiped


def _with_disc(images: Gray) -> Gray:
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    disc = np.hypot(y - 112, x - 112) <= 6
    return np.clip(images.astype(int) + 40 * disc, 0, 255).astype(np.uint8)


def _checkered(images: Gray) -> Gray:
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    return np.clip(images.astype(int) + np.where((y + x) % 2, 20, -20), 0, 255).astype(np.uint8)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "another image's output": lambda images: np.roll(images, 1, axis=0),
        "mirrored left to right": lambda images: images[:, :, ::-1],
        "shifted by one LR pixel": _shifted,
        "10 gray levels brighter": lambda images: np.minimum(images, 245) + np.uint8(10),
        "three quarters of the contrast": _flattened,
        "a patch of 32x32 pixels made even": _wiped,
        "a disc of 13 pixels, 40 levels brighter": _with_disc,
        "a checkerboard of ±20 levels, pixel by pixel": _checkered,
    }
)
"""What can be wrong with outputs (N, H, W) uint8, by name."""


def judge_consistency(manifest: Manifest, pairs: Pairs, outputs: Mapping[str, Gray]) -> ConsistencyFacts:
    """The residuals of true images, of outputs, and of the first outputs with each fault.

    Args:
        manifest: Of the bundle, with or without a threshold.
        pairs: The images.
        outputs: Label -> (N, H, W).
    """
    operator, scale = manifest.degradation, manifest.scale

    def residuals(images: Gray) -> list[float]:
        couples = zip(images, pairs.lr_pixels, strict=True)
        return [residual_db(image, lr, scale=scale, operator=operator) for image, lr in couples]

    of_true = residuals(pairs.hr_pixels)
    known = manifest.consistency or _own(manifest, pairs, of_true)
    first = next(iter(outputs.values()))
    lowest = min(residuals(first))

    def told(label: str, values: list[float]) -> Residuals:
        return Residuals(
            label=label,
            values=tuple(round(value, 2) for value in values),
            median=round(float(np.median(values)), 2),
            alarmed=float(np.mean([value < known.alarm_db for value in values])),
            unusual=float(np.mean([value < lowest for value in values])),
        )

    return ConsistencyFacts(
        known=known,
        is_own=manifest.consistency is None,
        true=told("true HR", of_true),
        outputs=tuple(told(label, residuals(images)) for label, images in outputs.items()),
        faults=tuple(told(label, residuals(fault(first))) for label, fault in FAULTS.items()),
    )


def _own(manifest: Manifest, pairs: Pairs, values: list[float]) -> Consistency:
    """A threshold from these very images."""
    return Consistency(
        operator=manifest.degradation,
        alarm_db=round(float(np.quantile(values, QUANTILE)), 2),
        quantile=QUANTILE,
        median_db=round(float(np.median(values)), 2),
        images=len(values),
        data=pairs.name,
        sha256=pairs.facts(degradation="", operator="").sha256,
        source="this run",
    )
