"""`python -m benchmarks faults`: what is done to a service of its own, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.faults.records import FaultsResult
from benchmarks.faults.scenes import flood, killed, no_room, slow, vanished
from benchmarks.records import BundleFacts
from benchmarks.service.load import Image
from benchmarks.service.server import Served, started
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.image import encode_png
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision

__all__ = ["Request", "run_faults"]

HEAD_S = 2.0
"""How long the server waits for the head of a request: the default is longer, and so would this run be."""


@dataclass(frozen=True)
class Request:
    """What is to be served, and what is done to it.

    Attributes:
        bundle: A folder.
        precision: Of the graphs.
        backend: As `edge-sr serve` names it.
        seconds: How long the flood lasts.
        queue_size: Requests that may wait while one runs.
        side: LR pixels of the image's side.
        threads: Of the server, 0 for all cores.
    """

    bundle: Path
    precision: Precision = Precision.INT8
    backend: str = "onnxruntime"
    seconds: float = 60.0
    queue_size: int = 4
    side: int = 64
    threads: int = 0


def run_faults(request: Request, *, arguments: Sequence[str]) -> FaultsResult:
    """Does it all, one after the other. Writes nothing.

    Args:
        request: What, and for how long.
        arguments: Those of the command line, for the record.

    Raises:
        EdgeSRError: The bundle cannot be used, or a server does not start.
    """
    began, facts = time.monotonic(), _facts(request)
    image, places = Image(_png(request.side), is_large=False), request.queue_size + 1

    def start(port: int) -> AbstractContextManager[Served]:
        settings = {
            "port": port, "bundle": str(request.bundle.resolve()), "backend": request.backend,
            "precision": str(request.precision), "threads": request.threads,
            "queue_size": request.queue_size, "head_s": HEAD_S, "deadline_s": 600.0,
        }  # fmt: skip
        return started(["-m", "edge_sr", "serve"], settings=settings)

    with start(0) as served:
        flooded, checks = flood(served, image, places=places, seconds=request.seconds)
        checks += vanished(served, image, places=places)
        checks += slow(served, image, head_s=HEAD_S)
        checks += no_room(served, image)
    checks += killed(start, image)
    return FaultsResult(
        environment=environment(arguments, threads=request.threads),
        bundle=facts,
        elapsed_s=round(time.monotonic() - began, 1),
        side=request.side,
        flood=flooded,
        checks=tuple(checks),
    )


def _png(side: int) -> bytes:
    return encode_png(np.random.default_rng(side).integers(0, 256, (side, side), np.uint8), text={})


def _facts(request: Request) -> BundleFacts:
    bundle = Bundle.open(request.bundle)
    backend = open_backend(request.backend, threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision):
        return BundleFacts(
            name=bundle.manifest.name,
            version=bundle.manifest.version,
            digest=bundle.digest,
            precision=str(request.precision),
            backend=backend.describe(),
        )
