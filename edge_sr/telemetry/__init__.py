"""What a machine says of itself while it works: power, heat, clocks, power mode, throttling, who has the CPU.

Everything is read from plain files under a `root` folder ("/" unless a test says otherwise). A file that is
missing or may not be read is a value that is left out; it never raises. Where no rail can be read from sysfs,
`tegrastats` is asked (its lines are parsed by `parse_tegrastats`); a PC offers the RAPL counter of its CPU.

Rails of a Jetson are nested: VDD_IN holds VDD_CPU_GPU_CV and VDD_SOC. They are never added up. Energy is
taken from one rail, which is named, and left out on boards that have none for the whole module (AGX Orin).
"""

from edge_sr.telemetry.energy import (
    Energy,
    PowerMeter,
    RailMeter,
    RaplMeter,
    Sampler,
    TegrastatsMeter,
    open_meter,
)
from edge_sr.telemetry.processor import (
    CpuShares,
    CpuTimes,
    cpu_shares,
    cpu_times,
    load_average,
    peak_memory_bytes,
)
from edge_sr.telemetry.sysfs import (
    Clock,
    PowerMode,
    active_throttles,
    clocks,
    paths_under,
    power_mode,
    power_modes,
    rails_w,
    read_int,
    read_text,
    snapshot,
    temperatures_c,
    throttle_counters,
    whole_module_rail,
)
from edge_sr.telemetry.tegrastats import TegraSample, parse_tegrastats

__all__ = [
    "Clock",
    "CpuShares",
    "CpuTimes",
    "Energy",
    "PowerMeter",
    "PowerMode",
    "RailMeter",
    "RaplMeter",
    "Sampler",
    "TegraSample",
    "TegrastatsMeter",
    "active_throttles",
    "clocks",
    "cpu_shares",
    "cpu_times",
    "load_average",
    "open_meter",
    "parse_tegrastats",
    "paths_under",
    "peak_memory_bytes",
    "power_mode",
    "power_modes",
    "rails_w",
    "read_int",
    "read_text",
    "snapshot",
    "temperatures_c",
    "throttle_counters",
    "whole_module_rail",
]
