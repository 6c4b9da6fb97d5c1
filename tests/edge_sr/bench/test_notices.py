"""What makes a measurement doubtful is said."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sr.bench.machine import read_environment, read_state
from edge_sr.bench.notices import row_notices, state_notices
from edge_sr.bench.records import Processors, Row, State
from tests.edge_sr import trees
from tests.edge_sr.bench.results import STATE, row_of

BEFORE = State.model_validate(STATE)
QUIET = Processors(seconds=10, own=1.9, others=0.05, stolen=0.0)


def told(shares: Processors | None = QUIET, **after: Any) -> list[str]:
    return list(state_notices(BEFORE, State.model_validate(STATE | after), shares, cores=2))


def test_a_quiet_machine_gives_no_notice() -> None:
    assert told() == told(None) == []


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"power_mode": "25W"}, "power mode changed from 15W to 25W"),
        ({"throttle_counters": {"oc1_event_cnt": 3}}, "throttled 3 times"),
        ({"active_throttles": ["cpu-throttle"]}, "slowed down at the end (cpu-throttle)"),
        ({"temperatures_c": {"gpu-thermal": 65.0}}, "gpu-thermal became 15 °C hotter and had 65 °C"),
        ({"locked": []}, "jetson_clocks"),
    ],
)
def test_what_the_machine_says_is_told(after: dict[str, Any], words: str) -> None:
    (notice,) = told(**after)
    assert words in notice


def test_counters_that_were_high_before_are_no_notice() -> None:
    before = State.model_validate(STATE | {"throttle_counters": {"oc1_event_cnt": 9}})
    assert not list(state_notices(before, before, QUIET, cores=2))


def test_others_that_took_the_processors_are_told() -> None:
    (others,) = told(Processors(seconds=10, own=1, others=0.8, stolen=0.0))
    (stolen,) = told(Processors(seconds=10, own=1, others=0.0, stolen=0.3))
    assert "other processes had 0.80 processors" in others and "of 2" in others
    assert "other virtual machines had 0.30" in stolen


def row(**changes: Any) -> Row:
    return Row.model_validate(row_of() | changes)


def test_rows_that_are_steady_give_no_notice() -> None:
    assert not list(row_notices(row()))


def test_a_row_that_never_settled_spreads_or_drifts_is_told() -> None:
    stages = row_of(count=30)["stages"]
    (unsettled,) = row_notices(row(warm_up={"seconds": [1.0] * 7, "is_stable": False}))
    (unsteady,) = row_notices(row(stages=stages | {"latency": [0.1, 0.2, 0.15] * 10}))
    (slower,) = row_notices(row(stages=stages | {"latency": [0.1] * 20 + [0.106] * 10}))
    (faster,) = row_notices(row(stages=stages | {"latency": [0.106] * 10 + [0.1] * 20}))
    assert "never settled in 7 runs" in unsettled
    assert "unsteady" in unsteady
    assert "6% slower than the first" in slower
    assert "6% faster than the first" in faster


def test_a_board_is_described_by_its_files(tmp_path: Any) -> None:
    root = trees.make(trees.ORIN_NANO_JP62, tmp_path)
    facts = {"backend": "tensorrt", "version": "tensorrt 10.3.0", "provider": "Orin", "threads": "1"}
    here, state = read_environment(facts, root=root), read_state(root)
    assert "Orin Nano" in here.device
    assert here.power_mode == state.power_mode is not None
    assert here.jetpack and here.memory_mib
    assert state.rails_w["VDD_IN"] == pytest.approx(7.7748)
    assert state.temperatures_c and "gpu" in state.clocks_mhz


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path: Any) -> None:
    facts = {"backend": "fake", "version": "0", "provider": "numpy", "threads": "1"}
    here, state = read_environment(facts, root=tmp_path), read_state(tmp_path)
    assert here.device == here.cpu != ""
    assert (state.power_mode, state.clocks_mhz, state.load) == (None, {}, None)
