"""What was measured of the evidence, as data.

History of the format:
    edge-sr/evidence  1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.records import BundleFacts, Check, DataFacts, Environment, Estimate, Record
from edge_sr.card import Consistency
from edge_sr.manifest import Preset

__all__ = [
    "Bin",
    "ConsistencyFacts",
    "Coverage",
    "EvidenceResult",
    "Invention",
    "Projection",
    "Residuals",
    "SpreadFacts",
]

Numbers = tuple[float, ...]


class Residuals(Record):
    """The residuals of one kind of image.

    Attributes:
        values: In dB, one an image.
        alarmed: Share of them below the alarm.
        unusual: Share of them below every residual of the outputs as they are.
    """

    label: str
    values: Numbers
    median: float
    alarmed: float
    unusual: float


class ConsistencyFacts(Record):
    """What the alarm tells apart.

    Attributes:
        known: The threshold, and the true images that it was taken from.
        is_own: Whether those are these very images, since the bundle knows no others.
        true, outputs: True images, and what the model makes; neither should be alarmed.
        faults: Outputs with something made wrong in them.
    """

    known: Consistency
    is_own: bool
    true: Residuals
    outputs: tuple[Residuals, ...]
    faults: tuple[Residuals, ...]


class Bin(Record):
    """Pixels of a similar predicted error, in gray levels, root mean squares: predicted, and found."""

    predicted: float
    found: float


class Coverage(Record):
    """How often the truth lies between two of the samples, sorted: found, and were it one more of them."""

    interval: str
    nominal: float
    found: Estimate


class SpreadFacts(Record):
    """Whether the spread over samples predicts the error of their mean.

    Attributes:
        samples: How many.
        pixels: Share of the pixels that count: those whose truth is neither black nor white.
        bins: From the smallest predicted error to the largest, equally many pixels each.
        error: Mean over the bins of |found - predicted| / predicted (ENCE: Levi et al. 2022, eq. 9).
        factor: What the spread has to be multiplied with to be the error, over all pixels.
        correlation, correlation_blocks: Of spread and |error|, pixel by pixel and in 8x8 blocks, over images.
        coverage: How often the truth lies between samples.
        regions: Mean |error| in the regions that a result lists, over that of its whole image; over images.
    """

    samples: int
    pixels: float
    bins: tuple[Bin, ...]
    error: float
    factor: float
    correlation: Estimate
    correlation_blocks: Estimate
    coverage: tuple[Coverage, ...]
    regions: Estimate


class Invention(Record):
    """Hallucination and loss rates of one kind of image, percent of pixels; see `invention_rates`."""

    label: str
    hallucinated: Estimate
    lost: Estimate
    threshold_levels: float


class Projection(Record):
    """What a back-projection does to outputs whose LR images were made in one way.

    Attributes:
        degradation: How the LR images were made.
        operator: Of the back-projection; null for none.
        psnr_db, lpips: Means over images.
        gain_db: PSNR less that without back-projection, image by image.
    """

    degradation: str
    operator: str | None
    psnr_db: float
    lpips: float | None
    gain_db: Estimate


class EvidenceResult(Record):
    """Everything about the evidence of one bundle on one set of pairs."""

    kind: Literal["edge-sr/evidence"] = "edge-sr/evidence"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    data: DataFacts
    preset: Preset
    seed: int
    consistency: ConsistencyFacts
    spread: SpreadFacts
    invention: tuple[Invention, ...]
    projection: tuple[Projection, ...]
    checks: tuple[Check, ...]
    notices: tuple[str, ...]
