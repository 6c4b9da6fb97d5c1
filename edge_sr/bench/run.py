"""The whole measurement: start, warm-up, images in turns, batches, offered load, energy."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Literal

from edge_sr.bench.load import SHARES, offer
from edge_sr.bench.machine import ROOT, processors, read_environment, read_state
from edge_sr.bench.notices import backend_notices, case_name, row_notices, state_notices
from edge_sr.bench.records import (
    STAGES,
    Batch,
    BenchResult,
    BundleFacts,
    Energy,
    Load,
    Processors,
    Row,
    Settings,
    Stages,
    Start,
    State,
    WarmUp,
)
from edge_sr.bench.start import start_fresh
from edge_sr.bench.subject import BatchRun, BatchSample, ImageRun, Wish, open_wish
from edge_sr.bench.turns import rounds_within, take_turns, warm_up
from edge_sr.bundle import Bundle
from edge_sr.measure import SECONDS, energy_per_image
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.telemetry import cpu_shares, cpu_times

__all__ = ["PARTS", "Part", "Request", "batch_sizes", "run_bench"]

Part = Literal["start", "batches", "load", "energy"]
PARTS: tuple[Part, ...] = ("start", "batches", "load", "energy")
WEIGHTS: Mapping[str, float] = {"images": 0.5, "batches": 0.2, "load": 0.3}  # of the time that is given
WINDOW, TOLERANCE = 5, 0.05
LEAST_ROUNDS, LEAST_BATCHES = 5, 3
DIGITS = 9  # nanoseconds


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        bundle: The model.
        backend: Its name.
        wishes: The rows.
        batch: Most tiles at once.
        duration_s: Time for the runs that count.
        seed: Of noise and arrivals.
        parts: What is measured beside images.
        engine_dir: Where engines lie; None for the default.
        energy_s: How long power is read, idle and at work each.
        root: Where the machine's files are.
    """

    bundle: Bundle
    backend: str
    wishes: tuple[Wish, ...]
    batch: int = 1
    duration_s: float = 20.0
    seed: int = 0
    parts: tuple[Part, ...] = PARTS
    engine_dir: Path | None = None
    energy_s: float = SECONDS
    root: Path = ROOT

    def seconds(self, part: str) -> float:
        """What a part has of the time: its weight among those that take part."""
        taking = {name: w for name, w in WEIGHTS.items() if name == "images" or name in self.parts}
        return self.duration_s * taking[part] / sum(taking.values())


def run_bench(request: Request, *, phase: Callable[[str], object]) -> BenchResult:
    """Measures.

    Args:
        request: What.
        phase: Told what is done next, in a few words.

    Raises:
        EdgeSRError: Something cannot be run.
    """
    created, before = datetime.now(timezone.utc), read_state(request.root)
    starts = list(_starts(request, phase))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sr-bench-")))
        runs = _open(request, folder, stack)
        rows, shares, after = _rows(request, runs, starts, phase)
        environment = read_environment(runs[0].upscaler.backend.describe(), root=request.root)
        told = list(backend_notices(run.upscaler for run in runs))
    told += [note for row in rows for note in row_notices(row)]
    told += state_notices(before, after, shares, cores=environment.cores)
    return BenchResult(
        created=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        environment=environment,
        bundle=_bundle_facts(request.bundle),
        settings=_settings(request),
        before=before,
        after=after,
        processors=shares,
        rows=rows,
        notices=tuple(dict.fromkeys(told)),
    )


def batch_sizes(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to the most, and the most itself."""
    return tuple(sorted({*(1 << n for n in range(most.bit_length())), most}))


def _rows(
    request: Request, runs: Sequence[ImageRun], starts: Sequence[Start | None], phase: Callable[[str], object]
) -> tuple[tuple[Row, ...], Processors | None, State]:
    """Every part of every row, who had the processors, and the machine after the last timed run."""
    warm = _warm_ups(request, runs, phase)
    stages, shares = _images(request, runs, phase)
    batches = _batches(request, runs, phase)
    loads = _loads(request, runs, stages, phase)
    after = read_state(request.root)
    energy = _energy(request, runs, phase)
    columns = zip(runs, starts, warm, stages, batches, loads, energy, strict=True)
    rows = tuple(
        Row(case=run.case, start=start, warm_up=w, stages=s, batches=b, loads=load, energy=e)
        for run, start, w, s, b, load, e in columns
    )
    return rows, shares, after


def _bundle_facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    return BundleFacts(name=manifest.name, version=manifest.version, digest=bundle.digest)


def _settings(request: Request) -> Settings:
    return Settings(
        duration_s=request.duration_s,
        seed=request.seed,
        window=WINDOW,
        tolerance=TOLERANCE,
        parts=request.parts,
    )


def _open(request: Request, folder: Path, stack: ExitStack) -> list[ImageRun]:
    """Every case ready to run; cases of one precision and as many threads share their engines."""
    opened: dict[tuple[Precision, int], Upscaler] = {}
    runs = []
    for index, wish in enumerate(request.wishes):
        key = (wish.precision, wish.threads)
        if key not in opened:
            upscaler = open_wish(
                request.bundle, request.backend, wish, batch=request.batch, engine_dir=request.engine_dir
            )
            opened[key] = stack.enter_context(upscaler)
        place = folder / str(index)
        runs.append(stack.enter_context(ImageRun(opened[key], wish, seed=request.seed, folder=place)))
    return runs


def _starts(request: Request, phase: Callable[[str], object]) -> Iterator[Start | None]:
    """A fresh process for every case, while nothing else is loaded yet."""
    for wish in request.wishes:
        if "start" not in request.parts:
            yield None
            continue
        phase(f"first image in a fresh process: {wish.precision}")
        yield Start(
            **start_fresh(
                request.bundle,
                request.backend,
                wish,
                batch=request.batch,
                seed=request.seed,
                engine_dir=request.engine_dir,
            )
        )


def _warm_ups(request: Request, runs: Sequence[ImageRun], phase: Callable[[str], object]) -> list[WarmUp]:
    found = []
    for run in runs:
        phase(f"warm-up: {case_name(run.case)}")
        most_s = request.duration_s / len(runs)
        warm = warm_up(
            run.latency, window=WINDOW, tolerance=TOLERANCE, most_s=most_s, clock=time.perf_counter
        )
        found.append(warm.model_copy(update={"seconds": _rounded(warm.seconds)}))
    return found


def _images(
    request: Request, runs: Sequence[ImageRun], phase: Callable[[str], object]
) -> tuple[list[Stages], Processors | None]:
    """Every image, and who had the processors meanwhile."""
    phase(f"images: {', '.join(case_name(run.case) for run in runs)}")
    started = cpu_times(request.root)
    rounds = rounds_within(request.seconds("images"), least=LEAST_ROUNDS, clock=time.perf_counter)
    subjects = {index: partial(_image_and_step, run) for index, run in enumerate(runs)}
    samples = take_turns(subjects, rounds=rounds, has_leads=len(runs) > 1)
    shares = processors(cpu_shares(started, cpu_times(request.root)))
    return [_stages(found) for found in samples.values()], shares


def _image_and_step(run: ImageRun) -> tuple[float, ...]:
    return (*run(), run.step())


def _stages(samples: Sequence[tuple[float, ...]]) -> Stages:
    columns = map(_rounded, zip(*samples, strict=True))
    return Stages(**dict(zip((*STAGES, "step"), columns, strict=True)))


def _batches(
    request: Request, runs: Sequence[ImageRun], phase: Callable[[str], object]
) -> list[tuple[Batch, ...]]:
    """Every batch size of every case, in turns."""
    if "batches" not in request.parts:
        return [()] * len(runs)
    sizes = batch_sizes(request.batch)
    phase(f"batches of {', '.join(map(str, sizes))}")
    subjects = {
        (index, size): BatchRun(run.upscaler, run.wish.preset, size, seed=request.seed)
        for index, run in enumerate(runs)
        for size in sizes
    }
    for subject in subjects.values():
        subject()
    rounds = rounds_within(request.seconds("batches"), least=LEAST_BATCHES, clock=time.perf_counter)
    samples = take_turns(subjects, rounds=rounds, has_leads=len(subjects) > 1)
    return [tuple(_batch(size, samples[index, size]) for size in sizes) for index in range(len(runs))]


def _batch(size: int, samples: Sequence[BatchSample]) -> Batch:
    latency, enqueue, compute = (_rounded(column) for column in zip(*samples, strict=True))
    return Batch(size=size, latency=latency, enqueue=enqueue, compute=compute)


def _loads(
    request: Request, runs: Sequence[ImageRun], stages: Sequence[Stages], phase: Callable[[str], object]
) -> list[tuple[Load, ...]]:
    if "load" not in request.parts:
        return [()] * len(runs)
    seconds = request.seconds("load") / len(runs) / len(SHARES)
    found = []
    for run, measured in zip(runs, stages, strict=True):
        phase(f"offered load: {case_name(run.case)}")
        found.append(tuple(_load(request, run, measured, share, seconds=seconds) for share in SHARES))
    return found


def _load(request: Request, run: ImageRun, measured: Stages, share: float, *, seconds: float) -> Load:
    """Requests at a share of what was measured without pauses."""
    load = offer(
        run,
        share=share,
        capacity=len(measured.whole) / sum(measured.whole),
        seconds=seconds,
        seed=request.seed,
        clock=time.perf_counter,
        wait=time.sleep,
    )
    moments = ("arrived", "started", "finished")
    return load.model_copy(update={name: _rounded(getattr(load, name)) for name in moments})


def _energy(
    request: Request, runs: Sequence[ImageRun], phase: Callable[[str], object]
) -> list[Energy | None]:
    if "energy" not in request.parts:
        return [None] * len(runs)
    found = []
    for run in runs:
        phase(f"energy: {case_name(run.case)}")
        spent = energy_per_image(run, root=request.root, seconds=request.energy_s)
        found.append(None if spent is None else Energy(**asdict(spent)))
    return found


def _rounded(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, DIGITS) for value in seconds)
