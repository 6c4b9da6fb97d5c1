"""Energy of a stretch of work, from one named rail."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge_sr.telemetry.sysfs import ROOT, rails_w, read_int, read_text, whole_module_rail
from edge_sr.telemetry.tegrastats import parse_tegrastats

__all__ = [
    "Energy",
    "PowerMeter",
    "RailMeter",
    "RaplMeter",
    "Sampler",
    "TegrastatsMeter",
    "open_meter",
]


class PowerMeter(Protocol):
    """Something that adds up energy, each time it is asked to."""

    name: str

    def advance(self, now_s: float) -> float | None:
        """Take a reading at `now_s` on a monotonic clock; joules since the first reading, None before it."""

    def close(self) -> None:
        """Let go of what is held. May be called twice."""


class RailMeter:
    """Integrates one rail by the trapezoid rule. A reading that fails is left out and bridged.

    Args:
        name: The rail.
        read_w: Returns the power of the rail now in watts, or None.
    """

    def __init__(self, name: str, read_w: Callable[[], float | None]) -> None:
        self.name = name
        self._read_w = read_w
        self._last: tuple[float, float] | None = None
        self._joules = 0.0

    def advance(self, now_s: float) -> float | None:
        """Add the area since the last reading; joules so far, None until one reading has succeeded."""
        power = self._read_w()
        if power is not None:
            then, before = self._last or (now_s, power)
            self._joules += (power + before) / 2 * (now_s - then)
            self._last = (now_s, power)
        return None if self._last is None else self._joules

    def close(self) -> None:
        """Nothing is held."""


class TegrastatsMeter(RailMeter):
    """Integrates the whole module's rail from the lines of a tegrastats process, which it starts and ends.

    Args:
        command: How to start tegrastats. Its interval must be longer than the time between readings, or lines
            pile up unread and the readings are late.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: tuple[str, ...] = ("tegrastats", "--interval", "250")) -> None:
        super().__init__("tegrastats", self._next_w)
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def _next_w(self) -> float | None:
        """Wait for a line; watts of its whole-module rail."""
        powers = parse_tegrastats(self._process.stdout.readline() if self._process.stdout else "").rails_w
        rail = whole_module_rail(powers)
        if rail is not None:
            self.name = f"{rail} (tegrastats)"
        return powers[rail] if rail else None

    def close(self) -> None:
        """End the process."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.terminate()
            self._process.wait()
            self._process.stdout.close()


class RaplMeter:
    """Follows the energy counter of a PC's CPU package, which wraps around. The GPU is not in it.

    Args:
        folder: As /sys/class/powercap/intel-rapl:0; AMD's CPUs have it under the same name.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"RAPL {read_text(folder / 'name') or folder.name} (CPU package only)"
        self._folder = folder
        self._range_uj = read_int(folder / "max_energy_range_uj") or 0
        self._last: int | None = None
        self._joules = 0.0

    def advance(self, now_s: float) -> float | None:
        """Add what the counter has gained; joules so far, None until one reading has succeeded."""
        count = read_int(self._folder / "energy_uj")
        if count is not None:
            gained = count - (count if self._last is None else self._last)
            self._joules += (gained + (self._range_uj if gained < 0 else 0)) / 1e6
            self._last = count
        return None if self._last is None else self._joules

    def close(self) -> None:
        """Nothing is held."""


def open_meter(root: Path = ROOT, *, rate_hz: float = 5.0) -> PowerMeter | None:
    """The best meter that works: the module's rail in sysfs, tegrastats, RAPL; None where there is none.

    Args:
        root: Where the machine's files are; tegrastats is asked only for the machine itself.
        rate_hz: Readings a second that will be taken.
    """
    rail = whole_module_rail(rails_w(root))
    if rail is not None:
        return RailMeter(rail, lambda: rails_w(root).get(rail))
    if root == ROOT and shutil.which("tegrastats"):
        return TegrastatsMeter(("tegrastats", "--interval", str(round(1250 / rate_hz))))
    package = root / "sys/class/powercap/intel-rapl:0"
    return None if read_int(package / "energy_uj") is None else RaplMeter(package)


@dataclass(frozen=True)
class Energy:
    """Energy of a stretch of work, at the named rail; not at the wall.

    Attributes:
        rail: What was measured.
        duration_s: How long.
        gross_j: All of it, in joules.
        idle_w: The power of the idle machine that was given, in watts.
    """

    rail: str
    duration_s: float
    gross_j: float
    idle_w: float | None = None

    @property
    def mean_w(self) -> float | None:
        """Mean power in watts; None over no time at all."""
        return self.gross_j / self.duration_s if self.duration_s > 0 else None

    @property
    def above_idle_j(self) -> float | None:
        """Energy beyond what the idle machine would have used, in joules; None where that is not known."""
        return None if self.idle_w is None else self.gross_j - self.idle_w * self.duration_s


class _Readings:
    """What the thread works on. It knows nothing of the sampler, so that a forgotten sampler can be told."""

    def __init__(self, meter: PowerMeter, clock: Callable[[], float]) -> None:
        self.meter, self._clock = meter, clock
        self.first: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None

    def take(self) -> None:
        now = self._clock()
        joules = self.meter.advance(now)
        if joules is not None:
            self.first = self.first or (now, joules)
            self.last = (now, joules)

    def take_until(self, stop: threading.Event, period_s: float) -> None:
        while not stop.wait(period_s):
            self.take()


class Sampler:
    """Measures energy in a thread of its own, for as long as the `with` block runs.

    First run one over a few idle seconds; its `energy.mean_w` is the `idle_w` of those that follow.

    Args:
        root: Where the machine's files are.
        rate_hz: Readings a second; the sensors average, so 5 to 10 is enough.
        idle_w: The idle machine's power in watts, where it is known.
        meter: What to read instead of what `open_meter` finds; it is closed at the end.
        clock: A monotonic clock in seconds.
    """

    def __init__(
        self,
        root: Path = ROOT,
        *,
        rate_hz: float = 5.0,
        idle_w: float | None = None,
        meter: PowerMeter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thread: threading.Thread | None = None
        self._root, self._rate_hz, self._idle_w = root, rate_hz, idle_w
        self._meter, self._clock = meter, clock
        self._stop = threading.Event()
        self._readings: _Readings | None = None

    def __enter__(self) -> Sampler:
        meter = self._meter or open_meter(self._root, rate_hz=self._rate_hz)
        if meter is not None:
            self._readings = _Readings(meter, self._clock)
            self._readings.take()
            run = self._readings.take_until
            self._thread = threading.Thread(target=run, args=(self._stop, 1 / self._rate_hz), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take a last reading and end the thread. May be called twice."""
        self._stop.set()
        if self._thread is not None and self._readings is not None:
            self._thread.join()
            self._thread = None
            self._readings.take()
            self._readings.meter.close()

    @property
    def energy(self) -> Energy | None:
        """What was used between the first reading and the last; None where nothing could be read."""
        readings = self._readings
        if readings is None or readings.first is None or readings.last is None:
            return None
        (start, before), (end, after) = readings.first, readings.last
        return Energy(readings.meter.name, end - start, after - before, self._idle_w)

    def __del__(self) -> None:
        if self._thread is not None:
            self._stop.set()
            warnings.warn("a Sampler was not closed", ResourceWarning, stacklevel=2)
