"""What a cell comes to: throughput, quantiles, slowdowns, fairness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.service.load import Answer
from benchmarks.service.records import Cell, Kind, Summary

__all__ = ["OK", "REFUSED", "Baseline", "Rounds", "cell", "jain"]

OK, REFUSED = 200, 429


@dataclass(frozen=True)
class Baseline:
    """A request by itself, on the server without batching: seconds, and tiles, of the small and the large."""

    lone_s: tuple[float, float]
    tiles: tuple[int, int]


@dataclass
class Rounds:
    """One server under one load, a list of answers and a time a round."""

    answers: list[list[Answer]] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    @property
    def all(self) -> list[Answer]:
        """Of all rounds."""
        return [answer for answers in self.answers for answer in answers]

    def throughputs(self) -> list[float]:
        """Answers a second, a round each."""
        return [
            sum(a.status == OK for a in found) / s for found, s in zip(self.answers, self.wall_s, strict=True)
        ]


def cell(kind: Kind, load: float, batch: int, rounds: Rounds, *, peer: Rounds, baseline: Baseline) -> Cell:
    """The record of a server under a load; `peer` is the server without batching under the same load."""
    found = rounds.all
    return Cell(
        kind=kind,
        load=load,
        batch=batch,
        round=tuple(turn for turn, answers in enumerate(rounds.answers) for _ in answers),
        is_large=tuple(a.is_large for a in found),
        latency_s=tuple(round(a.latency_s, 5) for a in found),
        status=tuple(a.status for a in found),
        wall_s=tuple(round(seconds, 4) for seconds in rounds.wall_s),
        summary=_summary(rounds, peer, baseline),
    )


def jain(shares: Sequence[float]) -> float:
    """The fairness index of Jain, Chiu and Hawe (1984): 1 for equal shares, 1/n where one has it all."""
    x = np.asarray(shares, np.float64)
    return float(x.sum() ** 2 / (len(x) * np.square(x).sum()))


def _summary(rounds: Rounds, peer: Rounds, baseline: Baseline) -> Summary:
    found = rounds.all
    done = [a for a in found if a.status == OK]
    small, large = ([a.latency_s for a in done if a.is_large == is_large] for is_large in (False, True))
    slow = [a.latency_s / baseline.lone_s[a.is_large] for a in done]
    wall_s = sum(rounds.wall_s)
    return Summary(
        throughput=len(done) / wall_s,
        tiles=sum(baseline.tiles[a.is_large] for a in done) / wall_s,
        refused=sum(a.status == REFUSED for a in found) / len(found),
        small_p50_s=_quantile(small, 0.5),
        small_p99_s=_quantile(small, 0.99),
        large_p50_s=_quantile(large, 0.5),
        large_p99_s=_quantile(large, 0.99),
        small_slowdown=_mean(small, baseline.lone_s[0]),
        large_slowdown=_mean(large, baseline.lone_s[1]),
        jain=jain([1 / s for s in slow]) if slow else None,
        throughput_ratio=_ratios(rounds, peer),
    )


def _ratios(rounds: Rounds, peer: Rounds) -> tuple[float, float, float]:
    """The median over rounds, the lowest, the highest; 0 where the peer answered nothing."""
    pairs = zip(rounds.throughputs(), peer.throughputs(), strict=True)
    ratios = [ours / theirs if theirs else 0.0 for ours, theirs in pairs]
    return float(np.median(ratios)), min(ratios), max(ratios)


def _quantile(seconds: Sequence[float], share: float) -> float | None:
    return float(np.quantile(seconds, share)) if seconds else None


def _mean(seconds: Sequence[float], alone_s: float) -> float | None:
    return float(np.mean(seconds)) / alone_s if seconds else None
