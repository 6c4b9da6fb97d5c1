"""`python -m benchmarks models`: several models, or one in several ways, on the same images, in turns.

What they cost stands beside what they give, so that "as good, in what time and memory?" has an answer for
models of different kinds: latent against pixel space, a student against its teacher, a loop against one pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.board import assemble, score
from benchmarks.environment import environment
from benchmarks.ladder.memory import peak_memory
from benchmarks.ladder.rungs import Rung, calibrated
from benchmarks.loop import take_turns, timing
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.quality import bundle_facts
from benchmarks.records import BundleFacts, Environment, Estimate, QualityResult, Record, RowResult, Timing
from benchmarks.rows import BICUBIC, MODEL, Extras, Row, Runner, Track, describe, make_rows
from benchmarks.scores import LPIPS_NAME, Judge
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.statistics import median_ratio
from export.perceptual import LPIPS

__all__ = ["AS_GOOD", "ModelFacts", "ModelsResult", "Request", "run_models"]

Gray = npt.NDArray[np.uint8]
SEED = 0  # of what is timed
AS_GOOD = ("psnr_db", LPIPS_NAME)
"""By these a model is at least as good as another, each by its mean."""


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        models: FOLDER[:PRESET][@PRECISION]; the others are held against the first.
        pairs: Folder.
        precision: Of those that name none.
        lpips: Folder of the LPIPS weights; None leaves the metric out.
        reduction: How LR images are made, of `benchmarks.pairs.REDUCTIONS`; None for the pairs' own.
        seeds, limit: How many; images at most, 0 for all.
        rounds: Images that every model is timed on, in turns.
        batch, threads: Images at once, where nothing is timed; CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    models: tuple[str, ...]
    pairs: Path
    precision: Precision = Precision.FP32
    lpips: Path | None = None
    reduction: str | None = None
    seeds: int = 1
    limit: int = 0
    rounds: int = 20
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


class ModelFacts(Record):
    """What a model is, and what it costs.

    Attributes:
        row: Its line in the scores.
        bundle: What it is.
        timing: Seconds of `Upscaler.upscale` on one tile, in turns with the others.
        ratio: Its median time over the first model's, 95 % interval; null of the first.
        peak_bytes: Most resident memory of a process that enlarges one tile, the interpreter included.
        graph_bytes: Of its graphs' files.
        as_good: The row that takes the least time of those at least as good by the means of PSNR and LPIPS;
            its own, where there is none.
    """

    row: str
    bundle: BundleFacts
    timing: Timing
    ratio: Estimate | None
    peak_bytes: int
    graph_bytes: int
    as_good: str


class ModelsResult(Record):
    """Models side by side, the first of them the one that the result is of."""

    kind: Literal["edge-sr/models"] = "edge-sr/models"
    schema_version: Literal[1] = 1
    scores: QualityResult
    models: tuple[ModelFacts, ...]

    @property
    def bundle(self) -> BundleFacts:
        """Of the first."""
        return self.scores.bundle

    @property
    def environment(self) -> Environment:
        """Where it was made."""
        return self.scores.environment


class _Name(NamedTuple):
    """What the text of a model says."""

    folder: Path
    preset: str | None
    precision: Precision


class _Entry(NamedTuple):
    """A model as it is run."""

    row: Row
    upscaler: Upscaler


def run_models(request: Request, *, arguments: Sequence[str], track: Track) -> ModelsResult:
    """Judges and times them. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        UsageError: Fewer than two models, or a preset that a bundle does not have.
        EdgeSRError: A bundle, the pairs or the weights cannot be used.
    """
    if len(request.models) < 2:
        raise UsageError("one model has nothing to stand beside", hint="give --model twice or more")
    named = [_parse(text, request.precision) for text in request.models]
    bundles = {name.folder: Bundle.open(name.folder) for name in named}
    first = bundles[named[0].folder]
    _check_alike(tuple(bundles.values()))
    rows = [_row(index, bundles[name.folder], name) for index, name in enumerate(named)]
    pairs = read_pairs(request.pairs, first, limit=request.limit, reduction=request.reduction)
    lpips = LPIPS(request.lpips) if request.lpips else None
    with ExitStack() as stack:
        opened: dict[tuple[Path, Precision], Upscaler] = {}
        for folder, _, precision in named:
            if (folder, precision) not in opened:
                backend = open_backend("onnxruntime", threads=request.threads)
                upscaler = Upscaler(bundles[folder], backend, precision=precision)
                opened[folder, precision] = stack.enter_context(upscaler)
        upscalers = [opened[folder, precision] for folder, _, precision in named]
        entries = list(map(_Entry, rows, upscalers))
        images = _images(entries, pairs, request, track)
        timings = _time(entries, pairs, request, track)
        facts = [bundle_facts(entry.upscaler) for entry in entries]
    manifest = first.manifest
    judge = Judge(scale=manifest.scale, degradation=manifest.degradation, lpips=lpips)
    scores = assemble(
        environment(arguments, threads=int(facts[0].backend["threads"])),
        facts[0],
        pairs.facts(degradation=request.reduction or request.degradation, operator=manifest.degradation),
        rows=[Row(BICUBIC, "bicubic", "OpenCV INTER_CUBIC from the LR image"), *[e.row for e in entries]],
        scores=score(judge, images, pairs, track=track),
        spreads=None,
    )
    return ModelsResult(
        scores=scores.model_copy(update={"checks": ()}),  # those are of a default preset alone
        models=tuple(_facts(entries, facts, timings, scores, threads=request.threads)),
    )


def _parse(text: str, precision: Precision) -> _Name:
    """The longest folder that is there, and what follows it: a folder's own name may have : and @.

    Raises:
        UsageError: What follows names no preset and no precision.
    """
    ends = [len(text), *(m.start() for m in re.finditer("[:@]", text))][::-1]
    end = max((e for e in ends if Path(text[:e]).is_dir()), default=min(ends))
    found = re.fullmatch(r"(?::([^:@]+))?(?:@([^:@]+))?", text[end:])
    if found is None:
        raise UsageError(f"{text[end:]!r} behind {text[:end]}", hint="give FOLDER[:PRESET][@PRECISION]")
    if found[2] is None:
        return _Name(Path(text[:end]), found[1], precision)
    if found[2] not in set(Precision):
        raise UsageError(f"no precision {found[2]!r}", hint=f"one of {', '.join(Precision)}")
    return _Name(Path(text[:end]), found[1], Precision(found[2]))


def _check_alike(bundles: Sequence[Bundle]) -> None:
    """Asks that all take the same images.

    Raises:
        ConfigError: One does not.
    """
    for bundle in bundles[1:]:
        for what in ("scale", "channels", "tile"):
            theirs, ours = getattr(bundle.manifest, what), getattr(bundles[0].manifest, what)
            if theirs != ours:
                raise ConfigError(f"{bundle.folder} has {what} {theirs}, {bundles[0].folder} has {ours}")


def _row(index: int, bundle: Bundle, name: _Name) -> Row:
    """The first model's line is the scoreboard's `MODEL`."""
    preset = _preset(bundle, name.preset)
    words = "one pass" if preset is None else describe(preset)
    if name.precision in (Precision.INT8, Precision.INT8_FP16):
        words += f"; {calibrated(bundle)}"
    label = ", ".join(filter(None, (bundle.manifest.name, name.preset, name.precision.upper())))
    return Row(MODEL if index == 0 else f"{MODEL}-{index + 1}", label, words, preset)


def _preset(bundle: Bundle, name: str | None) -> Preset | None:
    if name is None:
        return bundle.manifest.default_preset
    presets = bundle.diffusion.presets
    if name not in presets:
        raise UsageError(
            f"{bundle.manifest.name} has no preset {name!r}", hint=f"one of {', '.join(sorted(presets))}"
        )
    return presets[name]


def _images(entries: Sequence[_Entry], pairs: Pairs, request: Request, track: Track) -> dict[str, Gray]:
    """Row -> (S, N, H, W); a model without a loop has one line of images."""
    images: dict[str, Gray] = {}
    for entry in entries:
        rows = [Row(BICUBIC, "", ""), Row(MODEL, "", "", entry.row.preset)]
        made = make_rows(
            Runner(entry.upscaler),
            rows,
            pairs,
            Extras(),
            seeds=range(request.seeds),
            batch=request.batch,
            track=track,
        )
        images.setdefault(BICUBIC, made[BICUBIC])
        images[entry.row.key] = made[MODEL]
    return images


def _time(entries: Sequence[_Entry], pairs: Pairs, request: Request, track: Track) -> dict[str, list[float]]:
    """Row -> seconds of each round."""

    def subject(entry: _Entry) -> Callable[[], float]:
        def run() -> float:
            started = perf_counter()
            entry.upscaler.upscale(pairs.lr[0], preset=entry.row.preset, seed=SEED)
            return perf_counter() - started

        return run

    return take_turns({e.row.key: subject(e) for e in entries}, repeats=request.rounds, track=track)


def _facts(
    entries: Sequence[_Entry],
    facts: Sequence[BundleFacts],
    timings: dict[str, list[float]],
    scores: QualityResult,
    *,
    threads: int,
) -> list[ModelFacts]:
    peaks: dict[tuple[str, Precision], int] = {}
    found = []
    for entry, fact in zip(entries, facts, strict=True):
        bundle, precision, key = entry.upscaler.bundle, entry.upscaler.precision, entry.row.key
        rung = Rung(key, entry.row.label, entry.row.note, bundle, precision)
        if (fact.digest, precision) not in peaks:
            peaks[fact.digest, precision] = peak_memory(rung, threads=threads).peak
        found.append(
            ModelFacts(
                row=key,
                bundle=fact,
                timing=timing(timings[key], note=entry.row.note),
                ratio=None if key == MODEL else _ratio(timings[key], timings[MODEL]),
                peak_bytes=peaks[fact.digest, precision],
                graph_bytes=sum(stages[precision].bytes for stages in bundle.manifest.graphs.values()),
                as_good=_as_good(key, scores, timings),
            )
        )
    return found


def _ratio(seconds: Sequence[float], first: Sequence[float]) -> Estimate:
    ratio = median_ratio(seconds, first, are_pairs=True)
    return Estimate(mean=ratio.value, low=ratio.low, high=ratio.high)


def _as_good(key: str, scores: QualityResult, timings: dict[str, list[float]]) -> str:
    """The fastest row that is at least as good, which may be itself."""
    rows = {row.key: row for row in scores.rows if row.key in timings}
    able = [other for other in rows if _is_as_good(rows[other], rows[key])]
    return min(able, key=lambda other: float(np.median(timings[other])))


def _is_as_good(row: RowResult, wanted: RowResult) -> bool:
    better = {"psnr_db": 1, LPIPS_NAME: -1}
    return all(
        better[name] * row.statistics[name].mean >= better[name] * wanted.statistics[name].mean
        for name in AS_GOOD
        if name in row.statistics
    )
