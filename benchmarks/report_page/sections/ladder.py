"""What the precisions cost and gain, in one run."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.ladder.records import Judgement, LadderResult, RungResult
from benchmarks.ladder.rungs import FP32, INT8, NAIVE
from benchmarks.ladder.words import NOT_MEANINGFUL, headline
from benchmarks.report import heading
from benchmarks.report_page.blocks import (
    UNSETTLED,
    Answer,
    Block,
    Body,
    Charts,
    Prose,
    Question,
    Table,
    Verdict,
)
from benchmarks.report_page.numbers import count, interval, milliseconds, percent, plain, span, times, typeset
from benchmarks.report_page.sections.ladder_charts import distribution, stages, trajectory
from benchmarks.report_page.topics import Context, Found, Topic
from benchmarks.scores import LPIPS_NAME, METRICS

__all__ = ["TOPIC"]

SHOWN = ("psnr_db", "ssim", LPIPS_NAME)
MIB = 1 << 20


def build(found: Sequence[Found[LadderResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    images = context.images(result.data)
    told = (
        f"All precisions in one run, from the same noise: {images}, {count(len(result.seeds), 'seed')}; "
        f"times of {count(result.rounds, 'image')} each, in turns, with "
        f"{count(result.environment.threads, 'CPU thread')}. Naive INT8 is the control: the same model, with "
        "the range of each layer from its extremes and no layer left out. FP16 is emulated by rounding; a "
        "CPU has none, so its time means nothing there."
    )
    charts = Charts((stages(result), distribution(result), trajectory(result)))
    notes = tuple(Prose(f"Note: {notice}.") for notice in result.notices)
    blocks: tuple[Block, ...] = (Prose(told), _changes(result), charts, _latency(result), *notes)
    return Body(blocks, _answers(result, images, context))


def _answers(result: LadderResult, images: str, context: Context) -> tuple[Answer, ...]:
    made, side = result.environment, context.bundle.manifest.tile
    where = (
        f"Precisions: {images}; {made.cpu}, {count(made.cores, 'core')}, {count(made.threads, 'thread')}, "
        f"{result.row(FP32).runs_on.get('backend', 'backend not stated')}. How the small images were made: "
        f"{result.data.degradation}."
    )
    verdict, sentences = _int8(result)
    return (
        Answer(Question.FAST, tuple(_fast(result, side)), _fastest(result)),
        Answer(Question.WHERE, (where,)),
        Answer(Question.AGAINST, (_control(result),)),
        Answer(Question.INT8_IMAGE, sentences, verdict),
    )


def _fast(result: LadderResult, side: int) -> list[str]:
    """The time of an image at each precision whose time means something."""
    timed = [row for row in result.rows if row.latency.is_meaningful and row.key != NAIVE]
    told = [
        f"{row.label} {milliseconds(row.latency.whole.p50)} (99 of 100 within "
        f"{milliseconds(row.latency.whole.p99)})"
        for row in timed
    ]
    sentences = [f"An image of {side}×{side} pixels takes, in the median: {', '.join(told)}."]
    for row in timed:
        if row.speedup:
            found = f"{times(row.speedup.mean)} as fast as FP32 (95 % interval {span(row.speedup, 2)})"
            sentences.append(f"{row.label} is {found}.")
    return sentences


def _fastest(result: LadderResult) -> Verdict:
    """The time of the fastest precision that is offered."""
    timed = [row for row in result.rows if row.latency.is_meaningful and row.key != NAIVE]
    row = min(timed, key=lambda row: row.latency.whole.p50)
    return Verdict(f"{milliseconds(row.latency.whole.p50)} an image, {row.label}", "plain")


def _control(result: LadderResult) -> str:
    change = result.row(NAIVE).change["psnr_db"]
    how, sign = ("loses", -1) if change.mean < 0 else ("gains", 1)
    by = f"{plain(abs(change.mean), 2)} dB of PSNR (95 % interval {span(change, 2, factor=sign)})"
    return f"In precision: FP32 from the same noise, and a naive INT8 of the same model, which {how} {by}."


def _int8(result: LadderResult) -> tuple[Verdict, tuple[str, ...]]:
    """Whether INT8 keeps its budget, and what it costs."""
    row = result.row(INT8)
    own = [check for check in result.checks if check.claim.startswith(f"{row.label}:")]
    told = [typeset(headline(row, result.seed_noise["psnr_db"])), *_apart(result)]
    broken = [check for check in own if not check.holds]
    open_ = [check for check in own if check.holds and not check.is_certain]
    if broken:
        told.append(f"Not kept: {'; '.join(_claim(check, row) for check in broken)}.")
        if all(map(_is_better, broken)):
            told.append("That is on the better side.")
            return Verdict("not in every figure", "open"), tuple(told)
        return Verdict("no", "bad"), tuple(told)
    if open_:
        told.append(f"Not beyond doubt: {'; '.join(_claim(check, row) for check in open_)}.")
        return UNSETTLED, tuple(told)
    return Verdict("yes", "good"), tuple(told)


def _is_better(check: Judgement) -> bool:
    """Whether a distance left its budget by becoming smaller."""
    return "better or worse" in check.claim and check.value < 0


def _claim(check: Judgement, row: RungResult) -> str:
    """As in "LPIPS within 2 % of FP32's (measured -0.0359, limit 0.02)"."""
    claim = check.claim.removeprefix(f"{row.label}: ")
    return f"{claim} (measured {plain(check.value, 3)}, limit {plain(check.limit, 3)})"


def _apart(result: LadderResult) -> list[str]:
    """How far INT8's images are from FP32's own, beside what another seed does."""
    own, other = result.row(INT8).to_fp32, result.other_seed
    if own is None or other is None:
        return []
    a, b = (plain(found.statistics["psnr_db"].mean, 1) for found in (own, other))
    is_less = own.statistics["psnr_db"].mean > other.statistics["psnr_db"].mean
    how = "less" if is_less else "more"
    return [
        f"It changes FP32's image {how} than another seed does ({a} dB against {b} dB apart; more is closer)."
    ]


def _changes(result: LadderResult) -> Table:
    names = [name for name in SHOWN if name in result.metrics]
    rows = [(row.label, *[_cell(row, name) for name in names]) for row in result.rows]
    noise = tuple(_noise(result.seed_noise[name], METRICS[name].digits + 1) for name in names)
    return Table(
        "Against the true images: FP32's mean, and each other precision's difference to it, image by image "
        "[95 % interval]. A difference smaller than the seed noise is less than another seed changes.",
        ("", *[heading(name) for name in names]),
        (*rows, ("seed noise of FP32", *noise)),
    )


def _cell(row: RungResult, name: str) -> str:
    digits = METRICS[name].digits
    if row.key == FP32:
        return plain(row.statistics[name].mean, digits)
    change = row.change[name]
    fine = abs(change.mean) < 10**-digits  # one more for a difference that is nearly none
    text = interval(change, digits + 1 + fine, is_change=True)
    if name == LPIPS_NAME and row.lpips_change is not None:
        text += f", {percent(row.lpips_change.mean, 1)}"
    return text


def _noise(value: float | None, digits: int) -> str:
    return "not known" if value is None else f"± {plain(value, digits)}"


def _latency(result: LadderResult) -> Table:
    rows = tuple((row.label, *_times(row, result.preset.steps), *_sizes(row)) for row in result.rows)
    steps = result.preset.steps
    head = ("", "encoder", f"{steps} steps", "decoder", "median", "90 of 100", "99 of 100", "FP32 over this")
    return Table(
        "Time of one image, ms: medians of the stages and percentiles of the whole; files in MB; the most "
        "memory of a process that enlarges one image, MiB.",
        (*head, "files", "memory"),
        rows,
    )


def _times(row: RungResult, steps: int) -> list[str]:
    if not row.latency.is_meaningful:
        return [NOT_MEANINGFUL, *["–"] * 6]
    latency = row.latency
    values = (latency.encoder.p50, steps * latency.step.p50, latency.decoder.p50)
    whole = (latency.whole.p50, latency.whole.p90, latency.whole.p99)
    ratio = interval(row.speedup, 2) if row.speedup else "1"
    return [*[plain(value, 0 if value >= 100 else 1) for value in (*values, *whole)], ratio]


def _sizes(row: RungResult) -> list[str]:
    return [plain(sum(row.file_bytes.values()) / 1e6, 1), plain(row.memory.peak / MIB, 0)]


TOPIC: Topic[LadderResult] = Topic(
    name="ladder",
    kind="edge-sr/ladder",
    model=LadderResult,
    title="FP32, FP16 and INT8",
    what="what FP16 and INT8 cost in quality and gain in time, against a naive INT8",
    command="python -m benchmarks ladder --bundle BUNDLE --control NAIVE --data PAIRS --lpips FOLDER",
    asks=(Question.FAST, Question.INT8_IMAGE),
    build=build,
    needs_loop=True,
)
