"""Energy of an image from the rails of a fake Jetson."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_sr.measure import energy_per_image
from tests.edge_sr import trees

IDLE, BUSY = ("VDD_IN", 5000, 1000), ("VDD_IN", 5000, 3000)  # 5 W and 15 W
NESTED = ("VDD_CPU_GPU_CV", 5000, 2000)


@dataclass
class Machine:
    """A Jetson whose images take half a second each, on a clock of its own."""

    root: Path
    now_s: float = 0.0
    images: int = 0
    waited_s: float = 0.0

    def __post_init__(self) -> None:
        trees.write(self.root, trees.rails(IDLE, NESTED))

    def clock(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.waited_s += seconds

    def run(self) -> None:
        if not self.images:
            trees.write(self.root, trees.rails(BUSY, NESTED))
        self.images += 1
        self.now_s += 0.5


def test_an_image_costs_what_the_rail_says_gross_and_above_idle(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    energy = energy_per_image(machine.run, root=tmp_path, clock=machine.clock, wait=machine.wait)
    assert energy is not None
    assert (energy.rail, energy.images, machine.images) == ("VDD_IN", 4, 5)  # one to warm up
    assert (energy.idle_w, energy.mean_w) == pytest.approx((5.0, 15.0))
    assert (energy.gross_j, energy.above_idle_j) == pytest.approx((7.5, 5.0))  # half a second each


def test_one_image_at_least_is_measured(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    energy = energy_per_image(
        machine.run, root=tmp_path, seconds=0.25, clock=machine.clock, wait=machine.wait
    )
    assert energy is not None and energy.images == 1
    assert energy.gross_j == pytest.approx(7.5)


def test_without_a_rail_nothing_is_run_and_nobody_waits(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "jetson")
    found = energy_per_image(machine.run, root=tmp_path / "pc", clock=machine.clock, wait=machine.wait)
    assert (found, machine.images, machine.waited_s) == (None, 0, 0.0)


def test_a_rail_that_goes_away_gives_no_figure(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    def run() -> None:
        (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink(missing_ok=True)
        machine.now_s += 0.5

    assert energy_per_image(run, root=tmp_path, clock=machine.clock, wait=machine.wait) is None
