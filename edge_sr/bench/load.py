"""Requests that come by themselves: the latency of a machine that is not asked only when it is ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_sr.bench.records import Load
from edge_sr.statistics import poisson_arrivals

__all__ = ["LEAST_REQUESTS", "SHARES", "offer"]

SHARES = (0.5, 0.8)
"""Of the throughput without pauses: half asleep, and busy."""

LEAST_REQUESTS = 10


def offer(
    run: Callable[[], object],
    *,
    share: float,
    capacity: float,
    seconds: float,
    seed: int,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> Load:
    """Offers requests at random moments, and runs them one after the other as they came.

    The schedule does not wait for answers (open loop): a request that comes while another runs has waited
    from the moment that it came.

    Args:
        run: Answers one request.
        share: Of `capacity`, that is offered.
        capacity: Requests a second that the machine answers when it is always asked.
        seconds: How long requests come, 10 of them at least.
        seed: Of the arrivals.
        clock: A monotonic clock in seconds.
        wait: Does nothing for so many seconds.
    """
    rate = share * capacity
    arrived = poisson_arrivals(rate, max(LEAST_REQUESTS, round(seconds * rate)), seed=seed)
    started, finished = _serve(run, arrived, clock=clock, wait=wait)
    return Load(share=share, per_second=rate, arrived=arrived, started=started, finished=finished)


def _serve(
    run: Callable[[], object],
    arrived: Sequence[float],
    *,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """When each request was started and finished, from the start."""
    begun = clock()
    started, finished = [], []
    for moment in arrived:
        if (early := moment - (clock() - begun)) > 0:
            wait(early)
        started.append(max(moment, clock() - begun))
        run()
        finished.append(max(started[-1], clock() - begun))
    return tuple(started), tuple(finished)
