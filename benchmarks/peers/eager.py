"""Torch with the modules of `export.models` and a scheduler of diffusers: eager in two layouts, compiled."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.laid import lay_scheduler, scheduled
from benchmarks.peers.opening import open_snippet
from benchmarks.peers.protocol import Case, Upscale, missing_module

__all__ = ["CHANNELS_LAST", "COMPILED", "EAGER"]

COMPILERS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Torch:
    """See `benchmarks.peers.protocol.Peer`."""

    key: str
    label: str
    note: str
    snippet: str
    compiles: bool = False
    precision: str = "fp32"
    distributions: Sequence[str] = ("torch", "diffusers")

    def available(self, case: Case) -> str:
        """Whether torch, diffusers and, where it is needed, a compiler are here."""
        if missing := missing_module("torch", "diffusers"):
            return missing
        if self.compiles and not any(map(shutil.which, COMPILERS)):
            return f"torch.compile needs a C++ compiler: none of {', '.join(COMPILERS)} is here"
        return scheduled(case)

    def prepare(self, case: Case) -> None:
        """Rebuilds the modules from the FP32 graphs' initialisers."""
        import torch

        from benchmarks.torch_model import rebuild

        bundle, folder = case.opened(), case.folder(self.key)
        torch.save(rebuild(bundle), folder / "model.pt")
        lay_scheduler(case, bundle, folder)

    def open(self, case: Case) -> Upscale:
        """Loads them."""
        return open_snippet(self, case)


EAGER = Torch("torch-eager", "torch, eager", "diffusers' DDIMScheduler, torch's own memory layout", "eager")
CHANNELS_LAST = Torch(
    "torch-channels-last",
    "torch, eager, channels last",
    "the same in the layout that oneDNN prefers, under inference_mode",
    "eager_channels_last",
)
COMPILED = Torch(
    "torch-compile",
    "torch.compile",
    "inductor, default mode; the time to open it has the compilation in it",
    "compiled",
    compiles=True,
)
