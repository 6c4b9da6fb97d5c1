"""Who has the processors, from files that look like /proc."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sr.telemetry import CpuTimes, cpu_shares, cpu_times, load_average, peak_memory_bytes
from tests.edge_sr import trees

TICKS = os.sysconf("SC_CLK_TCK")
FIRST = CpuTimes(now_s=10.0, busy_s=100.0, stolen_s=1.0, own_s=5.0)


def stat(*seconds: float) -> dict[str, str]:
    """The line of all processors, in seconds: user, nice, system, idle, waiting, interrupts, soft, stolen."""
    ticks = " ".join(str(round(s * TICKS)) for s in seconds)
    return {"proc/stat": f"cpu  {ticks} 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n"}


def test_work_of_all_kinds_is_busy_and_waiting_is_not(tmp_path: Path) -> None:
    found = cpu_times(trees.write(tmp_path, stat(1, 2, 4, 1000, 2000, 8, 16, 32)))
    assert found is not None
    assert (found.busy_s, found.stolen_s) == (1 + 2 + 4 + 8 + 16, 32)
    assert found.own_s > 0


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "intr 5\n", "cpu0 1 1 1 1 1 1 1 1 1 1\n"])
def test_a_system_that_does_not_tell_gives_no_reading(tmp_path: Path, text: str) -> None:
    assert cpu_times(trees.write(tmp_path, {"proc/stat": text})) is None
    assert cpu_times(tmp_path / "nothing") is None


def test_what_others_had_is_what_is_left_of_all_work() -> None:
    later = CpuTimes(now_s=14.0, busy_s=106.0, stolen_s=3.0, own_s=9.0)
    shares = cpu_shares(FIRST, later)
    assert shares is not None
    assert (shares.seconds, shares.own, shares.others, shares.stolen) == pytest.approx((4, 1, 0.5, 0.5))


def test_others_never_had_less_than_nothing() -> None:
    shares = cpu_shares(FIRST, CpuTimes(now_s=12.0, busy_s=101.0, stolen_s=1.0, own_s=7.0))
    assert shares is not None and shares.others == 0


def test_without_two_readings_or_time_between_them_there_are_no_shares() -> None:
    assert cpu_shares(None, FIRST) is cpu_shares(FIRST, None) is None
    assert cpu_shares(FIRST, replace(FIRST, busy_s=200.0)) is None


def test_the_load_is_that_of_the_last_minute(tmp_path: Path) -> None:
    assert load_average(trees.write(tmp_path, {"proc/loadavg": "3.80 2.08 1.69 7/109 14897\n"})) == 3.8
    assert load_average(trees.write(tmp_path, {"proc/loadavg": "garbage"})) is None


def test_peak_memory_is_the_kernels_high_water_mark_or_getrusages(tmp_path: Path) -> None:
    root = trees.write(tmp_path, {"proc/self/status": "Name: x\nVmHWM:\t   2048 kB\nVmRSS:\t 99 kB\n"})
    assert peak_memory_bytes(root) == 2048 << 10
    assert peak_memory_bytes(tmp_path / "nothing") > 10 << 20  # an interpreter with numpy
