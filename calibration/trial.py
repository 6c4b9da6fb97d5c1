"""Runs a bundle with other graphs in place of its own, and says how far it is from FP32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from calibration.images import CalibrationSet
from calibration.record import find_preset
from edge_sr.backends.ort import OnnxRuntimeBackend, OnnxRuntimeEngine
from edge_sr.bundle import Bundle
from edge_sr.pipeline import TileEngine, Upscaler
from edge_sr.spec import Component, Graph, Precision

__all__ = ["GRAY_LEVELS", "Outcome", "Trials", "rms"]

Float = npt.NDArray[np.float32]
Models = Mapping[Component, Any]
GRAY_LEVELS = 127.5  # of 255, for a difference of 1 in [-1, 1]


@dataclass(frozen=True)
class Outcome:
    """What became of every image.

    Attributes:
        images: (C, H, W) float32 in [-1, 1] each.
        latents: What the loop ended at, of the last tiles of each image; none where there is no loop.
        seconds: Wall time of each image.
    """

    images: tuple[Float, ...]
    latents: tuple[Float, ...]
    seconds: tuple[float, ...]

    def image_error(self, other: Outcome) -> float:
        """Root mean square difference of the images, in gray levels of 255."""
        return rms(self.images, other.images) * GRAY_LEVELS

    def latent_error(self, other: Outcome) -> float:
        """The same of the latents, in standard deviations of the latent; 0 where there is no loop."""
        return rms(self.latents, other.latents)

    def psnr(self, truth: tuple[Float, ...]) -> float:
        """Mean PSNR in dB against true images in [-1, 1]."""
        pairs = zip(self.images, truth, strict=True)
        errors = [float(np.mean((np.clip(image, -1, 1) - true) ** 2)) for image, true in pairs]
        return float(np.mean([10 * np.log10(4.0 / error) for error in errors]))


class Trials:
    """Images and a preset, on which graphs are tried; the seed of each image is the same in every trial."""

    def __init__(self, bundle: Bundle, images: CalibrationSet, *, preset: str | None, seed: int) -> None:
        self.bundle, self.images, self.seed = bundle, images, seed
        self.preset = find_preset(bundle, preset)

    def run(self, models: Models, *, coefficients: Float | None = None) -> Outcome:
        """Every image, with these graphs in place of the FP32 ones.

        Args:
            models: ONNX graphs for some of the components.
            coefficients: (S, 7) float32 in place of the sampler's own.

        Raises:
            BackendError: ONNX Runtime refuses a graph.
        """
        with TemporaryDirectory() as folder:
            paths = {component: _save(model, Path(folder), component) for component, model in models.items()}
            with Upscaler(self.bundle, _Substitutes(paths), precision=Precision.FP32) as upscaler:
                engine = upscaler.tile_engine(self.preset, 1)
                if coefficients is not None:
                    engine.buffers["coefficients"].upload(coefficients[:, None], engine.stream)
                return self._outcome(upscaler, engine)

    def _outcome(self, upscaler: Upscaler, engine: TileEngine) -> Outcome:
        outputs, latents = [], []
        steps = len(engine.schedule.steps)
        for index, image in enumerate(self.images.images):
            outputs.append(upscaler.upscale(image, preset=self.preset, seed=self.seed + index))
            if steps:
                found = np.empty(engine.latent_shape, np.float32)
                engine.latent.download(found, engine.stream)
                latents.append(found)
        spent = [o.seconds.encode + o.seconds.loop + o.seconds.decode + o.seconds.host for o in outputs]
        return Outcome(tuple(o.mean for o in outputs), tuple(latents), tuple(spent))


class _Substitutes(OnnxRuntimeBackend):
    """ONNX Runtime, with other files for some of the graphs."""

    def __init__(self, paths: Mapping[Component, Path]) -> None:
        super().__init__()
        self.paths = paths

    def load(self, graph: Graph) -> OnnxRuntimeEngine:
        """The substitute where there is one; as INT8, so that it takes the form that this CPU wants."""
        path = self.paths.get(graph.component)
        return super().load(graph if path is None else replace(graph, path=path, precision=Precision.INT8))


def rms(a: tuple[Float, ...], b: tuple[Float, ...]) -> float:
    """Root mean square difference over all arrays together; 0 where there are none."""
    squares = sum(float(np.sum((x.astype(np.float64) - y) ** 2)) for x, y in zip(a, b, strict=True))
    return float(np.sqrt(squares / max(1, sum(x.size for x in a))))


def _save(model: Any, folder: Path, component: Component) -> Path:
    path = folder / f"{component}.onnx"
    onnx.save(model, str(path))
    return path
