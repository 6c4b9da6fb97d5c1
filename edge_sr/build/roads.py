"""The two kinds of engine that can be built: TensorRT's plans, and models that ONNX Runtime has optimised."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_sr.backends import Backend, open_backend
from edge_sr.backends.engine_store import (
    ONNX_RUNTIME,
    PORTABLE,
    BuildFlags,
    Kind,
    Target,
)
from edge_sr.backends.optimised import OPTIMISED_FLAGS, optimised_target
from edge_sr.build.checks import check_device, workspace_for
from edge_sr.build.child import WORKER, run_job
from edge_sr.device import describe
from edge_sr.errors import BackendError
from edge_sr.spec import Graph

__all__ = ["ROADS", "Check", "Machine", "Road"]

NOT_RUN = "not run: built without a GPU, and not for a Jetson"
NOT_CHECKED = "not checked"

Check = Callable[[Backend, Graph], str]
"""Runs a graph's golden inputs on a backend and says in a few words how well the outputs agree; raises an
`EdgeSRError` where they do not."""


def _open_tensorrt(folder: Path) -> Backend:
    return open_backend("tensorrt", engine_dir=folder)


@dataclass(frozen=True)
class Machine:
    """What a build uses of the machine; tests bring their own.

    Attributes:
        root: Where `proc` and the like are read.
        worker: The command of the worker process.
        open_engines: Opens TensorRT over a folder of engines, to check one.
    """

    root: Path = Path("/")
    worker: tuple[str, ...] = WORKER
    open_engines: Callable[[Path], Backend] = _open_tensorrt


class Road(Protocol):
    """A kind of engine on this machine, once it is known that it can be built.

    Attributes:
        ending: Of the engine's file.
        kind: As in `Sidecar`.
        target: What the engines run on.
        flags: What they are built with, as in a key.
        notes: What the user should know, in sentences.
    """

    ending: str
    kind: Kind
    target: Target
    flags: str
    notes: tuple[str, ...]

    def job(self, graph: Graph, engine: Path, timings: Path) -> dict[str, Any]:
        """What the worker is asked to do: to write `engine`, keeping timing caches in the folder `timings`.

        Raises:
            EngineError: There is not memory enough.
        """

    def checked(self, check: Check | None, graph: Graph, staged: Path) -> str:
        """What the check says of an engine that lies, with its sidecar, in a folder of its own."""


class TensorRTRoad:
    """Plans of TensorRT, or of TensorRT-RTX; portable ones of the latter where there is no GPU."""

    ending = ".plan"

    def __init__(self, machine: Machine, flags: BuildFlags) -> None:
        """Looks at the board, the library and the GPU.

        Raises:
            DeviceError: The board or its TensorRT is too old.
            BackendError: There is no TensorRT, or no GPU for one that needs it.
        """
        check_device(describe(machine.root))
        self._machine, self._choices, self.flags = machine, flags, str(flags)
        found = run_job({"do": "probe", "library": "auto"}, worker=machine.worker, root=machine.root)
        gpu = found["gpu"]
        self.kind: Kind = "device" if gpu else "rtx-portable"
        self.notes: tuple[str, ...] = ()
        if gpu:
            self.target = Target(found["library"], found["version"], gpu["sm"], gpu["name"])
            return
        targets = found["portable_targets"]
        if not targets:
            raise BackendError(
                f"{found['library']} is here, but no GPU: {found['reason']}", hint=found["hint"]
            )
        self.target = Target(found["library"], found["version"], "+".join(targets), PORTABLE)
        self.notes = (
            f"no GPU here: {found['library']} builds for compute capabilities {', '.join(targets)}; "
            "these engines are not run, and are not for a Jetson",
        )

    def job(self, graph: Graph, engine: Path, timings: Path) -> dict[str, Any]:
        """See `Road`."""
        cache = timings / f"timing-{self.target.digest}.cache"
        return {
            "do": "tensorrt",
            "library": self.target.library,
            "onnx": str(graph.path),
            "engine": str(engine),
            "level": self._choices.level,
            "batch": self._choices.batch,
            "workspace_bytes": workspace_for(graph.path, root=self._machine.root),
            "timing_cache": str(cache) if self.kind == "device" else "",
            "portable": self.kind == "rtx-portable",
        }

    def checked(self, check: Check | None, graph: Graph, staged: Path) -> str:
        """See `Road`."""
        if self.kind == "rtx-portable":
            return NOT_RUN
        if check is None:
            return NOT_CHECKED
        with closing(self._machine.open_engines(staged)) as backend:
            return check(backend, graph)


class OptimisedRoad:
    """Models that ONNX Runtime has optimised for this CPU."""

    ending, flags = ".onnx", OPTIMISED_FLAGS

    def __init__(self, machine: Machine, flags: BuildFlags) -> None:
        """Looks which ONNX Runtime is here; `flags` are TensorRT's and mean nothing to it.

        Raises:
            BackendError: There is none.
        """
        found = run_job({"do": "onnxruntime-probe"}, worker=machine.worker, root=machine.root)
        self.target = optimised_target(found["version"], root=machine.root)
        self.kind: Kind = "optimised-onnx"
        self.notes: tuple[str, ...] = ()

    def job(self, graph: Graph, engine: Path, timings: Path) -> dict[str, Any]:
        """See `Road`."""
        return {"do": "onnxruntime", "onnx": str(graph.path), "engine": str(engine)}

    def checked(self, check: Check | None, graph: Graph, staged: Path) -> str:
        """See `Road`."""
        if check is None:
            return NOT_CHECKED
        with closing(open_backend(ONNX_RUNTIME, engine_dir=staged)) as backend:
            return check(backend, graph)


ROADS: dict[str, Callable[[Machine, BuildFlags], Road]] = {
    "tensorrt": TensorRTRoad,
    ONNX_RUNTIME: OptimisedRoad,
}
"""Backend -> how its engines are built."""
