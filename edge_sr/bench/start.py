"""A first image in a fresh process: `python -m edge_sr.bench.start FD`, with the job as JSON on its input.

The answer is one JSON object on the file descriptor FD, as `edge_sr.build.child.run_job` takes it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from edge_sr.backends import open_backend
from edge_sr.bench.subject import Wish, bench_image
from edge_sr.build.child import run_job
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, EdgeSRError
from edge_sr.image import LoadedImage
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.result import Settings, upscale_image
from edge_sr.spec import Precision
from edge_sr.telemetry import peak_memory_bytes

__all__ = ["first_image", "main", "start_fresh"]

WORKER = (sys.executable, "-m", "edge_sr.bench.start")


def start_fresh(
    bundle: Bundle, backend: str, wish: Wish, *, batch: int, seed: int, engine_dir: Path | None
) -> dict[str, Any]:
    """Starts a process that makes one image.

    What the operating system has of the files in its own cache stays there: the second start after a boot is
    measured, not the first.

    Returns:
        The fields of `edge_sr.bench.records.Start`.

    Raises:
        EdgeSRError: The process failed.
    """
    job = {
        "bundle": str(bundle.folder.resolve()),
        "backend": backend,
        "precision": str(wish.precision),
        "preset": wish.preset and wish.preset.model_dump(mode="json"),
        "size": wish.size,
        "threads": wish.threads,
        "batch": batch,
        "seed": seed,
        "engine_dir": None if engine_dir is None else str(engine_dir.resolve()),
        "spawned": time.monotonic(),  # one clock for all processes of a machine
    }
    return run_job(job, worker=WORKER, what="the first image in a fresh process")


def first_image(job: dict[str, Any]) -> dict[str, Any]:
    """Does a job: see `start_fresh`.

    Raises:
        EdgeSRError: The image cannot be made.
    """
    watch = _Watch(job["spawned"])
    imported, base = watch.lap(), peak_memory_bytes()
    bundle = Bundle.open(Path(job["bundle"]))
    opened = watch.lap()
    folder = None if job["engine_dir"] is None else Path(job["engine_dir"])
    running = open_backend(job["backend"], threads=job["threads"], engine_dir=folder)
    ready, free = watch.lap(), _free_device_bytes(running)
    with Upscaler(bundle, running, precision=Precision(job["precision"]), batch=job["batch"]) as upscaler:
        watch.lap()
        pixels = bench_image(bundle, job["size"])  # no part of what a start costs
        watch.lap()
        preset = job["preset"] and Preset.model_validate(job["preset"])
        settings = Settings(preset, job["seed"])
        upscale_image(upscaler, LoadedImage(pixels, "bench", "PNG"), settings)
        first, left = watch.lap(), _free_device_bytes(running)
        engines = dict(upscaler.load_seconds)
    return {
        "imported": imported,
        "bundle": opened,
        "backend": ready,
        "engines": engines,
        "first": first,
        "base_bytes": base,
        "peak_bytes": peak_memory_bytes(),
        "device_bytes": None if free is None or left is None else max(0, free - left),
    }


class _Watch:
    """Seconds since it was last asked."""

    def __init__(self, started: float) -> None:
        self._then = started

    def lap(self) -> float:
        now = time.monotonic()
        seconds, self._then = now - self._then, now
        return seconds


def _free_device_bytes(backend: Any) -> int | None:
    """Free memory of the backend's GPU; None where it has none, or CUDA does not tell."""
    cuda = getattr(backend, "cuda", None)
    try:
        return None if cuda is None else int(cuda.memory_info().free_bytes)
    except BackendError:
        return None


def main(arguments: list[str], job: str) -> None:
    """Does a job and writes what came of it.

    Args:
        arguments: The file descriptor to write to.
        job: JSON.
    """
    answer: dict[str, Any]
    try:
        answer = {"result": first_image(json.loads(job))}
    except EdgeSRError as error:
        answer = {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
    with os.fdopen(int(arguments[0]), "w", encoding="utf-8") as channel:
        channel.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin.read())
