"""Where Q/DQ goes, and that two forms of one plan say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from calibration.errors import CalibrationError
from calibration.graph import Index
from calibration.layers import find_layers
from calibration.plan import ComponentPlan
from calibration.qdq import insert, quantise_weight
from calibration.quantize import emit
from edge_sr.spec import Precision
from tests.calibration.conftest import seeded
from tests.calibration.graphs import SIDE, attention_graph, plan_for, residual_graph, run

FEEDS = {"image": seeded().uniform(-1, 1, (2, 1, SIDE, SIDE)).astype(np.float32)}


@pytest.fixture(scope="module")
def model() -> Any:
    return residual_graph()


@pytest.fixture(scope="module")
def plan(model: Any) -> ComponentPlan:
    return plan_for(model, run(model, FEEDS, all_tensors=True))


def quantised_tensors(model: Any) -> list[str]:
    return [
        node.name.removeprefix("quantize.") for node in model.graph.node if node.op_type == "QuantizeLinear"
    ]


def arrays(model: Any, suffix: str) -> dict[str, Any]:
    """Initialisers whose names end so, in float64."""
    named = {t.name.removesuffix(".fp16"): t for t in model.graph.initializer}
    return {n: numpy_helper.to_array(t).astype(np.float64) for n, t in named.items() if n.endswith(suffix)}


def test_tensorrt_gets_pairs_on_inputs_and_the_residual_alone(model: Any, plan: ComponentPlan) -> None:
    emitted = emit(model, plan, Precision.INT8_FP16)
    assert sorted(quantised_tensors(emitted)) == ["h", "image", "relu", "sum"]  # h is the residual too


def test_onnxruntime_gets_pairs_on_what_layers_write_too(model: Any, plan: ComponentPlan) -> None:
    emitted = emit(model, plan, Precision.INT8)
    assert sorted(quantised_tensors(emitted)) == ["b", "h", "image", "output", "relu", "sum"]


@pytest.mark.parametrize("form", [Precision.INT8, Precision.INT8_FP16])
def test_nothing_stands_between_a_convolution_and_its_relu(
    model: Any, plan: ComponentPlan, form: Precision
) -> None:
    index = Index(emit(model, plan, form))
    relu = next(node for node in index.producers.values() if node.op_type == "Relu")
    assert index.producers[relu.input[0]].op_type == "Conv"


def test_both_forms_have_the_same_scales_and_weights(model: Any, plan: ComponentPlan) -> None:
    ours, theirs = (emit(model, plan, form) for form in (Precision.INT8, Precision.INT8_FP16))
    for suffix in (".scale", ".int8"):
        mine, other = arrays(ours, suffix), arrays(theirs, suffix)
        shared = mine.keys() & other.keys()
        assert other.keys() == shared  # TensorRT's form has no tensor that the other lacks
        assert all(np.array_equal(mine[name], other[name]) for name in shared)


@pytest.mark.parametrize("form", [Precision.INT8, Precision.INT8_FP16])
def test_weights_are_stored_as_int8_alone_and_biases_as_floats(
    model: Any, plan: ComponentPlan, form: Precision
) -> None:
    stored = {t.name: t.data_type for t in emit(model, plan, form).graph.initializer}
    floats = {name for name in stored if name.removesuffix(".fp16").endswith(".weight")}
    assert not floats
    assert sum(name.endswith(".weight.int8") for name in stored) == 4
    assert all(stored[name] in (1, 10) for name in stored if ".bias" in name)


def test_zero_points_are_zero(model: Any, plan: ComponentPlan) -> None:
    zeros = arrays(emit(model, plan, Precision.INT8), "zero_point")
    assert zeros and not any(values.any() for values in zeros.values())


def test_the_quantised_graph_computes_nearly_the_same(model: Any, plan: ComponentPlan) -> None:
    exact = run(model, FEEDS)["output"]
    for form in (Precision.INT8, Precision.INT8_FP16):
        error = run(emit(model, plan, form), FEEDS)["output"] - exact
        assert np.sqrt(np.mean(error**2)) < 0.02 * exact.std()  # a few roundings to 1/127 of the range


def test_an_excluded_layer_stays_as_it_was(model: Any) -> None:
    plan = plan_for(model, run(model, FEEDS, all_tensors=True), excluded=("last", "conv2.add"))
    emitted = emit(model, plan, Precision.INT8)
    assert "last.weight" in {tensor.name for tensor in emitted.graph.initializer}
    assert sorted(quantised_tensors(emitted)) == ["b", "h", "image", "relu"]


def test_nothing_is_put_behind_a_projection_whose_product_is_left_out() -> None:
    """Attention: what is projected in INT8 is reshaped, and read by a product that the rules leave out."""
    attention = attention_graph()
    layers = find_layers(attention)
    assert {layer.kind for layer in layers} == {"MatMul"} and len(layers) == 3
    tokens = {"x": seeded().uniform(-1, 1, (2, 6, 4)).astype(np.float32)}
    plan = plan_for(attention, run(attention, tokens, all_tensors=True), excluded=("product",))
    for form in (Precision.INT8, Precision.INT8_FP16):
        assert quantised_tensors(emit(attention, plan, form)) == ["x"]


def test_an_excluded_convolution_reads_what_it_read_before(model: Any) -> None:
    plan = plan_for(model, run(model, FEEDS, all_tensors=True), excluded=("conv2",))
    index = Index(emit(model, plan, Precision.INT8))  # conv1 is quantised, and writes relu
    (conv2,) = [node for node in index.producers.values() if "conv2.weight" in node.input]
    assert conv2.input[0] == "relu"


def test_the_graph_that_is_given_is_not_changed(model: Any, plan: ComponentPlan) -> None:
    before = model.SerializeToString()
    insert(model, find_layers(model), plan, writes_int8=True)
    assert model.SerializeToString() == before


def test_weights_are_rounded_channel_by_channel() -> None:
    values = seeded().standard_normal((4, 3, 3, 3)) * np.array([1e-3, 0.1, 1.0, 0.0])[:, None, None, None]
    stored, scales = quantise_weight(values, 0)
    assert np.abs(stored[:3]).max(axis=(1, 2, 3)).min() >= 125  # every channel uses its whole range
    error = np.abs(stored * scales[:, None, None, None].astype(np.float64) - values)
    assert np.all(error <= scales[:, None, None, None] / 2)


def test_a_plan_for_another_graph_is_refused(model: Any, plan: ComponentPlan) -> None:
    strange = ComponentPlan(("elsewhere",), {}, plan.scales)
    with pytest.raises(CalibrationError, match="elsewhere"):
        emit(model, strange, Precision.INT8)


def test_a_plan_without_a_scale_is_refused(model: Any, plan: ComponentPlan) -> None:
    with pytest.raises(CalibrationError, match="no scale for"):
        emit(model, ComponentPlan(plan.layers, {}, {}), Precision.INT8)
