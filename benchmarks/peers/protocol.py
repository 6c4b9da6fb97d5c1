"""What a peer is: one narrow protocol, and the explicit list of what implements it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_sr.bundle import Bundle
from edge_sr.errors import UsageError
from edge_sr.manifest import Preset

__all__ = [
    "OURS",
    "OURS_FP32",
    "OURS_OPENVINO",
    "PEERS",
    "Case",
    "Peer",
    "Upscale",
    "find_peer",
    "missing_module",
]

Float = npt.NDArray[np.float32]
Upscale = Callable[[Float, int], Float]
"""One image (C, t, t) in [-1, 1], whose noise is that of a seed -> (C, T, T)."""


@dataclass(frozen=True)
class Case:
    """What every peer is given.

    Attributes:
        bundle: The model, a folder.
        work: Where a peer keeps what it makes of it, in a folder of its own.
        threads: CPU threads.
        calibration: A folder of images for post-training quantisation; None where there is none.
    """

    bundle: Path
    work: Path
    threads: int
    calibration: Path | None = None

    def opened(self) -> Bundle:
        """The bundle.

        Raises:
            BundleError: It is damaged.
        """
        return Bundle.open(self.bundle)

    def preset(self, bundle: Bundle) -> Preset:
        """How the loop runs: the bundle's default preset."""
        diffusion = bundle.diffusion
        return diffusion.presets[diffusion.default]

    def folder(self, name: str) -> Path:
        """A folder below `work`, made if need be."""
        made = self.work / name
        made.mkdir(parents=True, exist_ok=True)
        return made


class Peer(Protocol):
    """A runtime that the bundle's weights go through.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        precision: What it computes in.
        distributions: What its user installs, as the package index names it; extras in brackets.
        snippet: The module that its user would write.
    """

    @property
    def key(self) -> str:
        """See above, as with all of these."""

    @property
    def label(self) -> str:
        """For tables."""

    @property
    def note(self) -> str:
        """What it is."""

    @property
    def precision(self) -> str:
        """Of its arithmetic."""

    @property
    def distributions(self) -> Sequence[str]:
        """What is installed for it."""

    @property
    def snippet(self) -> str:
        """What is written for it."""

    def available(self, case: Case) -> str:
        """Why it cannot run here; empty where it can."""

    def prepare(self, case: Case) -> None:
        """Makes its weights or graphs of the bundle's, in a process of its own; neither timed nor counted."""

    def open(self, case: Case) -> Upscale:
        """Loads what `prepare` made."""


OURS, OURS_FP32, OURS_OPENVINO = "edge-sr-int8", "edge-sr-fp32", "edge-sr-int8-openvino"
PEERS: dict[str, str] = {
    OURS: "benchmarks.peers.ours:INT8",
    OURS_FP32: "benchmarks.peers.ours:FP32",
    OURS_OPENVINO: "benchmarks.peers.ours:OPENVINO",
    "torch-eager": "benchmarks.peers.eager:EAGER",
    "torch-channels-last": "benchmarks.peers.eager:CHANNELS_LAST",
    "torch-compile": "benchmarks.peers.eager:COMPILED",
    "ort-fp32": "benchmarks.peers.ort_loop:FP32",
    "ort-int8": "benchmarks.peers.ort_loop:INT8",
    "openvino-fp32": "benchmarks.peers.intel:FP32",
    "openvino-int8": "benchmarks.peers.intel:NNCF",
    "openvino-our-int8": "benchmarks.peers.intel:OURS",
}
"""Key -> module and object. Modules are imported where a peer is run, and import its runtime there alone."""


def find_peer(key: str) -> Peer:
    """A peer by its key.

    Raises:
        UsageError: There is none.
    """
    if key not in PEERS:
        raise UsageError(f"no peer {key!r}", hint=f"one of: {', '.join(PEERS)}")
    module, _, name = PEERS[key].partition(":")
    peer: Peer = getattr(importlib.import_module(module), name)
    return peer


def snippet_module(peer: Peer) -> ModuleType:
    """The snippet, imported: with it comes the runtime."""
    return importlib.import_module(f"benchmarks.peers.snippets.{peer.snippet}")


def missing_module(*names: str) -> str:
    """Which of some modules is not installed, as a reason; empty where all are."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""
