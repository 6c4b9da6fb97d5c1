"""`python -m benchmarks evidence`: what a result says of itself, held against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.board import estimate
from benchmarks.environment import environment
from benchmarks.evidence.picture import draw
from benchmarks.evidence.projecting import GIVEN, judge_projection
from benchmarks.evidence.records import ConsistencyFacts, EvidenceResult, Invention, Projection, SpreadFacts
from benchmarks.evidence.report import evidence_report
from benchmarks.evidence.spread import judge_spread
from benchmarks.evidence.trust import judge_consistency
from benchmarks.pairs import Pairs, read_pairs, to_gray
from benchmarks.quality import autoencoder, bundle_facts
from benchmarks.records import Check
from benchmarks.rows import Runner, Track, require_parts
from benchmarks.scores import Judge
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.evidence import invention_rates
from edge_sr.image import resize_bicubic
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from export.perceptual import LPIPS

__all__ = ["LEAST_SAMPLES", "Outcome", "Request", "run_evidence"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

LEAST_SAMPLES = 4  # fewer have no interval but the whole
ONE, MEAN_OF_ALL = "one sample", "mean of the samples"


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        bundle, pairs: Folders.
        precision: Of the graphs.
        lpips: Folder of the LPIPS weights; None leaves the metric out.
        vae: The run that trained the bundle's autoencoder; None leaves hallucination and loss rates out.
        samples: How many a spread is taken over, at least `LEAST_SAMPLES`.
        seed: Of all of them.
        limit: Images at most; 0 for all.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    bundle: Path
    pairs: Path
    precision: Precision = Precision.FP32
    lpips: Path | None = None
    vae: Path | None = None
    samples: int = 8
    seed: int = 0
    limit: int = 16
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


@dataclass(frozen=True)
class Outcome:
    """What is written: the record, the report, the picture."""

    record: EvidenceResult
    markdown: str
    png: bytes


def run_evidence(request: Request, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Judges the evidence that a bundle's results come with. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle, the pairs or the weights cannot be used.
    """
    bundle = Bundle.open(request.bundle)
    require_parts(bundle, "evidence")
    manifest = bundle.manifest
    pairs = read_pairs(request.pairs, bundle, limit=request.limit)
    preset = bundle.diffusion.presets[bundle.diffusion.default].model_copy(update={"samples": 1})
    lpips = LPIPS(request.lpips) if request.lpips else None
    judge = Judge(scale=manifest.scale, degradation=manifest.degradation, lpips=lpips)
    backend = open_backend("onnxruntime", threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        runner = Runner(upscaler)
        samples = _draw(runner, pairs, preset, request, track=track)
        images = _images(runner, pairs, samples, request)
        invention = _invention(runner, pairs, images, request)
        projection = judge_projection(
            runner, pairs, preset, judge=judge, seed=request.seed, batch=request.batch, track=track
        )
        facts = bundle_facts(upscaler)
    consistency = judge_consistency(manifest, pairs, {k: images[k] for k in (ONE, MEAN_OF_ALL, "bicubic")})
    spread = judge_spread((samples + 1) * np.float32(127.5), pairs.hr_pixels)
    record = EvidenceResult(
        environment=environment(arguments, threads=int(facts.backend["threads"])),
        bundle=facts,
        data=pairs.facts(degradation=request.degradation, operator=manifest.degradation),
        preset=preset,
        seed=request.seed,
        consistency=consistency,
        spread=spread,
        invention=invention,
        projection=projection,
        checks=_checks(consistency, spread, projection),
        notices=_notices(request, consistency, len(pairs.names)),
    )
    return Outcome(record, evidence_report(record), draw(record))


def _draw(runner: Runner, pairs: Pairs, preset: Preset, request: Request, *, track: Track) -> Float:
    """Samples of every image: (K, N, H, W) in [-1, 1], clipped."""
    batches = [pairs.lr[at : at + request.batch] for at in range(0, len(pairs.names), request.batch)]
    drawn = [
        np.concatenate([runner.draw(lr, preset, seed=request.seed, index=index)[:, 0] for lr in batches])
        for index in track(range(request.samples), "samples")
    ]
    return np.clip(np.stack(drawn), -1, 1)


def _images(runner: Runner, pairs: Pairs, samples: Float, request: Request) -> dict[str, Gray]:
    """What there is of every LR image, (N, H, W) each."""
    scale = runner.upscaler.bundle.manifest.scale
    means = [runner.encode(pairs.lr[at : at + 1])["mean"] for at in range(len(pairs.names))]
    return {
        ONE: to_gray(samples[0][:, None]),
        MEAN_OF_ALL: to_gray(samples.mean(axis=0)[:, None]),
        "regression": to_gray(np.concatenate(means)),
        "bicubic": np.stack([resize_bicubic(image, scale) for image in pairs.lr_pixels]),
    }


def _invention(
    runner: Runner, pairs: Pairs, images: Mapping[str, Gray], request: Request
) -> tuple[Invention, ...]:
    """Hallucination and loss rates of each, beyond the autoencoder's own error."""
    if request.vae is None:
        return ()
    decoded = to_gray(autoencoder(request.vae, runner).reconstruct(pairs.lr, pairs.hr))
    rows = []
    for label, made in (*images.items(), ("autoencoder's decode of the truth", decoded)):
        triples = zip(made, pairs.hr_pixels, decoded, strict=True)
        rates = [invention_rates(*three) for three in triples]
        rows.append(
            Invention(
                label=label,
                hallucinated=estimate([100 * rate.hallucination for rate in rates]),
                lost=estimate([100 * rate.loss for rate in rates]),
                threshold_levels=float(np.mean([rate.threshold for rate in rates])),
            )
        )
    return tuple(rows)


def _checks(
    consistency: ConsistencyFacts, spread: SpreadFacts, projection: Sequence[Projection]
) -> tuple[Check, ...]:
    """What a user of the evidence may rely on, as far as this run shows it."""
    false, limit = consistency.outputs[0].alarmed, consistency.known.quantile
    gains = {(p.degradation, p.operator): p.gain_db for p in projection}
    matching = min(gains[name, name].mean for name in ("area", "antialiased-bicubic"))
    given = max(found.mean for (degradation, name), found in gains.items() if degradation == GIVEN and name)
    blocks, regions = spread.correlation_blocks, spread.regions
    return (
        _check("outputs are alarmed no more often than true images", false, limit, holds=false <= limit),
        _check("the spread predicts the error (correlation in blocks)", blocks.mean, 0, holds=blocks.low > 0),
        _check("the error in listed regions is above the image's", regions.mean, 1, holds=regions.low > 1),
        _check("back-projection helps where an averaging operator matches", matching, 0, holds=matching > 0),
        _check("it stays off: on the LR images as given none gains 0.1 dB", given, 0.1, holds=given < 0.1),
    )


def _check(claim: str, value: float, limit: float, *, holds: bool) -> Check:
    return Check(claim=claim, value=float(f"{value:.6g}"), limit=limit, holds=holds)


def _notices(request: Request, consistency: ConsistencyFacts, images: int) -> tuple[str, ...]:
    notices = []
    if consistency.is_own:
        notices.append(
            "the bundle knows no threshold: it was taken from these very images "
            "(python -m calibration consistency stores one)"
        )
    if request.vae is None:
        notices.append("hallucination and loss rates are left out: name the autoencoder's run with --vae")
    if request.lpips is None:
        notices.append("LPIPS is left out: name the folder of its weights with --lpips")
    if images < 30:
        notices.append(f"images: {images}, too few for the intervals to mean much")
    return tuple(notices)
