"""What CUDA says when it fails, as errors with a hint.

Both adapters end here: cuda-bindings with the code of the call, PyCUDA with the driver's text alone, from
which the code is found again.
"""

from __future__ import annotations

from edge_sr.errors import BackendError

__all__ = ["code_in_text", "cuda_failure", "out_of_memory"]

OUT_OF_MEMORY, INSUFFICIENT_DRIVER, STUB_LIBRARY, NO_DEVICE = 2, 35, 34, 100
OPERATING_SYSTEM, NOT_SUPPORTED, NOT_READY, DRIVER_MISMATCH, UNKNOWN = 304, 801, 802, 803, 999

# The driver's own words (cuGetErrorString) for the codes that PyCUDA reports as text.
TEXTS = {
    "out of memory": OUT_OF_MEMORY,
    "driver version is insufficient": INSUFFICIENT_DRIVER,
    "stub library": STUB_LIBRARY,
    "no cuda-capable device": NO_DEVICE,
    "os call failed": OPERATING_SYSTEM,
    "operation not supported": NOT_SUPPORTED,
    "system not yet initialized": NOT_READY,
    "system has unsupported display driver": DRIVER_MISMATCH,
    "unknown error": UNKNOWN,
}
NO_DRIVER = "no usable NVIDIA driver here; use --backend onnxruntime, or see: edge-sr doctor"
HINTS = {
    INSUFFICIENT_DRIVER: NO_DRIVER,
    NO_DEVICE: NO_DRIVER,
    STUB_LIBRARY: "the CUDA stub library was loaded; start the container with --runtime nvidia",
    NOT_READY: "the driver is still starting; try again in a moment",
    DRIVER_MISMATCH: "the driver's kernel module and its libraries differ; reboot, or update both",
}
ACCESS_HINT = (
    "the GPU's device nodes must be open to groups video and render: sudo usermod -aG video,render USER; "
    "in a container: --runtime nvidia, and --group-add with the host's numbers of both; see: edge-sr doctor"
)
ACCESS = (OPERATING_SYSTEM, NOT_SUPPORTED, UNKNOWN)


def cuda_failure(call: str, code: int, text: str) -> BackendError:
    """The error for a call that failed.

    Args:
        call: The function's name.
        code: CUDA's error code; 0 where only the text is known.
        text: The driver's own text.
    """
    number = code or code_in_text(text)
    shown = f" ({number})" if number else ""
    return BackendError(f"{call} failed: {text}{shown}", hint=_hint(number))


def out_of_memory(asked_bytes: int, free_bytes: int, *, kind: str) -> BackendError:
    """The error for an allocation that failed, with what was asked and what is free."""
    asked, free = asked_bytes / 2**20, free_bytes / 2**20
    return BackendError(
        f"out of {kind} memory: asked for {asked:.1f} MiB, {free:.1f} MiB are free",
        hint="stop other programs or the desktop (sudo systemctl isolate multi-user), or use a smaller batch",
    )


def code_in_text(text: str) -> int:
    """CUDA's error code for a driver's text; 0 where it is not one of those that we advise on."""
    lower = text.lower()
    return next((code for words, code in TEXTS.items() if words in lower), 0)


def _hint(code: int) -> str:
    return ACCESS_HINT if code in ACCESS else HINTS.get(code, "")
