"""A service over the fake backend whose device can be held, and ways to ask it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge_sr.backends.fake import FakeBackend
from edge_sr.bundle import Bundle
from edge_sr.errors import EngineError
from edge_sr.image import encode_png
from edge_sr.pipeline import Output, Upscaler
from edge_sr.service.settings import ServiceSettings
from edge_sr.spec import Precision
from tests.edge_sr.waiting import PATIENCE_S, eventually

pytest.importorskip("httpx2", reason="httpx2 is not installed (extra: dev)")
pytest.importorskip("starlette", reason="Starlette is not installed (extra: service)")
pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra: service)")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed (extra: service)")
pytest.importorskip("python_multipart", reason="python-multipart is not installed (extra: service)")

from starlette.testclient import TestClient

from edge_sr.service.app import create_app, make_worker
from edge_sr.service.worker import Worker

__all__ = [
    "DICOM",
    "JSON",
    "PATIENCE_S",
    "PNG",
    "HeldUpscaler",
    "Rig",
    "eventually",
    "form",
    "lost_engine",
    "picture",
    "running",
]

PNG, JSON, DICOM = "image/png", "application/json", "application/dicom"


class HeldUpscaler(Upscaler):
    """An upscaler on the fake backend that can be stopped in the middle of an image, and made to fail.

    Attributes:
        go: Images go on while it is set.
        entered: One release for each image that was begun.
        seeds: Of the images that were begun.
        error: Raised for the next image; None for none.
    """

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, FakeBackend(), precision=Precision.FP32)
        self.go, self.entered = threading.Event(), threading.Semaphore(0)
        self.seeds: list[int] = []
        self.error: Exception | None = None
        self.go.set()

    def upscale(self, image: Any, *, preset: Any, seed: int, first_sample: int = 0) -> Output:
        self.seeds.append(seed)
        self.entered.release()
        assert self.go.wait(PATIENCE_S)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().upscale(image, preset=preset, seed=seed, first_sample=first_sample)

    def await_entered(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)


@dataclass
class Rig:
    """A service that is ready, its device, and clients; their answers come from threads."""

    client: TestClient
    upscaler: HeldUpscaler
    worker: Worker
    threads: ThreadPoolExecutor

    def post(self, data: bytes, *, query: str = "", **headers: str) -> Any:
        """Asks, and waits for the answer; `headers` have underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v1/upscale{query}", content=data, headers={"content-type": PNG} | named)

    def hold(self, data: bytes) -> Any:
        """Asks for an image on which the device then stands still; gives the answer to come."""
        self.upscaler.go.clear()
        answer = self.threads.submit(self.post, data, query="?seed=1")
        self.upscaler.await_entered()
        return answer


@contextmanager
def running(bundle: Bundle, **changes: Any) -> Iterator[Rig]:
    """A service, from start to end."""
    settings = ServiceSettings(**changes)
    upscaler = HeldUpscaler(bundle)
    worker = make_worker(lambda: upscaler, settings)
    client = TestClient(create_app(worker, settings))
    with ThreadPoolExecutor(8) as threads, client:
        eventually(lambda: worker.state != "starting")
        upscaler.await_entered()  # the warm-up
        upscaler.seeds.clear()
        try:
            yield Rig(client, upscaler, worker, threads)
        finally:
            upscaler.go.set()


def picture(height: int = 20, width: int = 24, *, dtype: Any = np.uint8) -> bytes:
    """A PNG of noise."""
    rng = np.random.default_rng(3)
    return encode_png(rng.integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True), text={})


def form(data: bytes, *, filename: str = "scan", kind: str = "application/octet-stream", n: int = 1) -> Any:
    """The arguments of a post of a multipart form with n files."""
    return {"files": [("file", (filename, data, kind))] * n}


def lost_engine() -> EngineError:
    """An error of the device, with a path in it."""
    return EngineError("engine /home/grzegorzewska/cxr.plan is gone")
