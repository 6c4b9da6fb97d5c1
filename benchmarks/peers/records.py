"""The peers as data.

History of the format:
    edge-sr/peers    1  first version
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from benchmarks.records import BundleFacts, Check, DataFacts, Environment, Estimate, Record, Timing
from edge_sr.manifest import Preset

__all__ = ["Footprint", "LeftOut", "PeerResult", "PeersResult"]


class Footprint(Record):
    """What a runtime asks for before it has done anything.

    Attributes:
        installed: Distribution -> bytes on the disk: what its user asks pip for, and what that brings.
        installed_bytes: Their sum.
        import_s: Seconds that the snippet's imports take in a fresh process, one a repetition.
        lines: Of code in the snippet.
    """

    installed: dict[str, int]
    installed_bytes: int
    import_s: tuple[float, ...]
    lines: int


class PeerResult(Record):
    """A runtime.

    Attributes:
        key, label, note, precision: See `benchmarks.peers.protocol.Peer`.
        seconds: Of one image.
        over_ours: Its time over that of edge-sr at its default precision in the same round: the median over
            rounds (in the field `mean`), and its interval. Above 1 is slower than edge-sr.
        over_ours_alike: The same over edge-sr at the peer's own precision.
        open_s: Seconds from nothing imported to the first image, once.
        peak_bytes: Resident memory of its process, at most.
        to_ours_db: PSNR of its images against those of edge-sr in FP32 from the same noise, an image each;
            null where they are equal to the bit.
        to_truth_db: PSNR against the true HR images, where there are some.
        footprint: See there.
    """

    key: str
    label: str
    note: str
    precision: str
    seconds: Timing
    over_ours: Estimate
    over_ours_alike: Estimate
    open_s: float
    peak_bytes: int
    to_ours_db: tuple[float | None, ...]
    to_truth_db: tuple[float, ...]
    footprint: Footprint


class LeftOut(Record):
    """A peer that did not run, and why."""

    key: str
    reason: str


class PeersResult(Record):
    """All runtimes of one run.

    Attributes:
        data: The images; null for a made-up one.
        rounds: How often each took its turn.
        same_calibration: Whether NNCF saw the images that the bundle was calibrated with; null without NNCF.
        torch_bytes: CPU or CUDA torch and what it brings, as it is installed here; null where it is not.
        torch_build: Which of the two it is.
    """

    kind: Literal["edge-sr/peers"] = "edge-sr/peers"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    data: DataFacts | None
    preset: Preset
    rounds: int
    same_calibration: bool | None
    torch_bytes: int | None
    torch_build: str
    rows: Annotated[tuple[PeerResult, ...], Field(min_length=1)]
    left_out: tuple[LeftOut, ...]
    checks: tuple[Check, ...]
    notices: tuple[str, ...]

    def row(self, key: str) -> PeerResult | None:
        """A row by its key; None where it was left out."""
        return next((row for row in self.rows if row.key == key), None)
