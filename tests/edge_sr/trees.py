"""Fake root folders, made from what real machines were published to show. Each value's source is beside it.

"[index N]" is a file of a public GitHub repository as the stored code index numbers it. Where a file's layout
is known but no published dump held it, the line says "layout".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edge_sr.device import Process

NANO, ORIN_NANO_JP62, ORIN_NANO_JP72 = "nano", "orin-nano-jp62", "orin-nano-jp72"
PC_RTX, PC_PLAIN, CONTAINER = "pc-rtx", "pc-plain", "container"

GROUPS = "root:x:0:\nvideo:x:44:gdm\nrender:x:104:\n"  # Ubuntu's; NVIDIA's udev rules use these names


def technician(
    *, gids: frozenset[int] = frozenset({1000, 44, 104}), is_venv: bool = False, sees_all: bool = True
) -> Process:
    """An ordinary user of the board, in both groups and with the system's Python."""
    return Process(1000, gids, (3, 10), "/usr/bin/python3", is_venv, sees_all)


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files under `root`, the folders above them too, and return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def damaged(name: str, root: Path, *, by_folder: bool) -> Iterator[Path]:
    """Yield the tree once for each of its files, with a folder or bytes without meaning in its place."""
    make(name, root)
    for file, text in TREES[name].items():
        path = root / file
        path.unlink()
        if by_folder:
            path.mkdir()
        else:
            path.write_bytes(b"\xff\x00: \x81 R36 -")
        yield root
        path.rmdir() if by_folder else path.unlink()
        path.write_text(text, encoding="utf-8")


def make(name: str, root: Path) -> Path:
    """Write the tree of that name under `root`, and return `root`."""
    return write(root, TREES[name])


def thermal(*zones: tuple[str, str]) -> dict[str, str]:
    """Thermal zones by type and millidegrees, as in /sys/class/thermal."""
    files = {}
    for number, (name, millidegrees) in enumerate(zones):
        files[f"sys/class/thermal/thermal_zone{number}/type"] = f"{name}\n"
        files[f"sys/class/thermal/thermal_zone{number}/temp"] = f"{millidegrees}\n"
    return files


def cores(count: int, current_khz: int, min_khz: int, max_khz: int) -> dict[str, str]:
    """The clocks of `count` cores, as in /sys/devices/system/cpu."""
    folder = "sys/devices/system/cpu"
    return {
        f"{folder}/cpu{core}/cpufreq/scaling_{which}_freq": f"{khz}\n"
        for core in range(count)
        for which, khz in (("cur", current_khz), ("min", min_khz), ("max", max_khz))
    }


def gpu_clock(device: str, current_hz: int, min_hz: int, max_hz: int) -> dict[str, str]:
    """The clock of a GPU, as in /sys/class/devfreq."""
    folder = f"sys/class/devfreq/{device}"
    return {
        f"{folder}/{which}_freq": f"{hz}\n"
        for which, hz in (("cur", current_hz), ("min", min_hz), ("max", max_hz))
    }


def rails(*named: tuple[str, int, int]) -> dict[str, str]:
    """An INA3221 under hwmon: rail, millivolts, milliamperes; then a sum of shunts, without current."""
    folder = "sys/class/hwmon/hwmon1"
    files = {f"{folder}/name": "ina3221\n", f"{folder}/in7_label": "sum of shunt voltages\n"}
    for channel, (name, millivolts, milliamperes) in enumerate(named, start=1):
        files[f"{folder}/in{channel}_label"] = f"{name}\n"
        files[f"{folder}/in{channel}_input"] = f"{millivolts}\n"
        files[f"{folder}/curr{channel}_input"] = f"{milliamperes}\n"
    return files


def meminfo(total_kib: int, available_kib: int, swap_kib: int) -> str:
    """The lines of /proc/meminfo that are read."""
    return (
        f"MemTotal: {total_kib:>12} kB\nMemAvailable: {available_kib:>8} kB\nSwapTotal: {swap_kib:>11} kB\n"
    )


def packages(**versions: str) -> dict[str, str]:
    """A dpkg status file; "_" in a name stands for a hyphen. One more package is only half removed."""
    entries = [
        f"Package: {name.replace('_', '-')}\nStatus: install ok installed\nVersion: {version}\n"
        for name, version in versions.items()
    ]
    entries.append("Package: libnvinfer7\nStatus: deinstall ok config-files\nVersion: 7.1.3-1+cuda10.2\n")
    return {"var/lib/dpkg/status": "\n".join(entries)}


ORIN_MODES = (  # `grep POWER_MODEL /etc/nvpmodel.conf` of an Orin Nano Super [index 68579880183]
    "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nGPU MAX_FREQ -1\n\n< PM_CONFIG DEFAULT=1 >\n"
)

ORIN_CPU = "".join(  # /proc/cpuinfo of a Cortex-A78AE; its flags: layout
    f"processor\t: {core}\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd aes crc32 asimdhp cpuid asimddp\n\n"
    for core in range(6)
)

NANO_CPU = "".join(  # hrw/arm-socs-table issue 91, "Jetson Nano"
    f"processor\t: {core}\nBogoMIPS\t: 38.40\nFeatures\t: fp asimd evtstrm aes pmull sha1 crc32 cpuid\n\n"
    for core in range(4)
)

ORIN_BOARD = {
    # [index 61330992999], an Orin Nano Super on L4T 36.4.7; also in the report [index 68579880183]
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    # [index 68287176266], with the -super of boards flashed for Super mode
    "proc/device-tree/compatible": (
        "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
    ),
    "proc/cpuinfo": ORIN_CPU,
}

ORIN_NODES = {  # NixOS/nixpkgs issue 344729: nvidia-ctk's CDI file for Orin; render: WendyOS issue 1699
    "dev/nvmap": "",
    "dev/nvhost-ctrl-gpu": "",
    "dev/nvgpu/igpu0/ctrl": "",
    "dev/dri/renderD128": "",
}

TREES: dict[str, dict[str, str]] = {
    # The original Nano on JetPack 4.6.1.
    NANO: {
        # [index 68529034010], "raw, unparaphrased output" of a Nano
        "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "etc/nv_tegra_release": (
            "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, "
            "DATE: Sat Feb 19 17:05:08 UTC 2022\n"
        ),
        # [index 52530248128], `cat /proc/device-tree/compatible`
        "proc/device-tree/compatible": (
            "nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,jetson-nano\0nvidia,tegra210\0"
        ),
        "proc/cpuinfo": NANO_CPU,
        # the totals of DataDog's tegrastats line for the Nano; what is free of them, and zram: layout
        "proc/meminfo": meminfo(4059136, 3170304, 2029568),
        "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n"
        + "".join(f"/dev/zram{n}\tpartition\t507392\t0\t5\n" for n in range(4)),
        # ykawa2/jetson-setup README: CUDA 10.2.300 on JetPack 4.6
        "usr/local/cuda/version.txt": "CUDA Version 10.2.300\n",
        "usr/src/tensorrt/bin/trtexec": "",
        # OE4T/meta-tegra-community pull 94: TensorRT 8.2.1 on a Nano with L4T 32.7; spelling: layout
        **packages(libnvinfer8="8.2.1-1+cuda10.2"),
        # jfey/SmallThings jetson-nano.md
        "etc/nvpmodel.conf": (
            "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=5W >\n< PM_CONFIG DEFAULT=0 >\n"
        ),
        "var/lib/nvpmodel/status": "pmode:0000 fmode:fanNull",
        # MartinMatta/Jetson-Nano-temperature issue 2: the names; degrees: DataDog's tegrastats line
        **thermal(
            ("AO-therm", "39500"), ("CPU-therm", "36500"), ("GPU-therm", "36000"), ("PMIC-Die", "100000")
        ),
        # [index 60255434388] and jetson_stats issue 131: the paths, POM_5V_IN at 2875 mW
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2875\n",
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_1": "POM_5V_GPU\n",
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power1_input": "0\n",
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_2": "POM_5V_CPU\n",
        "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power2_input": "549\n",
        **gpu_clock("57000000.gpu", 76800000, 76800000, 921600000),  # [index 61002430263]: the path
        "sys/kernel/debug/clk/emc/clk_rate": "1600000000\n",
        **cores(4, 1479000, 102000, 1479000),
        "dev/nvmap": "",  # NVIDIA/nvidia-docker issue 1202
        "dev/nvhost-ctrl-gpu": "",
        "etc/group": GROUPS,
        "proc/1/cgroup": "0::/init.scope\n",
    },
    # Orin Nano Super on JetPack 6.2.1, MAXN_SUPER, after jetson_clocks, without a desktop.
    ORIN_NANO_JP62: {
        **ORIN_BOARD,
        **ORIN_NODES,
        # [index 61330992999]
        "etc/nv_tegra_release": (
            "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, "
            "DATE: Thu Sep 18 22:54:44 UTC 2025\n# KERNEL_VARIANT: oot\n"
        ),
        # [index 68287176266]
        "proc/meminfo": meminfo(7650336, 5123456, 1017852),
        # [index 55646159876]: nvidia-l4t-core and TensorRT of an Orin Nano on R36.4.7
        **packages(nvidia_l4t_core="36.4.7-20250918154033", libnvinfer10="10.3.0.30-1+cuda12.5"),
        # [index 70090769675]: "version.json SDK 12.6.11"
        "usr/local/cuda/version.json": json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}),
        # [index 1467250756]: /proc/driver/nvidia/version of an Orin
        "proc/driver/nvidia/version": (
            "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  "
            "(buildbrain@mobile-u64-6336-d8000)  Tue Jan  7 17:35:12 PST 2025\n"
        ),
        "etc/nvpmodel.conf": ORIN_MODES,
        "var/lib/nvpmodel/status": "pmode:0002",
        # [index 70567317268], "Throttling of a Jetson Orin Nano Super": rails, clocks, counters
        **rails(("VDD_IN", 5016, 1550), ("VDD_CPU_GPU_CV", 5016, 450), ("VDD_SOC", 5016, 480)),
        "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc2_event_cnt": "0\n",
        "sys/class/hwmon/hwmon3/oc3_event_cnt": "27390\n",
        **cores(6, 1728000, 1728000, 1728000),
        **gpu_clock("17000000.gpu", 1020000000, 1020000000, 1020000000),
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
        # [index 68582995103]: the cv zones of that board cannot be read, so this one has no `temp`
        "sys/class/thermal/thermal_zone9/type": "cv0-thermal\n",
        **thermal(
            ("cpu-thermal", "51100"),
            ("gpu-thermal", "51400"),
            ("soc0-thermal", "50500"),
            ("tj-thermal", "52000"),
        ),
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert\n",
        "sys/class/thermal/cooling_device1/cur_state": "0\n",
        "proc/1/cgroup": "0::/init.scope\n",
        "proc/612/comm": "sshd\n",
        "etc/group": GROUPS,
    },
    # Orin Nano Super on JetPack 7.2.1, 25 W, with its desktop. All of it from one environment report
    # [index 68579880183], which found no INA3221 in sysfs; the nodes are those of JetPack 6, which 7.2 keeps
    # (rbonghi/jetson_stats pull 867: "the GPU remains" nvgpu).
    ORIN_NANO_JP72: {
        **ORIN_BOARD,
        **ORIN_NODES,
        "etc/nv_tegra_release": (
            "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, "
            "DATE: Fri Aug  7 05:54:22 AM UTC 2026\n# KERNEL_VARIANT: oot\n"
        ),
        "proc/meminfo": meminfo(7665664, 4613734, 0),
        **packages(
            nvidia_l4t_core="39.2.1-20260806224157",
            nvidia_jetpack="7.2.1-b49",
            libnvinfer10="10.16.2.10-1+cuda13.2",
        ),
        "usr/local/cuda/version.json": json.dumps(
            {"cuda": {"name": "CUDA SDK", "version": "13.2.2"}, "nvidia_driver": {"version": "595.71.05"}}
        ),
        "usr/src/tensorrt/bin/trtexec": "",
        "etc/nvpmodel.conf": ORIN_MODES,
        "var/lib/nvpmodel/status": "pmode:0001",
        **cores(6, 960000, 729600, 1344000),
        **gpu_clock("17000000.gpu", 306000000, 306000000, 918000000),
        **thermal(("cpu-thermal", "46000"), ("gpu-thermal", "46700"), ("tj-thermal", "47000")),
        "proc/1/cgroup": "0::/init.scope\n",
        "proc/1702/comm": "gnome-shell\n",
        "etc/group": GROUPS,
    },
    # A PC with an RTX card [index 71642544541]: driver line, card and PCI numbers. CPU and memory: made up.
    PC_RTX: {
        "proc/driver/nvidia/version": (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.91.07  Release Build\n"
        ),
        "proc/driver/nvidia/gpus/0000:02:00.0/information": (
            "Model: \t\t NVIDIA GeForce RTX 5090 Laptop GPU\nIRQ:   \t\t 211\nBus Type: \t PCIe\n"  # layout
        ),
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:02:00.0/device": "0x2c58\n",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x030000\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD Ryzen 7 5800X\nflags\t\t: fpu sse4_2 avx avx2\n",
        "proc/meminfo": meminfo(32797164, 20971520, 2097148),
        "dev/nvidiactl": "",
        "dev/nvidia0": "",
        "dev/nvidia-uvm": "",
        "sys/class/powercap/intel-rapl:0/name": "package-0\n",  # Documentation/power/powercap of the kernel
        "sys/class/powercap/intel-rapl:0/energy_uj": "65000000\n",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "65532610987\n",
        "proc/1/cgroup": "0::/init.scope\n",
    },
    # A PC without a GPU: the flags of the machine on which this project is built. Memory: made up.
    PC_PLAIN: {
        "proc/cpuinfo": "".join(
            f"processor\t: {core}\nmodel name\t: Intel(R) Xeon(R) Processor\n"
            "flags\t\t: fpu avx avx2 avx512f avx512dq avx_vnni avx512_bf16 avx512_vnni avx512_fp16\n\n"
            for core in range(2)
        ),
        "proc/meminfo": meminfo(16384000, 12000000, 0),
        "proc/1/cgroup": "0::/init.scope\n",
    },
    # Docker on an Orin without --runtime nvidia: the device tree is seen, the release file and the nodes
    # are not (flashrt-project/FlashRT issue 7).
    CONTAINER: {
        **ORIN_BOARD,
        "proc/meminfo": meminfo(7650336, 5123456, 1017852),
        ".dockerenv": "",
        "proc/1/cgroup": "0::/\n",
    },
}

TEGRASTATS = {
    # DataDog/datadog-agent, pkg/collector/corechecks/nvidia/jetson/jetson_test.go; so are the two after it
    "nano-jp4": (
        "RAM 534/3964MB (lfb 98x4MB) SWAP 5/1982MB (cached 1MB) IRAM 0/252kB(lfb 252kB) CPU "
        "[16%@204,9%@204,0%@204,0%@204] EMC_FREQ 0%@204 GR3D_FREQ 0%@76 APE 25 PLL@34C CPU@36.5C "
        "PMIC@100C GPU@36C AO@39.5C thermal@36.25C POM_5V_IN 1022/1022 POM_5V_GPU 0/0 POM_5V_CPU "
        "204/204"
    ),
    "tx2-jp4": (
        "RAM 2344/7852MB (lfb 1154x4MB) SWAP 0/3926MB (cached 0MB) CPU "
        "[1%@345,off,off,1%@345,0%@345,2%@345] EMC_FREQ 4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@37.5C "
        "MCPU@37.5C PMIC@100C Tboard@32C GPU@35C BCPU@37.5C thermal@36.5C Tdiode@34.25C VDD_SYS_GPU "
        "152/152 VDD_SYS_SOC 687/687 VDD_4V0_WIFI 0/0 VDD_IN 3056/3056 VDD_SYS_CPU 152/152 "
        "VDD_SYS_DDR 883/883"
    ),
    "agx-xavier-jp4": (
        "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU "
        "[2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 "
        "MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C CPU@37.5C thermal@36.9C "
        "Tboard@37C GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482"
    ),
    # A test of a log reader, "copied from a real log" of an Orin Nano Super [index 70656690050]
    "orin-nano-jp6": (
        "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) CPU "
        "[38%@1497,2%@729,1%@729,0%@729,1%@729,0%@729] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC "
        "off NVJPG off VIC off OFA off APE 200 cpu@57.125C soc2@55.093C soc0@56.625C gpu@58.625C "
        "tj@58.312C soc1@55.937C VDD_IN 16321mW/11204mW VDD_CPU_GPU_CV 7104mW/4944mW VDD_SOC "
        "3120mW/3659mW"
    ),
    # GDWR/jetson_exporter issue 14: two clusters, parts that are off, rails named NC; cores cut to three
    "agx-orin-jp5": (
        "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU "
        "[0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C "
        "CPU@44.562C Tboard@32C GPU@-256C tj@44.343C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV "
        "390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW"
    ),
    # The environment report of ORIN_NANO_JP72: peaks after the averages, no swap
    "orin-nano-jp7": (
        "09-19-2026 13:33:03 RAM 2845/7486MB (lfb 33x4MB) CPU "
        "[1%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 3%@665 GR3D_FREQ 0%@[305] NVDEC0 off "
        "NVJPG0 off NVJPG1 off VIC off OFA off APE 200 cpu@45.375C/45.812C soc2@44.687C/44.843C "
        "gpu@46.562C/46.843C tj@46.562C/46.843C VDD_IN 3462mW/3522mW/3582mW VDD_CPU_GPU_CV "
        "442mW/483mW/523mW VDD_SOC 1127mW/1127mW/1127mW"
    ),
    # A Thor on R39 [index 60120668592]; when idle no load of the GPU, and one clock for all cores
    "thor-loaded": (
        "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] "
        "EMC_FREQ 34%@4266 GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off "
        "cpu@58.25C/61.75C tj@66.625C/66.625C VDD_GPU 37939mW/8660mW/37939mW VDD_CPU_SOC_MSS "
        "30059mW/12281mW/30059mW VIN_SYS_5V0 15486mW/7424mW/15486mW VIN 124486mW/36487mW/124486mW "
        "FUTURE_TOKEN value"
    ),
    "thor-idle": (
        "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ @4266 "
        "GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C VDD_GPU 6330mW/6330mW/6330mW VIN "
        "28906mW/14453mW/28906mW"
    ),
    # hordiales/jetson-tx1-dev, SCRIPTS.md: small letters and no "_FREQ"
    "tx1-l4t28": (
        "RAM 3468/3983MB (lfb 48x4MB) SWAP 873/8192MB (cached 295MB) cpu [17%,13%,29%,5%]@408 EMC "
        "1%@408 APE 25 GR3D 3%@76"
    ),
}
"""Lines that tegrastats printed, by board and release."""
