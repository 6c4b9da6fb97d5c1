"""The process that builds one engine: `python -m edge_sr.build.worker FD`, with the job as JSON on its input.

It exists so that a build that runs out of memory, or a library that crashes, takes nothing else with it. What
it has to say goes to the file descriptor FD, one JSON object a line: {"progress": ...} as often as it likes,
then one {"result": ...} or {"error": ...}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_sr.backends.engine_store import BuildFlags, write_atomically
from edge_sr.backends.ort import OnnxRuntimeBackend
from edge_sr.backends.trt_library import BuildRequest, open_library
from edge_sr.cuda import open_cuda
from edge_sr.errors import BackendError, EdgeSRError

__all__ = ["JOBS", "main", "raise_oom_score"]

Report = Callable[[str, int, int], bool]
OOM_SCORE = 500
"""Of -1000 to 1000: where memory runs out, the kernel ends this process before others."""


def main(arguments: list[str], job: str) -> None:
    """Does a job and writes what came of it.

    Args:
        arguments: The file descriptor to write to.
        job: JSON: {"do": one of `JOBS`, ...}.
    """
    raise_oom_score()
    with os.fdopen(int(arguments[0]), "w", buffering=1, encoding="utf-8") as channel:

        def send(**message: Any) -> bool:
            try:
                channel.write(json.dumps(message) + "\n")
            except BrokenPipeError:  # the parent is gone; nobody wants the engine
                return False
            return True

        def report(phase: str, done: int, total: int) -> bool:
            return send(progress={"phase": phase, "done": done, "total": total})

        work = json.loads(job)
        try:
            send(result=JOBS[work.pop("do")](work, report))
        except EdgeSRError as error:
            send(error={"kind": type(error).__name__, "message": error.message, "hint": error.hint})


def raise_oom_score(root: Path = Path("/")) -> bool:
    """Offers this process to the kernel first, should memory run out; whether that was possible."""
    try:
        (root / "proc/self/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    except OSError:
        return False
    return True


def _probe(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Which TensorRT is here, and which GPU."""
    library = open_library(job["library"])
    found: dict[str, Any] = {"library": library.name, "version": library.version}
    found["portable_targets"] = list(library.portable_targets)
    try:
        cuda = open_cuda()
    except BackendError as error:
        return found | {"gpu": None, "reason": error.message, "hint": error.hint}
    return found | {"gpu": {"name": cuda.facts.name, "sm": cuda.facts.sm}, "reason": "", "hint": ""}


def _tensorrt(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Builds a TensorRT engine."""
    cache = Path(job["timing_cache"]) if job["timing_cache"] else None
    request = BuildRequest(
        Path(job["onnx"]),
        BuildFlags(job["level"], tuple(job["batch"])),
        workspace_bytes=job["workspace_bytes"],
        timing_cache=cache.read_bytes() if cache and cache.exists() else b"",
        portable=job["portable"],
    )
    built = open_library(job["library"]).build(request, report)
    Path(job["engine"]).write_bytes(built.plan)
    if cache and built.timing_cache:
        write_atomically(cache, built.timing_cache)
    return {"layers": built.layers, "notes": list(built.notes)}


def _onnxruntime_probe(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Which ONNX Runtime is here."""
    with OnnxRuntimeBackend() as backend:
        return {"version": backend.describe()["version"]}


def _onnxruntime_optimise(job: dict[str, Any], report: Report) -> dict[str, Any]:
    """Has ONNX Runtime optimise a graph for this CPU and save it."""
    with OnnxRuntimeBackend() as backend:
        backend.optimise(Path(job["onnx"]), Path(job["engine"]))
    return {"layers": {}, "notes": []}


JOBS: dict[str, Callable[[dict[str, Any], Report], dict[str, Any]]] = {
    "probe": _probe,
    "tensorrt": _tensorrt,
    "onnxruntime-probe": _onnxruntime_probe,
    "onnxruntime": _onnxruntime_optimise,
}
"""What can be asked for, by name."""

if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin.read())
