"""`python -m benchmarks ladder`: FP32, FP16, INT8 and a naive control, side by side in one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.board import BOOTSTRAP_SEED
from benchmarks.environment import environment
from benchmarks.ladder.assembly import Measured, assemble_row, latent_std, other_seeds, source
from benchmarks.ladder.latency import measure_latency
from benchmarks.ladder.memory import peak_memory
from benchmarks.ladder.parts import Parts
from benchmarks.ladder.picture import ladder_picture
from benchmarks.ladder.records import LadderResult, RungResult
from benchmarks.ladder.report import ladder_report
from benchmarks.ladder.rungs import FP32, Rung, deployed_preset, plan_rungs
from benchmarks.ladder.samples import SeedResult, compare_seeds, judge_seed, open_ladder
from benchmarks.ladder.verdict import SEED_NOISE, judge_all, seed_noise_of
from benchmarks.ladder.words import verdicts
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.records import DataFacts, Environment
from benchmarks.rows import Track
from benchmarks.scores import LPIPS_NAME, LPIPS_VERSION, METRICS, Judge
from benchmarks.summary import RESAMPLES
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.pipeline import make_schedule
from export.perceptual import LPIPS

__all__ = ["Outcome", "Request", "run_ladder"]

FEW_SEEDS, FEW_IMAGES, FEW_ROUNDS = 3, 30, 100
UNSTEADY = 1.25  # a 90th percentile above so many medians makes the times doubtful


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        bundle: Its folder.
        control: Folder of the same model, quantised naively.
        pairs: Folder with hr_256/ and lr_64/.
        lpips: Folder of the LPIPS weights; None leaves the metric out.
        seeds: How many.
        limit: Images at most; 0 for all.
        rounds: Images that each row is timed on.
        batch: Images at once, where nothing is timed.
        threads: CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    bundle: Path
    control: Path
    pairs: Path
    lpips: Path | None = None
    seeds: int = 3
    limit: int = 0
    rounds: int = 60
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


@dataclass(frozen=True)
class Outcome:
    """What is written: the record, the tables, the picture; and what may be removed once it is."""

    record: LadderResult
    markdown: str
    png: bytes
    parts: Parts


@dataclass(frozen=True)
class _Subject:
    """What a request names, opened and checked."""

    bundle: Bundle
    control: Bundle
    rungs: tuple[Rung, ...]
    pairs: Pairs
    data: DataFacts
    judge: Judge
    preset: Preset


def run_ladder(request: Request, out: Path, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Measures every row. What a seed gave is kept beside `out`: a run that was stopped goes on from there.

    Args:
        request: What, and how.
        out: FOLDER/NAME of the results, which are not written here.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: A bundle, the control, the pairs or the weights cannot be used.
    """
    subject = _open(request)
    made_by = environment(arguments, threads=request.threads)
    parts = Parts(out, _depends_on(request, subject, made_by))
    seeds, runs_on = _seeds(request, subject, parts, track=track)
    rungs, threads = subject.rungs, request.threads
    peaks = {rung.key: peak_memory(rung, threads=threads) for rung in track(rungs, "memory")}
    stages = measure_latency(
        rungs, subject.pairs.lr, subject.preset, rounds=request.rounds, threads=threads, track=track
    )
    made_by = environment(arguments, threads=int(runs_on[FP32]["threads"]))
    other = compare_seeds(subject.judge, seeds, subject.pairs, track=track)
    record = _record(request, subject, Measured(seeds, stages, peaks, runs_on, other), made_by)
    picture = ladder_picture(record, seeds, subject.pairs)
    return Outcome(record, ladder_report(record), picture, parts)


def _open(request: Request) -> _Subject:
    bundle, control = Bundle.open(request.bundle), Bundle.open(request.control)
    rungs, pairs = plan_rungs(bundle, control), read_pairs(request.pairs, bundle, limit=request.limit)
    operator, scale = bundle.manifest.degradation, bundle.manifest.scale
    lpips = LPIPS(request.lpips) if request.lpips else None
    return _Subject(
        bundle,
        control,
        rungs,
        pairs,
        pairs.facts(degradation=request.degradation, operator=operator),
        Judge(scale=scale, degradation=operator, lpips=lpips),
        deployed_preset(bundle),
    )


def _depends_on(request: Request, subject: _Subject, made_by: Environment) -> dict[str, Any]:
    """All that the result of a seed depends on."""
    return {
        "bundles": [subject.bundle.digest, subject.control.digest],
        "data": subject.data.sha256,
        "preset": subject.preset.model_dump(mode="json"),
        "lpips": request.lpips is not None,
        "batch": request.batch,
        "made by": made_by.model_dump(mode="json", include={"cpu", "threads", "versions", "commit"}),
    }


def _seeds(
    request: Request, subject: _Subject, parts: Parts, *, track: Track
) -> tuple[list[SeedResult], dict[str, dict[str, str]]]:
    """What every seed gave, from before or made now; and what each row runs on."""
    found = []
    with open_ladder(subject.rungs, threads=request.threads, preset=subject.preset) as ladder:
        for seed in range(request.seeds):
            result = parts.load(seed)
            if result is None:
                result = judge_seed(
                    ladder, subject.judge, subject.pairs, seed=seed, batch=request.batch, track=track
                )
                parts.store(seed, result)
            found.append(result)
        return found, {rung.key: ladder.describe(rung.key) for rung in subject.rungs}


def _record(request: Request, subject: _Subject, measured: Measured, made_by: Environment) -> LadderResult:
    """Everything that is known, as one record."""
    rows = {rung.key: assemble_row(rung, measured) for rung in subject.rungs}
    noise, checks = seed_noise_of(rows), judge_all(rows)
    metrics = {name: metric.label for name, metric in METRICS.items() if name in noise}
    schedule = make_schedule(subject.bundle, subject.preset)
    return LadderResult(
        environment=made_by,
        bundle=source(subject.bundle),
        control=source(subject.control),
        data=subject.data,
        preset=subject.preset,
        timesteps=tuple(step.timestep for step in schedule.steps),
        seeds=tuple(range(request.seeds)),
        rounds=request.rounds,
        bootstrap={"resamples": RESAMPLES, "seed": BOOTSTRAP_SEED},
        lpips=LPIPS_VERSION if LPIPS_NAME in metrics else None,
        metrics=metrics,
        seed_noise=noise,
        seed_noise_definition=SEED_NOISE,
        rows=tuple(rows.values()),
        other_seed=other_seeds(measured.other),
        latent_std=latent_std(measured.seeds),
        checks=checks,
        verdicts=verdicts(rows, checks, noise),
        notices=tuple(_notices(request, subject, rows)),
    )


def _notices(request: Request, subject: _Subject, rows: Mapping[str, RungResult]) -> Iterator[str]:
    """What is missing, too small or unsteady."""
    images = len(subject.pairs.names)
    if request.lpips is None:
        yield "LPIPS is left out: name the folder of its weights with --lpips"
    if request.seeds < FEW_SEEDS:
        yield f"seeds: {request.seeds}, too few to tell the noise that they make; {FEW_SEEDS} or more do"
    if images < FEW_IMAGES:
        yield f"images: {images}, too few for the intervals to mean much"
    if request.rounds < FEW_ROUNDS:
        yield f"end to end, the 99th percentile of {request.rounds} images is close to the slowest of them"
    for row in rows.values():
        times = row.latency.whole
        if row.latency.is_meaningful and times.p90 > UNSTEADY * times.p50:
            over = f"{100 * (times.p90 / times.p50 - 1):.0f} %"
            yield f"the times of {row.label} are unsteady: a tenth took {over} longer than the median or more"
    yield from _control_notice(subject)


def _control_notice(subject: _Subject) -> Iterator[str]:
    """A control that saw other images differs in more than its method."""
    ours, theirs = (b.manifest.calibration for b in (subject.bundle, subject.control))
    if ours and theirs and ours.set_digest != theirs.set_digest:
        yield "the control was calibrated on other images than the bundle"
