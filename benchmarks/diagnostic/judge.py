"""The trained judge: what it says of images, and how far two images are apart for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from benchmarks.diagnostic.resnet import ResNet18, ResNetConfig
from benchmarks.diagnostic.training import WEIGHTS, batches_of
from edge_sr.errors import ConfigError

__all__ = ["Judge", "Look"]

Gray = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """What the judge makes of N images.

    Attributes:
        logits: (N,); above 0 it says pneumonia.
        features: (N, C), what it decides from.
    """

    logits: Values
    features: torch.Tensor

    def distances(self, other: Look) -> Values:
        """From the same images in another version, one by one: (N,), see `Judge.distance`."""
        return np.asarray(_apart(self.features, other.features).double().numpy())


class Judge:
    """A classifier that was trained on true images alone.

    Attributes:
        digest: SHA-256 over its weights.
        parameters: How many it has.
        validation: Its figures on the images that it was chosen by.
    """

    def __init__(self, run: Path) -> None:
        """Reads the weights of a run.

        Args:
            run: The folder that `train_judge` wrote.

        Raises:
            ConfigError: It holds no weights, or damaged ones.
        """
        path = run / WEIGHTS
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self._model = ResNet18(ResNetConfig(**saved["config"]["network"]))
            self._model.load_state_dict(saved["weights"])
            self.validation: dict[str, float] = dict(saved["validation"])
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from error
        except Exception as error:  # torch, zipfile and pickle have a dozen for damaged files
            raise ConfigError(f"{path} is no judge: {str(error).strip().splitlines()[0]}") from error
        self._model.eval().requires_grad_(requires_grad=False)
        weights = list(self._model.parameters())
        self.parameters = sum(w.numel() for w in weights)
        self.digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights)).hexdigest()

    def look(self, images: Gray) -> Look:
        """Judges images, (N, 256, 256).

        Raises:
            ConfigError: They are of another size.
        """
        with torch.inference_mode():
            features = torch.cat([self._model.features(part) for part in batches_of(images)])
            return Look(np.asarray(self._model.decide(features).double().numpy()), features)

    def distance(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """One less the cosine between what the judge decides from: another judge of likeness.

        Args:
            a: (N, 1, 256, 256) in [-1, 1].
            b: The same, or (1, 1, 256, 256).

        Returns:
            (N,), from 0 to 1: those features are not negative.
        """
        with torch.inference_mode():
            return _apart(self._model.features(a), self._model.features(b))


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (1 - functional.cosine_similarity(a, b)).clamp(min=0)  # rounding leaves 3e-8 of equal ones
