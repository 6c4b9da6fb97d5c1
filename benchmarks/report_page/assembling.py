"""From what was found to the whole report: the answers first, then a section a topic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.ladder.records import LadderResult
from benchmarks.peers.records import PeersResult
from benchmarks.records import Environment
from benchmarks.report_page.blocks import UNMEASURED, Answer, Body, Document, Question, Section, Verdict
from benchmarks.report_page.numbers import count, typeset
from benchmarks.report_page.reading import Findings
from benchmarks.report_page.sections import (
    closing,
    curve,
    device,
    diagnosis,
    evidence,
    ladder,
    loop,
    models,
    peers,
    quality,
    roofline,
    seams,
    sensitivity,
    service,
)
from benchmarks.report_page.sections.front import bench_points, front_section, ladder_points
from benchmarks.report_page.sections.pictures import pictures_section, ranking_of
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["CAUTION", "TOPICS", "assemble"]

TOPICS: tuple[Topic[Any], ...] = (
    quality.TOPIC,
    diagnosis.TOPIC,
    ladder.TOPIC,
    peers.TOPIC,
    models.TOPIC,
    device.TOPIC,
    curve.TOPIC,
    sensitivity.TOPIC,
    evidence.TOPIC,
    seams.TOPIC,
    loop.TOPIC,
    roofline.TOPIC,
    service.TOPIC,
)
"""In the order of the page."""

CAUTION = (
    "Research use only, not for diagnosis. Detail above the input's resolution is generated: it is likely, "
    "not true. Look at the original beside it."
)
NO_GPU = "No result here is from a GPU or a Jetson."
NEVER = "No reader looked at these images: nothing here says what a radiologist would find in them."

Sources = list[tuple[Topic[Any], Found[Any]]]


def assemble(
    findings: Findings, context: Context, made: Environment, *, date: str, failures: Sequence[str] = ()
) -> Document:
    """The report. Makes the few images that it shows.

    Args:
        findings: The results.
        context: The bundle and the images.
        made: Where this report is made, and the command that makes it.
        date: When, as in "2026-11-21".
        failures: What was to be measured and could not be, in words.

    Raises:
        EdgeSRError: The bundle cannot be run.
    """
    used: Sources = [(topic, each) for topic in TOPICS for each in findings.found[topic.name]]
    bodies = {topic: body for topic in TOPICS if (body := _body(topic, findings, context))}
    absent = [topic for topic in TOPICS if topic not in bodies]
    answers = [answer for body in bodies.values() for answer in body.answers]
    answers += [
        Answer(question, (_missing(topic, context),), UNMEASURED)
        for topic in absent
        for question in topic.asks
    ]
    unmeasured = (*_gpu(findings), *failures, NEVER)
    answers += [_targets(used), _unmeasured(absent, unmeasured, context)]
    ranking = ranking_of(context, _first(findings, ladder.TOPIC), _all(findings, quality.TOPIC))
    manifest = context.bundle.manifest
    return Document(
        title=f"{manifest.name} {manifest.version}: what was measured",
        caution=CAUTION,
        lead=f"{manifest.description} Digest {context.bundle.digest[:12]}. Page made on {date}, commit "
        f"{made.commit[:12]}{made.commit[40:]}.",
        answers=[_merged(question, answers) for question in Question],
        sections=[
            *_front(findings),
            pictures_section(context, ranking, threads=made.threads),
            *[Section(topic.name, topic.title, body.blocks) for topic, body in bodies.items()],
            closing.missing_section(absent, findings, context, also=unmeasured),
            closing.targets_section(used),
            closing.limits_section(context),
            closing.sources_section(used, findings, command=made.command, digest=context.bundle.digest),
            closing.words_section(),
        ],
    )


def _body(topic: Topic[Any], findings: Findings, context: Context) -> Body | None:
    """What a topic's results say, or without any the bundle; None where neither says anything."""
    found = findings.found[topic.name]
    return topic.build(found, context) if found else topic.from_bundle(context)


def _missing(topic: Topic[Any], context: Context) -> str:
    why = "" if context.applies(topic) else f" `{topic.command.split(' --')[0]}` takes models with a loop."
    return f"Not measured: {topic.what}.{why}"


def _all(findings: Findings, topic: Topic[Any]) -> list[Any]:
    return [found.record for found in findings.found[topic.name]]


def _first(findings: Findings, topic: Topic[Any]) -> Any:
    return next(iter(_all(findings, topic)), None)


def _front(findings: Findings) -> list[Section]:
    """Of the precisions in one run, beside other runtimes; without that run, of what was measured of each."""
    result: LadderResult | None = _first(findings, ladder.TOPIC)
    if result is None:
        points = list(bench_points(_all(findings, quality.TOPIC), _all(findings, device.TOPIC)))
        return [front_section(points, noise=None)] if points else []
    others: PeersResult | None = _first(findings, peers.TOPIC)
    points = [*ladder_points(result), *(peers.peer_points(others) if others else ())]
    untimed = [row.label for row in result.rows if not row.latency.is_meaningful]
    return [front_section(points, noise=result.seed_noise["psnr_db"], untimed=untimed)]


def _merged(question: Question, answers: Iterable[Answer]) -> Answer:
    """All that there is for a question; one that nothing is known of says so."""
    own = [answer for answer in answers if answer.question is question]
    if not own:
        return Answer(question, ("Nothing was measured that answers this.",), UNMEASURED)
    measured = [answer for answer in own if answer.verdict is not UNMEASURED] or own
    verdict = next((answer.verdict for answer in measured if answer.verdict), None)
    return Answer(question, tuple(s for answer in measured for s in answer.sentences), verdict)


def _targets(used: Sources) -> Answer:
    every = closing.targets(used)
    missed = [check for _, check in every if not check.holds]
    if not every:
        return Answer(Question.TARGETS, ("No result has any.",), UNMEASURED)
    if not missed:
        return Answer(
            Question.TARGETS, (f"All {len(every)} that were measured are met.",), Verdict("yes", "good")
        )
    told = f"{len(missed)} of {count(len(every), 'target is')} not met: "
    claims = [typeset(f"{check.claim} ({check.value:.3g}, limit {check.limit:.3g})") for check in missed]
    return Answer(Question.TARGETS, (told + "; ".join(claims) + ".",), Verdict("no", "bad"))


def _unmeasured(absent: Sequence[Topic[Any]], also: Sequence[str], context: Context) -> Answer:
    missing = [topic.what for topic in absent if context.applies(topic)]
    told = [f"Not measured: {'; '.join(missing)}. What measures it stands below."] if missing else []
    return Answer(Question.UNMEASURED, (*told, *also))


def _gpu(findings: Findings) -> tuple[str, ...]:
    devices = _all(findings, device.TOPIC)
    return () if any(result.environment.backend in device.GPU for result in devices) else (NO_GPU,)
