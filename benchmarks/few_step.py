"""`python -m benchmarks few-step`: distilled students beside their teacher, in as few steps and in more.

Two questions are kept apart. Is a student's image nearer to the true one than what its teacher makes in as
few steps? And is it nearer to what the teacher makes of the same noise in many steps, which is all that
distillation aims at? Every row begins with the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmarks.board import assemble, estimate, score
from benchmarks.environment import environment
from benchmarks.features import FeatureDistance
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.quality import bundle_facts
from benchmarks.records import BundleFacts, Check, Estimate, QualityResult, Record, RowResult
from benchmarks.rows import BICUBIC, MEAN, MODEL, Extras, Row, Runner, Track, describe, make_rows, plan_rows
from benchmarks.scores import CEILING_DB, FEATURES_NAME, LPIPS_NAME, Judge
from benchmarks.summary import seed_noise
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.manifest import Preset
from edge_sr.metrics import psnr
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from export.perceptual import LPIPS

__all__ = ["CLOSENESS", "Comparison", "FewStepResult", "Outcome", "Request", "run_few_step"]

Gray = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float64]  # (S, N): a line a seed, a column an image
CLOSENESS = ("psnr_db", "ssim", LPIPS_NAME, FEATURES_NAME)


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        bundle: The teacher's folder.
        students: Folders of bundles whose default presets are of different numbers of steps.
        pairs: Folder.
        teacher_steps: In which the teacher taught.
        precision: Of the graphs.
        lpips, features: Weights of the judges; None leaves one out.
        seeds, limit: How many; images at most, 0 for all.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    bundle: Path
    students: tuple[Path, ...]
    pairs: Path
    teacher_steps: int = 8
    precision: Precision = Precision.FP32
    lpips: Path | None = None
    features: Path | None = None
    seeds: int = 2
    limit: int = 0
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


class Comparison(Record):
    """A student beside its teacher, from the same noise.

    Attributes:
        steps, noise_scale: Of both; the noise is scaled by this.
        student, plain, teacher: Keys of rows: the student's, the teacher's in as few steps, and in those that
            it taught in.
        versus: Metric -> the student less the teacher in as few steps, image by image.
        seed_std: Metric -> standard deviation over seeds of the mean over images of that difference.
        same: PSNR in dB against the teacher's image in the steps that it taught in: of the "student", of the
            teacher in as few steps ("plain"), and their "difference".
        same_seed_std: Of that difference, as `seed_std`.
    """

    steps: int
    noise_scale: float
    student: str
    plain: str
    teacher: str
    versus: dict[str, Estimate]
    seed_std: dict[str, float | None]
    same: dict[str, Estimate]
    same_seed_std: float | None


class FewStepResult(Record):
    """Students and their teacher on one set of pairs; `scores.bundle` is the teacher."""

    kind: Literal["edge-sr/few-step"] = "edge-sr/few-step"
    schema_version: Literal[1] = 1
    students: tuple[BundleFacts, ...]
    teacher_steps: int
    scores: QualityResult
    comparisons: tuple[Comparison, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Outcome:
    """What is written: the record, and the images of every row, (S, N, H, W), to draw some of."""

    record: FewStepResult
    images: Mapping[str, Gray]
    pairs: Pairs


def run_few_step(request: Request, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Judges the students. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: A bundle, the pairs or the weights cannot be used, or a student is not of this teacher.
    """
    teacher = Bundle.open(request.bundle)
    students = _open_students(request.students, teacher)
    pairs = read_pairs(request.pairs, teacher, limit=request.limit)
    scales = tuple(dict.fromkeys((_default(teacher).noise_scale, 1.0)))
    planned = _plan(teacher, students, request.teacher_steps, scales)
    images: dict[str, Gray] = {}
    facts: list[BundleFacts] = []
    for bundle, rows in zip((teacher, *students.values()), planned, strict=True):
        made, fact = _make(request, bundle, rows, pairs, track=track)
        images |= made
        facts.append(fact)
    scores = _judge(request, planned, images, pairs, fact=facts[0], arguments=arguments, track=track)
    compared = [
        _compare(scores, images, steps=steps, scale=scale, teacher_steps=request.teacher_steps)
        for scale in scales
        for steps in students
    ]
    record = FewStepResult(
        students=tuple(facts[1:]),
        teacher_steps=request.teacher_steps,
        scores=scores,
        comparisons=tuple(compared),
        checks=tuple(check for comparison in compared for check in _checks(comparison)),
    )
    return Outcome(record, images, pairs)


def _default(bundle: Bundle) -> Preset:
    return bundle.diffusion.presets[bundle.diffusion.default]


def _open_students(folders: Sequence[Path], teacher: Bundle) -> dict[int, Bundle]:
    """Steps -> bundle, most steps first.

    Raises:
        ConfigError: One is not of this teacher's kind, or two are of as many steps.
    """
    found: dict[int, Bundle] = {}
    for folder in folders:
        student = Bundle.open(folder)
        for what in ("scale", "channels", "tile", "latent"):
            theirs, ours = getattr(student.manifest, what), getattr(teacher.manifest, what)
            if theirs != ours:
                raise ConfigError(f"{folder} has {what} {theirs}, its teacher has {ours}")
        steps = _default(student).steps
        if steps in found:
            raise ConfigError(f"two students of {steps} steps: {found[steps].folder} and {folder}")
        found[steps] = student
    return dict(sorted(found.items(), reverse=True))


def _plan(
    teacher: Bundle, students: Mapping[int, Bundle], teacher_steps: int, scales: Sequence[float]
) -> list[list[Row]]:
    """The rows of the teacher, and of every student."""
    known = [row for row in plan_rows(teacher, (), Extras()) if row.key in (BICUBIC, MEAN, MODEL)]
    own = [
        _row("teacher", _default(teacher).model_copy(update={"steps": steps, "noise_scale": scale}))
        for scale in scales
        for steps in dict.fromkeys((_default(teacher).steps, teacher_steps, *students))
    ]
    theirs = [
        [_row("student", _default(s).model_copy(update={"noise_scale": scale})) for scale in scales]
        for s in students.values()
    ]
    return [known + own, *theirs]


def _row(who: str, preset: Preset) -> Row:
    words = f"{who}, {preset.steps} step{'s' if preset.steps > 1 else ''}, noise x {preset.noise_scale:g}"
    return Row(_key(who, preset.steps, preset.noise_scale), words, describe(preset), preset)


def _key(who: str, steps: int, scale: float) -> str:
    return f"{who}-{steps}-x{scale:g}"


def _make(
    request: Request, bundle: Bundle, rows: Sequence[Row], pairs: Pairs, *, track: Track
) -> tuple[dict[str, Gray], BundleFacts]:
    """The images of every row of one bundle."""
    with ExitStack() as stack:
        backend = open_backend("onnxruntime", threads=request.threads)
        upscaler = stack.enter_context(Upscaler(bundle, backend, precision=request.precision))
        images = make_rows(
            Runner(upscaler),
            rows,
            pairs,
            Extras(),
            seeds=range(request.seeds),
            batch=request.batch,
            track=track,
        )
        return images, bundle_facts(upscaler)


def _judge(
    request: Request,
    planned: Sequence[Sequence[Row]],
    images: Mapping[str, Gray],
    pairs: Pairs,
    *,
    fact: BundleFacts,
    arguments: Sequence[str],
    track: Track,
) -> QualityResult:
    """Every row against the true images."""
    manifest = Bundle.open(request.bundle).manifest
    features = FeatureDistance(request.features) if request.features else None
    judge = Judge(
        scale=manifest.scale,
        degradation=manifest.degradation,
        lpips=LPIPS(request.lpips) if request.lpips else None,
        features=features,
        has_spectrum=True,
    )
    return assemble(
        environment(arguments, threads=int(fact.backend["threads"])),
        fact,
        pairs.facts(degradation=request.degradation, operator=manifest.degradation),
        rows=[row for rows in planned for row in rows],
        scores=score(judge, images, pairs, track=track),
        spreads=None,
        features=features.digest if features else None,
    )


def _compare(
    scores: QualityResult, images: Mapping[str, Gray], *, steps: int, scale: float, teacher_steps: int
) -> Comparison:
    rows = {row.key: row for row in scores.rows}
    student, plain = (_key(who, steps, scale) for who in ("student", "teacher"))
    teacher = _key("teacher", teacher_steps, scale)
    changes = {
        name: _table(rows[student], name) - _table(rows[plain], name)
        for name in CLOSENESS
        if name in scores.metrics
    }
    same = {
        "student": _same(images[student], images[teacher]),
        "plain": _same(images[plain], images[teacher]),
    }
    same["difference"] = same["student"] - same["plain"]
    return Comparison(
        steps=steps,
        noise_scale=scale,
        student=student,
        plain=plain,
        teacher=teacher,
        versus={name: estimate(table.mean(axis=0)) for name, table in changes.items()},
        seed_std={name: seed_noise(table) for name, table in changes.items()},
        same={name: estimate(table.mean(axis=0)) for name, table in same.items()},
        same_seed_std=seed_noise(same["difference"]),
    )


def _table(row: RowResult, name: str) -> Table:
    return np.asarray(row.values[name], np.float64)


def _same(images: Gray, wanted: Gray) -> Table:
    """PSNR in dB of images against others, seed by seed: (S, N, H, W) each -> (S, N)."""
    return np.array(
        [
            [min(psnr(a, b), CEILING_DB) for a, b in zip(*pair, strict=True)]
            for pair in zip(images, wanted, strict=True)
        ]
    )


def _checks(found: Comparison) -> list[Check]:
    """What a student is for, each beyond the noise of the seeds and of the images."""
    who = f"student, {found.steps} step{'s' if found.steps > 1 else ''}, noise x {found.noise_scale:g}"
    noise, change = found.same_seed_std or 0.0, found.same["difference"]
    checks = [
        Check(
            claim=f"{who}: nearer to its teacher's image than the teacher in as few steps, dB",
            value=change.mean,
            limit=noise,
            holds=change.mean > noise and change.low > 0,
        )
    ]
    for name, better in (("psnr_db", 1), (LPIPS_NAME, -1), (FEATURES_NAME, -1)):
        if name in found.versus:
            change, noise = found.versus[name], found.seed_std[name] or 0.0
            worst = change.low if better > 0 else -change.high
            checks.append(
                Check(
                    claim=f"{who}: {name} against the true images better than the teacher's in as few steps",
                    value=change.mean,
                    limit=better * noise,
                    holds=better * change.mean > noise and worst > 0,
                )
            )
    return checks
