"""Errors of CUDA, in words and with a hint."""

from __future__ import annotations

import importlib.util

import pytest

from edge_sr.cuda import ADAPTERS, DeviceFacts, open_cuda
from edge_sr.cuda.bindings import BindingsCuda
from edge_sr.cuda.failures import cuda_failure
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError
from tests.edge_sr.cuda.fake_libraries import FakeRuntime, install_bindings, install_pycuda, make_pycuda

CODES = {
    35: "no usable NVIDIA driver",
    100: "no usable NVIDIA driver",
    34: "--runtime nvidia",
    304: "groups video and render",
    801: "groups video and render",
    999: "--group-add with the host",
    803: "reboot",
}


@pytest.mark.parametrize(("code", "advice"), CODES.items())
def test_a_code_comes_with_advice(code: int, advice: str) -> None:
    error = cuda_failure("cudaSetDevice", code, "the driver's own words")
    assert error.message == f"cudaSetDevice failed: the driver's own words ({code})"
    assert advice in error.hint


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("no CUDA-capable device is detected", "no usable NVIDIA driver"),
        ("unknown error", "groups video and render"),
        ("operation not supported", "groups video and render"),
    ],
)
def test_pycudas_words_lead_to_the_same_advice(
    words: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_pycuda(monkeypatch, make_pycuda(failure=words))
    with pytest.raises(BackendError, match=f"cuInit failed: {words}") as caught:
        open_cuda("pycuda")
    assert advice in caught.value.hint


def test_an_error_without_advice_says_what_failed() -> None:
    assert cuda_failure("cudaGraphLaunch", 700, "an illegal memory access").hint == ""


def test_a_missing_driver_is_told_when_the_device_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    install_bindings(monkeypatch, FakeRuntime({"cudaGetDeviceCount": 100}))
    with pytest.raises(BackendError, match=r"cudaGetDeviceCount failed: no CUDA-capable device .*\(100\)"):
        BindingsCuda()


def test_auto_names_the_reason_of_every_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    install_bindings(monkeypatch, FakeRuntime({"cudaGetDeviceCount": 100}))
    install_pycuda(monkeypatch, make_pycuda(failure="no CUDA-capable device is detected"))
    with pytest.raises(BackendError, match=r"cudaGetDeviceCount failed.*cuInit failed"):
        open_cuda()


def test_auto_takes_pycuda_where_cuda_bindings_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    install_bindings(monkeypatch, FakeRuntime({"cudaGetDeviceCount": 100}))
    install_pycuda(monkeypatch, make_pycuda())
    cuda = open_cuda()
    cuda.close()
    assert cuda.name == "pycuda"


def test_an_unknown_adapter_is_refused_with_the_list() -> None:
    with pytest.raises(BackendError) as caught:
        open_cuda("opencl")
    assert all(name in caught.value.hint for name in ADAPTERS)


def test_cuda_bindings_has_every_function_that_the_adapter_calls() -> None:
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda-bindings is not installed")
    from cuda.bindings import driver, runtime

    ours = {name for name in vars(FakeRuntime) if name.startswith("cuda")}
    assert {name for name in ours if not hasattr(runtime, name)} == set()
    assert hasattr(driver, "cuDeviceGetName")


@pytest.mark.parametrize(
    ("facts", "is_coherent"),
    [
        (ORIN_NANO, True),
        (RTX_CARD, False),
        (DeviceFacts("NVIDIA Tegra X1", (5, 3), True, True, 4 << 30, "10.2"), False),
    ],
)
def test_mapped_memory_is_used_on_coherent_chips_alone(facts: DeviceFacts, is_coherent: bool) -> None:
    assert facts.has_coherent_mapped_memory is is_coherent


def test_what_is_forgotten_warns() -> None:
    memory = FakeCuda().device_memory(8)
    with pytest.warns(ResourceWarning, match="never closed"):
        memory.__del__()
    memory.close()
