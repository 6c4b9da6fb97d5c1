"""What was measured of seams, as data.

History of the format:
    edge-sr/seams  1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.records import BundleFacts, Check, Environment, Estimate, Record
from edge_sr.manifest import Preset

__all__ = ["SeamsResult", "Way"]


class Way(Record):
    """A way to join tiles; one value an image.

    Attributes:
        key, label: What it is called.
        overlap: Fewest LR pixels that tiles share.
        tiles: How many an image took.
        step_ratio: Steps across tile borders over those beside them; 1 where nothing shows.
        tile_rms: Difference of a tile from the image where tiles overlap, weighted as they are blended, gray
            levels of 255.
        tiling_rms: Difference of two tilings of the same image from the same noise, gray levels of 255.
        detail_ratio: Detail of the image where tiles overlap over that of the tiles there, weighted likewise.
    """

    key: str
    label: str
    overlap: int
    tiles: int
    step_ratio: tuple[float, ...]
    tile_rms: tuple[float, ...]
    tiling_rms: tuple[float, ...]
    detail_ratio: tuple[float, ...]
    estimates: dict[str, Estimate]


class SeamsResult(Record):
    """Every way on the same images.

    Attributes:
        images: Names; side: LR pixels of the square that was cut from the middle of each.
        other_overlap: Of the tiling that each way is compared with.
        bicubic_step_ratio: At the same places of an image that has no tiles: the measure's own noise.
        seed_rms: Difference of two seeds, for scale, gray levels of 255, an image each.
    """

    kind: Literal["edge-sr/seams"] = "edge-sr/seams"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    preset: Preset
    images: tuple[str, ...]
    side: int
    other_overlap: int
    bicubic_step_ratio: tuple[float, ...]
    seed_rms: tuple[float, ...]
    ways: tuple[Way, ...]
    checks: tuple[Check, ...]
