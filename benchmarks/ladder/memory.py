"""Peak memory of one image: a fresh process, `python -m benchmarks.ladder.memory`, that does no more.

It imports what `edge-sr upscale` does, and no torch. What it had taken before it opened the bundle is told
apart: the interpreter and the libraries, which every row has in common.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.ladder.rungs import Rung, plain_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError
from edge_sr.manifest import one_sample
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from edge_sr.telemetry import peak_memory_bytes

__all__ = ["Peak", "main", "peak_memory"]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 600


@dataclass(frozen=True)
class Peak:
    """Bytes of resident memory.

    Attributes:
        before: The most that had been taken before the bundle was opened.
        peak: The most in all.
    """

    before: int
    peak: int


def peak_memory(rung: Rung, *, threads: int) -> Peak:
    """Runs one image with a row's shipped graphs, in a process of its own.

    Args:
        rung: The row.
        threads: CPU threads; 0 for all cores.

    Raises:
        BackendError: The process failed.
    """
    arguments = [str(rung.bundle.folder.resolve()), str(rung.precision), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ladder.memory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BackendError(f"the process that measures the memory of {rung.label} failed: {last}")
    return Peak(**json.loads(done.stdout))


def main(folder: str, precision: str, threads: str) -> str:
    """Enlarges a gray image of one tile, and says how much memory that took, as JSON.

    Args:
        folder: The bundle's.
        precision: Of the graphs.
        threads: CPU threads; 0 for all cores.
    """
    backend = plain_backend(int(threads))
    before = peak_memory_bytes()
    bundle = Bundle.open(Path(folder))
    with Upscaler(bundle, backend, precision=Precision(precision)) as upscaler:
        manifest = bundle.manifest
        image = np.zeros((manifest.channels, manifest.tile, manifest.tile), np.float32)
        upscaler.upscale(image, preset=one_sample(manifest.default_preset), seed=0)
    return json.dumps(asdict(Peak(before, peak_memory_bytes())))


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
