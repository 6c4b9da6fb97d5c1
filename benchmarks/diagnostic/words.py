"""What the decisions come to: claims, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.diagnostic.paired import ALPHA, POWER
from benchmarks.diagnostic.records import JudgeFacts, PairResult, RowResult
from benchmarks.diagnostic.telling import STRONGEST, danger, told_key
from benchmarks.ladder.rungs import FP16, FP32, INT8
from benchmarks.records import Check, Estimate
from benchmarks.rows import BICUBIC, HR

__all__ = ["INVALID", "POINTS", "checks", "find_pair", "pair_label", "percent", "points", "verdicts"]

INVALID = "Judge invalid"
POINTS = 100  # of a share
SAID = (
    *((HR, BICUBIC), (HR, FP32), (HR, INT8), (FP32, FP16), (FP32, INT8)),
    *((FP32, told_key(kind, STRONGEST)) for kind in ("true", "wrong")),
)
"""The pairs that a reader decides from, in the order in which they are told."""

Pairs = Sequence[PairResult]


def find_pair(pairs: Pairs, first: str, second: str) -> PairResult | None:
    """The pair of these rows; None where there is none."""
    return next((pair for pair in pairs if (pair.first, pair.second) == (first, second)), None)


def pair_label(pair: PairResult, rows: Sequence[RowResult]) -> str:
    """As in "INT8 against FP32"."""
    if pair.first == pair.second:
        return f"{_label(pair.first, rows)}, another seed"
    return f"{_label(pair.second, rows)} against {_label(pair.first, rows)}"


def _label(key: str, rows: Sequence[RowResult]) -> str:
    return next(row.label for row in rows if row.key == key)


def percent(share: float) -> str:
    """As in "1.3 %"."""
    return f"{100 * share:.1f} %"


def points(change: Estimate) -> str:
    """A change of a share in points, with its interval."""
    mean, low, high = (POINTS * value for value in (change.mean, change.low, change.high))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


def checks(judge: JudgeFacts, rows: Sequence[RowResult], pairs: Pairs) -> tuple[Check, ...]:
    """What has to hold for the report to mean something, and what one hopes that it says."""
    name = f"the judge's AUC on true images is at least {judge.limit:g}"
    found = [_check(name, judge.auc.mean, judge.limit, holds=judge.is_valid)]
    for row in rows:
        if row.key == BICUBIC:
            change = row.auc_change
            name = "the judge ranks bicubic images worse than true ones, beyond doubt (AUC)"
            found.append(_check(name, change.mean, 0, holds=change.high < 0))
    other = find_pair(pairs, FP32, FP32)
    for key in (FP16, INT8):
        pair = find_pair(pairs, FP32, key)
        if pair and other:
            name = f"{_label(key, rows)} moves FP32's logit less than another seed does"
            drift, limit = pair.logit_drift.mean, other.logit_drift.mean
            found.append(_check(name, drift, limit, holds=drift < limit))
    return tuple(found)


def _check(claim: str, value: float, limit: float, *, holds: bool) -> Check:
    return Check(claim=claim, value=float(f"{value:.6g}"), limit=float(f"{limit:.6g}"), holds=holds)


def verdicts(judge: JudgeFacts, rows: Sequence[RowResult], pairs: Pairs, *, images: int) -> tuple[str, ...]:
    """What may be concluded: of an invalid judge nothing."""
    found = f"its AUC on the true images is {judge.auc.mean:.3f} [{judge.auc.low:.3f}, {judge.auc.high:.3f}]"
    if not judge.is_valid:
        return (f"{INVALID}: {found}, and {judge.limit:g} is asked for. No conclusion is drawn.",)
    told = [f"The judge may judge: {found}, and {judge.limit:g} is asked for."]
    told += [_of_detail(row) for row in rows if row.key == BICUBIC]
    for key, other in SAID:
        if pair := find_pair(pairs, key, other):
            told.append(" ".join(_of_pair(pair, rows, pairs, images=images)))
    return (*told, *danger(rows))


def _of_detail(row: RowResult) -> str:
    """Whether the judge needs what super-resolution adds."""
    change = row.auc_change
    by = f"its AUC there changes by {change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    if change.high < 0:
        return f"It misses detail that bicubic images lack: {by}. So it can tell whether that comes back."
    return (
        f"It does no worse on bicubic images, as far as these can tell: {by}. Those have no detail above the "
        "LR image's. So this judge needs little of what super-resolution adds, and its agreement says little "
        "of it."
    )


def _of_pair(pair: PairResult, rows: Sequence[RowResult], pairs: Pairs, *, images: int) -> Iterator[str]:
    yield _counted(pair, rows)
    change = f"Accuracy changes by {points(pair.accuracy_change)}."
    if pair.holm is not None and pair.holm < ALPHA:
        how = "worse" if pair.only_second[0] < pair.only_first[0] else "better"
        yield f"{change} {_label(pair.second, rows)} is {how}."
    else:
        yield f"{change} {_not_seen(pair, images)}"
    other = find_pair(pairs, FP32, FP32)
    if pair.first == FP32 and other:
        drift, seeds = pair.logit_drift.mean, other.logit_drift.mean
        yield f"It moves the logit by {drift:.2f}, another seed by {seeds:.2f}."


def _counted(pair: PairResult, rows: Sequence[RowResult]) -> str:
    """How many decisions differ, and which way."""
    one, other = (_label(key, rows) for key in (pair.first, pair.second))
    p, adjusted = _p(pair.p[0]), "" if pair.holm is None else f", {_p(pair.holm)} after Holm"
    return (
        f"**{pair_label(pair, rows)}**: {percent(pair.discordance.value)} of the decisions differ; with "
        f"seed 0 {one} alone is right on {pair.only_first[0]}, {other} alone on {pair.only_second[0]} "
        f"(McNemar's exact p {p}{adjusted})."
    )


def _not_seen(pair: PairResult, images: int) -> str:
    needed, more = pair.images_needed
    found = pair.accuracy_change
    is_leaning = found.high < 0 or found.low > 0
    told = (
        f"The interval leans to {'worse' if found.high < 0 else 'better'}, the test does not settle it"
        if is_leaning
        else "No difference is shown, which does not show that there is none"
    )
    return (
        f"{told}: {images} images show differences from {POINTS * pair.detectable:.1f} points on "
        f"({100 * POWER:.0f} % power); one point takes {needed:,} of them, or up to {more:,}."
    )


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"
