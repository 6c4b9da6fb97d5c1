"""What is looked at before an engine is built: whether the device can, and whether there is memory for it."""

from __future__ import annotations

import re
from pathlib import Path

from edge_sr.backends.trt_library import MINIMUM
from edge_sr.build.child import MEMORY_ADVICE
from edge_sr.device import Device, describe
from edge_sr.errors import DeviceError, EngineError

__all__ = ["OLDEST_COMPUTE_CAPABILITY", "check_device", "workspace_for"]

MIB = 1 << 20
OLDEST_COMPUTE_CAPABILITY = (7, 5)
"""TensorRT 10.3's support matrix starts at Turing on a PC; of the Jetsons it runs on Orin (8.7) and newer."""

BASE_MIB = 700
"""A CUDA context, TensorRT and its builder resources, before the first layer (reports of 300 to 600 MB for
the first two, of 100 to 150 MB for the third)."""

WEIGHT_COPIES = 4  # the file, the parsed weights, the builder's constants, the plan
SMALLEST_WORKSPACE_MIB, LARGEST_WORKSPACE_MIB = 128, 1024
STILL_WORKS = (
    "what still works: --backend onnxruntime on the CPU, faster with fewer steps (--steps 4), and FP16 "
    "engines built by hand with the lines of: edge-sr info --trtexec"
)


def check_device(device: Device) -> None:
    """Refuses a GPU, or an installed TensorRT, that is older than what this is written for.

    Raises:
        DeviceError: What is missing and what still works is named.
    """
    gpu, wanted = device.gpu, ".".join(map(str, MINIMUM))
    installed = device.software.tensorrt
    if installed and tuple(map(int, re.findall(r"\d+", installed)[:2])) < MINIMUM:
        raise DeviceError(
            f"TensorRT {installed} (JetPack {device.software.jetpack or 'unknown'}) is here, "
            f"wanted {wanted} (JetPack 6.1) or newer",
            hint=STILL_WORKS,
        )
    if gpu is None or gpu.compute_capability is None or gpu.compute_capability >= OLDEST_COMPUTE_CAPABILITY:
        return
    sm = "".join(map(str, gpu.compute_capability))
    lacks = " and has no INT8 hardware" if gpu.has_int8 is False else ""
    soc = device.board.soc if device.board else None
    ends = f", its last JetPack is {soc.last_jetpack}" if soc and soc.last_jetpack else ""
    raise DeviceError(
        f"{gpu.name} (sm_{sm}) does not run TensorRT {wanted}{lacks}{ends}; wanted Orin (sm_87) or newer",
        hint=STILL_WORKS,
    )


def workspace_for(onnx: Path, *, root: Path = Path("/")) -> int:
    """The cap on the builder's scratch memory, in bytes: a quarter of what is free, within limits.

    Args:
        onnx: The graph.
        root: Where `proc/meminfo` is read.

    Raises:
        EngineError: Even with the smallest there is not memory enough for the build.
    """
    memory = describe(root).memory
    if memory is None or memory.available_mib is None:
        return LARGEST_WORKSPACE_MIB * MIB
    free = memory.available_mib
    without = BASE_MIB + WEIGHT_COPIES * onnx.stat().st_size // MIB
    if free < without + SMALLEST_WORKSPACE_MIB:
        raise EngineError(
            f"not enough memory to build {onnx.name}: {free} MiB are free, about "
            f"{without + SMALLEST_WORKSPACE_MIB} MiB are wanted",
            hint=MEMORY_ADVICE,
        )
    return max(SMALLEST_WORKSPACE_MIB, min(free // 4, free - without, LARGEST_WORKSPACE_MIB)) * MIB
