"""Who sits in which row of a batch, and who comes next: in-flight batching without the batch.

Samples are queued by owner (a request) and seated by turns: one sample of each owner that waits, in the order
in which the owners came, and then round again. So owners of one sample each are served first come, first
served; an owner of many samples holds up a newcomer by one of them at most for each turn; and nobody waits
for more samples than there are owners before them. A sample that is seated stays until its last step.

The rows that are taken are always the first ones, so that a step is one call over a whole number of rows;
who leaves is replaced by who sits last.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Roster", "Seat", "spans"]

Owner = TypeVar("Owner", bound=Hashable)
T = TypeVar("T")


@dataclass
class Seat(Generic[Owner, T]):
    """A sample on its way through the loop.

    Attributes:
        owner: Whose it is.
        sample: What it is.
        steps: How many steps it makes; with none it leaves after the first, in which nothing is done.
        step: How many it has made.
    """

    owner: Owner
    sample: T
    steps: int
    step: int = 0


class Roster(Generic[Owner, T]):
    """The rows of a batch and the queue before it.

    Attributes:
        capacity: Rows.
        seats: Who sits in rows 0, 1, ...
    """

    def __init__(self, capacity: int) -> None:
        """Args: capacity: At least 1."""
        self.capacity = capacity
        self.seats: list[Seat[Owner, T]] = []
        # By turns, and nobody with nothing.
        self._waiting: OrderedDict[Owner, deque[Seat[Owner, T]]] = OrderedDict()

    @property
    def owners(self) -> set[Owner]:
        """Who sits or waits."""
        return {seat.owner for seat in self.seats} | set(self._waiting)

    def add(self, owner: Owner, sample: T, *, steps: int) -> None:
        """Queues a sample behind its owner's others; an owner that had none waiting gets the last turn."""
        self._waiting.setdefault(owner, deque()).append(Seat(owner, sample, steps))

    def admit(self) -> range:
        """Seats who waits while there is room; gives the rows that were filled."""
        before = len(self.seats)
        while self._waiting and len(self.seats) < self.capacity:
            owner, queue = next(iter(self._waiting.items()))
            self.seats.append(queue.popleft())
            if queue:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
        return range(before, len(self.seats))

    def advance(self) -> list[int]:
        """Everybody seated has made a step; gives the rows, ascending, of those who have made their last."""
        for seat in self.seats:
            seat.step += 1
        return [row for row, seat in enumerate(self.seats) if seat.step >= seat.steps]

    def leave(self, rows: Collection[int]) -> list[tuple[int, int]]:
        """Frees rows, and closes the gaps with who sits last.

        Returns:
            (row, new row) of everybody who moved. No new row is anybody's old one.
        """
        left = len(self.seats) - len(set(rows))
        movers = [row for row in range(left, len(self.seats)) if row not in rows]
        gaps = [row for row in sorted(set(rows)) if row < left]
        moves = list(zip(movers, gaps, strict=True))
        for row, gap in moves:
            self.seats[gap] = self.seats[row]
        del self.seats[left:]
        return moves

    def dismiss(self, owners: Collection[Owner]) -> tuple[list[T], list[int]]:
        """Drops what these owners have waiting.

        Returns:
            The samples that waited, and the rows in which their others sit, to be given to `leave`.
        """
        waited = [seat.sample for owner in owners for seat in self._waiting.pop(owner, ())]
        return waited, [row for row, seat in enumerate(self.seats) if seat.owner in owners]


def spans(rows: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending rows as the fewest (start, stop): 1, 2, 5 are (1, 3) and (5, 6)."""
    found: list[tuple[int, int]] = []
    for row in rows:
        start = found.pop()[0] if found and found[-1][1] == row else row
        found.append((start, row + 1))
    return found
