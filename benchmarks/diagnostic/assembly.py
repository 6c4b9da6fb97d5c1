"""From the judge's scores to rows, pairs and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from benchmarks.board import rounded
from benchmarks.diagnostic.counts import RATES, Counts, confusion, rate, wilson
from benchmarks.diagnostic.judge import Judge, Look
from benchmarks.diagnostic.outputs import Output
from benchmarks.diagnostic.paired import detectable_difference, holm, images_needed, mcnemar
from benchmarks.diagnostic.ranking import auc, interval, weighted_auc, weighted_mean
from benchmarks.diagnostic.records import Failure, Matrix, PairResult, RowResult, Share
from benchmarks.ladder.rungs import FP32
from benchmarks.records import Estimate
from benchmarks.rows import HR
from benchmarks.summary import Interval

__all__ = ["ONE_POINT", "Scored", "Truth", "all_pairs", "failures", "row_auc", "row_result", "score"]

ONE_POINT = 0.01
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """What is known of the images.

    Attributes:
        is_ill: (N,) booleans.
        draws: (R, N), see `patient_draws`.
    """

    is_ill: Flags
    draws: Values


@dataclass(frozen=True)
class Scored:
    """A row's images as the judge sees them.

    Attributes:
        output: The row.
        looks: One a seed.
        logits: (S, N).
    """

    output: Output
    looks: tuple[Look, ...]
    logits: Values


def score(judge: Judge, output: Output) -> Scored:
    """Shows the judge every image of a row."""
    looks = tuple(judge.look(images) for images in output.images)
    return Scored(output, looks, np.array([[rounded(value) for value in look.logits] for look in looks]))


def row_auc(scored: Scored, truth: Truth, *, less: Scored | None = None) -> Estimate:
    """The AUC, mean over seeds, or what it is more than another row's; the interval is over patients."""
    value, resampled = _auc(scored, truth)
    if less is not None:
        other, others = _auc(less, truth)
        value, resampled = value - other, resampled - others
    return interval(value, resampled)


def _auc(scored: Scored, truth: Truth) -> tuple[float, Values]:
    value = float(np.mean([auc(seed, truth.is_ill) for seed in scored.logits]))
    resampled = np.mean([weighted_auc(seed, truth.is_ill, truth.draws) for seed in scored.logits], axis=0)
    return value, resampled


def row_result(scored: Scored, true: Scored, truth: Truth) -> RowResult:
    """Everything about one row."""
    counted = [confusion(seed > 0, truth.is_ill) for seed in scored.logits]
    mean = Counts(*np.mean([list(asdict(one).values()) for one in counted], axis=0))
    matrices = [Matrix(**{cell: int(count) for cell, count in asdict(one).items()}) for one in counted]
    rates = {name: rate(mean, name) for name in RATES}
    return RowResult(
        key=scored.output.key,
        label=scored.output.label,
        note=scored.output.note,
        runs_on=scored.output.runs_on,
        logits=tuple(tuple(map(float, seed)) for seed in scored.logits),
        matrices=tuple(matrices),
        rates={name: _share(found) if found else None for name, found in rates.items()},
        auc=row_auc(scored, truth),
        auc_change=row_auc(scored, truth, less=true),
        distance=rounded(_distance(scored, true)),
    )


def _distance(scored: Scored, true: Scored) -> float:
    """From the true images for the judge, mean over images and seeds."""
    return float(np.mean([look.distances(true.looks[0]) for look in scored.looks]))


def _share(found: Interval) -> Share:
    return Share(value=found.mean, low=found.low, high=found.high)


def all_pairs(rows: Sequence[Scored], truth: Truth) -> tuple[PairResult, ...]:
    """Every two rows, a family of tests; and FP32 beside itself with another seed, outside of it."""
    pairs = [
        _pair(one.logits, other.logits, truth, keys=(one.output.key, other.output.key))
        for one, other in combinations(rows, 2)
    ]
    adjusted = holm([pair.p[0] for pair in pairs])
    found = [pair.model_copy(update={"holm": p}) for pair, p in zip(pairs, adjusted, strict=True)]
    base = next(row for row in rows if row.output.key == FP32)
    if len(base.logits) > 1:
        found.append(_pair(base.logits[:-1], base.logits[1:], truth, keys=(FP32, FP32)))
    return tuple(found)


def _pair(first: Values, second: Values, truth: Truth, *, keys: tuple[str, str]) -> PairResult:
    """Two rows, seed by seed; what is not drawn stands beside every seed of what is."""
    one, other = np.broadcast_arrays(first, second)
    right, beside = (one > 0) == truth.is_ill, (other > 0) == truth.is_ill
    only = [tuple(int(n) for n in (a & ~b).sum(axis=1)) for a, b in ((right, beside), (beside, right))]
    differs = (right != beside).mean()
    images = len(truth.is_ill)
    share = _share(wilson(float(differs) * images, images))
    change = other - one
    return PairResult(
        first=keys[0],
        second=keys[1],
        only_first=only[0],
        only_second=only[1],
        p=tuple(mcnemar(a, b) for a, b in zip(*only, strict=True)),
        holm=None,
        accuracy_change=_over_patients(beside.astype(float) - right, truth),
        discordance=share,
        images_needed=(images_needed(share.value, ONE_POINT), images_needed(share.high, ONE_POINT)),
        detectable=detectable_difference(share.value, images),
        logit_drift=_over_patients(np.abs(change), truth),
        logit_shift=_over_patients(change, truth),
        probability_drift=_over_patients(np.abs(_probability(other) - _probability(one)), truth),
    )


def _over_patients(values: Values, truth: Truth) -> Estimate:
    """(S, N) -> the mean over seeds and images."""
    return weighted_mean(values.mean(axis=0), truth.draws)


def _probability(logits: Values) -> Values:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def failures(rows: Sequence[Scored], truth: Truth) -> tuple[Failure, ...]:
    """Images of every row but the true ones that are decided wrongly, and rightly where they are true."""
    by_key = {row.output.key: (row.logits > 0) == truth.is_ill for row in rows}
    lost = {key: by_key[HR] & ~right for key, right in by_key.items() if key != HR}
    return tuple(
        Failure(image=int(image), key=key, seeds=tuple(int(s) for s in np.flatnonzero(wrong[:, image])))
        for key, wrong in lost.items()
        for image in np.flatnonzero(wrong.any(axis=0))
    )
