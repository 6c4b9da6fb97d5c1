"""`python -m benchmarks diagnostic`: trains the judge where it is not trained, and shows it every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.board import BOOTSTRAP_SEED
from benchmarks.diagnostic.assembly import Scored, Truth, all_pairs, failures, row_auc, row_result, score
from benchmarks.diagnostic.cases import Case, Cases, read_cases
from benchmarks.diagnostic.judge import Judge
from benchmarks.diagnostic.outputs import Making, Output, make_output, plain_outputs, plan_rungs
from benchmarks.diagnostic.picture import draw
from benchmarks.diagnostic.ranking import patient_draws
from benchmarks.diagnostic.records import DiagnosticResult, JudgeFacts
from benchmarks.diagnostic.report import diagnostic_report
from benchmarks.diagnostic.telling import can_be_told, told_outputs
from benchmarks.diagnostic.told_picture import draw_told
from benchmarks.diagnostic.training import Recipe, train_judge
from benchmarks.diagnostic.words import checks, verdicts
from benchmarks.environment import environment
from benchmarks.ladder.assembly import source
from benchmarks.ladder.rungs import FP16, FP32, INT8, Rung, deployed_preset
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.records import Environment
from benchmarks.rows import Track
from benchmarks.summary import RESAMPLES
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError

__all__ = ["LEAST_AUC", "OUTPUTS", "Outcome", "Request", "run_diagnostic"]

LEAST_AUC = 0.9  # on true images; a judge below it draws no conclusion
OUTPUTS = "outputs"  # in the judge's folder: what the bundles made
FEW_SEEDS = 3


@dataclass(frozen=True)
class Request:
    """What is to be judged, and how.

    Attributes:
        bundle: Its folder.
        data: The folder that the table names files from.
        labels: The table.
        judge: The judge's folder: trained there, or gone on with, where it is not finished.
        recipe: How the judge is trained.
        reduction: How LR images are made, of `benchmarks.pairs.REDUCTIONS`; None for those in the folder.
        seeds: How many.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        source: Where the images come from, in words.
        degradation: How the LR images were made, in words.
    """

    bundle: Path
    data: Path
    labels: Path
    judge: Path
    recipe: Recipe
    reduction: str | None = None
    seeds: int = 3
    batch: int = 4
    threads: int = 0
    source: str = "not stated"
    degradation: str = "not stated"


@dataclass(frozen=True)
class Outcome:
    """What is written: the record, the report, the picture."""

    record: DiagnosticResult
    markdown: str
    png: bytes


@dataclass(frozen=True)
class _Subject:
    """What a request names, opened and checked."""

    bundle: Bundle
    rungs: tuple[Rung, ...]
    cases: Cases
    pairs: Pairs
    tested: tuple[Case, ...]  # in the order of the pairs


def run_diagnostic(request: Request, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Judges decisions. Writes to the judge's folder alone.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle, the images, the table or the judge's folder cannot be used.
    """
    subject = _open(request)
    train_judge(subject.cases, request.recipe, request.judge)
    judge, made_by = Judge(request.judge), environment(arguments, threads=request.threads)
    truth = Truth(
        np.array([case.is_ill for case in subject.tested]),
        patient_draws([case.patient for case in subject.tested], seed=BOOTSTRAP_SEED),
    )
    outputs = plain_outputs(subject.pairs, subject.bundle.manifest.scale)
    rows = [score(judge, outputs[0])]
    facts = _judge_facts(judge, subject.cases, rows[0], truth)
    if facts.is_valid:
        outputs += _made(request, subject, made_by, truth, track=track)
        rows += [score(judge, output) for output in track(outputs[1:], "judging")]
    threads = max(int(output.runs_on.get("threads", request.threads)) for output in outputs)
    made_by = environment(arguments, threads=threads)
    record = _record(request, subject, made_by, judge=facts, rows=rows, truth=truth)
    picture = draw_told if record.judge.is_valid and can_be_told(subject.bundle) else draw
    return Outcome(record, diagnostic_report(record), picture(record, outputs, subject.pairs))


def _open(request: Request) -> _Subject:
    bundle = Bundle.open(request.bundle)
    rungs, cases = plan_rungs(bundle), read_cases(request.data, request.labels)
    pairs = read_pairs(cases.pairs_folder, bundle, reduction=request.reduction)
    by_name = {case.path.name: case for case in cases.test}
    if odd := sorted(set(by_name) ^ set(pairs.names)):
        raise ConfigError(
            f"{len(odd)} test images have a label and no file, or a file and no label: {odd[0]}, ...",
            hint=f"see {request.labels} and {cases.pairs_folder}",
        )
    return _Subject(bundle, rungs, cases, pairs, tuple(by_name[name] for name in pairs.names))


def _made(
    request: Request, subject: _Subject, made_by: Environment, truth: Truth, *, track: Track
) -> Iterator[Output]:
    """What the bundle makes of the LR images, a row a precision; and told a class, where it can be told."""
    making = Making(
        kept=request.judge / OUTPUTS,
        seeds=range(request.seeds),
        batch=request.batch,
        threads=request.threads,
        made_by=made_by,
    )
    for rung in subject.rungs:
        yield make_output(rung, subject.pairs, making, track=track)
    if can_be_told(subject.bundle):
        rung = subject.rungs[0]
        yield from told_outputs(rung, subject.pairs, making, is_ill=truth.is_ill, track=track)


def _judge_facts(judge: Judge, cases: Cases, true: Scored, truth: Truth) -> JudgeFacts:
    found = row_auc(true, truth)
    return JudgeFacts(
        digest=judge.digest,
        parameters=judge.parameters,
        train_images=len(cases.train),
        train_patients=len({case.patient for case in cases.train}),
        val_images=len(cases.val),
        val_patients=len({case.patient for case in cases.val}),
        validation=judge.validation,
        auc=found,
        limit=LEAST_AUC,
        is_valid=found.mean >= LEAST_AUC,
    )


def _record(
    request: Request,
    subject: _Subject,
    made_by: Environment,
    *,
    judge: JudgeFacts,
    rows: Sequence[Scored],
    truth: Truth,
) -> DiagnosticResult:
    """Everything that is known, as one record."""
    manifest, names = subject.bundle.manifest, [case.patient for case in subject.tested]
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(names))}
    results = tuple(row_result(row, rows[0], truth) for row in rows)
    pairs = all_pairs(rows, truth) if judge.is_valid else ()
    return DiagnosticResult(
        environment=made_by,
        bundle=source(subject.bundle),
        data=subject.pairs.facts(
            degradation=request.reduction or request.degradation, operator=manifest.degradation
        ),
        source=request.source,
        model_data=manifest.provenance.data,
        is_ill=tuple(int(case.is_ill) for case in subject.tested),
        patients=tuple(numbers[name] for name in names),
        judge=judge,
        preset=deployed_preset(subject.bundle),
        seeds=tuple(range(request.seeds)),
        bootstrap={"resamples": RESAMPLES, "seed": BOOTSTRAP_SEED},
        rows=results,
        pairs=pairs,
        failures=failures(rows, truth) if judge.is_valid else (),
        checks=checks(judge, results, pairs),
        verdicts=verdicts(judge, results, pairs, images=len(names)),
        notices=tuple(_notices(request, subject)),
    )


def _notices(request: Request, subject: _Subject) -> Iterator[str]:
    """What was left out or is too little."""
    there = {rung.key for rung in subject.rungs}
    if missing := [key.upper() for key in (FP32, FP16, INT8) if key not in there]:
        yield f"the bundle has no {' and no '.join(missing)} graphs"
    if subject.bundle.manifest.classes and not can_be_told(subject.bundle):
        yield "the bundle's classes are not the judge's, or its guidance ends lower: it is told nothing here"
    for label, count in subject.cases.ignored.items():
        yield f"{count} images labelled {label} are left out, being neither normal nor pneumonia"
    if request.seeds < FEW_SEEDS:
        yield f"seeds: {request.seeds}, too few to tell the noise that they make; {FEW_SEEDS} or more do"
