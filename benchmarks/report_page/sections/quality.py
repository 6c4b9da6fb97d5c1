"""How near the images are to the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.board import estimate
from benchmarks.ladder.rungs import INT8
from benchmarks.ladder.verdict import PSNR_BUDGET_DB
from benchmarks.records import Estimate, QualityResult, RowResult
from benchmarks.report import heading
from benchmarks.report_page.blocks import UNSETTLED, Answer, Block, Body, Prose, Question, Table, Verdict
from benchmarks.report_page.numbers import count, interval, percent, plain, signed, span
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.rows import BICUBIC, HR, MODEL
from benchmarks.scores import LPIPS_NAME, METRICS
from edge_sr.spec import Precision

__all__ = ["TOPIC", "is_curve"]

SHOWN = ("psnr_db", "ssim", LPIPS_NAME, "hallucinated_percent", "lost_percent", "lr_consistency_db")


def is_curve(result: QualityResult) -> bool:
    """Whether it is a sweep over presets, which has the same format."""
    return any(row.key.startswith("noise-") for row in result.rows)


def build(found: Sequence[Found[QualityResult]], context: Context) -> Body:
    """The best of the results in full, and a line for each of the others."""
    result = found[0].record
    images = context.images(result.data)
    blocks: list[Block] = [
        Prose(
            f"{result.bundle.precision.upper()}, {images}, {count(len(result.seeds), 'seed')}. How the small "
            f"images were made: {result.data.degradation}. Each output is held against the true image."
        ),
        _scores(result),
        _differences(result),
    ]
    if len(found) > 1:
        blocks.append(_others(found[1:]))
    blocks += [Prose(f"Note: {notice}.") for notice in result.notices]
    return Body(tuple(blocks), (*_answers(result, images), *_int8(result, found[1:])))


def _answers(result: QualityResult, images: str) -> tuple[Answer, ...]:
    rows = {row.key: row for row in result.rows}
    model, bicubic = rows[MODEL], rows[BICUBIC]
    count_ = len(result.data.images)
    good = [_by_pixels(model, bicubic, count_)]
    if LPIPS_NAME in model.statistics:
        good.append(_by_eye(model, bicubic))
    made = f"Quality: {images}; {result.bundle.precision.upper()} on {result.environment.cpu}."
    others = [row.label for row in result.rows if row.key not in (HR, MODEL) and row.preset is None]
    against = f"In quality: {', '.join(others)}, each against the true images."
    return (
        Answer(Question.GOOD, tuple(good), _verdict(model)),
        Answer(Question.WHERE, (made,)),
        Answer(Question.AGAINST, (against,)),
    )


def _verdict(model: RowResult) -> Verdict:
    """Against bicubic, pixel by pixel and, where that was measured, by eye."""
    pixels, eye = (_sign(model.versus[BICUBIC], name) for name in ("psnr_db", LPIPS_NAME))
    if max(pixels, eye) <= 0:
        return Verdict("no better than bicubic", "bad")
    if min(pixels, eye) < 0:
        better, worse = ("pixel by pixel", "by eye") if pixels > 0 else ("by eye", "pixel by pixel")
        return Verdict(f"better than bicubic {better}, worse {worse}", "open")
    return Verdict("better than bicubic", "good")


def _sign(versus: Mapping[str, Estimate], name: str) -> int:
    """1 where it is better beyond doubt, -1 where it is worse, 0 between or not measured."""
    found = versus.get(name)
    if found is None or found.low <= 0 <= found.high:
        return 0
    return int(METRICS[name].better * math.copysign(1, found.mean))


def _int8(result: QualityResult, others: Sequence[Found[QualityResult]]) -> Iterator[Answer]:
    """INT8 against FP32, where the same images were judged in both."""
    for other in (each.record for each in others):
        is_same = other.data.sha256 == result.data.sha256 and other.seeds == result.seeds
        precisions = (result.bundle.precision, other.bundle.precision)
        if is_same and precisions == (Precision.FP32, Precision.INT8):
            fp32, int8 = (_per_image(each, "psnr_db") for each in (result, other))
            change = estimate(int8 - fp32)
            told = f"{signed(change.mean, 3)} dB of PSNR (95 % interval {span(change, 3)})"
            yield Answer(
                Question.INT8_IMAGE, (f"INT8 less FP32 on the same images: {told}.",), _budget(change)
            )
            return


def _budget(change: Estimate) -> Verdict:
    limit = PSNR_BUDGET_DB[INT8]
    if abs(change.mean) > limit:
        return Verdict("no", "bad")
    return Verdict("yes", "good") if -limit <= change.low and change.high <= limit else UNSETTLED


def _per_image(result: QualityResult, name: str) -> npt.NDArray[np.float64]:
    model = next(row for row in result.rows if row.key == MODEL)
    return np.asarray(np.mean(model.values[name], axis=0), dtype=np.float64)


def _by_pixels(model: RowResult, bicubic: RowResult, images: int) -> str:
    change = model.versus[BICUBIC]["psnr_db"]
    ours, theirs = (plain(row.statistics["psnr_db"].mean, 2) for row in (model, bicubic))
    figures = f"PSNR {ours} dB against {theirs} dB"
    if change.low <= 0 <= change.high:
        return (
            "Pixel by pixel the images are as near to the truth as plain bicubic enlargement, as far as "
            f"{count(images, 'image')} can tell ({figures})."
        )
    where, sign = ("nearer to", 1) if change.mean > 0 else ("further from", -1)
    by = f"by {plain(abs(change.mean), 2)} dB (95 % interval {span(change, 2, factor=sign)})"
    return f"Pixel by pixel the images are {where} the truth than plain bicubic enlargement, {by}: {figures}."


def _by_eye(model: RowResult, bicubic: RowResult) -> str:
    ratio = model.statistics[LPIPS_NAME].mean / bicubic.statistics[LPIPS_NAME].mean
    change = model.versus[BICUBIC][LPIPS_NAME]
    if change.low <= 0 <= change.high:
        return "By LPIPS, a measure of how alike two images look, they are no nearer and no further."
    where = "nearer" if ratio < 1 else "further"
    return (
        f"By LPIPS, a measure of how alike two images look, they are {percent(abs(1 - ratio))} {where} to "
        f"the truth than bicubic ({plain(model.statistics[LPIPS_NAME].mean, 3)} against "
        f"{plain(bicubic.statistics[LPIPS_NAME].mean, 3)}; 0 is equal)."
    ).replace("further to", "further from")


def _scores(result: QualityResult) -> Table:
    names = [name for name in SHOWN if name in result.metrics]
    rows = [(row.label, *[_mean(row, name) for name in names]) for row in result.rows]
    return Table(
        "Means over images and seeds, ± the standard deviation over images. An arrow says which way is "
        "better.",
        ("", *[heading(name) for name in names]),
        tuple(rows),
    )


def _mean(row: RowResult, name: str) -> str:
    found, digits = row.statistics.get(name), METRICS[name].digits
    if found is None:
        return "–"
    std = "" if found.std is None else f" ± {plain(found.std, digits)}"
    return plain(found.mean, digits) + std


def _differences(result: QualityResult) -> Table:
    names = [name for name in SHOWN[:3] if name in result.metrics]
    rows = [
        (row.label, *[_change(row.versus[BICUBIC][name], name) for name in names])
        for row in result.rows
        if BICUBIC in row.versus
    ]
    return Table(
        "Differences to bicubic, image by image: mean [95 % interval over images].",
        ("", *[heading(name) for name in names]),
        tuple(rows),
    )


def _change(found: Estimate, name: str) -> str:
    return interval(found, METRICS[name].digits, is_change=True)


def _others(found: Sequence[Found[QualityResult]]) -> Table:
    """Other precisions, images or degradations, in a line each."""
    rows = []
    for other in found:
        record = other.record
        model = next(row for row in record.rows if row.key == MODEL)
        told = [_change(model.versus[BICUBIC][n], n) if n in record.metrics else "–" for n in SHOWN[:3]]
        images = f"{len(record.data.images)} of '{record.data.name}'"
        rows.append((other.name, record.bundle.precision.upper(), images, record.data.degradation, *told))
    head = ("result", "precision", "images", "how the small images were made")
    return Table(
        "Other measurements of the same model: difference to bicubic of the same run.",
        (*head, *[heading(name) for name in SHOWN[:3]]),
        tuple(rows),
    )


TOPIC: Topic[QualityResult] = Topic(
    name="quality",
    kind="edge-sr/quality",
    model=QualityResult,
    title="Quality",
    what="how near the images are to the truth, against bicubic and the model's own parts",
    command="python -m benchmarks quality --bundle BUNDLE --pairs PAIRS --lpips FOLDER",
    asks=(Question.GOOD,),
    build=build,
    belongs=lambda result: not is_curve(result),
)
