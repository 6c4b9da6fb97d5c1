"""Runs in turns, for a time, after a warm-up, and requests that come by themselves: on a clock of our own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from edge_sr.bench.load import LEAST_REQUESTS, offer
from edge_sr.bench.turns import MOST_ROUNDS, rounds_within, take_turns, warm_up


@dataclass
class Machine:
    """Work takes what `costs` says, one after the other and then the last again; nothing else takes time."""

    costs: list[float] = field(default_factory=lambda: [1.0])
    now_s: float = 100.0
    runs: int = 0

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds

    def run(self) -> float:
        seconds = self.costs[min(self.runs, len(self.costs) - 1)]
        self.runs += 1
        self.now_s += seconds
        return seconds


@pytest.mark.parametrize(("has_leads", "wanted"), [(True, "aabbcc" + "bbccaa"), (False, "abc" + "bca")])
def test_subjects_take_turns_in_an_order_that_turns(has_leads: bool, wanted: str) -> None:
    order: list[str] = []

    def subject(name: str) -> int:
        order.append(name)
        return len(order)

    subjects = {name: lambda name=name: subject(name) for name in "abc"}
    measured = take_turns(subjects, rounds=range(2), has_leads=has_leads)
    assert "".join(order) == wanted
    assert measured["a"] == ([2, 12] if has_leads else [1, 6])


def test_rounds_end_with_the_time_but_not_before_the_least() -> None:
    for seconds, least, wanted in ((3.5, 1, 4), (3.5, 6, 6), (0.0, 2, 2)):
        machine = Machine()
        rounds = [machine.run() for _ in rounds_within(seconds, least=least, clock=machine.clock)]
        assert len(rounds) == wanted


def test_rounds_that_take_no_time_end_all_the_same() -> None:
    assert sum(1 for _ in rounds_within(1.0, least=1, clock=lambda: 0.0)) == MOST_ROUNDS


def test_a_warm_up_ends_when_runs_settle() -> None:
    machine = Machine([9.0, 4.0, 2.0, 1.0])
    warm = warm_up(machine.run, window=2, tolerance=0.05, most_s=1000.0, clock=machine.clock)
    assert warm.is_stable
    assert warm.seconds == (9.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0)[: len(warm.seconds)]
    assert len(warm.seconds) == 7  # 2 and 1 against 1 and 1 is not settled yet


def test_a_warm_up_that_never_settles_ends_at_the_limit_and_says_so() -> None:
    machine = Machine([float(2**n) for n in range(60)])
    warm = warm_up(machine.run, window=3, tolerance=0.05, most_s=300.0, clock=machine.clock)
    assert not warm.is_stable
    assert len(warm.seconds) == 9  # the first whose end lies beyond: 511 s; two windows are 6
    restless = Machine([float(n % 7 + n) for n in range(1, 500)])
    warm = warm_up(restless.run, window=3, tolerance=1e-9, most_s=1e9, clock=restless.clock)
    assert (len(warm.seconds), warm.is_stable) == (100, False)


def test_two_windows_are_run_however_long_they_take() -> None:
    machine = Machine([50.0])
    warm = warm_up(machine.run, window=5, tolerance=0.05, most_s=1.0, clock=machine.clock)
    assert (len(warm.seconds), warm.is_stable) == (10, True)


def test_a_request_waits_for_those_before_it_and_is_timed_from_when_it_came() -> None:
    machine = Machine([2.0])
    load = offer(
        machine.run, share=0.8, capacity=0.5, seconds=100.0, seed=3, clock=machine.clock, wait=machine.wait
    )
    assert len(load.arrived) == machine.runs == 40
    free = 0.0
    for came, began, done in zip(load.arrived, load.started, load.finished, strict=True):
        assert began == pytest.approx(max(came, free))  # Lindley: not before it came, nor before its turn
        free = began + 2.0
        assert done == pytest.approx(free)
    assert max(load.latency) > 3.0  # somebody waited
    assert min(load.latency) == pytest.approx(2.0)  # and somebody did not


def test_a_machine_that_is_too_slow_falls_behind_and_shows_it() -> None:
    machine = Machine([2.0])
    load = offer(
        machine.run, share=2.0, capacity=0.5, seconds=60.0, seed=0, clock=machine.clock, wait=machine.wait
    )
    assert load.per_second == 1.0
    assert load.achieved == pytest.approx(0.5, rel=0.1)
    assert load.latency[-1] > 20.0


def test_there_are_some_requests_however_slow_the_machine_is() -> None:
    machine = Machine([50.0])
    load = offer(
        machine.run, share=0.5, capacity=0.02, seconds=1.0, seed=0, clock=machine.clock, wait=machine.wait
    )
    assert len(load.arrived) == LEAST_REQUESTS
