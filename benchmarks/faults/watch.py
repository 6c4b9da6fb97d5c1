"""What a process holds while something happens to it: memory, open files, threads; and whether it grows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

__all__ = ["Held", "Samples", "Trend", "eventually", "held", "trend", "watching"]

T = TypeVar("T")
MOST_BLOCKS = 20
"""Samples that follow each other are alike: means of so many stretches are what a line is put through."""
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Held:
    """At one time: resident memory in MiB, open files and sockets, threads; and processor time until then."""

    memory_mib: float
    files: int
    threads: int
    cpu_s: float


@dataclass
class Samples:
    """What was held, and when, in seconds from the begin."""

    at_s: list[float] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    @property
    def memory_mib(self) -> list[float]:
        """Of every sample."""
        return [one.memory_mib for one in self.held]


@dataclass(frozen=True)
class Trend:
    """Growth a minute, with the bounds of its 95 % interval."""

    a_minute: float
    low: float
    high: float


def held(pid: int) -> Held:
    """What a process holds now. Linux alone can say.

    Raises:
        OSError: There is no such process.
    """
    folder = Path(f"/proc/{pid}")
    told = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="ascii").splitlines())
    files = sum(1 for _ in (folder / "fd").iterdir())
    ticks = (folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]  # user, system
    cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return Held(int(told["VmRSS"].split()[0]) / 1024, files, int(told["Threads"]), cpu_s)


@contextmanager
def watching(pid: int, *, every_s: float = 0.25) -> Iterator[Samples]:
    """Samples a process while the body of the `with` runs."""
    samples, done, began = Samples(), threading.Event(), time.monotonic()

    def look() -> None:
        while not done.wait(every_s):
            samples.held.append(held(pid))
            samples.at_s.append(round(time.monotonic() - began, 3))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def trend(at_s: Sequence[float], values: Sequence[float]) -> Trend:
    """A straight line through means of stretches, after the first quarter, in which caches fill.

    Args:
        at_s: When, rising.
        values: What, one each; at least 16.
    """
    first = len(values) // 4
    blocks = min(MOST_BLOCKS, (len(values) - first) // 4)
    x, y = (
        np.array([part.mean() for part in np.array_split(np.asarray(v[first:], np.float64), blocks)])
        for v in (at_s, values)
    )
    x = x / 60 - x.mean() / 60
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    error = 1.96 * float(np.sqrt(residual @ residual / max(1, blocks - 2) / (x @ x)))
    return Trend(slope, slope - error, slope + error)


def eventually(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether something came true while there was patience for it."""
    until = time.monotonic() + patience_s
    while not (found := is_so()) and time.monotonic() < until:
        time.sleep(0.02)
    return found
