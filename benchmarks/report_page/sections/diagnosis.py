"""Whether enlarging, or INT8, changes what a classifier decides."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.diagnostic.paired import ALPHA
from benchmarks.diagnostic.records import DiagnosticResult, PairResult, RowResult, Share
from benchmarks.diagnostic.words import find_pair, pair_label, percent, points
from benchmarks.ladder.rungs import FP32, INT8
from benchmarks.records import Estimate
from benchmarks.report_page.blocks import (
    UNSETTLED,
    Answer,
    Block,
    Body,
    Items,
    Prose,
    Question,
    Table,
    Verdict,
)
from benchmarks.report_page.numbers import count, typeset
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["TOPIC"]

RATES = {
    "accuracy": "accuracy",
    "recall": "ill and found",
    "specificity": "healthy and cleared",
    "false_negative_rate": "ill and missed",
}


def build(found: Sequence[Found[DiagnosticResult]], context: Context) -> Body:
    """The first of the results."""
    result = found[0].record
    judge, ill = result.judge, sum(result.is_ill)
    told = (
        f"A network that was trained on true images alone says normal or pneumonia; {ill} ill and "
        f"{len(result.is_ill) - ill} healthy images of {max(result.patients) + 1} patients whom it has not "
        f"seen, {count(len(result.seeds), 'seed')}. It may judge from an AUC of {judge.limit:g} on true "
        f"images on. It is one small network and two labels, not a radiologist. The images: {result.source}."
    )
    blocks: list[Block] = [Prose(told), Items(tuple(map(typeset, result.verdicts)))]
    if result.pairs:
        blocks += [_decisions(result), _pairs(result)]
    blocks += [Prose(f"Note: {notice}.") for notice in result.notices]
    return Body(tuple(blocks), (_answer(result),))


def _answer(result: DiagnosticResult) -> Answer:
    """What the record says of INT8; of an invalid judge, that it may not judge."""
    question, pair = Question.INT8_DIAGNOSIS, find_pair(result.pairs, FP32, INT8)
    judge = typeset(result.verdicts[0])
    if not result.judge.is_valid:
        return Answer(question, (judge,), UNSETTLED)
    if pair is None:
        return Answer(question, ("INT8 was not judged.", judge), UNSETTLED)
    opening = f"**{pair_label(pair, result.rows)}**"
    own = [typeset(verdict) for verdict in result.verdicts if verdict.startswith(opening)]
    return Answer(question, (*own, judge), _verdict(pair))


def _verdict(pair: PairResult) -> Verdict:
    """A difference that is not seen is not shown to be none."""
    if pair.holm is not None and pair.holm < ALPHA:
        return Verdict("yes", "bad" if pair.only_second[0] < pair.only_first[0] else "open")
    return Verdict("no change shown", "open")


def _decisions(result: DiagnosticResult) -> Table:
    rows = [
        (r.label, _estimate(r.auc), *[_share(r.rates[name]) for name in RATES], _missed(r))
        for r in result.rows
    ]
    return Table(
        "Decisions: means over seeds [95 % interval]; the last column counts ill images that were missed, a "
        "number a seed.",
        ("", "AUC", *RATES.values(), "ill, missed"),
        tuple(rows),
    )


def _missed(row: RowResult) -> str:
    return ", ".join(str(matrix.false_negative) for matrix in row.matrices)


def _estimate(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _share(found: Share | None) -> str:
    return "–" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _pairs(result: DiagnosticResult) -> Table:
    rows = [
        (
            pair_label(pair, result.rows),
            percent(pair.discordance.value),
            f"{pair.only_first[0]} and {pair.only_second[0]}",
            f"{pair.p[0]:.2g}",
            "–" if pair.holm is None else f"{pair.holm:.2g}",
            typeset(points(pair.accuracy_change)),
            f"{pair.images_needed[0]:,}",
        )
        for pair in result.pairs
    ]
    head = ("", "decisions that differ", "only one right: first and second", "p", "p, all tests", "accuracy")
    return Table(
        "Pairs, seed 0: McNemar's exact test, its p adjusted for all tests of the table (Holm), and how many "
        "images a difference of one point would take.",
        (*head, "images for one point"),
        tuple(rows),
    )


TOPIC: Topic[DiagnosticResult] = Topic(
    name="diagnostic",
    kind="edge-sr/diagnostic",
    model=DiagnosticResult,
    title="Does it change a diagnosis?",
    what="whether enlarging, or INT8, changes what a classifier of pneumonia decides",
    command="python -m benchmarks diagnostic --bundle BUNDLE --data LABELLED --judge FOLDER",
    asks=(Question.INT8_DIAGNOSIS,),
    build=build,
    needs_loop=True,
)
