"""From measurements to the record: ratios, agreement, checks, notices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.board import BOOTSTRAP_SEED
from benchmarks.loop import UNSTABLE
from benchmarks.pairs import Pairs, to_gray
from benchmarks.peers.footprint import dependencies, installed_bytes
from benchmarks.peers.protocol import OURS, OURS_FP32, Peer
from benchmarks.peers.records import Footprint, LeftOut, PeerResult, PeersResult
from benchmarks.records import BundleFacts, Check, Environment, Estimate, Timing
from benchmarks.summary import bootstrap
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError
from edge_sr.manifest import Preset
from edge_sr.metrics import psnr

__all__ = ["SAME_DB", "Measured", "assemble"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]
SAME_DB = {"fp32": 60.0, "int8": 30.0}
"""PSNR against edge-sr's FP32 below which a runtime computes something else: FP32 differs in the last bits,
and an INT8 quantisation of the model by about 35 dB."""

TARGETS = {
    "openvino-int8": ("one image by OpenVINO INT8 (NNCF) over edge-sr, ratio of times", 1.0),
    "torch-eager": ("one image by eager torch in FP32 over edge-sr, ratio of times", 4.0),
    "ort-fp32": ("one image by a plain ONNX Runtime loop in FP32 over edge-sr, ratio of times", 1.3),
}
SIZE_CLAIM, SIZE_LIMIT = "installed size over that of torch, of this build", 0.5


@dataclass(frozen=True)
class Measured:
    """What one peer gave.

    Attributes:
        peer: Which.
        seconds: One a round.
        open_s, peak_bytes, footprint: See `PeerResult`.
        images: What it made of every image, (N, C, T, T).
    """

    peer: Peer
    seconds: Timing
    open_s: float
    peak_bytes: int
    images: Float
    footprint: Footprint


def assemble(
    measured: Mapping[str, Measured],
    *,
    left_out: Sequence[LeftOut],
    environment: Environment,
    bundle: Bundle,
    preset: Preset,
    backend: dict[str, str],
    pairs: Pairs | None,
    same_calibration: bool | None,
) -> PeersResult:
    """The record of a run; edge-sr's own rows are in `measured`.

    Args:
        measured: Key -> what the peer gave, in the table's order.
        left_out: Those that did not run.
        environment: For the record.
        bundle: Whose model it is.
        preset: How the loop ran.
        backend: What edge-sr's own says of itself.
        pairs: The images with their truth; None for a made-up one.
        same_calibration: See `PeersResult`.
    """
    rows = tuple(_row(one, measured, pairs) for one in measured.values())
    torch_bytes, torch_build = _torch()
    facts = BundleFacts(
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        digest=bundle.digest,
        precision=measured[OURS].peer.precision,
        backend=backend,
    )
    operator = bundle.manifest.degradation or "not declared"
    return PeersResult(
        environment=environment,
        bundle=facts,
        data=pairs.facts(degradation="not stated", operator=operator) if pairs else None,
        preset=preset,
        rounds=len(measured[OURS].seconds.seconds),
        same_calibration=same_calibration,
        torch_bytes=torch_bytes,
        torch_build=torch_build,
        rows=rows,
        left_out=tuple(left_out),
        checks=tuple(_checks({row.key: row for row in rows}, torch_bytes)),
        notices=tuple(_notices(rows, same_calibration)),
    )


def _row(one: Measured, measured: Mapping[str, Measured], pairs: Pairs | None) -> PeerResult:
    peer, fp32 = one.peer, measured[OURS_FP32]
    alike = fp32 if peer.precision == fp32.peer.precision else measured[OURS]
    truth = [] if pairs is None else [psnr(*both) for both in _side_by_side(one, pairs)]
    return PeerResult(
        key=peer.key,
        label=peer.label,
        note=peer.note,
        precision=peer.precision,
        seconds=one.seconds,
        over_ours=_ratio(one.seconds, measured[OURS].seconds),
        over_ours_alike=_ratio(one.seconds, alike.seconds),
        open_s=one.open_s,
        peak_bytes=one.peak_bytes,
        to_ours_db=tuple(_agreement(one.images, fp32.images)),
        to_truth_db=tuple(truth),
        footprint=one.footprint,
    )


def _side_by_side(one: Measured, pairs: Pairs) -> Iterator[tuple[Gray, Gray]]:
    """What a peer made, as gray levels, and the true image."""
    return zip(to_gray(one.images), pairs.hr_pixels, strict=True)


def _ratio(theirs: Timing, ours: Timing) -> Estimate:
    """The median over rounds of the ratio of the two times of a round: what slows a round slows both."""
    found = bootstrap(np.divide(theirs.seconds, ours.seconds), centre=np.median, seed=BOOTSTRAP_SEED)
    return Estimate(mean=found.mean, low=found.low, high=found.high)


def _agreement(images: Float, ours: Float) -> list[float | None]:
    """PSNR of images in [-1, 1], not rounded to gray levels; None where they are equal."""
    found = [psnr(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), data_range=2) for a, b in
             zip(images, ours, strict=True)]  # fmt: skip
    return [None if math.isinf(value) else value for value in found]


def _torch() -> tuple[int | None, str]:
    """Bytes of torch and what it brings, and which build it is."""
    try:
        total = sum(installed_bytes(dependencies(["torch"])).values())
    except BackendError:
        return None, "not installed"
    import torch

    return total, f"torch {torch.__version__}"


def _checks(rows: Mapping[str, PeerResult], torch_bytes: int | None) -> list[Check]:
    """What is wanted, as far as it was measured."""
    checks = []
    for key, (claim, limit) in TARGETS.items():
        if key in rows:
            value = rows[key].over_ours.mean
            checks.append(Check(claim=claim, value=_short(value), limit=limit, holds=value >= limit))
    if torch_bytes:
        share = rows[OURS].footprint.installed_bytes / torch_bytes
        holds = share <= SIZE_LIMIT
        checks.append(Check(claim=SIZE_CLAIM, value=_short(share), limit=SIZE_LIMIT, holds=holds))
    return checks


def _notices(rows: Sequence[PeerResult], same_calibration: bool | None) -> list[str]:
    """What a reader must know before the numbers."""
    notices = [
        f"{row.label} computes something else: {worst:.1f} dB from edge-sr in FP32"
        for row in rows
        if (worst := min((v for v in row.to_ours_db if v is not None), default=math.inf))
        < SAME_DB[row.precision]
    ]
    notices += [
        f"{row.label} is unsteady: its quartiles are {spread:.0%} of the median apart"
        for row in rows
        if (spread := (row.seconds.high - row.seconds.low) / row.seconds.median) > UNSTABLE
    ]
    if same_calibration is False:
        notices.append("NNCF was calibrated with other images than the bundle's own INT8 graphs")
    return notices


def _short(value: float) -> float:
    return float(f"{value:.4g}")
