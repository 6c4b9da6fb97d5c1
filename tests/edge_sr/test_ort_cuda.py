"""ONNX Runtime's CUDA provider, as far as it goes without a GPU: when it is refused, and what to do then.

What it computes, and in which order, is the business of `test_backend_contract.py`, marked `gpu`.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from edge_sr.backends import open_backend
from edge_sr.backends.choice import choose_backend
from edge_sr.backends.ort_cuda import PROVIDER, OnnxRuntimeCudaBackend, check_provider
from edge_sr.bundle import Bundle
from edge_sr.cuda.fake import FakeCuda
from edge_sr.errors import BackendError
from edge_sr.spec import Component, Precision

CPU = "CPUExecutionProvider"


def is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_an_onnxruntime_with_cuda_is_taken() -> None:
    check_provider("1.23.2", [PROVIDER, CPU], ["onnxruntime-gpu"])


@pytest.mark.parametrize(
    ("distributions", "why"),
    [
        (["onnxruntime"], "it was installed by onnxruntime"),
        (["onnxruntime", "onnxruntime-gpu"], "both installed, and overwrite each other's files"),
        (["onnxruntime-gpu"], "it was installed by onnxruntime-gpu"),  # a platform whose build has no CUDA
        ([], "no package is known for it"),
    ],
    ids=["the other one", "both", "without cuda", "built by hand"],
)
def test_an_onnxruntime_without_cuda_is_refused_with_why_and_what_to_do(
    distributions: list[str], why: str
) -> None:
    with pytest.raises(BackendError, match=f"onnxruntime 1.23.2 has no {PROVIDER}: .*{why}") as caught:
        check_provider("1.23.2", [CPU], distributions)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in caught.value.hint


@pytest.mark.skipif(is_installed("onnxruntime-gpu"), reason="onnxruntime-gpu is installed here")
def test_the_onnxruntime_that_is_here_is_refused() -> None:
    with pytest.raises(BackendError, match=f"has no {PROVIDER}: it was installed by onnxruntime"):
        open_backend("onnxruntime-cuda")


@pytest.mark.skipif(not is_installed("onnxruntime-gpu"), reason="onnxruntime-gpu is not installed here")
def test_a_provider_that_does_not_load_is_an_error_and_never_the_cpu(bundle: Path) -> None:
    """ONNX Runtime itself would go on, on the CPU, with a line in its log."""
    if any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvmap")):
        pytest.skip("there is a GPU here")
    with (
        OnnxRuntimeCudaBackend(cuda=FakeCuda()) as backend,
        pytest.raises(BackendError, match=rf"on the CPU: its {PROVIDER} does not load"),
    ):
        backend.load(Bundle.open(bundle).graph(Component.STEP, Precision.FP32))


def test_auto_never_takes_it_and_by_name_it_is_taken(bundle: Path, engines: Path) -> None:
    opened = Bundle.open(bundle)
    assert choose_backend(opened, "auto", precision=None, engine_dir=engines).name == "onnxruntime"
    chosen = choose_backend(opened, "onnxruntime-cuda", precision=None, engine_dir=engines)
    assert (chosen.name, chosen.precision) == ("onnxruntime-cuda", opened.manifest.default_precision)
