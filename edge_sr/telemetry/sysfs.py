"""Rails, heat, clocks, power mode and throttling from the files that the kernel and nvpmodel keep."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Clock",
    "PowerMode",
    "active_throttles",
    "clocks",
    "paths_under",
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

ROOT = Path("/")

WHOLE_MODULE_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry all a module draws: Orin Nano/NX, Xavier NX and TX2; the original Nano; Thor."""

SENSOR_OFF_C = -100.0
"""Sensors of a part that is powered down read -256 °C (AGX Orin's CV0 and GPU, say)."""

_GPU = re.compile(r"\.gpu$|\.g[abmpv]\w\d*b$|^gpu-gpc-0$")  # 57000000.gpu, 17000000.ga10b, gpu-gpc-0
_MODE = re.compile(r"<\s*POWER_MODEL\s+([^>]*)>")
_DEFAULT_MODE = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>")


def read_text(path: Path) -> str | None:
    """The text of a file without the NULs and blanks around it, or None where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """The whole number that a file holds, or None."""
    text = read_text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def paths_under(folder: Path, pattern: str) -> list[Path]:
    """The paths under `folder` that match, in order; none where the folder may not be listed."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def rails_w(root: Path = ROOT) -> dict[str, float]:
    """Power of every named INA3221 rail in watts; the sensor itself averages over some milliseconds."""
    return _hwmon_rails_w(root) | _iio_rails_w(root)


def whole_module_rail(names: Iterable[str]) -> str | None:
    """The rail among `names` that carries the whole module, or None: then there is no honest total."""
    present = set(names)
    return next((rail for rail in WHOLE_MODULE_RAILS if rail in present), None)


def _hwmon_rails_w(root: Path) -> dict[str, float]:
    """JetPack 5 and later: millivolts and milliamperes under hwmon. "NC" is a channel without a rail."""
    rails = {}
    for current in paths_under(root / "sys/class/hwmon", "hwmon*/curr*_input"):
        channel = current.name.removeprefix("curr").removesuffix("_input")
        name = read_text(current.with_name(f"in{channel}_label"))
        millivolts, milliamperes = read_int(current.with_name(f"in{channel}_input")), read_int(current)
        if name and name != "NC" and millivolts is not None and milliamperes is not None:
            rails[name] = millivolts * milliamperes / 1e6
    return rails


def _iio_rails_w(root: Path) -> dict[str, float]:
    """JetPack 4: milliwatts under iio (TX1 and TX2 spell the folder iio_device)."""
    rails = {}
    for label in paths_under(root / "sys/bus/i2c/drivers/ina3221x", "*/iio*device*/rail_name_*"):
        channel = label.name.removeprefix("rail_name_")
        name, milliwatts = read_text(label), read_int(label.with_name(f"in_power{channel}_input"))
        if name and name != "NC" and milliwatts is not None:
            rails[name] = milliwatts / 1e3
    return rails


def temperatures_c(root: Path = ROOT) -> dict[str, float]:
    """Degrees Celsius by thermal zone, the hottest of those that share a name; no sensors that are off."""
    hottest: dict[str, float] = {}
    for zone in paths_under(root / "sys/class/thermal", "thermal_zone*"):
        name, millidegrees = read_text(zone / "type"), read_int(zone / "temp")
        if name and millidegrees is not None and millidegrees / 1e3 > SENSOR_OFF_C:
            hottest[name] = max(millidegrees / 1e3, hottest.get(name, SENSOR_OFF_C))
    return hottest


@dataclass(frozen=True)
class Clock:
    """One clock in MHz: what it runs at, and the limits that are set now; None where not readable."""

    current_mhz: float | None
    min_mhz: float | None = None
    max_mhz: float | None = None

    @property
    def is_locked(self) -> bool:
        """Whether both limits are the same, as jetson_clocks sets them."""
        return self.min_mhz is not None and self.min_mhz == self.max_mhz


def clocks(root: Path = ROOT) -> dict[str, Clock]:
    """The clocks "gpu", "emc" (memory; for the superuser only) and "cpu0", "cpu1", ... that can be read."""
    found: dict[str, Clock] = {}
    for device in paths_under(root / "sys/class/devfreq", "*"):
        if _GPU.search(device.name) and "gpu" not in found:
            found["gpu"] = _clock(device, "cur_freq", "min_freq", "max_freq", per_mhz=1e6)
    for rate in ("bpmp/debug/clk/emc/rate", "clk/emc/clk_rate"):  # Orin and Xavier; original Nano
        hertz = read_int(root / "sys/kernel/debug" / rate)
        if hertz is not None:
            found["emc"] = Clock(hertz / 1e6)
    for core in paths_under(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq"):
        files = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
        found[core.parent.name] = _clock(core, *files, per_mhz=1e3)
    return found


def _clock(folder: Path, *names: str, per_mhz: float) -> Clock:
    values = [read_int(folder / name) for name in names]
    return Clock(*(None if value is None else value / per_mhz for value in values))


@dataclass(frozen=True)
class PowerMode:
    """A power mode of nvpmodel. The ids mean other things on other boards, so the name is what to record."""

    id: int
    name: str | None


def power_modes(root: Path = ROOT) -> dict[int, str]:
    """The names of nvpmodel's modes by id, from /etc/nvpmodel.conf; empty where there is no nvpmodel."""
    modes = {}
    for attributes in _MODE.findall(read_text(root / "etc/nvpmodel.conf") or ""):
        values = dict(re.findall(r"(\w+)=(\S+)", attributes))
        if values.get("ID", "").isdigit() and "NAME" in values:
            modes[int(values["ID"])] = values["NAME"]
    return modes


def power_mode(root: Path = ROOT) -> PowerMode | None:
    """The mode in force: the one saved by nvpmodel, else the default of its configuration, else None."""
    saved = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    chosen = saved or _DEFAULT_MODE.search(read_text(root / "etc/nvpmodel.conf") or "")
    if chosen is None:
        return None
    mode = int(chosen[1])
    return PowerMode(mode, power_modes(root).get(mode))


def throttle_counters(root: Path = ROOT) -> dict[str, int]:
    """How often the machine has been slowed down since it booted. Compare two readings; one says little.

    Orin and Thor: "oc1_event_cnt" (under-voltage), "oc2_event_cnt" (average over-current) and "oc3_event_cnt"
    (instantaneous over-current). PC: "package_throttle_count" (heat).
    """
    events = paths_under(root / "sys/class/hwmon", "hwmon*/oc*_event_cnt")
    events += paths_under(root / "sys/devices/system/cpu/cpu0/thermal_throttle", "package_throttle_count")
    counts = {path.name: read_int(path) for path in events}
    return {name: count for name, count in counts.items() if count is not None}


def active_throttles(root: Path = ROOT) -> tuple[str, ...]:
    """The cooling devices that slow something down at this moment. Fans are not among them."""
    found = {}
    for device in paths_under(root / "sys/class/thermal", "cooling_device*"):
        found[device.name] = (read_text(device / "type") or device.name, read_int(device / "cur_state") or 0)
    return tuple(sorted({name for name, state in found.values() if state > 0 and "fan" not in name.lower()}))


def snapshot(root: Path = ROOT) -> dict[str, Any]:
    """The state of the machine for a report, ready for JSON. Take one before and one after a measurement."""
    mode, powers = power_mode(root), rails_w(root)
    return {
        "power_mode": None if mode is None else asdict(mode),
        "power_modes": [{"id": id_, "name": name} for id_, name in power_modes(root).items()],
        "clocks_mhz": {name: asdict(clock) for name, clock in clocks(root).items()},
        "temperatures_c": temperatures_c(root),
        "rails_w": powers,
        "whole_module_rail": whole_module_rail(powers),
        "throttle_counters": throttle_counters(root),
        "active_throttles": list(active_throttles(root)),
    }
