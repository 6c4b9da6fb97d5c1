"""A peer's own process: `python -m benchmarks.peers.worker prepare|serve KEY CASE`.

It answers one line of JSON for each that it is asked, on the standard output that it was started with; what a
library prints goes to the standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from benchmarks.peers.protocol import Case, Upscale, find_peer
from edge_sr.telemetry import peak_memory_bytes

__all__ = ["IMAGES", "case_text", "main", "read_case", "serve"]

IMAGES = "images.npy"
"""What is enlarged, (N, C, t, t) in [-1, 1]; in the case's folder."""


def case_text(case: Case) -> str:
    """A case as JSON."""
    return json.dumps(asdict(case), default=str)


def read_case(text: str) -> Case:
    """What `case_text` wrote."""
    facts = json.loads(text)
    places = {name: Path(facts[name]) if facts[name] else None for name in ("bundle", "work", "calibration")}
    return Case(**{**facts, **places})


def serve(upscale: Upscale, images: npt.NDArray[np.float32], asked: TextIO, answered: TextIO) -> None:
    """Answers until it is asked no more.

    Asked is {"image": i}: a run that is not counted, then one that is, with seed i; answered {"seconds": s}.
    Asked may also be {"save": FILE}: every image is enlarged and written; answered is the peak memory.
    """
    for line in asked:
        request = json.loads(line)
        answer = _save(upscale, images, request) if "save" in request else _time(upscale, images, request)
        answered.write(json.dumps(answer) + "\n")
        answered.flush()


def _time(upscale: Upscale, images: npt.NDArray[np.float32], request: dict[str, Any]) -> dict[str, float]:
    index = request["image"]
    upscale(images[index], index)
    started = time.perf_counter()
    upscale(images[index], index)
    return {"seconds": time.perf_counter() - started}


def _save(upscale: Upscale, images: npt.NDArray[np.float32], request: dict[str, Any]) -> dict[str, int]:
    np.save(request["save"], np.stack([upscale(image, index) for index, image in enumerate(images)]))
    return {"peak_bytes": peak_memory_bytes()}


def main(mode: str, key: str, text: str) -> None:
    """Prepares a peer, or opens it and serves."""
    case, peer = read_case(text), find_peer(key)
    with os.fdopen(os.dup(1), "w") as answered:
        os.dup2(2, 1)
        if mode == "prepare":
            peer.prepare(case)
            return
        images = np.load(case.work / IMAGES)
        started = time.perf_counter()
        upscale = peer.open(case)
        upscale(images[0], 0)
        answered.write(json.dumps({"open_s": time.perf_counter() - started}) + "\n")
        answered.flush()
        serve(upscale, images, sys.stdin, answered)


if __name__ == "__main__":
    main(*sys.argv[1:])
