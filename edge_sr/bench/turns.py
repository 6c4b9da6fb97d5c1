"""Runs in turns, so that what disturbs the machine meets all that is compared; and the warm-up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from edge_sr.bench.records import WarmUp
from edge_sr.statistics import is_settled

__all__ = ["MOST_ROUNDS", "rounds_within", "take_turns", "warm_up"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Clock = Callable[[], float]

MOST_ROUNDS = 10_000
"""More say nothing more, and make a result that is slow to read."""

MOST_WARM_UPS = 100


def take_turns(
    subjects: Mapping[K, Callable[[], T]], *, rounds: Iterable[object], has_leads: bool = True
) -> dict[K, list[T]]:
    """Measures every subject once a round, in an order that turns.

    Args:
        subjects: Each runs once and returns what it measured.
        rounds: As many as it has elements.
        has_leads: Whether each is run once before the run that counts, and finds its own data in the caches,
            not another's. One subject alone has no need of that.
    """
    names = list(subjects)
    measured: dict[K, list[T]] = {name: [] for name in names}
    for turn, _ in enumerate(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if has_leads:
                subjects[name]()
            measured[name].append(subjects[name]())
    return measured


def rounds_within(seconds: float, *, least: int, clock: Clock) -> Iterator[int]:
    """Counts rounds until the time is over.

    Args:
        seconds: How long; the round that is under way is finished.
        least: How many there are however long they take.
        clock: A monotonic clock in seconds.
    """
    started = clock()
    for turn in range(MOST_ROUNDS):
        if turn >= least and clock() - started >= seconds:
            return
        yield turn


def warm_up(
    run: Callable[[], float], *, window: int, tolerance: float, most_s: float, clock: Clock
) -> WarmUp:
    """Runs until the time of a run settles, or the limit is reached.

    The limit is `most_s` seconds, of which two windows of runs may take more, and 100 runs.

    Args:
        run: Runs once and returns how long that took, in seconds.
        window: As `edge_sr.statistics.is_settled` takes it.
        tolerance: The same.
        most_s: Seconds.
        clock: A monotonic clock in seconds.
    """
    seconds: list[float] = []
    started = clock()
    while len(seconds) < MOST_WARM_UPS:
        seconds.append(run())
        is_stable = is_settled(seconds, window=window, tolerance=tolerance)
        if is_stable or (len(seconds) >= 2 * window and clock() - started >= most_s):
            break
    return WarmUp(seconds=tuple(seconds), is_stable=is_stable)
