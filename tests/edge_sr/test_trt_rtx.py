"""The real TensorRT-RTX, which parses and builds without a GPU: what is proved, is proved for its version."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edge_sr.backends.engine_store import BuildFlags
from edge_sr.backends.trt_inspect import inspect_graph
from edge_sr.backends.trt_library import BuildRequest, Library, open_library
from edge_sr.errors import EngineError

if importlib.util.find_spec("tensorrt_rtx") is None:
    pytest.skip("tensorrt_rtx is not installed; pip install tensorrt-rtx-cu13", allow_module_level=True)

from tests.edge_sr.tiny_onnx import write_tiny_onnx


@pytest.fixture(scope="module")
def library() -> Library:
    return open_library("tensorrt_rtx")


def request(path: Path) -> BuildRequest:
    return BuildRequest(path, BuildFlags(), 64 << 20, portable=True)


@pytest.mark.parametrize("quantised", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_a_graph_of_every_precision_is_built(
    library: Library, tmp_path: Path, quantised: bool, half: bool
) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(phase: str, done: int, total: int) -> bool:
        seen.append((phase, done, total))
        return True

    path = write_tiny_onnx(tmp_path / "tiny.onnx", quantised=quantised, half=half)
    built = library.build(request(path), note)
    assert len(built.plan) > 1000
    assert seen[-1][1] == seen[-1][2]


def test_a_decomposed_group_norm_is_one_normalisation(library: Library, tmp_path: Path) -> None:
    facts = inspect_graph(library, write_tiny_onnx(tmp_path / "tiny.onnx"))
    assert facts.layers["NORMALIZATION"] == 1


def test_the_parsed_network_says_which_convolutions_are_quantised(library: Library, tmp_path: Path) -> None:
    facts = inspect_graph(library, write_tiny_onnx(tmp_path / "tiny.onnx", half=True))
    assert (facts.quantised, facts.half_quantised, facts.plain) == (("conv2",), (), ("conv1",))


def test_a_build_can_be_stopped(library: Library, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot build tiny\.onnx"):
        library.build(request(write_tiny_onnx(tmp_path / "tiny.onnx")), lambda *step: False)


def test_a_file_that_is_no_graph_is_refused(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"cannot read step\.onnx"):
        library.build(request(path))
