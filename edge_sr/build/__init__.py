"""Builds engines on the device where they will run: checked before, killed without harm, published whole.

    look at board, library, GPU ─► for each graph: memory ─► worker process ─► check of the outputs ─► publish

Each graph is built in a process of its own (`edge_sr.build.worker`). What that wrote lies in a folder beside
the engines until its outputs have been compared, and is then renamed into place. On a machine without a GPU,
TensorRT-RTX builds portable engines: they prove that the graphs can be built, were never run, and are not for
a Jetson.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge_sr import __version__
from edge_sr.backends.engine_store import (
    BuildFlags,
    EngineKey,
    EngineStore,
    Sidecar,
    Target,
    default_engine_dir,
    graph_precision,
    make_sidecar,
)
from edge_sr.build.child import run_job
from edge_sr.build.roads import ROADS, Check, Machine, Road
from edge_sr.bundle import Bundle
from edge_sr.errors import EngineError, UsageError
from edge_sr.spec import Component, Graph, Precision

__all__ = ["BuildProgress", "BuildReport", "Built", "Check", "Machine", "OnProgress", "build_engines"]


@dataclass(frozen=True)
class BuildProgress:
    """How far the build of one engine is: `done` of `total` steps of a phase that the builder names."""

    component: Component
    phase: str
    done: int
    total: int


OnProgress = Callable[[BuildProgress], None]


@dataclass(frozen=True)
class Built:
    """One engine.

    Attributes:
        path: Where it is.
        sidecar: What is known of it.
        was_reused: Whether it was there already.
    """

    path: Path
    sidecar: Sidecar
    was_reused: bool


@dataclass(frozen=True)
class BuildReport:
    """What a build gave.

    Attributes:
        engines: One a component.
        target: What they run on.
        notes: What the user should know, in sentences.
    """

    engines: tuple[Built, ...]
    target: Target
    notes: tuple[str, ...]


def build_engines(
    bundle: Bundle,
    *,
    precision: Precision,
    backend: str = "tensorrt",
    components: Sequence[Component] = (),
    engine_dir: Path | None = None,
    timing_dir: Path | None = None,
    flags: BuildFlags | None = None,
    check: Check | None = None,
    progress: OnProgress | None = None,
    force: bool = False,
    machine: Machine | None = None,
) -> BuildReport:
    """Builds the engines of a bundle for this device and publishes them; what is there already is kept.

    Args:
        bundle: Where the graphs are.
        precision: As on the command line: "int8" means the form of it that the backend runs.
        backend: "tensorrt", or "onnxruntime" for optimised models that start faster.
        components: Which graphs; all that the bundle has where empty.
        engine_dir: Where to; `default_engine_dir()` where None.
        timing_dir: Where TensorRT's timing caches are kept; `engine_dir` where None.
        flags: What may be chosen; for TensorRT.
        check: Compares the outputs before an engine is published; not called where no GPU can run it.
        progress: Told how far each build is.
        force: Build what is there already as well.
        machine: What is used of this machine; all of it where None.

    Raises:
        DeviceError: This device cannot run such engines; what still works is named.
        BundleError: The bundle has no such graph.
        BackendError: The library is missing or too old.
        EngineError: A build failed, or its outputs are wrong; nothing of that engine is published.
        OutputError: The folder cannot be written.
        UsageError: The backend is unknown.
    """
    if backend not in ROADS:
        raise UsageError(f"no engines are built for backend {backend!r}", hint=f"one of: {', '.join(ROADS)}")
    chosen = components or bundle.manifest.components
    graphs = [bundle.graph(component, graph_precision(backend, precision)) for component in chosen]
    machine = machine or Machine()
    road = ROADS[backend](machine, flags or BuildFlags())
    folder = engine_dir or default_engine_dir()
    builder = _Builder(EngineStore(folder), timing_dir or folder, road, machine, check, progress)
    engines = tuple(builder.reused(graph, force=force) or builder.build(graph) for graph in graphs)
    return BuildReport(engines, road.target, road.notes)


@dataclass(frozen=True)
class _Builder:
    """What all builds of one call share."""

    store: EngineStore
    timing_dir: Path
    road: Road
    machine: Machine
    check: Check | None
    progress: OnProgress | None

    def reused(self, graph: Graph, *, force: bool) -> Built | None:
        """The engine that is there already, if it may be kept."""
        try:
            sidecar = None if force else self.store.find(self._key(graph))
        except EngineError:
            return None
        return None if sidecar is None else Built(self.store.folder / sidecar.file, sidecar, was_reused=True)

    def build(self, graph: Graph) -> Built:
        """Builds, checks and publishes one engine."""
        with self.store.staging() as folder:
            staged, engine = EngineStore(folder), folder / f"engine{self.road.ending}"
            sidecar = self._built(graph, engine)
            path = staged.publish(engine, sidecar)
            words = self.road.checked(self.check, graph, folder)
            sidecar = sidecar.model_copy(update={"checked": words})
            return Built(self.store.publish(path, sidecar), sidecar, was_reused=False)

    def _built(self, graph: Graph, engine: Path) -> Sidecar:
        """Has the worker write the engine, and describes it."""
        started = time.perf_counter()
        job = self.road.job(graph, engine, self.timing_dir)

        def report(phase: str, done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(BuildProgress(graph.component, phase, done, total))

        result = run_job(job, report, worker=self.machine.worker, root=self.machine.root)
        return make_sidecar(
            self._key(graph),
            engine,
            kind=self.road.kind,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tool=__version__,
            build_seconds=round(time.perf_counter() - started, 3),
            workspace_bytes=job.get("workspace_bytes", 0),
            layers=result["layers"],
            checked="not yet",
            notes=(*self.road.notes, *result["notes"]),
        )

    def _key(self, graph: Graph) -> EngineKey:
        return EngineKey.of(graph, self.road.target, self.road.flags)
