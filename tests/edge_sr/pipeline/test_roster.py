"""Who sits in which row of a batch, without any batch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sr.pipeline.roster import Roster, spans

Names = Roster[str, str]


def seated(roster: Names) -> str:
    return " ".join(seat.sample for seat in roster.seats)


def filled(capacity: int, *owners: str, each: int = 3, steps: int = 2) -> Names:
    """Owners with so many samples each, named a0, a1, ..., b0, ..."""
    roster: Names = Roster(capacity)
    for owner in owners:
        for number in range(each):
            roster.add(owner, f"{owner}{number}", steps=steps)
    return roster


def test_a_lone_sample_sits_down_at_once() -> None:
    roster = filled(8, "a", each=1)
    assert roster.admit() == range(1)
    assert seated(roster) == "a0"


def test_a_lone_owner_fills_the_whole_batch() -> None:
    roster = filled(2, "a")
    assert roster.admit() == range(2)
    assert seated(roster) == "a0 a1"
    assert roster.admit() == range(2, 2)


def test_owners_take_turns_in_the_order_in_which_they_came() -> None:
    roster = filled(7, "a", "b", "c")
    roster.admit()
    assert seated(roster) == "a0 b0 c0 a1 b1 c1 a2"


def test_owners_of_one_sample_each_are_first_come_first_served() -> None:
    roster = filled(1, *"abcd", each=1, steps=1)
    order = []
    while roster.admit():
        order.append(seated(roster))
        roster.leave(roster.advance())
    assert order == ["a0", "b0", "c0", "d0"]


def test_who_joins_sits_beside_who_is_at_another_step() -> None:
    roster = filled(2, "a", each=1, steps=5)
    roster.admit()
    assert roster.advance() == []
    roster.add("b", "b0", steps=2)
    assert roster.admit() == range(1, 2)
    assert [seat.step for seat in roster.seats] == [1, 0]
    assert roster.advance() == []
    assert roster.advance() == [1]


def test_a_large_image_holds_up_a_small_one_by_no_more_than_the_tile_that_ends_first() -> None:
    roster = filled(2, "a", each=100, steps=5)
    roster.admit()
    roster.add("b", "b0", steps=5)
    rounds = 0
    while "b0" not in seated(roster):
        roster.leave(roster.advance())
        roster.admit()
        rounds += 1
    assert rounds == 5


def test_nobody_starves_however_many_newcomers_there_are() -> None:
    roster = filled(1, "large", each=20, steps=1)
    seen = []
    for number in range(30):
        roster.add(f"small{number}", f"small{number}", steps=1)
        if number < 2:
            roster.add(f"other{number}", f"other{number}", steps=1)  # so that two always wait
        roster.admit()
        seen.append(seated(roster))
        roster.leave(roster.advance())
    turns = [turn for turn, name in enumerate(seen) if name.startswith("large")]
    assert len(turns) >= 4
    small = [int(name[5:]) for name in seen if name.startswith("small")]
    assert small == sorted(small)


def test_gaps_are_closed_by_who_sits_last() -> None:
    roster = filled(5, *"abcde", each=1)
    roster.admit()
    assert roster.leave([0, 3]) == [(4, 0)]
    assert seated(roster) == "e0 b0 c0"
    assert roster.leave([2]) == []
    assert roster.leave([0, 1]) == []
    assert seated(roster) == ""


def test_who_is_dismissed_leaves_the_queue_and_is_named_in_the_batch() -> None:
    roster = filled(3, "a", "b")
    roster.admit()
    assert seated(roster) == "a0 b0 a1"
    waited, rows = roster.dismiss({"a", "nobody"})
    assert (waited, rows) == (["a2"], [0, 2])
    roster.leave(rows)
    roster.admit()
    assert seated(roster) == "b0 b1 b2"
    assert roster.owners == {"b"}


@pytest.mark.parametrize(
    ("rows", "found"),
    [([], []), ([3], [(3, 4)]), ([0, 1, 2], [(0, 3)]), ([1, 2, 5, 7, 8], [(1, 3), (5, 6), (7, 9)])],
    ids=str,
)
def test_rows_come_in_as_few_spans_as_there_are(rows: list[int], found: list[tuple[int, int]]) -> None:
    assert spans(rows) == found


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=12
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(capacity=st.integers(1, 5), arrivals=ARRIVALS)
def test_whatever_comes_everybody_makes_their_steps_in_rows_without_gaps(
    capacity: int, arrivals: list[tuple[int, int, int]]
) -> None:
    roster: Roster[int, tuple[int, int]] = Roster(capacity)
    made: Counter[tuple[int, int]] = Counter()
    waits: Counter[int] = Counter()
    turn = 0
    while turn <= 20 or roster.owners:
        for owner, (at, samples, steps) in enumerate(arrivals):
            for number in range(samples if at == turn else 0):
                roster.add(owner, (owner, number), steps=steps)
        roster.admit()
        here = {seat.owner for seat in roster.seats}
        assert len(roster.seats) == capacity or roster.owners == here, "a row is free, and somebody waits"
        for seat in roster.seats:
            assert seat.step == made[seat.sample]
            made[seat.sample] += 1
        waits = Counter({owner: waits[owner] + 1 for owner in roster.owners - here})
        # Everybody before has one sample seated, and each of those is over after 4 steps.
        assert max(waits.values(), default=0) <= 4 * len(arrivals)
        leave_and_check(roster, roster.advance())
        turn += 1
    assert made == {(o, n): steps for o, (_, samples, steps) in enumerate(arrivals) for n in range(samples)}


def leave_and_check(roster: Roster[int, tuple[int, int]], rows: list[int]) -> None:
    """Everybody who stays is where the moves say, and no row is both left and taken by a move."""
    held = {row: seat.sample for row, seat in enumerate(roster.seats) if row not in rows}
    moves = roster.leave(rows)
    assert not {row for row, _ in moves} & {to for _, to in moves}
    for row, to in moves:
        assert to not in held
        held[to] = held.pop(row)
    assert [seat.sample for seat in roster.seats] == [held[row] for row in range(len(roster.seats))]
