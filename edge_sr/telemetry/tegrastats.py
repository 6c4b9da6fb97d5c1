"""The lines that NVIDIA's tegrastats prints, in all the forms that it has had."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from edge_sr.telemetry.sysfs import SENSOR_OFF_C

__all__ = ["TegraSample", "parse_tegrastats"]


@dataclass(frozen=True)
class TegraSample:
    """One line of tegrastats. Every field may be missing; a core that is off has the load None.

    Attributes:
        ram_used_mb: Memory in use, in MB; `ram_total_mb`, `swap_used_mb` and `swap_total_mb` likewise.
        cpu_percent: Load of each core at its present clock, 0 to 100.
        gpu_percent: Load of the GPU, 0 to 100; None where only its clock is printed (Thor when idle).
        gpu_mhz: Clock of each cluster of the GPU: one on the Nano, two on AGX Orin, three on Thor.
        emc_percent: Load of the memory controller, 0 to 100, and `emc_mhz` its clock.
        temperatures_c: Degrees Celsius by sensor, without those that are off.
        rails_w: Watts now by rail, not the averages and peaks that follow.
    """

    ram_used_mb: int | None = None
    ram_total_mb: int | None = None
    swap_used_mb: int | None = None
    swap_total_mb: int | None = None
    cpu_percent: tuple[int | None, ...] = ()
    gpu_percent: int | None = None
    gpu_mhz: tuple[int, ...] = ()
    emc_percent: int | None = None
    emc_mhz: int | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    rails_w: dict[str, float] = field(default_factory=dict)


def parse_tegrastats(line: str) -> TegraSample:
    """Read a line that tegrastats printed, of any release from L4T 28 to 39, past the words that are new."""
    cores = re.search(r"\bcpu \[([^\]]*)\]", line, re.IGNORECASE)
    loads = [re.match(r"(\d+)%", core.strip()) for core in cores[1].split(",")] if cores else []
    (gpu_percent, gpu_mhz), (emc_percent, emc_mhz) = _engine("GR3D", line), _engine("EMC", line)
    temperatures = {name: float(value) for name, value in re.findall(r"(\w+)@(-?\d+(?:\.\d+)?)C\b", line)}
    powers = re.findall(r"\b(?!I?RAM |SWAP )([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/-?\d+(?:mW)?(?=[/\s]|$)", line)
    return TegraSample(
        *_used_and_total("RAM", line),
        *_used_and_total("SWAP", line),
        cpu_percent=tuple(int(load[1]) if load else None for load in loads),
        gpu_percent=gpu_percent,
        gpu_mhz=gpu_mhz,
        emc_percent=emc_percent,
        emc_mhz=emc_mhz[0] if emc_mhz else None,
        temperatures_c={name: value for name, value in temperatures.items() if value > SENSOR_OFF_C},
        rails_w={name: int(milliwatts) / 1e3 for name, milliwatts in powers if name != "NC"},
    )


def _used_and_total(name: str, line: str) -> tuple[int | None, int | None]:
    match = re.search(rf"\b{name} (\d+)/(\d+)MB", line)
    return (int(match[1]), int(match[2])) if match else (None, None)


def _engine(name: str, line: str) -> tuple[int | None, tuple[int, ...]]:
    """Load and clocks of `NAME[_FREQ] 5%`, `5%@114`, `@4266`, `5%@[1300,1300]` or `@[1574,off]`."""
    match = re.search(rf"\b{name}(?:_FREQ)? (?:(\d+)%)?(?:@(\d+|\[[^\]]*\]))?", line)
    if match is None:
        return None, ()
    return int(match[1]) if match[1] else None, tuple(map(int, re.findall(r"\d+", match[2] or "")))
