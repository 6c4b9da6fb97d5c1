"""NVIDIA's boards by number: chips, modules, and which JetPack an L4T release belongs to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GPUS_OF_PC", "JETPACKS", "MODULES", "SOCS", "Soc"]


@dataclass(frozen=True)
class Soc:
    """A system on chip of a Jetson.

    Attributes:
        name: As in the device tree, "tegra234".
        compute_capability: The CUDA architecture, (8, 7) for sm_87.
        has_int8: Whether 8-bit products are done in hardware, faster than FP16.
        has_fp16: Whether FP16 is faster than FP32.
        last_jetpack: The newest JetPack series that runs on it; None while it is still being served.
    """

    name: str
    compute_capability: tuple[int, int]
    has_int8: bool
    has_fp16: bool
    last_jetpack: str | None


# Compute capabilities: CUDA C++ Programming Guide and developer.nvidia.com/cuda-gpus. 8-bit dot products
# (DP4A) came with sm_61 and are missing from sm_53 and sm_62.
SOCS = {
    soc.name: soc
    for soc in (
        Soc("tegra210", (5, 3), has_int8=False, has_fp16=True, last_jetpack="4.6"),  # original Nano, TX1
        Soc("tegra186", (6, 2), has_int8=False, has_fp16=True, last_jetpack="4.6"),  # TX2
        Soc("tegra194", (7, 2), has_int8=True, has_fp16=True, last_jetpack="5.1"),  # Xavier
        Soc("tegra234", (8, 7), has_int8=True, has_fp16=True, last_jetpack=None),  # Orin
        Soc("tegra264", (11, 0), has_int8=True, has_fp16=True, last_jetpack=None),  # Thor
    )
}

# Module names by part number: NVIDIA's Jetson Linux Developer Guides, "Jetson Modules and Configurations".
MODULES = {
    "p2180-1000": "Jetson TX1",
    "p3310-1000": "Jetson TX2",
    "p3489-0000": "Jetson TX2i",
    "p3489-0888": "Jetson TX2 4GB",
    "p3636-0001": "Jetson TX2 NX",
    "p3448-0000": "Jetson Nano (original, developer kit)",
    "p3448-0002": "Jetson Nano (original)",
    "p3448-0003": "Jetson Nano 2GB (original)",
    "p2888-0001": "Jetson AGX Xavier 16GB",
    "p2888-0004": "Jetson AGX Xavier 32GB",
    "p2888-0005": "Jetson AGX Xavier 64GB",
    "p2888-0008": "Jetson AGX Xavier Industrial",
    "p3668-0000": "Jetson Xavier NX (developer kit)",
    "p3668-0001": "Jetson Xavier NX 8GB",
    "p3668-0003": "Jetson Xavier NX 16GB",
    "p3701-0000": "Jetson AGX Orin (developer kit)",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3701-0008": "Jetson AGX Orin Industrial",
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano 8GB (developer kit)",
    "p3834-0008": "Jetson AGX Thor",
}

# L4T to JetPack: NVIDIA's Jetson Linux Archive. The longest prefix that matches counts.
JETPACKS = {
    "32.4": "4.4", "32.5": "4.5", "32.6": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3",
    "32.7.4": "4.6.4", "32.7.5": "4.6.5", "32.7.6": "4.6.6", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1",
    "35.4": "5.1.2", "35.5": "5.1.3", "35.6.0": "5.1.4", "35.6": "5.1.5", "36.2": "6.0", "36.3": "6.0",
    "36.4.0": "6.1", "36.4.3": "6.2", "36.4": "6.2.1", "36.5": "6.2.2", "38.2": "7.0", "38.4": "7.1",
    "39.2": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip

# Compute capability of a GeForce RTX by its series; other cards are known only once CUDA has been asked.
GPUS_OF_PC = {"20": (7, 5), "30": (8, 6), "40": (8, 9), "50": (12, 0)}
