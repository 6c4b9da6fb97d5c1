"""`python -m benchmarks seams`: images of several tiles, joined in several ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.board import estimate
from benchmarks.environment import environment
from benchmarks.quality import bundle_facts
from benchmarks.records import Check
from benchmarks.rows import Runner, Track, require_parts
from benchmarks.seams.joining import joined_every_step, made_alone
from benchmarks.seams.measures import overlaps, rms_difference, step_ratio
from benchmarks.seams.records import SeamsResult, Way
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.image import read_image, resize_bicubic, split_luminance, to_unit
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.tiling import TileGrid, blend

__all__ = ["Request", "run_seams"]

Gray = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Plane = npt.NDArray[np.float64]
Join = Callable[..., Float]  # `made_alone`, or another of its signature

NONE, END, EVERY = "none", "end", "every-step"
MEASURES = ("step_ratio", "tile_rms", "tiling_rms", "detail_ratio")


@dataclass(frozen=True)
class Request:
    """What is to be enlarged, and how.

    Attributes:
        bundle: A folder.
        images: A folder of images, of which each gives a square from its middle.
        precision: Of the graphs.
        side: Of that square in LR pixels, above the bundle's tile.
        limit: Images at most.
        seed: Of the noise.
        threads: CPU threads, 0 for all cores.
    """

    bundle: Path
    images: Path
    precision: Precision = Precision.FP32
    side: int = 160
    limit: int = 4
    seed: int = 0
    threads: int = 0


def run_seams(request: Request, *, arguments: Sequence[str], track: Track) -> SeamsResult:
    """Measures the seams of a bundle. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle or the images cannot be used.
    """
    bundle = Bundle.open(request.bundle)
    require_parts(bundle, "seams")
    manifest = bundle.manifest
    preset = bundle.diffusion.presets[bundle.diffusion.default].model_copy(update={"samples": 1})
    names, images = _read(request, manifest.tile)
    backend = open_backend("onnxruntime", threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        scene = _Scene(upscaler, images, preset, request.seed, track)
        ways = (
            scene.way(NONE, "averaged without a ramp", 0, made_alone),
            scene.way(END, "blended at the end", manifest.overlap, made_alone),
            scene.way(EVERY, "blended after every step, and at the end", manifest.overlap, joined_every_step),
        )
        grid = upscaler.grid(request.side, request.side)
        result = SeamsResult(
            environment=environment(arguments, threads=int(upscaler.backend.describe()["threads"])),
            bundle=bundle_facts(upscaler),
            preset=preset,
            images=names,
            side=request.side,
            other_overlap=scene.other_overlap,
            bicubic_step_ratio=tuple(
                step_ratio(resize_bicubic(i, manifest.scale), *_scaled(grid, manifest.scale)) for i in images
            ),
            seed_rms=scene.seed_rms(),
            ways=ways,
            checks=_checks({way.key: way for way in ways}, scene.seed_rms()),
        )
    return result


def _read(request: Request, tile: int) -> tuple[tuple[str, ...], list[Gray]]:
    """The squares, and the names of the files that they are cut from."""
    files = sorted(path for path in request.images.glob("*.png"))[: request.limit]
    if not files or request.side <= tile:
        raise ConfigError(
            f"{len(files)} PNG images in {request.images}, squares of {request.side} pixels",
            hint=f"give a folder of PNG images, and a side above the tile's {tile}",
        )
    squares = []
    for path in files:
        pixels = read_image(path).pixels
        gray = pixels if pixels.ndim == 2 else split_luminance(pixels)[0]
        y, x = ((length - request.side) // 2 for length in gray.shape)
        if min(y, x) < 0 or gray.dtype != np.uint8:
            raise ConfigError(f"{path.name} is {gray.dtype} of {gray.shape}, wanted 8 bit and {request.side}")
        squares.append(np.ascontiguousarray(gray[y : y + request.side, x : x + request.side]))
    return tuple(path.name for path in files), squares


def _scaled(grid: TileGrid, scale: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The borders in pixels of the output."""
    rows, columns = (tuple(place * scale for place in places) for places in grid.borders)
    return rows, columns


class _Scene:
    """The images, and what every way is measured with."""

    def __init__(
        self, upscaler: Upscaler, images: list[Gray], preset: Preset, seed: int, track: Track
    ) -> None:
        self._upscaler, self._images, self._preset, self._seed = upscaler, images, preset, seed
        self._track, self._bundle = track, upscaler.bundle
        self._seed_rms: tuple[float, ...] | None = None
        manifest = self._bundle.manifest
        self.other_overlap = min(manifest.tile // 2, manifest.overlap * 3 // 2)

    def way(self, key: str, label: str, overlap: int, join: Join) -> Way:
        """Joins the tiles of every image in one way, by two tilings."""
        values: dict[str, list[float]] = {name: [] for name in MEASURES}
        scale, side = self._bundle.manifest.scale, len(self._images[0])
        grid = self._grid(overlap, side)
        for image in self._track(self._images, label):
            tiles, ours = self._join(join, image, overlap, self._seed)
            _, theirs = self._join(join, image, self.other_overlap, self._seed)
            disagreement, kept = overlaps(tiles, grid, scale)
            found = (
                step_ratio(ours, *_scaled(grid, scale)),
                disagreement,
                rms_difference(ours, theirs),
                kept,
            )
            for name, value in zip(MEASURES, found, strict=True):
                values[name].append(value)
        return Way(
            key=key,
            label=label,
            overlap=overlap,
            tiles=len(grid),
            estimates={name: estimate(v) for name, v in values.items()},
            **{name: tuple(v) for name, v in values.items()},
        )

    def seed_rms(self) -> tuple[float, ...]:
        """How much another seed changes, an image each."""
        if self._seed_rms is None:
            overlap = self._bundle.manifest.overlap
            pairs = [
                [self._join(made_alone, image, overlap, self._seed + more)[1] for more in (0, 1)]
                for image in self._images
            ]
            self._seed_rms = tuple(rms_difference(*pair) for pair in pairs)
        return self._seed_rms

    def _join(self, join: Join, image: Gray, overlap: int, seed: int) -> tuple[Float, Plane]:
        """Tiles that share so many pixels, and the image that they make, both in gray levels."""
        grid = self._grid(overlap, len(image))
        made = join(Runner(self._upscaler), to_unit(image)[None], self._preset, seed=seed)[:, 0]
        tiles = (np.clip(made, -1, 1) + 1) * np.float32(127.5)
        return tiles, blend(iter(tiles), grid, scale=self._bundle.manifest.scale).astype(np.float64)

    def _grid(self, overlap: int, side: int) -> TileGrid:
        """Has the upscaler tile as if its bundle said so."""
        manifest = self._bundle.manifest.model_copy(update={"overlap": overlap})
        self._upscaler.bundle = Bundle(self._bundle.folder, manifest, self._bundle.digest)
        return self._upscaler.grid(side, side)


def _checks(ways: dict[str, Way], seed_rms: Sequence[float]) -> tuple[Check, ...]:
    """What is claimed of the way that the engine goes."""
    end, every = ways[END], ways[EVERY]
    step, tiling, noise = end.estimates["step_ratio"], end.estimates["tiling_rms"], float(np.mean(seed_rms))
    detail = end.estimates["detail_ratio"]
    gain = tiling.mean - every.estimates["tiling_rms"].mean
    return (
        _check("no step across tile borders beyond a twentieth", step.mean, 1.05, holds=step.mean <= 1.05),
        _check(
            "another tiling changes less than another seed", tiling.mean, noise, holds=tiling.mean < noise
        ),
        _check("blending costs less than a tenth of the detail", detail.mean, 0.9, holds=detail.mean > 0.9),
        _check("every step would save less than a tenth of a gray level", gain, 0.1, holds=gain < 0.1),
    )


def _check(claim: str, value: float, limit: float, *, holds: bool) -> Check:
    return Check(claim=claim, value=float(f"{value:.6g}"), limit=float(f"{limit:.6g}"), holds=holds)
