"""Power, heat, clocks and throttling from fake trees, tegrastats' lines, and energy."""

from __future__ import annotations

import gc
import itertools
import json
from pathlib import Path

import pytest

from edge_sr.telemetry import (
    Clock,
    Energy,
    PowerMode,
    RailMeter,
    RaplMeter,
    Sampler,
    TegraSample,
    TegrastatsMeter,
    active_throttles,
    clocks,
    open_meter,
    parse_tegrastats,
    power_mode,
    rails_w,
    snapshot,
    temperatures_c,
    throttle_counters,
    whole_module_rail,
)
from tests.edge_sr import trees
from tests.edge_sr.trees import NANO, ORIN_NANO_JP62, ORIN_NANO_JP72, PC_PLAIN, PC_RTX


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    return trees.make(ORIN_NANO_JP62, tmp_path / "orin")


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return trees.make(NANO, tmp_path / "nano")


# ---- sysfs ------------------------------------------------------------


def test_an_orins_rails_are_volts_times_amperes(orin: Path) -> None:
    assert rails_w(orin) == pytest.approx({"VDD_IN": 7.7748, "VDD_CPU_GPU_CV": 2.2572, "VDD_SOC": 2.40768})


def test_the_original_nanos_rails_are_read_where_its_kernel_has_them(nano: Path) -> None:
    assert rails_w(nano) == {"POM_5V_IN": 2.875, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.549}


def test_a_channel_without_a_rail_is_left_out(tmp_path: Path) -> None:
    assert rails_w(trees.write(tmp_path, trees.rails(("NC", 5000, 1000), ("VDD_IN", 5000, 1000)))) == {
        "VDD_IN": 5.0
    }


@pytest.mark.parametrize(
    ("names", "rail"),
    [
        (("VDD_SOC", "VDD_IN", "VDD_CPU_GPU_CV"), "VDD_IN"),
        (("POM_5V_GPU", "POM_5V_IN"), "POM_5V_IN"),
        (("VDD_GPU", "VIN_SYS_5V0", "VIN"), "VIN"),
        (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), None),
        ((), None),
    ],
)
def test_only_a_rail_that_carries_everything_counts_as_the_whole(
    names: tuple[str, ...], rail: str | None
) -> None:
    assert whole_module_rail(names) == rail


def test_temperatures_leave_out_sensors_that_are_off_or_unreadable(orin: Path) -> None:
    trees.write(
        orin,
        {
            "sys/class/thermal/thermal_zone8/type": "cv1-thermal",
            "sys/class/thermal/thermal_zone8/temp": "-256000",
        },
    )
    assert temperatures_c(orin) == {
        "cpu-thermal": 51.1,
        "gpu-thermal": 51.4,
        "soc0-thermal": 50.5,
        "tj-thermal": 52.0,
    }


def test_of_two_zones_with_one_name_the_hotter_counts(tmp_path: Path) -> None:
    assert temperatures_c(trees.write(tmp_path, trees.thermal(("acpitz", "28000"), ("acpitz", "31000")))) == {
        "acpitz": 31.0
    }


def test_locked_clocks_are_told_from_free_ones(orin: Path, nano: Path) -> None:
    fixed, free = clocks(orin), clocks(nano)
    assert fixed["gpu"] == Clock(1020.0, 1020.0, 1020.0) and fixed["gpu"].is_locked
    assert fixed["cpu5"] == Clock(1728.0, 1728.0, 1728.0) and fixed["emc"] == Clock(3199.0)
    assert free["gpu"] == Clock(76.8, 76.8, 921.6) and not free["gpu"].is_locked
    assert free["emc"] == Clock(1600.0) and not free["emc"].is_locked


@pytest.mark.parametrize(
    "device", ["57000000.gpu", "17000000.gv11b", "17000000.ga10b", "17000000.gp10b", "gpu-gpc-0"]
)
def test_the_gpus_clock_is_found_under_every_name_it_has_had(device: str, tmp_path: Path) -> None:
    root = trees.write(tmp_path, trees.gpu_clock(device, 306000000, 306000000, 918000000))
    trees.write(root, trees.gpu_clock("15340000.vic", 1, 1, 1))
    assert clocks(root) == {"gpu": Clock(306.0, 306.0, 918.0)}


def test_the_power_mode_has_its_id_and_its_name(orin: Path, nano: Path) -> None:
    assert power_mode(orin) == PowerMode(2, "MAXN_SUPER")
    assert power_mode(nano) == PowerMode(0, "MAXN")


def test_a_mode_that_was_never_set_is_the_default_of_the_configuration(orin: Path) -> None:
    (orin / "var/lib/nvpmodel/status").unlink()
    assert power_mode(orin) == PowerMode(1, "25W")


def test_a_mode_that_the_configuration_does_not_know_has_no_name(orin: Path) -> None:
    trees.write(orin, {"var/lib/nvpmodel/status": "pmode:0009"})
    assert power_mode(orin) == PowerMode(9, None)


def test_throttle_counters_are_those_of_the_kernel(orin: Path, nano: Path) -> None:
    assert throttle_counters(orin) == {"oc1_event_cnt": 0, "oc2_event_cnt": 0, "oc3_event_cnt": 27390}
    assert throttle_counters(nano) == {}


def test_a_fan_at_work_is_no_throttling(orin: Path) -> None:
    assert active_throttles(orin) == ()
    trees.write(orin, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    assert active_throttles(orin) == ("cpu-throttle-alert",)


@pytest.mark.parametrize("tree", list(trees.TREES))
def test_a_snapshot_of_any_machine_can_be_written_as_json(tree: str, tmp_path: Path) -> None:
    state = snapshot(trees.make(tree, tmp_path))
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize("tree", [NANO, ORIN_NANO_JP62, PC_RTX])
@pytest.mark.parametrize("by_folder", [True, False])
def test_no_file_that_cannot_be_read_raises(tree: str, by_folder: bool, tmp_path: Path) -> None:
    for root in trees.damaged(tree, tmp_path, by_folder=by_folder):
        snapshot(root)


# ---- tegrastats ------------------------------------------------------------

GOLDEN = {
    "nano-jp4": TegraSample(
        534, 3964, 5, 1982, (16, 9, 0, 0),
        0, (76,), 0, 204,
        {"PLL": 34.0, "CPU": 36.5, "PMIC": 100.0, "GPU": 36.0, "AO": 39.5, "thermal": 36.25},
        {"POM_5V_IN": 1.022, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.204},
    ),
    "tx2-jp4": TegraSample(
        2344, 7852, 0, 3926, (1, None, None, 1, 0, 2),
        0, (624,), 4, 1600,
        {"PLL": 37.5, "MCPU": 37.5, "PMIC": 100.0, "Tboard": 32.0, "GPU": 35.0, "BCPU": 37.5,
         "thermal": 36.5, "Tdiode": 34.25},
        {"VDD_SYS_GPU": 0.152, "VDD_SYS_SOC": 0.687, "VDD_4V0_WIFI": 0.0, "VDD_IN": 3.056,
         "VDD_SYS_CPU": 0.152, "VDD_SYS_DDR": 0.883},
    ),
    "agx-xavier-jp4": TegraSample(
        721, 31927, 0, 15963, (2, 0, 0, 0, None, None, None, None),
        0, (318,), 0, 665,
        {"AO": 37.5, "GPU": 37.5, "Tdiode": 40.0, "PMIC": 100.0, "AUX": 36.0, "CPU": 37.5,
         "thermal": 36.9, "Tboard": 37.0},
        {"GPU": 0.0, "CPU": 0.311, "SOC": 0.932, "CV": 0.0, "VDDRQ": 0.621, "SYS5V": 1.482},
    ),
    "orin-nano-jp6": TegraSample(
        6712, 7620, 369, 3810, (38, 2, 1, 0, 1, 0),
        99, (612,), 61, 2133,
        {"cpu": 57.125, "soc2": 55.093, "soc0": 56.625, "gpu": 58.625, "tj": 58.312, "soc1": 55.937},
        {"VDD_IN": 16.321, "VDD_CPU_GPU_CV": 7.104, "VDD_SOC": 3.12},
    ),
    "agx-orin-jp5": TegraSample(
        4321, 62801, 19, 31400, (0, 0, 0),
        0, (0, 0), 0, 2133,
        {"CPU": 44.562, "Tboard": 32.0, "tj": 44.343},
        {"VDD_GPU_SOC": 2.34, "VDD_CPU_CV": 0.39, "VIN_SYS_5V0": 4.025},
    ),
    "orin-nano-jp7": TegraSample(
        2845, 7486, None, None, (1, 0, 0, 0, 0, 0),
        0, (305,), 3, 665,
        {"cpu": 45.375, "soc2": 44.687, "gpu": 46.562, "tj": 46.562},
        {"VDD_IN": 3.462, "VDD_CPU_GPU_CV": 0.442, "VDD_SOC": 1.127},
    ),
    "thor-loaded": TegraSample(
        8353, 125749, None, None, (90, 75, None, 7),
        87, (1574, 1574, 1574), 34, 4266,
        {"cpu": 58.25, "tj": 66.625},
        {"VDD_GPU": 37.939, "VDD_CPU_SOC_MSS": 30.059, "VIN_SYS_5V0": 15.486, "VIN": 124.486},
    ),
    "thor-idle": TegraSample(
        3429, 125749, None, None, (0, 5, None),
        None, (1574, 1574, 1574), None, 4266,
        {"cpu": 49.75},
        {"VDD_GPU": 6.33, "VIN": 28.906},
    ),
    "tx1-l4t28": TegraSample(
        3468, 3983, 873, 8192, (17, 13, 29, 5),
        3, (76,), 1, 408,
        {},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("board", list(trees.TEGRASTATS))
def test_every_known_form_of_a_tegrastats_line_is_read_whole(board: str) -> None:
    assert parse_tegrastats(trees.TEGRASTATS[board]) == GOLDEN[board]


@pytest.mark.parametrize(
    ("words", "percent", "mhz"),
    [
        ("GR3D_FREQ 99%", 99, ()),
        ("GR3D_FREQ 0%@114", 0, (114,)),
        ("GR3D_FREQ 84%@[713]", 84, (713,)),
        ("GR3D_FREQ 0%@[1300,1300]", 0, (1300, 1300)),
        ("GR3D_FREQ 20%@[0, 300, 400]", 20, (0, 300, 400)),
        ("GR3D_FREQ @[300,off,600]", None, (300, 600)),
        ("VIC off APE 174", None, ()),
    ],
)
def test_the_gpu_is_read_in_all_its_spellings(words: str, percent: int | None, mhz: tuple[int, ...]) -> None:
    sample = parse_tegrastats(f"RAM 1/2MB {words} VDD_IN 5mW/5mW")
    assert (sample.gpu_percent, sample.gpu_mhz) == (percent, mhz)
    assert sample.rails_w == {"VDD_IN": 0.005}


def test_a_rail_below_zero_stays_below_zero() -> None:
    # A calibration offset that an idle Thor prints [index 56742349429]
    assert parse_tegrastats("VDD_GPU -392mW/-392mW VIN 3924mW/3924mW").rails_w == {
        "VDD_GPU": -0.392,
        "VIN": 3.924,
    }


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "CPU [bad,off] RAM x/yMB GR3D_FREQ"])
def test_a_line_that_is_no_sample_gives_an_empty_one(line: str) -> None:
    sample = parse_tegrastats(line)
    assert sample.ram_used_mb is None and sample.gpu_mhz == () and sample.rails_w == {}
    assert all(load is None for load in sample.cpu_percent)


# ---- energy ------------------------------------------------------------


def test_a_rail_is_integrated_by_the_trapezoid_rule() -> None:
    powers = iter([2.0, 4.0, 4.0])
    meter = RailMeter("VDD_IN", lambda: next(powers))
    assert [meter.advance(time) for time in (10.0, 11.0, 13.0)] == [0.0, 3.0, 11.0]


def test_a_reading_that_fails_is_bridged() -> None:
    powers = iter([None, 2.0, None, 4.0])
    meter = RailMeter("VDD_IN", lambda: next(powers))
    assert [meter.advance(time) for time in (0.0, 1.0, 2.0, 3.0)] == [None, 0.0, 0.0, 6.0]


def test_the_counter_of_a_cpu_may_wrap_around(tmp_path: Path) -> None:
    folder = trees.make(PC_RTX, tmp_path) / "sys/class/powercap/intel-rapl:0"
    meter = RaplMeter(folder)
    readings = [65000000, 65532000000, 1000000]
    joules = []
    for reading in readings:
        (folder / "energy_uj").write_text(str(reading))
        joules.append(meter.advance(0.0))
    assert joules == pytest.approx([0.0, 65467.0, 65468.610987])
    assert "package-0" in meter.name and "CPU package only" in meter.name


@pytest.mark.parametrize(
    ("tree", "name"),
    [(ORIN_NANO_JP62, "VDD_IN"), (NANO, "POM_5V_IN"), (ORIN_NANO_JP72, None), (PC_PLAIN, None)],
)
def test_the_meter_is_named_after_its_rail_and_missing_where_there_is_none(
    tree: str, name: str | None, tmp_path: Path
) -> None:
    meter = open_meter(trees.make(tree, tmp_path))
    assert (meter.name if meter else None) == name


def test_nested_rails_are_never_added_up(tmp_path: Path) -> None:
    root = trees.write(tmp_path, trees.rails(("VDD_GPU_SOC", 5000, 500), ("VDD_CPU_CV", 5000, 100)))
    assert open_meter(root) is None and snapshot(root)["whole_module_rail"] is None


def test_a_sampler_measures_gross_energy_and_what_is_above_idle(orin: Path) -> None:
    seconds = itertools.count()
    with Sampler(orin, rate_hz=1000.0, idle_w=5.0, clock=lambda: float(next(seconds))) as sampler:
        pass
    energy = sampler.energy
    assert energy is not None and energy.rail == "VDD_IN" and energy.duration_s >= 1.0
    assert energy.mean_w == pytest.approx(7.7748)
    assert energy.above_idle_j == pytest.approx((7.7748 - 5.0) * energy.duration_s)


def test_a_sampler_of_a_machine_without_a_rail_has_no_energy(tmp_path: Path) -> None:
    with Sampler(tmp_path) as sampler:
        pass
    assert sampler.energy is None


def test_closing_a_sampler_twice_takes_one_last_reading(orin: Path) -> None:
    with Sampler(orin, rate_hz=1000.0) as sampler:
        pass
    before = sampler.energy
    sampler.close()
    assert sampler.energy == before


def test_a_sampler_that_is_forgotten_warns(orin: Path) -> None:
    with pytest.warns(ResourceWarning, match="not closed"):
        sampler = Sampler(orin).__enter__()
        del sampler
        gc.collect()


def test_energy_without_an_idle_baseline_has_nothing_above_it() -> None:
    assert Energy("VDD_IN", 2.0, 10.0).above_idle_j is None
    assert Energy("VDD_IN", 0.0, 0.0).mean_w is None


def test_tegrastats_is_read_line_by_line_and_ended(tmp_path: Path) -> None:
    script = tmp_path / "tegrastats"
    script.write_text(f"#!/bin/sh\nwhile :; do echo '{trees.TEGRASTATS['orin-nano-jp7']}'; done\n")
    script.chmod(0o755)
    meter = TegrastatsMeter((str(script),))
    assert [meter.advance(time) for time in (0.0, 1.0, 2.0)] == pytest.approx([0.0, 3.462, 6.924])
    assert meter.name == "VDD_IN (tegrastats)"
    meter.close()
    meter.close()
