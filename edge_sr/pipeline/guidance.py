"""Classifier-free guidance: which classes a step evaluates, and how their predictions are mixed.

Ho and Salimans 2022: prediction = null + w * (class - null). The step graph does it over rows of its batch,
in one call: every row is an evaluation with the embedding of one class, and goes on with its own prediction
and that of its partner's row, weighted. A guided sample takes two rows, which are each other's partner and
thus stay the same sample; with the null class alone, or with w of 0 or 1, it takes one row, its own partner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_sr.errors import UsageError
from edge_sr.manifest import Manifest, Preset

__all__ = ["Guide", "make_guide"]

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Guide:
    """What the evaluations of a sample are told.

    Attributes:
        embedding: (R, D) float32, the class of each evaluation, which is added to the timestep's row.
        weights: (R, 2) float32, of its own prediction and of its partner's.
    """

    embedding: Float
    weights: Float

    @property
    def evaluations(self) -> int:
        """R: one, or two with a partner."""
        return len(self.embedding)

    def rows(self, timesteps: Float, batch: int) -> Float:
        """The embedding's rows of a batch: those of the first evaluation, then those of the second.

        Args:
            timesteps: (S, D) float32, of the steps.
            batch: N.

        Returns:
            (S, R * N, D) float32.
        """
        return np.asarray(timesteps[:, None] + np.repeat(self.embedding, batch, axis=0), np.float32)

    def partners(self, batch: int) -> npt.NDArray[np.int32]:
        """(R * N,): the row of each row's partner in such a batch."""
        rows = np.arange(self.evaluations * batch, dtype=np.int32)
        return np.roll(rows, batch)


def make_guide(manifest: Manifest, table: Float, preset: Preset | None) -> Guide | None:
    """The guide of a preset; None for a model that was told no classes.

    Args:
        manifest: Of the bundle.
        table: (K, D) float32, the embedding of every class.
        preset: How the loop runs.

    Raises:
        UsageError: There is no such class, or not that much guidance.
    """
    if preset is None:
        return None
    if problem := manifest.problem_of_class(preset):
        raise UsageError(problem, hint="edge-sr info lists the classes of a bundle, and the most guidance")
    classes = manifest.classes
    if classes is None:
        return None
    name, guidance = classes.asked(preset.class_name, preset.guidance)
    null, told = table[classes.names.index(classes.null)], table[classes.names.index(name)]
    if guidance in (0, 1):
        return Guide((told if guidance else null)[None], np.array([[1, 0]], np.float32))
    weights = np.array([[guidance, 1 - guidance], [1 - guidance, guidance]], np.float32)
    return Guide(np.stack([told, null]), weights)
