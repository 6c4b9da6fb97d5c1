"""Results that nobody measured, of the kinds whose own files are not in this repository yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.board import BOOTSTRAP_SEED
from benchmarks.diagnostic.assembly import Scored, Truth, all_pairs, failures, row_auc, row_result
from benchmarks.diagnostic.judge import Look
from benchmarks.diagnostic.outputs import Output
from benchmarks.diagnostic.ranking import patient_draws
from benchmarks.diagnostic.records import DiagnosticResult, JudgeFacts
from benchmarks.diagnostic.words import checks, verdicts
from benchmarks.environment import environment
from benchmarks.ladder.assembly import source
from benchmarks.ladder.rungs import FP16, FP32, INT8
from benchmarks.loop import timing
from benchmarks.pairs import Pairs
from benchmarks.peers.protocol import OURS, OURS_FP32
from benchmarks.peers.records import Footprint, LeftOut, PeerResult, PeersResult
from benchmarks.records import BundleFacts, Check, Estimate
from benchmarks.roofline.records import Rate, RooflineResult, StageResult
from benchmarks.rows import BICUBIC, HR
from benchmarks.service.records import Cell, Lone, ServiceResult, Summary
from edge_sr.bundle import Bundle
from tests.edge_sr.bench.results import record_of

__all__ = ["bench", "diagnostic", "peers", "roofline", "service"]

ROUNDS, CASES = 12, 60
SECONDS = {
    OURS: ("edge-sr INT8", "int8", 0.20, 30.0),
    OURS_FP32: ("edge-sr FP32", "fp32", 0.42, 30.1),
    "torch-eager": ("PyTorch, eager", "fp32", 0.95, 30.1),
    "torch-channels-last": ("PyTorch, channels last", "fp32", 0.66, 30.1),
    "torch-compile": ("PyTorch, torch.compile", "fp32", 0.60, 30.1),
    "ort-fp32": ("ONNX Runtime, plain loop", "fp32", 0.50, 30.1),
    "openvino-fp32": ("OpenVINO", "fp32", 0.43, 30.1),
    "openvino-int8": ("OpenVINO, NNCF INT8", "int8", 0.18, 29.4),
}
"""Key -> label, precision, seconds, PSNR to the truth."""


def peers(bundle: Bundle, pairs: Pairs) -> PeersResult:
    """OpenVINO's INT8 is faster than edge-sr, the rest is slower."""
    rng = np.random.default_rng(0)
    noise = rng.normal(1, 0.02, (len(SECONDS), ROUNDS))
    rows = [
        _peer(key, *told, noise=noise[place], images=len(pairs.names))
        for place, (key, told) in enumerate(SECONDS.items())
    ]
    return PeersResult(
        environment=environment(["peers"], threads=2),
        bundle=_facts(bundle),
        data=pairs.facts(degradation="not stated", operator="cubic"),
        preset=_preset(bundle),
        rounds=ROUNDS,
        same_calibration=True,
        torch_bytes=754_000_000,
        torch_build="torch",
        rows=tuple(rows),
        left_out=(LeftOut(key="ncnn", reason="not installed: ncnn"),),
        checks=(Check(claim="one image by OpenVINO INT8 over edge-sr", value=0.9, limit=1.0, holds=False),),
        notices=(),
    )


def _peer(
    key: str, label: str, precision: str, seconds: float, psnr: float, *, noise: Any, images: int
) -> PeerResult:
    ratio = seconds / SECONDS[OURS][2]
    near = Estimate(mean=ratio, low=0.97 * ratio, high=1.03 * ratio)
    return PeerResult(
        key=key,
        label=label,
        note="made up",
        precision=precision,
        seconds=timing((seconds * noise).tolist(), note="made up"),
        over_ours=near,
        over_ours_alike=near,
        open_s=1.5,
        peak_bytes=150 << 20,
        to_ours_db=(None, 70.0),
        to_truth_db=(psnr,) * images,
        footprint=Footprint(
            installed={"numpy": 10_000_000}, installed_bytes=10_000_000, import_s=(0.5,), lines=20
        ),
    )


def diagnostic(
    bundle: Bundle, pairs: Pairs, *, is_valid: bool = True, worse: float = 0.0
) -> DiagnosticResult:
    """A judge of random scores.

    Args:
        bundle: Whose outputs it judges.
        pairs: Stand for the images.
        is_valid: Whether it is good enough to judge.
        worse: What INT8 adds to the scores of the healthy, in logits.
    """
    rng = np.random.default_rng(0)
    ill = np.arange(CASES) % 2 == 0
    truth = Truth(ill, patient_draws([str(n) for n in range(CASES)], seed=BOOTSTRAP_SEED, resamples=200))
    base = np.where(ill, 2.0, -2.0) + rng.normal(0, 1.2, CASES)
    labels = {HR: "true image", BICUBIC: "bicubic", FP32: "FP32", FP16: "FP16", INT8: "INT8"}
    rows = [
        _scored(key, label, base, rng, worse if key == INT8 else 0.0, ill) for key, label in labels.items()
    ]
    judge = _judge(row_auc(rows[0], truth), is_valid)
    kept = rows if is_valid else rows[:1]
    results = tuple(row_result(row, rows[0], truth) for row in kept)
    pairs_ = all_pairs(kept, truth) if is_valid else ()
    return DiagnosticResult(
        environment=environment(["diagnostic"], threads=2),
        bundle=source(bundle),
        data=pairs.facts(degradation="made up", operator="cubic"),
        source="made up",
        model_data="none",
        is_ill=tuple(map(int, ill)),
        patients=tuple(range(CASES)),
        judge=judge,
        preset=_preset(bundle),
        seeds=(0, 1),
        bootstrap={"resamples": 200, "seed": BOOTSTRAP_SEED},
        rows=results,
        pairs=pairs_,
        failures=failures(kept, truth) if is_valid else (),
        checks=checks(judge, results, pairs_),
        verdicts=verdicts(judge, results, pairs_, images=CASES),
        notices=(),
    )


def _scored(key: str, label: str, base: Any, rng: Any, worse: float, ill: Any) -> Scored:
    seeds = 1 if key in (HR, BICUBIC) else 2
    logits = np.stack([base + rng.normal(0, 0.2, CASES) + worse * ~ill for _ in range(seeds)])
    looks = tuple(Look(seed, torch.ones(CASES, 4)) for seed in logits)
    return Scored(Output(key, label, "made up", np.zeros((seeds, CASES, 1, 1), np.uint8)), looks, logits)


def _judge(auc: Estimate, is_valid: bool) -> JudgeFacts:
    counts = dict.fromkeys(("train_images", "train_patients", "val_images", "val_patients"), 100)
    return JudgeFacts(
        digest="0" * 64,
        parameters=11_000_000,
        validation={"auc": 0.97},
        auc=auc if is_valid else Estimate(mean=0.7, low=0.6, high=0.8),
        limit=0.9,
        is_valid=is_valid,
        **counts,
    )


def bench(bundle: Bundle, **parts: Any) -> dict[str, Any]:
    """What `edge-sr bench --json` writes."""
    return record_of(digest=bundle.digest, **parts)


def roofline(bundle: Bundle) -> RooflineResult:
    """A stage that reaches half of the peak."""
    spent = timing([0.02, 0.02, 0.02], note="made up")
    stage = StageResult(
        stage="step", precision="fp32", macs=1_000_000_000, traffic_bytes=1 << 20, int8_share=0.0,
        seconds=spent, floor_ms=5.0, mixed_ms=10.0, reached=0.5, shares={"products": 1.0},
        products_reached=0.625, operators={"Conv": 16.0},
    )  # fmt: skip
    return RooflineResult(
        environment=environment(["roofline"], threads=2),
        bundle=_facts(bundle),
        rounds=3,
        steps=20,
        rates=(Rate(name="matrix product", kind="fp32", per_second=2e11, seconds=spent),),
        fp32_tops=0.2,
        int8_tops=0.8,
        memory_gb_s=10.0,
        bandwidth_gb_s={"step, fp32": 12.0},
        stages=(stage,),
        words=("step, fp32: half of its time is products",),
    )


def service(bundle: Bundle) -> ServiceResult:
    """Two servers under one load."""
    return ServiceResult(
        environment=environment(["service"], threads=2),
        bundle=_facts(bundle),
        preset=_preset(bundle),
        small=64,
        large=256,
        tiles=(1, 9),
        large_share=0.1,
        queue_size=16,
        capacity=4.5,
        seconds=20.0,
        rounds=3,
        seed=0,
        lone=(Lone(batch=1, small_s=(0.2,), large_s=(1.8,)),),
        cells=(_cell(1, 1.0), _cell(4, 1.2)),
        differing=0,
        checks=(),
    )


def _cell(batch: int, ratio: float) -> Cell:
    summary = Summary(
        throughput=4.4 * ratio, tiles=8.0, refused=0.02, small_p50_s=0.3, small_p99_s=0.9,
        large_p50_s=2.0, large_p99_s=None, small_slowdown=1.6, large_slowdown=1.2, jain=0.9,
        throughput_ratio=(ratio, 0.9, 1.3),
    )  # fmt: skip
    return Cell(
        kind="open", load=0.8, batch=batch, round=(0,), is_large=(False,), latency_s=(0.3,), status=(200,),
        wall_s=(20.0,), summary=summary,
    )  # fmt: skip


def _facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    return BundleFacts(
        name=manifest.name, version=manifest.version, digest=bundle.digest, precision="int8", backend={}
    )


def _preset(bundle: Bundle) -> Any:
    diffusion = bundle.diffusion
    return diffusion.presets[diffusion.default]
