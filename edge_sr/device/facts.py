"""Reads what this machine is and can do from its files."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from edge_sr.device.boards import GPUS_OF_PC, JETPACKS, MODULES, SOCS, Soc
from edge_sr.telemetry import paths_under, read_text

__all__ = ["Board", "Cpu", "Device", "Gpu", "Memory", "Process", "Software", "describe"]

ROOT = Path("/")

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimdhp", "asimddp", "i8mm")
"""The instruction sets that decide how fast INT8 and FP16 are on a CPU."""

DESKTOPS = {"Xorg", "Xwayland", "gnome-shell", "lxpanel", "plasmashell", "weston"}


@dataclass(frozen=True)
class Board:
    """A Jetson. `part` is the module's number, "p3767-0005"; `is_super` is told by the device tree."""

    model: str
    module: str | None
    part: str | None
    soc: Soc | None
    is_super: bool


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU. None stands for what only CUDA can tell.

    Attributes:
        name: As the driver or the board calls it.
        compute_capability: (8, 7) for sm_87.
        has_int8: Whether 8-bit products are done in hardware.
        has_fp16: Whether FP16 is faster than FP32.
        is_integrated: Whether it shares the memory of the CPU, as on a Jetson.
    """

    name: str
    compute_capability: tuple[int, int] | None
    has_int8: bool | None
    has_fp16: bool | None
    is_integrated: bool


@dataclass(frozen=True)
class Cpu:
    """The CPU: its name where the kernel tells, its cores, and which of `CPU_FLAGS` it has."""

    name: str | None
    machine: str
    cores: int
    flags: tuple[str, ...]

    @property
    def has_int8(self) -> bool:
        """Whether it has instructions for sums of 8-bit products (VNNI; the dot product on ARM)."""
        return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"} & set(self.flags))


@dataclass(frozen=True)
class Memory:
    """Memory in MiB, from /proc/meminfo; `zram_mib` is the part of the swap that lies in memory itself."""

    total_mib: int
    available_mib: int | None
    swap_mib: int
    zram_mib: int


@dataclass(frozen=True)
class Software:
    """Versions of NVIDIA's software, from the machine's files; TensorRT is the Debian package's."""

    l4t: str | None
    jetpack: str | None
    cuda: str | None
    tensorrt: str | None
    driver: str | None


@dataclass(frozen=True)
class Process:
    """Who asks: the user, and the Python that runs."""

    uid: int
    gids: frozenset[int]
    python: tuple[int, int]
    executable: str
    is_venv: bool
    sees_system_packages: bool

    @classmethod
    def current(cls) -> Process:
        """This process."""
        is_venv = sys.prefix != sys.base_prefix
        settings = read_text(Path(sys.prefix, "pyvenv.cfg")) or ""
        sees_all = not is_venv or re.search(r"system-site-packages\s*=\s*true", settings, re.IGNORECASE)
        gids = frozenset({os.getgid(), *os.getgroups()})
        return cls(os.getuid(), gids, sys.version_info[:2], sys.executable, is_venv, bool(sees_all))


@dataclass(frozen=True)
class Device:
    """All that is known of the machine without asking CUDA.

    Attributes:
        kind: "jetson", "pc-nvidia" (a card and its driver), or "cpu".
        board: The Jetson, if it is one; None inside a container that does not show the device tree.
        gpu: The first NVIDIA GPU; None where there is none, or none that the driver knows.
        has_nvidia_card: Whether an NVIDIA display device is on the PCI bus, with or without a driver.
        container: "docker", "podman", "kubernetes" or "container"; None on the machine itself.
        has_desktop: Whether a graphical desktop runs, which on a small Jetson takes much of the memory.
        nodes: The device nodes that the GPU road needs here, each with whether it is there and may be used.
        missing_groups: Groups that own such nodes and that the process is not in; empty for the superuser.
        trtexec: Where TensorRT's own command lies, if it is there.
        process: Who asks.
    """

    kind: str
    board: Board | None
    gpu: Gpu | None
    has_nvidia_card: bool
    cpu: Cpu
    memory: Memory | None
    software: Software
    container: str | None
    has_desktop: bool
    nodes: dict[str, bool]
    missing_groups: tuple[str, ...]
    trtexec: str | None
    process: Process


def describe(root: Path = ROOT, *, process: Process | None = None) -> Device:
    """Describe the machine whose files lie under `root`, as the process (this one by default) sees it."""
    process = process or Process.current()
    board, software = _board(root), _software(root)
    gpu = _gpu(root, board)
    kind = "jetson" if board else "pc-nvidia" if gpu else "cpu"
    trtexec = root / "usr/src/tensorrt/bin/trtexec"
    return Device(
        kind=kind,
        board=board,
        gpu=gpu,
        has_nvidia_card=_has_nvidia_card(root),
        cpu=_cpu(root),
        memory=_memory(root),
        software=software,
        container=_container(root),
        has_desktop=any(read_text(path) in DESKTOPS for path in paths_under(root / "proc", "[0-9]*/comm")),
        nodes={name: _is_usable(root / name) for name in _nodes(root, kind, board, software)},
        missing_groups=_missing_groups(root, process) if board else (),
        trtexec=str(trtexec) if trtexec.exists() else None,
        process=process,
    )


def _board(root: Path) -> Board | None:
    tree = root / "proc/device-tree"
    words = (read_text(tree / "compatible") or "").split("\0")
    soc = next((word.removeprefix("nvidia,") for word in words if re.match(r"nvidia,tegra\d+$", word)), None)
    if soc is None:
        return None
    parts = re.findall(r"p\d{4}-\d{4}", " ".join(words))
    part = next((part for part in parts if part in MODULES), None)
    model = read_text(tree / "model") or "a Jetson"
    is_super = "-super" in " ".join(words) or model.endswith("Super")
    return Board(model, MODULES.get(part or ""), part, SOCS.get(soc), is_super)


def _gpu(root: Path, board: Board | None) -> Gpu | None:
    if board is not None:
        soc = board.soc
        if soc is None:
            return Gpu("an unknown Tegra GPU", None, None, None, is_integrated=True)
        return Gpu(f"{soc.name} GPU", soc.compute_capability, soc.has_int8, soc.has_fp16, is_integrated=True)
    cards = paths_under(root / "proc/driver/nvidia/gpus", "*/information")
    return _card(read_text(cards[0]) or "") if cards else None


def _card(information: str) -> Gpu:
    model = re.search(r"^Model:\s*(.+)$", information, re.MULTILINE)
    name = model[1].strip() if model else "an NVIDIA GPU"
    series = re.search(r"GeForce RTX (\d\d)\d\d", name)
    capability = GPUS_OF_PC.get(series[1]) if series else None
    known = True if capability else None  # tensor cores came with the first of them
    return Gpu(name, capability, known, known, is_integrated=False)


def _has_nvidia_card(root: Path) -> bool:
    return any(
        read_text(device / "vendor") == "0x10de" and (read_text(device / "class") or "").startswith("0x03")
        for device in paths_under(root / "sys/bus/pci/devices", "*")
    )


def _software(root: Path) -> Software:
    packages = _dpkg(root)
    release = read_text(root / "etc/nv_tegra_release") or ""
    numbers = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    l4t = (
        f"{numbers[1]}.{numbers[2]}"
        if numbers
        else packages.get("nvidia-l4t-core", "").partition("-")[0] or None
    )
    jetpack = re.match(r"[\d.]+", packages.get("nvidia-jetpack", ""))
    infer = [version for name, version in packages.items() if re.fullmatch(r"libnvinfer\d+", name)]
    driver = re.search(
        r"Kernel Module(?: for \S+)?\s+([\d.]+)", read_text(root / "proc/driver/nvidia/version") or ""
    )
    return Software(
        l4t=l4t,
        jetpack=jetpack[0] if jetpack else _jetpack(l4t),
        cuda=_cuda(root, packages),
        tensorrt=infer[-1].partition("-")[0] if infer else None,
        driver=driver[1] if driver else None,
    )


def _jetpack(l4t: str | None) -> str | None:
    fitting = [key for key in JETPACKS if l4t and f"{l4t}.".startswith(f"{key}.")]
    return JETPACKS[max(fitting, key=len)] if fitting else None


def _cuda(root: Path, packages: dict[str, str]) -> str | None:
    """The toolkit's version; where there is no toolkit, that of the runtime library's package."""
    try:
        return str(json.loads(read_text(root / "usr/local/cuda/version.json") or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        pass
    older = re.search(r"CUDA Version ([\d.]+)", read_text(root / "usr/local/cuda/version.txt") or "")
    runtimes = [name for name in packages if re.fullmatch(r"cuda-cudart-\d+-\d+", name)]
    return older[1] if older else packages[runtimes[-1]].partition("-")[0] if runtimes else None


def _dpkg(root: Path) -> dict[str, str]:
    """Versions of NVIDIA's Debian packages that are installed."""
    text = read_text(root / "var/lib/dpkg/status") or ""
    found = {}
    for entry in text.split("\n\n"):
        name = re.match(r"Package: ((?:libnvinfer|nvidia-l4t-core|nvidia-jetpack|cuda-cudart)\S*)", entry)
        version = re.search(r"^Version: (\S+)", entry, re.MULTILINE)
        if name and version and "\nStatus: install ok installed" in entry:
            found[name[1]] = version[1]
    return found


def _cpu(root: Path) -> Cpu:
    text = read_text(root / "proc/cpuinfo") or ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    cores = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    return Cpu(
        name[1] if name else None, platform.machine(), cores, tuple(f for f in CPU_FLAGS if f in flags)
    )


def _memory(root: Path) -> Memory | None:
    kib = {
        k: int(v) for k, v in re.findall(r"^(\w+):\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.M)
    }
    if "MemTotal" not in kib:
        return None
    swaps = re.findall(r"^/dev/zram\S*\s+\S+\s+(\d+)", read_text(root / "proc/swaps") or "", re.MULTILINE)
    available = kib["MemAvailable"] // 1024 if "MemAvailable" in kib else None
    zram_mib = sum(map(int, swaps)) // 1024
    return Memory(kib["MemTotal"] // 1024, available, kib.get("SwapTotal", 0) // 1024, zram_mib)


def _container(root: Path) -> str | None:
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = read_text(root / "proc/1/cgroup") or ""
    if "kubepods" in groups or (root / "var/run/secrets/kubernetes.io").exists():
        return "kubernetes"
    if (root / ".dockerenv").exists() or "docker" in groups:
        return "docker"
    return "container" if re.search(r"containerd|lxc|libpod", groups) else None


def _nodes(root: Path, kind: str, board: Board | None, software: Software) -> list[str]:
    """The nodes that CUDA opens here. Of two that do the same, the one that is there."""
    if kind == "pc-nvidia":
        return ["dev/nvidiactl", "dev/nvidia0", "dev/nvidia-uvm"]
    if board is None:
        return []
    if board.soc and board.soc.name == "tegra264":  # Thor has the desktop's driver
        return ["dev/nvidiactl", "dev/nvidia0", "dev/nvmap"]
    control = next(
        (node for node in ("dev/nvgpu/igpu0/ctrl", "dev/nvhost-ctrl-gpu") if (root / node).exists()),
        "dev/nvhost-ctrl-gpu",
    )
    needs_render = re.match(r"(3[6-9]|[4-9]\d)\.", software.l4t or "")  # JetPack 6 and later
    return ["dev/nvmap", control, *(["dev/dri/renderD128"] if needs_render else [])]


def _is_usable(node: Path) -> bool:
    return os.access(node, os.R_OK | os.W_OK)


def _missing_groups(root: Path, process: Process) -> tuple[str, ...]:
    if process.uid == 0:
        return ()
    entries = re.findall(r"^(video|render):[^:]*:(\d+):", read_text(root / "etc/group") or "", re.MULTILINE)
    return tuple(name for name, gid in entries if int(gid) not in process.gids)
