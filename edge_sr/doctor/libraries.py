"""Looks for the Python libraries that the backends need, without importing any of them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["DISTRIBUTIONS", "Library", "probe_libraries"]

# The modules that matter, and the distributions that bring each of them.
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "cv2": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
    "cuda.bindings": ("cuda-bindings",),
    "pycuda": ("pycuda",),
}
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@dataclass(frozen=True)
class Library:
    """A Python module that a backend needs, found without importing it.

    Attributes:
        module: Its name, as in `import`.
        is_found: Whether Python would find it.
        version: Of the first of its distributions; None where no distribution brings it.
        distributions: Those that are installed, each with its version.
        providers: onnxruntime's execution providers, as its files tell; empty for others.
    """

    module: str
    is_found: bool
    version: str | None = None
    distributions: dict[str, str] = field(default_factory=dict)
    providers: tuple[str, ...] = ()


def probe_libraries() -> dict[str, Library]:
    """Look for every module of `DISTRIBUTIONS` in this Python."""
    return {module: _probe(module, names) for module, names in DISTRIBUTIONS.items()}


def _probe(module: str, names: tuple[str, ...]) -> Library:
    folder = _find(module)
    versions = {name: version for name in names if (version := _version(name))}
    first = next(iter(versions.values()), None)
    providers: tuple[str, ...] = ()
    if module == "onnxruntime" and folder is not None:
        found = [p for key, p in PROVIDERS.items() if [*folder.glob(f"capi/*onnxruntime_providers_{key}.*")]]
        providers = (*found, "CPUExecutionProvider")
    return Library(module, folder is not None, first, versions, providers)


def _find(module: str) -> Path | None:
    """The folder that a module would be loaded from. Nothing is imported, not even the parent package."""
    parent, _, child = module.partition(".")
    try:
        spec = importlib.util.find_spec(parent)
        if spec is not None and child:
            spec = PathFinder.find_spec(module, spec.submodule_search_locations)
    except (ImportError, ValueError):  # ValueError: a module in sys.modules without a spec
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or [spec.origin or ""])
    return Path(places[0]) if places else None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: installed, but damaged
        return None
