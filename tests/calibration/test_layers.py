"""Which layers are found, and which are left out by rule."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from calibration.graph import choosing, read_graph, shapes
from calibration.layers import default_exclusions, find_layers, touched
from edge_sr.bundle import Bundle
from edge_sr.spec import Component, Precision
from tests.calibration.graphs import codebook_graph, residual_graph


def test_layers_are_named_after_their_weights() -> None:
    names = [layer.name for layer in find_layers(residual_graph())]
    assert names == ["first", "conv1", "conv2", "conv2.add", "last"]


def test_a_convolution_writes_what_comes_behind_its_relu() -> None:
    conv1 = find_layers(residual_graph())[1]
    assert (conv1.output, conv1.is_rectified, conv1.node) == ("relu", True, "a")


def test_every_activation_is_touched_once() -> None:
    assert touched(find_layers(residual_graph())) == ["image", "h", "relu", "b", "sum", "output"]


def test_a_shift_of_channels_is_no_residual(bundle: Bundle) -> None:
    model = read_graph(bundle.graph(Component.STEP, Precision.FP32).path)
    assert "Add" not in {layer.kind for layer in find_layers(model)}


def test_ends_and_the_time_projection_of_the_step_are_left_out_by_rule(bundle: Bundle) -> None:
    model = read_graph(bundle.graph(Component.STEP, Precision.FP32).path)
    reasons = default_exclusions(model, find_layers(model), Component.STEP)
    assert set(reasons) == {"first", "time", "network"}
    assert all(reason.startswith("by rule: ") for reason in reasons.values())


def test_nothing_of_encoder_and_decoder_is_left_out_by_rule() -> None:
    model = residual_graph()
    assert default_exclusions(model, find_layers(model), Component.DECODER) == {}


def test_what_a_codebook_chooses_by_is_no_layer_and_is_known_as_such() -> None:
    model = codebook_graph()
    assert find_layers(model) and {layer.name for layer in find_layers(model)} == {"last"}
    squares = {"levels", "two", "powers", "half", "squares"}
    assert choosing(model) == {"image", "flat", "table", "products", "distances", "index"} | squares


def test_a_product_with_a_constant_of_more_than_two_axes_is_no_layer() -> None:
    """Keys of a text that never changes: one weight for every head."""
    keys = numpy_helper.from_array(np.ones((1, 2, 4, 3), np.float32), "keys")
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 5, size])
        for name, size in (("x", 4), ("y", 3))
    )
    nodes = [helper.make_node("MatMul", ["x", "keys"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [keys])
    assert not find_layers(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def test_shapes_are_known_behind_a_reshape_that_reads_the_batch_size() -> None:
    """GroupNorm is exported so: without it the sums behind it would not be listed as layers."""
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], end=1),
        helper.make_node("Concat", ["batch", "tail"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["grouped"]),
        helper.make_node("Relu", ["grouped"], ["y"]),
    ]
    tail = numpy_helper.from_array(np.array([2, -1], np.int64), "tail")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, 18])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [tail]), opset_imports=[helper.make_opsetid("", 18)]
    )
    assert shapes(model)["grouped"] == (1, 2, 18)
