"""A Jetson that is not there, for whole commands: TensorRT over the fake CUDA, here and in the worker.

The fake engines compute what the fake backend does, so a bundle for them has its golden values.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sr.backends import BACKENDS
from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostBuffer, HostStream
from edge_sr.backends.trt import TensorRTBackend
from edge_sr.backends.trt_library import Library
from edge_sr.bundle import Bundle, hash_file, write_manifest
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.pipeline import make_schedule
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision
from tests.edge_sr.fake_tensorrt import make_tensorrt
from tests.fakes import write_tiny_bundle

PRECISIONS = ("fp32", "fp16", "int8", "int8-fp16")
FAKE_PACKAGES = {
    "tensorrt.py": """
import sys
from edge_sr.cuda.fake import FakeCuda
from tests.edge_sr.fake_tensorrt import make_tensorrt
sys.modules[__name__] = make_tensorrt(FakeCuda())[0]
""",
    "cuda/__init__.py": "",
    "cuda/bindings/__init__.py": """
from tests.edge_sr.cuda.fake_libraries import FakeDriverApi, FakeRuntime
driver, runtime = FakeDriverApi(), FakeRuntime()
""",
}


class FakeTensorRT(TensorRTBackend):
    """The backend on a fake Orin Nano."""

    can_capture = True

    def __init__(self, *, engine_dir: Path | None = None, threads: int = 0) -> None:
        cuda = FakeCuda(ORIN_NANO, can_capture=self.can_capture)
        super().__init__(engine_dir=engine_dir, library=Library(make_tensorrt(cuda)[0]), cuda=cuda)


class WithoutGraphs(FakeTensorRT):
    """The same with a CUDA that has no graphs."""

    can_capture = False


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this process and its workers find the fake device."""
    for name, text in FAKE_PACKAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(BACKENDS, "tensorrt", f"{__name__}:{FakeTensorRT.__name__}")


def write_fake_bundle(folder: Path, *, seed: int = 0) -> Bundle:
    """A tiny bundle of every precision, with the golden values of the fake backend."""
    bundle = write_tiny_bundle(folder, precisions=PRECISIONS, seed=seed)
    golden: dict[str, Any] = _golden(bundle)
    path = folder / bundle.manifest.golden.file
    np.savez(path, **golden)
    facts = {"sha256": hash_file(path), "bytes": path.stat().st_size}
    entry = bundle.manifest.golden.model_copy(update=facts)
    write_manifest(folder, bundle.manifest.model_copy(update={"golden": entry}))
    return Bundle.open(folder)


def _golden(bundle: Bundle) -> dict[str, Any]:
    diffusion, table, before = bundle.diffusion, bundle.time_embedding(), bundle.golden()
    schedule = make_schedule(bundle, diffusion.presets[diffusion.default])
    encoded = _run(bundle, Component.ENCODER, {"image": before["image"]})
    x = before["noise"]
    loop = {"x0_previous": np.zeros_like(x), "noise": np.zeros_like(x)}
    for step, row in zip(schedule.steps, coefficients(schedule), strict=True):
        scalars = {"coefficients": row[None], "time_embedding": table[[step.timestep]]}
        result = _run(bundle, Component.STEP, encoded | loop | scalars | {"x": x})
        x, loop["x0_previous"] = result["x_next"], result["x0"]
    output = _run(bundle, Component.DECODER, encoded | {"latent": x})
    kept = {name: before[name] for name in ("image", "noise")}
    return kept | output | {"latent": x} | {f"encoder.{name}": value for name, value in encoded.items()}


def _run(bundle: Bundle, component: Component, known: dict[str, Any]) -> dict[str, Any]:
    engine = FakeBackend().load(bundle.graph(component, Precision.FP32))
    buffers = {s.name: HostBuffer.zeros(s.concrete(1), s.dtype) for s in (*engine.inputs, *engine.outputs)}
    for spec in engine.inputs:
        buffers[spec.name].array[...] = known[spec.name]
    engine.bind(buffers).enqueue(HostStream())
    return {spec.name: buffers[spec.name].array for spec in engine.outputs}


@contextmanager
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No TensorRT can be imported."""
    with monkeypatch.context() as patch:
        for name in ("tensorrt", "tensorrt_rtx"):
            patch.setitem(sys.modules, name, None)
        yield
