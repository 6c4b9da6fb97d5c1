"""`edge-sr` with one backend more, `stuck`, which stands still while a file exists."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from edge_sr.backends import BACKENDS
from edge_sr.backends.fake import FakeBackend, FakeBinding, FakeEngine
from edge_sr.spec import Graph

STUCK = "EDGE_SR_TEST_STUCK"
"""Names the file."""


class StuckBackend(FakeBackend):
    """The fake backend, with a device that can be stopped from outside."""

    def __init__(self, *, threads: int = 0, engine_dir: Path | None = None) -> None:
        super().__init__(threads=threads)
        self.file = Path(os.environ[STUCK])

    def load(self, graph: Graph) -> StuckEngine:
        return StuckEngine(self, graph)


class StuckEngine(FakeEngine):
    def bind(self, buffers: Any) -> StuckBinding:
        return StuckBinding(self, super().bind(buffers)._arrays)


class StuckBinding(FakeBinding):
    def enqueue(self, stream: Any) -> None:
        backend = self._engine.backend
        assert isinstance(backend, StuckBackend)
        standing_still = threading.Event()
        while backend.file.exists():
            standing_still.wait(0.01)
        super().enqueue(stream)


if __name__ == "__main__":
    BACKENDS["stuck"] = "tests.edge_sr.service.stuck:StuckBackend"
    from edge_sr.cli import main

    main()
