"""What a bundle says of itself beside its graphs: where it comes from, and what was measured of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Calibration", "Consistency", "Count", "Operator", "Provenance", "QualityRow", "Record", "Sha256"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]
Operator = Literal["cubic", "area", "antialiased-bicubic", "nearest"]  # those of `edge_sr.image.downsample`


class Record(BaseModel):
    """A part of `bundle.json`: never changed, with no unknown field and no number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Calibration(Record):
    """How the INT8 graphs were made.

    Attributes:
        method: How ranges were chosen.
        set_digest: Digest of the calibration images.
        images_asked, images_used: Their count; equal, or the calibration had failed.
        sampler, steps, timesteps: The trajectory that was recorded; none of a bundle without a loop.
        excluded: Layers left out of INT8, as component/layer, each with its measured reason.
    """

    method: str
    set_digest: Sha256
    images_asked: Count
    images_used: Count
    sampler: str | None = None
    steps: Count | None = None
    timesteps: tuple[int, ...] = ()
    seed: int
    excluded: dict[str, str]


class Consistency(Record):
    """What true HR images give for the residual that every result reports, and where to be alarmed.

    A true image is not perfectly consistent either: its LR image was not made from it by the operator alone,
    but from a larger original, with aliasing, noise or compression.

    Attributes:
        operator: What reduced the true images; the bundle's own degradation.
        alarm_db: The `quantile` of their residuals; a result below it is reported.
        quantile: Share of the true images that lie below it.
        median_db: Theirs.
        images: How many.
        data: Which images, and how their LR images were made.
        sha256: Over the pixels of all LR images, then of all HR images.
        source: The command that measured it.
    """

    operator: Operator
    alarm_db: float
    quantile: Annotated[float, Field(gt=0, le=0.5)]
    median_db: float
    images: Count
    data: str
    sha256: Sha256
    source: str


class Provenance(Record):
    """Where the weights come from."""

    data: str
    data_licence: str
    weights_licence: str
    commands: tuple[str, ...]
    commit: str
    created: str
    versions: dict[str, str]


class QualityRow(Record):
    """A measured figure, and where it stands in full."""

    data: str
    degradation: str
    row: str
    metrics: dict[str, float]
    source: str
