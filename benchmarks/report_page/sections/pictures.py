"""The best, the median and the worst image, made here, with maps of what differs from the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.ladder.opening import open_rung
from benchmarks.ladder.records import LadderResult
from benchmarks.ladder.rungs import Rung
from benchmarks.pairs import to_gray
from benchmarks.records import DataFacts, QualityResult
from benchmarks.report_page.blocks import Block, Panel, Prose, Section, Strip
from benchmarks.report_page.numbers import count, plain
from benchmarks.report_page.topics import Context
from benchmarks.rows import MODEL, describe
from benchmarks.scores import LPIPS_NAME, METRICS
from benchmarks.sheet import DIFFERENCE_TOP, Pick, difference_png, picks, scale_png
from edge_sr.bundle import Bundle
from edge_sr.image import resize_bicubic
from edge_sr.manifest import one_sample
from edge_sr.metrics import psnr
from edge_sr.spec import Precision

__all__ = ["Ranking", "pictures_section", "ranking_of"]

Gray = npt.NDArray[np.uint8]
Values = tuple[tuple[float, ...], ...]
LABELS = {Precision.FP32: "FP32", Precision.FP16: "FP16 (emulated)", Precision.INT8: "INT8"}
SEED = 0
DRAWN = 3  # images, where no result ranks them
AGREES_DB = 0.05  # between an image's PSNR here and in the result: another machine rounds another way
SCALE_PX = (256, 12)


@dataclass(frozen=True)
class Ranking:
    """What ranks the images, and what they measured.

    Attributes:
        values: Precision -> metric -> one list a seed of one value an image; the first seed is `SEED`.
        metric: That which ranks, by the mean over the seeds of the first precision.
    """

    values: Mapping[str, Mapping[str, Values]]
    metric: str

    @property
    def order(self) -> npt.NDArray[np.float64]:
        """(N,): a value an image."""
        found = next(iter(self.values.values()))[self.metric]
        return np.asarray(np.mean(found, axis=0), dtype=np.float64)

    def value(self, precision: Precision, metric: str, index: int) -> float | None:
        """Of an image from `SEED`; None where it was not measured."""
        found = self.values.get(str(precision), {}).get(metric)
        return found[0][index] if found else None


def ranking_of(
    context: Context, ladder: LadderResult | None, qualities: Sequence[QualityResult]
) -> Ranking | None:
    """From the precisions in one run, or from what was measured of each; None without any of these images."""

    def is_usable(data: DataFacts, seeds: Sequence[int]) -> bool:
        return context.covers(data) and seeds[0] == SEED

    values: dict[str, Mapping[str, Values]] = {}
    if ladder and is_usable(ladder.data, ladder.seeds):
        values = {row.key: row.values for row in ladder.rows}
    elif own := [result for result in qualities if is_usable(result.data, result.seeds)]:
        most = max(len(result.data.images) for result in own)
        alike = [result for result in own if len(result.data.images) == most]
        models = {str(r.bundle.precision): next(x for x in r.rows if x.key == MODEL) for r in alike[::-1]}
        values = {precision: models[precision].values for precision in sorted(models, key=_low)}
    if not values:
        return None
    return Ranking(values, LPIPS_NAME if LPIPS_NAME in next(iter(values.values())) else "psnr_db")


def _low(precision: str) -> bool:
    """FP32 comes first."""
    return precision != Precision.FP32


@dataclass(frozen=True)
class _Made:
    """The images of a precision: (K, T, T), K being the images shown."""

    precision: Precision
    images: Gray


def pictures_section(context: Context, ranking: Ranking | None, *, threads: int) -> Section:
    """Runs the bundle on a few images, from the noise of seed 0.

    Args:
        context: The bundle and the images.
        ranking: What ranks the images, where there is a result of these.
        threads: CPU threads; 0 for all cores.

    Raises:
        EdgeSRError: The bundle cannot be run.
    """
    shown = _chosen(context, ranking)
    made = list(_render(context, [pick.index for pick in shown], threads=threads))
    strips = tuple(
        _strip(context, pick, [(one.precision, one.images[place]) for one in made], ranking)
        for place, pick in enumerate(shown)
    )
    blocks: tuple[Block, ...] = (Prose(_told(context.bundle, ranking)), *strips)
    if ranking and (agreement := _agreement(made, shown, ranking, context)):
        blocks = (*blocks, Prose(agreement))
    return Section("images", "Images", blocks)


def _told(bundle: Bundle, ranking: Ranking | None) -> str:
    order = f"{count(DRAWN, 'image')} drawn at random (seed {SEED}), since no result ranks these"
    if ranking:
        metric = METRICS[ranking.metric].label.partition(",")[0]
        order = f"The best, the median and the worst of {len(ranking.order)} images by FP32's {metric}"
    preset = one_sample(bundle.manifest.default_preset)
    how = "in one pass" if preset is None else f"{describe(preset)}, seed {SEED}"
    return (
        f"{order}; made for this page, {how}. Below each output is its difference from the true image, all "
        f"on one scale: black is none, the brightest {DIFFERENCE_TOP} gray levels of 255 or more. Fine "
        "detail is generated: what looks sharp need not be true."
    )


def _chosen(context: Context, ranking: Ranking | None) -> list[Pick]:
    if ranking is None:
        total = len(context.pairs.names)
        drawn = np.random.default_rng(SEED).choice(total, min(DRAWN, total), replace=False)
        return [Pick("drawn", int(index)) for index in sorted(drawn)]
    return picks(ranking.order, better=METRICS[ranking.metric].better)


def _render(context: Context, indices: list[int], *, threads: int) -> Iterator[_Made]:
    """The images of every precision that the bundle has, FP16 emulated as in the ladder."""
    bundle = context.bundle
    preset = one_sample(bundle.manifest.default_preset)
    for precision in (p for p in LABELS if p in bundle.precisions()):
        rung = Rung(str(precision), LABELS[precision], "", bundle, precision)
        with open_rung(rung, threads=threads) as upscaler:
            made = [upscaler.upscale(context.pairs.lr[i], preset=preset, seed=SEED).mean for i in indices]
            yield _Made(precision, to_gray(np.stack(made)))


def _strip(
    context: Context, pick: Pick, made: list[tuple[Precision, Gray]], ranking: Ranking | None
) -> Strip:
    pairs, scale = context.pairs, context.bundle.manifest.scale
    small, truth = pairs.lr_pixels[pick.index], pairs.hr_pixels[pick.index]
    side = len(small)
    scale_told = f"{side}×{side} pixels. Scale of the maps: 0 to {DIFFERENCE_TOP} gray levels"
    panels = [
        Panel(
            "Input",
            scale_told,
            _gray_png(small.repeat(scale, axis=0).repeat(scale, axis=1)),
            scale_png(*SCALE_PX),
        ),
        _panel("Bicubic", resize_bicubic(small, scale), truth),
        *[_panel(LABELS[p], image, truth, _lpips(ranking, p, pick.index)) for p, image in made],
        Panel("True image", "What the others are held against", _gray_png(truth)),
    ]
    return Strip(f"{pick.title.capitalize()}: {pairs.names[pick.index]}", tuple(panels))


def _panel(label: str, image: Gray, truth: Gray, lpips: str = "") -> Panel:
    told = f"PSNR {plain(psnr(image, truth), 2)} dB{lpips}"
    return Panel(label, told, _gray_png(image), difference_png(image, truth))


def _lpips(ranking: Ranking | None, precision: Precision, index: int) -> str:
    """As the result has it, of the same seed."""
    found = ranking.value(precision, LPIPS_NAME, index) if ranking else None
    return "" if found is None else f", LPIPS {plain(found, 3)}"


def _agreement(made: list[_Made], shown: list[Pick], ranking: Ranking, context: Context) -> str:
    """Whether these are the images that were measured."""
    truth = context.pairs.hr_pixels
    apart = [
        abs(psnr(image, truth[pick.index]) - measured)
        for one in made
        for pick, image in zip(shown, one.images, strict=True)
        if (measured := ranking.value(one.precision, "psnr_db", pick.index)) is not None
    ]
    if not apart:
        return ""
    if max(apart) <= AGREES_DB:
        return f"Their PSNR is the measured one to within {AGREES_DB} dB: these are the measured images."
    return (
        f"Their PSNR is up to {plain(max(apart), 2)} dB away from the measured one: this machine rounds in "
        "another way than the one that measured, or the result is of another preset."
    )


def _gray_png(image: Gray) -> bytes:
    _, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return bytes(png.tobytes())
