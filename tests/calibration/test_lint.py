"""What the lint finds: each test breaks one rule, and nothing else may be found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import CalibrationError
from calibration.lint import Finding, lint_command, lint_model, lint_paths
from edge_sr.spec import Precision
from tests.calibration.graphs import codebook_graph
from tests.calibration.qdq_graphs import (
    Sketch,
    StepSketch,
    finished,
    node_of,
    quantised_convolution,
    step_graph,
)


def found(model: onnx.ModelProto) -> set[tuple[str, str]]:
    return {(finding.rule, finding.node) for finding in lint_model(model)}


@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_a_step_graph_of_every_precision_is_clean(precision: Precision) -> None:
    model = step_graph(precision)
    onnx.checker.check_model(model, full_check=True)
    assert lint_model(model) == []


def test_a_quantised_convolution_is_clean() -> None:
    assert lint_model(finished(quantised_convolution())) == []


@pytest.mark.parametrize("opset", [17, 21])
def test_an_opset_that_is_too_old_or_too_new_is_found(opset: int) -> None:
    assert found(finished(quantised_convolution(), opset=opset)) == {("opset", "graph")}


def test_operators_of_another_domain_are_found() -> None:
    model = finished(quantised_convolution())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert found(model) == {("opset", "graph")}


def test_an_ir_version_that_onnxruntime_refuses_is_found() -> None:
    assert found(finished(quantised_convolution(), ir_version=11)) == {("ir-version", "graph")}


def test_an_operator_that_the_parser_does_not_read_is_found() -> None:
    sketch = quantised_convolution()
    sketch.add("Celu", "celu", "conv2")
    assert found(finished(sketch, "celu")) == {("operator", "celu")}


def test_a_resize_mode_that_the_parser_does_not_read_is_found() -> None:
    sketch = Sketch()
    sketch.constant("scales", [1, 1, 2, 2])
    mode = {"coordinate_transformation_mode": "half_pixel_symmetric"}
    sketch.add("Resize", "resize", "image", "", "scales", mode="cubic", **mode)
    model = sketch.model({"image": ("N", 1, 4, 4)}, {"resize": ("N", 1, 8, 8)})
    assert found(model) == {("operator", "resize")}


def test_int64_in_the_compute_path_is_found_and_int64_shapes_are_not() -> None:
    sketch = StepSketch(Precision.FP32)
    model = sketch.draw()  # holds Shape and Reshape, with int64 shapes
    cast = helper.make_node("Cast", ["x"], ["whole"], name="whole", to=TensorProto.INT64)
    back = helper.make_node("Cast", ["whole"], ["again"], name="again", to=TensorProto.FLOAT)
    model.graph.node.insert(0, back)
    model.graph.node.insert(0, cast)
    node_of(model, "joined").input[0] = "again"
    assert found(model) == {("wide-type", "whole")}


def test_an_index_that_only_chooses_from_a_table_is_let_through() -> None:
    model = codebook_graph()
    assert not found(model)
    model.graph.node.append(helper.make_node("Cast", ["index"], ["number"], to=TensorProto.FLOAT))
    assert ("wide-type", "choose") in found(model)


def test_a_double_constant_is_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("wide", 2.0, np.float64)
    sketch.add("Cast", "narrow", "wide", to=TensorProto.FLOAT)
    sketch.add("Mul", "scaled", "conv2", "narrow")
    assert found(finished(sketch, "scaled")) == {("wide-type", "wide")}


def test_a_quantised_bias_is_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("bias.int32", np.ones(4), np.int32)
    sketch.constant("bias.scale", np.full(4, 0.001))
    sketch.add("DequantizeLinear", "bias", "bias.int32", "bias.scale", axis=0)
    sketch.nodes.append(sketch.nodes.pop(-2))  # the bias before its convolution
    sketch.nodes[-1].input.append("bias")
    assert found(finished(sketch)) == {("quantised-bias", "bias")}


def test_a_zero_point_other_than_zero_is_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("data.zero", 3, np.int8)
    assert found(finished(sketch)) == {("zero-point", "data.q"), ("zero-point", "data")}


def test_unsigned_activations_are_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("data.zero", 0, np.uint8)
    assert found(finished(sketch)) == {("unsigned", "data.q"), ("unsigned", "data")}


def test_a_missing_zero_point_is_found_since_it_means_uint8() -> None:
    model = finished(quantised_convolution())
    for name in ("data.q", "data"):
        node_of(model, name).input.pop()
    assert found(model) == {("unsigned", "data.q"), ("unsigned", "data")}


def test_activations_with_a_scale_for_each_channel_are_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("data.scale", np.full(4, 0.05))
    sketch.constant("data.zero", np.zeros(4), np.int8)
    rule = "activation-per-channel"
    assert found(finished(sketch)) == {(rule, "data.q"), (rule, "data")}


@pytest.mark.parametrize(("operator", "right"), [("Conv", 0), ("ConvTranspose", 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_weights_along_the_wrong_axis_are_found(operator: str, right: int, axis: int) -> None:
    sketch = Sketch()
    data = sketch.quantise("data", "image")
    sketch.add(operator, "conv2", data, sketch.int8_weights("w", (4, 4, 3, 3), axis=axis), pads=[1] * 4)
    assert found(finished(sketch)) == (set() if axis == right else {("weight-axis", "w")})


@pytest.mark.parametrize("value", [0.0, -0.1, np.nan])
def test_a_scale_that_is_not_positive_is_found(value: float) -> None:
    sketch = quantised_convolution()
    sketch.constant("data.scale", value)
    assert found(finished(sketch)) == {("scale", "data.q"), ("scale", "data")}


def test_a_scale_that_is_computed_is_found() -> None:
    sketch = quantised_convolution()
    sketch.nodes.insert(0, helper.make_node("ReduceMax", ["image"], ["peak"], name="peak", keepdims=0))
    model = finished(sketch)
    for name in ("data.q", "data"):
        node_of(model, name).input[1] = "peak"
    assert found(model) == {("scale", "data.q"), ("scale", "data")}


def test_a_scale_behind_a_cast_is_constant() -> None:
    sketch = quantised_convolution()
    sketch.constant("stored", 0.05, np.float16)
    sketch.constants.pop("data.scale")
    sketch.nodes.insert(0, helper.make_node("Cast", ["stored"], ["data.scale"], to=TensorProto.FLOAT))
    assert lint_model(finished(sketch)) == []


def test_a_dequantisation_with_another_scale_is_found() -> None:
    sketch = quantised_convolution()
    sketch.constant("other", 0.07)
    model = finished(sketch)
    node_of(model, "data").input[1] = "other"
    assert found(model) == {("pair-scale", "data")}


def test_fp16_scales_at_opset_18_are_found_since_onnxruntime_refuses_them() -> None:
    model = step_graph(Precision.INT8_FP16)
    model.opset_import[0].version = 18
    rules = {rule for rule, _ in found(model)}
    assert "half-scale-opset" in rules


def test_an_fp16_scale_below_the_normal_numbers_is_a_warning() -> None:
    model = step_graph(Precision.INT8_FP16)
    scale = next(t for t in model.graph.initializer if t.name == "conv.data.scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(1e-5, np.float16), scale.name))
    findings = lint_model(model)
    assert {(f.rule, f.severity) for f in findings} == {("small-scale", "warning")}


def test_qdq_between_pad_and_convolution_is_found() -> None:
    sketch = Sketch()
    sketch.constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    sketch.add("Pad", "pad", "image", "pads")
    sketch.add("Conv", "conv2", sketch.quantise("data", "pad"), sketch.int8_weights("w", (4, 4, 3, 3)))
    assert found(finished(sketch)) == {("pad-qdq", "data.q")}


def test_qdq_between_convolution_and_activation_is_found() -> None:
    sketch = quantised_convolution()
    sketch.add("Relu", "relu2", sketch.quantise("between", "conv2"))
    assert found(finished(sketch, "relu2")) == {("activation-qdq", "between.q")}


@pytest.mark.parametrize(("scale", "expected"), [(0.05, set()), (0.06, {("concat-scales", "joined")})])
def test_unequal_scales_at_a_concat_are_found(scale: float, expected: set[tuple[str, str]]) -> None:
    sketch = Sketch()
    inputs = [sketch.quantise("a", "image"), sketch.quantise("b", "other", scale=scale)]
    sketch.add("Concat", "joined", *inputs, axis=1)
    shape = ("N", 2, 4, 4)
    model = sketch.model({"image": shape, "other": shape}, {"joined": ("N", 4, 4, 4)})
    assert found(model) == expected


def test_a_concat_of_which_one_input_is_quantised_is_found() -> None:
    sketch = Sketch()
    sketch.add("Concat", "joined", sketch.quantise("a", "image"), "other", axis=1)
    shape = ("N", 2, 4, 4)
    model = sketch.model({"image": shape, "other": shape}, {"joined": ("N", 4, 4, 4)})
    assert found(model) == {("concat-scales", "joined")}


def test_a_convolution_of_which_only_the_data_is_quantised_is_found() -> None:
    sketch = Sketch()
    data = sketch.quantise("data", "image")
    sketch.add("Conv", "conv2", data, sketch.weights("w", (4, 4, 3, 3)), pads=[1] * 4)
    assert found(finished(sketch)) == {("one-sided", "conv2")}


def test_a_convolution_of_which_only_the_weights_are_quantised_is_found() -> None:
    sketch = Sketch()
    sketch.add("Conv", "conv2", "image", sketch.int8_weights("w", (4, 4, 3, 3)), pads=[1] * 4)
    assert found(finished(sketch)) == {("one-sided", "conv2")}


def test_a_cast_between_dequantisation_and_convolution_is_found() -> None:
    sketch = Sketch()
    sketch.add("Cast", "half", sketch.quantise("data", "image"), to=TensorProto.FLOAT16)
    model = sketch.model({"image": ("N", 4, 4, 4)}, {"half": ("N", 4, 4, 4)})
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert found(model) == {("cast-after-dq", "data")}


def test_quantising_twice_in_a_row_is_found() -> None:
    sketch = Sketch()
    data = sketch.quantise("again", sketch.quantise("data", "image"))
    sketch.add("Conv", "conv2", data, sketch.int8_weights("w", (4, 4, 3, 3)), pads=[1] * 4)
    assert found(finished(sketch)) == {("double-q", "again.q")}


def test_two_tensors_may_share_a_scale() -> None:
    sketch = Sketch()
    data = sketch.quantise("data", "image")
    sketch.add("Conv", "conv1", data, sketch.int8_weights("w1", (4, 4, 3, 3)), pads=[1] * 4)
    sketch.add("QuantizeLinear", "next.q", "conv1", "data.scale", "data.zero")
    sketch.add("DequantizeLinear", "next", "next.q", "data.scale", "data.zero")
    sketch.add("Conv", "conv2", "next", sketch.int8_weights("w2", (4, 4, 3, 3)), pads=[1] * 4)
    assert lint_model(finished(sketch)) == []


def test_two_quantisations_of_one_tensor_are_a_warning() -> None:
    sketch = quantised_convolution()
    sketch.add("Conv", "conv3", sketch.quantise("again", "relu1"), "w2", pads=[1] * 4)
    sketch.add("Add", "sum", "conv2", "conv3")
    assert {(f.rule, f.severity) for f in lint_model(finished(sketch, "sum"))} == {("shared-q", "warning")}


def test_weights_stored_as_floats_before_their_quantisation_are_a_warning() -> None:
    sketch = Sketch()
    sketch.constant("w.scale", np.full(4, 0.01))
    sketch.constant("w.zero", np.zeros(4), np.int8)
    sketch.add("QuantizeLinear", "w.q", sketch.weights("w", (4, 4, 3, 3)), "w.scale", "w.zero", axis=0)
    sketch.add("DequantizeLinear", "w.dq", "w.q", "w.scale", "w.zero", axis=0)
    sketch.add("Conv", "conv2", sketch.quantise("data", "image"), "w.dq", pads=[1] * 4)
    assert {(f.rule, f.severity) for f in lint_model(finished(sketch))} == {("weight-storage", "warning")}


def test_a_step_update_in_fp16_is_found() -> None:
    model = step_graph(Precision.FP16)
    product = node_of(model, "qo")
    product.input[:] = ["q.low", "conv_out"]
    product.output[0] = "qo.low"
    place = list(model.graph.node).index(product)
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    model.graph.node.insert(place + 1, helper.make_node("Cast", ["qo.low"], ["qo"], name="back", to=single))
    model.graph.node.insert(place, helper.make_node("Cast", ["q"], ["q.low"], name="q.low", to=half))
    assert found(model) == {("step-update", "q.low"), ("step-update", "qo"), ("step-update", "back")}


def test_a_step_graph_without_an_update_is_found() -> None:
    model = step_graph(Precision.FP32)
    for name in ("ab", "cd"):
        node_of(model, name).input[:] = ["x", "x"]
    node_of(model, "x0").input[:] = ["x", "conv_out"]
    assert {("step-update", "output x0"), ("step-update", "output x_next")} <= found(model)


def test_a_file_that_is_no_onnx_graph_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"\x00\xff not a graph")
    with pytest.raises(CalibrationError, match="no ONNX file"):
        list(lint_paths([path]))


def run(tmp_path: Path, model: onnx.ModelProto, *options: str) -> Result:
    path = tmp_path / "graph.onnx"
    onnx.save(model, str(path))
    return CliRunner().invoke(lint_command, [str(path), *options])


def test_the_command_says_what_is_clean_and_exits_0(tmp_path: Path) -> None:
    result = run(tmp_path, finished(quantised_convolution()))
    assert result.exit_code == 0
    assert result.output.endswith("graph.onnx: clean\n")


def test_the_command_names_file_node_and_rule_and_exits_1(tmp_path: Path) -> None:
    result = run(tmp_path, finished(quantised_convolution(), ir_version=11))
    assert result.exit_code == 1
    assert "graph.onnx: error: graph: IR version 11, wanted at most 10 [ir-version]" in result.output


def test_the_commands_json_holds_every_finding(tmp_path: Path) -> None:
    result = run(tmp_path, finished(quantised_convolution(), ir_version=11), "--json")
    written = json.loads(result.output)
    assert (written["errors"], written["warnings"]) == (1, 0)
    assert Finding(**written["files"][0]["findings"][0]).rule == "ir-version"


def test_warnings_alone_exit_0(tmp_path: Path) -> None:
    sketch = quantised_convolution()
    sketch.add("Conv", "conv3", sketch.quantise("again", "relu1"), "w2", pads=[1] * 4)
    sketch.add("Add", "sum", "conv2", "conv3")
    assert run(tmp_path, finished(sketch, "sum")).exit_code == 0
