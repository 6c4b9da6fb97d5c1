"""The unsigned form of INT8 that x86 wants, derived when a graph is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calibration.quantize import emit
from edge_sr.backends.ort import OnnxRuntimeBackend
from edge_sr.backends.unsigned import to_unsigned
from edge_sr.spec import Component, Graph, Precision, TensorSpec
from tests.calibration.conftest import seeded
from tests.calibration.graphs import SIDE, plan_for, residual_graph, run

FEEDS = {"image": seeded().uniform(-1, 1, (2, 1, SIDE, SIDE)).astype(np.float32)}


@pytest.fixture(scope="module")
def signed() -> bytes:
    model = residual_graph()
    plan = plan_for(model, run(model, FEEDS, all_tensors=True))
    return bytes(emit(model, plan, Precision.INT8).SerializeToString())


def types(model: bytes) -> dict[str, int]:
    return {t.name: t.data_type for t in onnx.load_from_string(model).graph.initializer}


def test_three_bytes_are_changed(signed: bytes) -> None:
    unsigned = to_unsigned(signed)
    assert len(unsigned) == len(signed)
    assert sum(a != b for a, b in zip(signed, unsigned, strict=True)) == 3


def test_only_the_zero_points_of_activations_become_unsigned(signed: bytes) -> None:
    before, after = types(signed), types(to_unsigned(signed))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"activation_zero_point", "rectified_zero_point"}
    onnx.checker.check_model(onnx.load_from_string(to_unsigned(signed)), full_check=True)


def test_operator_by_operator_both_forms_are_equal_to_the_bit(signed: bytes) -> None:
    """Ranges were taken from these very inputs, so that nothing is clipped in either form."""
    results = [run(model, FEEDS, fused=False)["output"] for model in (signed, to_unsigned(signed))]
    assert np.array_equal(*results)


def test_in_onnxruntime_both_forms_agree_to_a_few_steps(signed: bytes) -> None:
    """Its integer kernels round ties another way than its float ones: a step here and there, of 1/127."""
    ours, theirs = run(to_unsigned(signed), FEEDS)["output"], run(signed, FEEDS)["output"]
    step = np.abs(theirs).max() / 127
    assert np.abs(ours - theirs).max() <= 4 * step
    assert np.mean(np.abs(ours - theirs)) <= step / 4


def test_every_convolution_and_sum_runs_on_integers(signed: bytes, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(to_unsigned(signed), options, providers=["CPUExecutionProvider"])
    found = {node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node}
    assert {"QLinearConv", "QLinearAdd"} <= found
    assert not {"Conv", "FusedConv", "Add", "Relu"} & found


def test_a_file_without_those_zero_points_is_left_alone() -> None:
    data = residual_graph().SerializeToString()
    assert to_unsigned(data) == data


@pytest.mark.parametrize("unsigned", [False, True])
def test_the_backend_loads_either_form(signed: bytes, tmp_path: Path, unsigned: bool) -> None:
    path = tmp_path / "encoder.int8.onnx"
    path.write_bytes(signed)
    result = _through_backend(path, unsigned)
    assert np.allclose(result, run(signed, FEEDS)["output"], atol=0.1)


def _through_backend(path: Path, unsigned: bool) -> Any:
    specs = (
        (TensorSpec("image", "float32", ("N", 1, SIDE, SIDE)),),
        (TensorSpec("output", "float32", ("N", 1, SIDE, SIDE)),),
    )
    graph = Graph(path, Component.ENCODER, Precision.INT8, "0" * 64, *specs)
    with OnnxRuntimeBackend(unsigned=unsigned) as backend, backend.load(graph) as engine:
        stream = backend.stream()
        buffers = {
            s.name: backend.allocate(s.concrete(2), s.dtype) for s in (*engine.inputs, *engine.outputs)
        }
        buffers["image"].upload(FEEDS["image"], stream)
        engine.bind(buffers).enqueue(stream)
        out = np.empty((2, 1, SIDE, SIDE), np.float32)
        buffers["output"].download(out, stream)
    return out
