"""Trains the judge: one run folder, resumed by the same command, its weights chosen by validation."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from benchmarks.diagnostic.cases import SPLIT_SEED, Cases, digest, read_images
from benchmarks.diagnostic.ranking import auc
from benchmarks.diagnostic.resnet import SIDE, ResNet18, ResNetConfig
from edge_sr.errors import ConfigError
from edge_sr.image import to_unit
from export.train import Batch, TrainOptions, fit, sheet

__all__ = ["BATCH", "WEIGHTS", "JudgeTask", "Recipe", "batches_of", "train_judge"]

WEIGHTS = "judge.pt"  # of the best validation; weights.pt beside it is the latest
BATCH = 16  # images, half of them normal
EMA = 0.99  # a run is short
WARMUP = 50  # iterations
HARDEST = 4  # images a class on the sheet of a validation
ROTATION_DEG, SHIFT, ZOOM, CONTRAST = 7.0, 0.04, (0.95, 1.10), 0.15  # the largest changes
Gray = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How long the judge is trained, and how large it is.

    Attributes:
        iterations: Optimiser steps.
        learning_rate: Its peak.
        validate_every: Iterations between validations.
        seed: Of weights, batches and augmentation.
        threads: CPU threads; 0 for torch's choice.
        network: The network's size.
    """

    iterations: int = 400
    learning_rate: float = 1e-3
    validate_every: int = 100
    seed: int = 0
    threads: int = 0
    network: ResNetConfig = field(default_factory=ResNetConfig)


class JudgeTask:
    """Cross-entropy over batches with as many normal images as ill ones: so a logit of 0 is the threshold."""

    def __init__(self, cases: Cases, recipe: Recipe, *, out: Path) -> None:
        """Reads the images.

        Args:
            cases: To train and to validate with.
            recipe: Of the network and its randomness.
            out: The run's folder, for the best weights.

        Raises:
            ImageError: An image cannot be read.
        """
        torch.manual_seed(recipe.seed)
        self.model: nn.Module = ResNet18(recipe.network)
        self._recipe, self._out = recipe, out
        self._train, self._val = read_images(cases.train), read_images(cases.val)
        ill = np.array([case.is_ill for case in cases.train])
        self._classes = (np.flatnonzero(~ill), np.flatnonzero(ill))
        self._ill = np.array([case.is_ill for case in cases.val])
        self._data = digest((*cases.train, *cases.val), np.concatenate([self._train, self._val]))

    def config(self) -> dict[str, Any]:
        """What a run may not be resumed without."""
        return {
            "network": self._recipe.network.to_dict(),
            "data": self._data,
            "split_seed": SPLIT_SEED,
            "seed": self._recipe.seed,
            "learning_rate": self._recipe.learning_rate,
        }

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Images (16, 1, 256, 256) in [-1, 1], the first half normal, and labels (16,)."""
        cv2.setNumThreads(0)  # its own pool would fight torch's for the cores
        labels = torch.arange(BATCH).ge(BATCH // 2).float()
        for index in range(start, self._recipe.iterations):
            rng = np.random.default_rng([self._recipe.seed, index])
            chosen = [rng.choice(group, BATCH // 2) for group in self._classes]
            images = np.stack([_vary(self._train[i], rng) for i in np.concatenate(chosen)])
            yield torch.from_numpy(images[:, None]), labels

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """Binary cross-entropy, and the share of right decisions."""
        images, labels = batch
        found = model(images.contiguous(memory_format=torch.channels_last))
        right = (found.detach() > 0).eq(labels > 0).float().mean()
        return {"loss": functional.binary_cross_entropy_with_logits(found, labels), "accuracy": right}

    def validate(self, model: nn.Module) -> tuple[dict[str, float], Gray]:
        """AUC and loss, both classes weighing the same; the weights are kept where the loss is the least yet.

        The sheet has the normal images that look most ill, and the ill ones that look most normal.
        """
        parts = [model(part) for part in batches_of(self._val)]
        found = torch.cat(parts).double().numpy()
        wrong = np.where(self._ill, -found, found)
        entropy = np.logaddexp(0, wrong)
        figures = {
            "auc": auc(found, self._ill),
            "loss": float((entropy[self._ill].mean() + entropy[~self._ill].mean()) / 2),
        }
        self._keep(model, figures)
        groups = [np.flatnonzero(is_ill)[np.argsort(-wrong[is_ill])] for is_ill in (~self._ill, self._ill)]
        rows = min(HARDEST, *map(len, groups))
        columns = [torch.from_numpy(to_unit(self._val[group[:rows], None])) for group in groups]
        return figures, sheet(columns, rows=rows)

    def _keep(self, model: nn.Module, figures: dict[str, float]) -> None:
        """Writes the weights, whole or not at all, unless better ones are there."""
        path = self._out / WEIGHTS
        if path.is_file() and torch.load(path, weights_only=True)["validation"]["loss"] <= figures["loss"]:
            return
        temporary = path.with_suffix(".tmp")
        kept = {"config": self.config(), "weights": model.state_dict(), "validation": figures}
        torch.save(kept, temporary)
        temporary.replace(path)


def train_judge(cases: Cases, recipe: Recipe, out: Path) -> None:
    """Trains until done: nothing where it is, on where it was stopped.

    Args:
        cases: The labelled images.
        recipe: How.
        out: The run's folder.

    Raises:
        UsageError: The folder holds a run on other images, or of another recipe.
        TrainingError: The loss is no longer a number.
        OutputError: The folder cannot be written.
        ImageError: An image cannot be read.
    """
    task = JudgeTask(cases, recipe, out=out)
    options = TrainOptions(
        out=out,
        iterations=recipe.iterations,
        learning_rate=recipe.learning_rate,
        warmup=WARMUP,
        ema=EMA,
        seed=recipe.seed,
        validate_every=recipe.validate_every,
        threads=recipe.threads,
    )
    fit(task, options)


def batches_of(images: Gray) -> list[torch.Tensor]:
    """Images (N, 256, 256) as the network takes them: (16, 1, 256, 256) in [-1, 1], the last batch smaller.

    Raises:
        ConfigError: They are of another size.
    """
    if images.shape[1:] != (SIDE, SIDE):
        raise ConfigError(f"the judge reads {SIDE}x{SIDE} pixels, got {images.shape[2]}x{images.shape[1]}")
    return [torch.from_numpy(to_unit(images[at : at + BATCH, None])) for at in range(0, len(images), BATCH)]


def _vary(image: Gray, rng: np.random.Generator) -> Float:
    """A little turned, shifted, scaled, and of another contrast; as it is half of the time. In [-1, 1]."""
    if rng.random() < 0.5:
        middle = SIDE / 2
        turn, zoom = rng.uniform(-ROTATION_DEG, ROTATION_DEG), rng.uniform(*ZOOM)
        matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
        matrix[:, 2] += SIDE * rng.uniform(-SHIFT, SHIFT, 2)
        image = cv2.warpAffine(
            image, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
    gamma = np.exp(rng.uniform(-CONTRAST, CONTRAST))
    return np.asarray(2 * (image / np.float32(255)) ** np.float32(gamma) - 1, np.float32)
