"""`python -m benchmarks quality`: a bundle against bicubic, its own parts, and the true HR images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.board import assemble, score, seed_diversity
from benchmarks.environment import environment
from benchmarks.features import FeatureDistance
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.records import BundleFacts, QualityResult
from benchmarks.report import quality_table
from benchmarks.rows import Autoencoder, Extras, Row, Runner, Track, make_rows, plan_rows
from benchmarks.scores import Judge
from benchmarks.sheet import contact_sheet
from benchmarks.weights import latent_scale
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from export.perceptual import LPIPS
from export.to_onnx import round_weights
from export.train_unet import load_vae

__all__ = ["Outcome", "Request", "autoencoder", "bundle_facts", "run_quality"]

Float = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]
VAE_TOLERANCE = 1e-3  # of the mean image, in [-1, 1]: another autoencoder differs by far more


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        bundle, pairs: Folders.
        precision: Of the graphs.
        lpips: Folder of the LPIPS weights; None leaves the metric out.
        features: File of the second judge's weights; None leaves it out.
        vae: The run that trained the bundle's autoencoder; None leaves out what needs its HR encoder.
        presets: To show beside the default.
        reduction: How LR images are made, of `benchmarks.pairs.REDUCTIONS`; None for the pairs' own.
        seeds: How many.
        limit: Images at most; 0 for all.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    bundle: Path
    pairs: Path
    precision: Precision = Precision.FP32
    lpips: Path | None = None
    features: Path | None = None
    vae: Path | None = None
    presets: tuple[str, ...] = ()
    reduction: str | None = None
    seeds: int = 3
    limit: int = 0
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


@dataclass(frozen=True)
class Outcome:
    """What is written: the record, the table, the contact sheet."""

    record: QualityResult
    markdown: str
    png: bytes


def run_quality(request: Request, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Judges a bundle. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle, the pairs or the weights cannot be used.
    """
    bundle = Bundle.open(request.bundle)
    pairs = read_pairs(request.pairs, bundle, limit=request.limit, reduction=request.reduction)
    operator, scale = bundle.manifest.degradation, bundle.manifest.scale
    lpips = LPIPS(request.lpips) if request.lpips else None
    features = FeatureDistance(request.features) if request.features else None
    backend = open_backend("onnxruntime", threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        rows, images = _make(request, upscaler, pairs, track=track)
        facts = bundle_facts(upscaler)
    judge = Judge(scale=scale, degradation=operator, lpips=lpips, features=features, has_spectrum=True)
    scores = score(judge, images, pairs, track=track)
    record = assemble(
        environment(arguments, threads=int(facts.backend["threads"])),
        facts,
        pairs.facts(degradation=request.reduction or request.degradation, operator=operator),
        rows=rows,
        scores=scores,
        spreads=seed_diversity(images, pairs),
        features=features.digest if features else None,
    )
    return Outcome(record, quality_table(record), contact_sheet(record, images, pairs))


def _make(
    request: Request, upscaler: Upscaler, pairs: Pairs, *, track: Track
) -> tuple[list[Row], dict[str, Gray]]:
    """The rows, and the images of each."""
    runner, scale = Runner(upscaler), latent_scale(upscaler.bundle)
    extras = Extras(
        autoencoder=autoencoder(request.vae, runner) if request.vae else None,
        zero=None if scale is None else np.asarray(-scale[0] / scale[1], np.float32),
    )
    rows = plan_rows(upscaler.bundle, request.presets, extras)
    seeds = range(request.seeds)
    return rows, make_rows(runner, rows, pairs, extras, seeds=seeds, batch=request.batch, track=track)


def autoencoder(run: Path, runner: Runner) -> Autoencoder:
    """The autoencoder of a training run, for the bundle that it went into.

    Raises:
        ConfigError: The run holds no weights, or the latent's scale is not known.
    """
    return _Autoencoder(run, runner, latent_scale(runner.upscaler.bundle))


def bundle_facts(upscaler: Upscaler) -> BundleFacts:
    """What a result says of the model."""
    manifest = upscaler.bundle.manifest
    return BundleFacts(
        name=manifest.name,
        version=manifest.version,
        digest=upscaler.bundle.digest,
        precision=str(upscaler.precision),
        backend=upscaler.backend.describe(),
    )


class _Autoencoder:
    """The autoencoder of a training run, its weights rounded as a bundle's are.

    Args:
        run: Its folder.
        runner: The bundle that it is said to have gone into.
        scale: Mean and deviation that the bundle standardises latents with; None where that is not known.

    Raises:
        ConfigError: The run holds no weights, or the latent's scale is not known.
    """

    def __init__(self, run: Path, runner: Runner, scale: tuple[Float, Float] | None) -> None:
        if scale is None:
            raise ConfigError("the decoder graph names no latent_mean and latent_std", hint="leave --vae out")
        self._run, self._runner, self._scale, self._vae = run, runner, scale, load_vae(run)
        round_weights(self._vae)

    def latent(self, lr: Float, hr: Float) -> Float:
        """See `benchmarks.rows.Autoencoder`.

        Raises:
            ConfigError: This is not the run that trained the bundle's encoder.
        """
        mean, _, latent = self._encode(lr, hr)
        self._check(mean.numpy(), lr)
        return np.asarray((latent.numpy() - self._scale[0]) / self._scale[1], dtype=np.float32)

    def reconstruct(self, lr: Float, hr: Float) -> Float:
        """See `benchmarks.rows.Autoencoder`."""
        mean, features, latent = self._encode(lr, hr)
        with torch.inference_mode():
            images: Float = self._vae.decoder(latent, features, mean).numpy()
        return images

    def _encode(self, lr: Float, hr: Float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean image, features and the mean of the latent."""
        with torch.inference_mode():
            mean, features, _ = self._vae.lr_encoder(torch.from_numpy(lr))
            latent, _ = self._vae.encode(torch.from_numpy(hr), mean, features)
        return mean, features, latent

    def _check(self, mean: Float, lr: Float) -> None:
        """The mean image against the bundle's, which another precision than FP32 changes."""
        if self._runner.upscaler.precision is not Precision.FP32:
            return
        difference = float(np.abs(mean - self._runner.encode(lr)["mean"]).max())
        if difference > VAE_TOLERANCE:
            raise ConfigError(
                f"the mean image of {self._run} differs from the bundle's by {difference:.2g}",
                hint="name the run that trained this bundle's autoencoder, or leave --vae out",
            )
