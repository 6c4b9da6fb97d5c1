"""Who had the processors, and how much memory this process has had: what disturbs a measurement."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge_sr.telemetry.sysfs import ROOT, read_text

__all__ = ["CpuShares", "CpuTimes", "cpu_shares", "cpu_times", "load_average", "peak_memory_bytes"]


@dataclass(frozen=True)
class CpuTimes:
    """A reading of what all processors together have done since the machine started, in CPU seconds.

    Attributes:
        now_s: When, on a monotonic clock.
        busy_s: Work of any process, this one included, and of the kernel.
        stolen_s: What a hypervisor gave to other machines.
        own_s: Work of this process.
    """

    now_s: float
    busy_s: float
    stolen_s: float
    own_s: float


@dataclass(frozen=True)
class CpuShares:
    """Who had the processors over a stretch of time, in processors: 0.5 is half of one, all the time.

    Attributes:
        seconds: How long.
        own: This process.
        others: All other processes, and the kernel for them.
        stolen: Other virtual machines on the same host.
    """

    seconds: float
    own: float
    others: float
    stolen: float


def cpu_times(root: Path = ROOT) -> CpuTimes | None:
    """A reading; None where the system does not tell, as outside Linux."""
    found = re.match(r"cpu +((?:\d+ ?){8,})", read_text(root / "proc/stat") or "")
    if found is None:
        return None
    ticks = [int(number) / os.sysconf("SC_CLK_TCK") for number in found[1].split()]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = ticks[:8]
    own = os.times()
    busy = user + nice + system + interrupts + soft
    return CpuTimes(time.monotonic(), busy, stolen, own.user + own.system)


def cpu_shares(first: CpuTimes | None, last: CpuTimes | None) -> CpuShares | None:
    """Who had the processors between two readings; None where one is missing or no time passed."""
    if first is None or last is None or last.now_s <= first.now_s:
        return None
    seconds = last.now_s - first.now_s
    own = (last.own_s - first.own_s) / seconds
    # Own time and the machine's are counted in other grains, so that a rest may come out below nothing.
    others = max(0.0, (last.busy_s - first.busy_s) / seconds - own)
    return CpuShares(seconds, own, others, max(0.0, last.stolen_s - first.stolen_s) / seconds)


def load_average(root: Path = ROOT) -> float | None:
    """Processes that ran or wanted to, averaged over the last minute; None where the system does not tell."""
    found = re.match(r"\d+(?:\.\d+)?", read_text(root / "proc/loadavg") or "")
    return float(found[0]) if found else None


def peak_memory_bytes(root: Path = ROOT) -> int:
    """The most resident memory that this process has had.

    Linux's own figure is asked first: `getrusage` counts what the parent had when it made this process.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", read_text(root / "proc/self/status") or "", re.MULTILINE)
    if found:
        return int(found[1]) << 10
    import resource

    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
