"""FP16 graphs: strongly typed, with FP32 edges, latents and update."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibration.errors import CalibrationError
from calibration.graph import Index, element_types, read_graph
from calibration.half import check_fits, to_half
from calibration.histogram import Histogram
from calibration.quantize import emit
from calibration.recording import Recording
from edge_sr.bundle import Bundle
from edge_sr.spec import Component, Precision
from tests.calibration.conftest import seeded
from tests.calibration.graphs import SIDE, codebook_graph, plan_for, residual_graph, run

FEEDS = {"image": seeded().uniform(-1, 1, (2, 1, SIDE, SIDE)).astype(np.float32)}
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


def read(bundle: Bundle, component: Component) -> Any:
    return read_graph(bundle.graph(component, Precision.FP32).path)


@pytest.mark.parametrize("component", list(Component))
def test_inputs_and_outputs_stay_what_they_were(bundle: Bundle, component: Component) -> None:
    before, after = read(bundle, component), to_half(read(bundle, component))
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)


def test_a_codebook_chooses_in_fp32_and_what_comes_behind_it_is_fp16() -> None:
    model = codebook_graph()
    half = to_half(model)
    types = element_types(half)
    assert types["products"] == TensorProto.FLOAT
    assert {types[node.output[0]] for node in half.graph.node if node.op_type == "Gather"} == {
        TensorProto.FLOAT16
    }
    # Halves of squared distances of 2**-17, which FP16 does not tell from each other near 0.5.
    image = 1 + np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) / 256
    narrow, wide = (run(graph, {"image": image})["output"] for graph in (half, model))
    np.testing.assert_allclose(narrow, wide, atol=0.02)  # sums of 36 products of about 1, each to 11 bits


@pytest.mark.parametrize("component", list(Component))
def test_no_node_reads_floats_of_two_kinds(bundle: Bundle, component: Component) -> None:
    half = to_half(read(bundle, component))
    types = element_types(half)
    for node in half.graph.node:
        assert len({types[name] for name in node.input if types.get(name) in FLOATS}) <= 1, node


def test_convolutions_are_fp16_and_the_update_is_fp32(bundle: Bundle) -> None:
    half = to_half(read(bundle, Component.STEP))
    types, index = element_types(half), Index(half)
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {types[node.output[0]] for node in convolutions} == {TensorProto.FLOAT16}
    update = {"p.term", "q.term", "unclipped", "x0", "a.term", "b.term", "c.term", "d.term", "x_next"}
    assert {types[name] for name in update} == {TensorProto.FLOAT}
    assert update <= index.producers.keys()


def test_the_sum_that_makes_the_image_is_fp32(bundle: Bundle) -> None:
    half = to_half(read(bundle, Component.DECODER))
    writer = Index(half).producers["output"]
    assert writer.op_type == "Add"
    assert {element_types(half)[name] for name in writer.input} == {TensorProto.FLOAT}


def test_weights_are_stored_in_fp16(bundle: Bundle) -> None:
    half = to_half(read(bundle, Component.DECODER))
    assert {t.data_type for t in half.graph.initializer if ".weight" in t.name} == {TensorProto.FLOAT16}


def test_it_computes_nearly_the_same() -> None:
    exact, half = (run(m, FEEDS)["output"] for m in (residual_graph(), to_half(residual_graph())))
    assert np.abs(half - exact).max() < 4e-3 * np.abs(exact).max()  # FP16 has 11 bits; four layers deep


def test_only_graphs_with_pairs_need_a_later_opset() -> None:
    model = residual_graph()
    plan = plan_for(model, run(model, FEEDS, all_tensors=True))
    opsets = {
        form: emit(model, plan, form).opset_import[0].version
        for form in Precision
        if form is not Precision.FP32
    }
    assert opsets == {Precision.FP16: 18, Precision.INT8: 18, Precision.INT8_FP16: 19}


def test_an_operator_that_is_not_known_is_refused_by_name() -> None:
    model = residual_graph()
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Softplus"
    with pytest.raises(CalibrationError, match=r"Softplus \(relu\)"):
        to_half(model)


def test_a_weight_beyond_fp16_is_refused() -> None:
    model = residual_graph()
    bias = next(t for t in model.graph.initializer if t.name == "last.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([1e6], np.float32), "last.bias"))
    with pytest.raises(CalibrationError, match=r"last\.bias holds 1000000"):
        to_half(model)


def test_activations_near_the_end_of_fp16_are_refused(recording: Recording) -> None:
    check_fits(recording)
    wide = Histogram()
    wide.add(np.array([30_000.0], np.float32))
    strange = Recording(recording.facts, {**recording.histograms, Component.DECODER: {"big": wide}})
    with pytest.raises(CalibrationError, match="big reached 30000"):
        check_fits(strange)


def test_a_resize_keeps_its_scales_in_fp32() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Sigmoid", ["large"], ["y"]),
    ]
    sides = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1, *s])]
        for n, s in (("x", (2, 2)), ("y", (4, 4)))
    ]
    scales = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph(nodes, "resize", *sides, initializer=[scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    half = to_half(model)
    assert Index(half).weights["scales"].data_type == TensorProto.FLOAT
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    assert np.allclose(run(half, {"x": x})["y"], run(model, {"x": x})["y"], atol=1e-3)
