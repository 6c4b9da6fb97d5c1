"""TensorRT-RTX's verdict: what the inspection finds in a parsed network, and what NVIDIA's parser says.

The first half needs no TensorRT: networks are made up from ONNX graphs, layer by layer, as its parser would.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from calibration.half import to_half
from calibration.trt_network import Layer, ParsedNetwork, excluded_problems, inspect
from calibration.trt_report import GraphVerdict
from calibration.trt_verdict import judge_graph, open_rtx, verdict_command
from calibration.wiring import Wiring, label
from edge_sr.bundle import Bundle, default_bundle
from edge_sr.errors import BackendError
from edge_sr.spec import Component, Graph, Precision
from tests.calibration.graphs import codebook_graph
from tests.calibration.qdq_graphs import StepSketch, finished, node_of, quantised_convolution, step_graph
from tests.fakes import write_tiny_bundle

KINDS = {
    "Conv": "CONVOLUTION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "InstanceNormalization": "NORMALIZATION",
    "Sigmoid": "ACTIVATION",
    "Relu": "ACTIVATION",
    "Softmax": "SOFTMAX",
    "Cast": "CAST",
    "Shape": "SHAPE",
    "Concat": "CONCATENATION",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Unsqueeze": "UNSQUEEZE",
    "Gather": "GATHER",
    "ArgMin": "TOPK",
}
TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.INT8: "INT8",
    TensorProto.INT64: "INT64",
}


def parsed(model: onnx.ModelProto) -> list[Layer]:
    """What a parser that adds nothing of its own would make of a graph."""
    wiring = Wiring(model)

    def tensors(names: list[str]) -> tuple[tuple[str, str], ...]:
        return tuple((name, TYPES[wiring.types[name]]) for name in names if name)

    constants = [Layer(name, "CONSTANT", (), tensors([name])) for name in wiring.stored]
    return constants + [
        Layer(label(node), KINDS.get(node.op_type, "ELEMENTWISE"), tensors(node.input), tensors(node.output))
        for node in wiring.nodes
    ]


def found(
    model: onnx.ModelProto,
    precision: Precision,
    change: Callable[[Layer], Layer | None] = lambda layer: layer,
) -> set[tuple[str, str]]:
    """Rules and nodes, after each layer of the network was changed, or left out."""
    layers = [new for layer in parsed(model) if (new := change(layer)) is not None]
    wiring = Wiring(model)
    return {(f.rule, f.node) for f in inspect(ParsedNetwork(layers, wiring.inputs), wiring, precision)}


def retyped(name: str, kind: str) -> Callable[[Layer], Layer]:
    """A change of what one layer writes to another type."""

    def change(layer: Layer) -> Layer:
        outputs = tuple((tensor, kind) for tensor, _ in layer.outputs)
        return replace(layer, outputs=outputs) if layer.name == name else layer

    return change


@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_a_network_as_its_precision_wants_it_passes(precision: Precision) -> None:
    assert found(step_graph(precision), precision) == set()


def test_a_convolution_that_lost_its_weights_dequantiser_is_found() -> None:
    def fold(layer: Layer) -> Layer:
        inputs = tuple(("conv.folded", "HALF") if n == "conv.weight" else (n, t) for n, t in layer.inputs)
        return replace(layer, inputs=inputs)

    model = step_graph(Precision.INT8_FP16)
    rules = found(model, Precision.INT8_FP16, fold)
    assert {("int8", "conv"), ("int8", "graph"), ("stray-qdq", "conv.data")} <= rules


def test_a_graph_that_is_called_int8_and_is_not_is_found() -> None:
    assert found(step_graph(Precision.FP32), Precision.INT8) == {("int8", "graph")}


def test_qdq_in_an_fp16_graph_is_found() -> None:
    rules = {rule for rule, _ in found(step_graph(Precision.INT8_FP16), Precision.FP16)}
    assert rules == {"stray-qdq"}


def test_qdq_before_a_norm_is_found() -> None:
    sketch = StepSketch(Precision.INT8)
    model = sketch.draw()
    scale, zero = "conv.data.scale", "conv.data.zero"
    nodes = [
        helper.make_node("QuantizeLinear", ["conv_in", scale, zero], ["odd.q"], name="odd.q"),
        helper.make_node("DequantizeLinear", ["odd.q", scale, zero], ["odd"], name="odd"),
    ]
    place = list(model.graph.node).index(node_of(model, "norm.in"))
    node_of(model, "norm.in").input[0] = "odd"
    for node in reversed(nodes):
        model.graph.node.insert(place, node)
    assert found(model, Precision.INT8) == {("stray-qdq", "odd")}


@pytest.mark.parametrize("layer", ["norm", "sigmoid", "softmax", "product", "mixed", "conv_in"])
def test_norms_activations_and_attention_in_fp32_are_found_in_an_fp16_graph(layer: str) -> None:
    model = step_graph(Precision.INT8_FP16)
    assert found(model, Precision.INT8_FP16, retyped(layer, "FLOAT")) == {("float-type", layer)}


@pytest.mark.parametrize("layer", ["qo", "x0", "x_next"])
def test_a_step_update_in_fp16_is_found(layer: str) -> None:
    assert found(step_graph(Precision.FP16), Precision.FP16, retyped(layer, "HALF")) == {
        ("step-update", layer)
    }


def test_a_cast_that_the_parser_puts_into_the_update_is_found() -> None:
    model = step_graph(Precision.FP32)
    layers, wiring = parsed(model), Wiring(model)
    place = next(i for i, layer in enumerate(layers) if layer.name == "x_next")
    layers.insert(
        place, Layer("castHelper", "CAST", (("ab", "FLOAT"),), (("ab.cast", "FLOAT"),), is_inserted=True)
    )
    findings = inspect(ParsedNetwork(layers, wiring.inputs), wiring, Precision.FP32)
    assert {(f.rule, f.severity) for f in findings} == {
        ("step-update", "error"),
        ("implicit-cast", "warning"),
    }


def test_int64_where_values_are_computed_is_found_and_shapes_are_not() -> None:
    model = step_graph(Precision.FP32)  # its Shape is int64
    assert found(model, Precision.FP32, retyped("residual", "INT64")) == {("wide-type", "residual")}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_codebook_may_choose_in_fp32_and_by_an_index_of_64_bits(precision: Precision) -> None:
    model = codebook_graph() if precision is Precision.FP32 else to_half(codebook_graph())
    assert found(model, precision) == set()


def test_an_index_of_64_bits_that_is_computed_with_is_found() -> None:
    model = codebook_graph()
    place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Gather")
    model.graph.node[place].input[1] = "twice"
    model.graph.node.insert(place, helper.make_node("Add", ["index", "index"], ["twice"], name="twice"))
    assert found(model, Precision.FP32) == {("wide-type", "twice")}


def test_a_norm_that_the_parser_took_apart_is_found() -> None:
    model = step_graph(Precision.FP32)

    def take_apart(layer: Layer) -> Layer:
        return replace(layer, kind="REDUCE") if layer.kind == "NORMALIZATION" else layer

    assert found(model, Precision.FP32, take_apart) == {("normalization", "graph")}


def test_a_convolution_that_is_neither_int8_nor_excluded_is_found() -> None:
    wiring = Wiring(step_graph(Precision.INT8))
    excluded = frozenset({"conv_in", "conv_out"})
    assert list(excluded_problems(wiring, excluded)) == []
    assert [node for node, _ in excluded_problems(wiring, frozenset({"conv_in"}))] == ["conv_out"]
    assert [node for node, _ in excluded_problems(wiring, excluded | {"conv"})] == ["conv"]


def test_without_tensorrt_rtx_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # as if it were not installed
    with pytest.raises(BackendError, match="tensorrt_rtx cannot be imported") as caught:
        open_rtx()
    assert caught.value.hint.startswith("pip install tensorrt-rtx-cu13")


# From here on NVIDIA's own parser and builder have the word.


def verdict_on(tmp_path: Path, model: onnx.ModelProto, precision: Precision) -> GraphVerdict:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13")
    path = tmp_path / f"step.{precision}.onnx"
    onnx.save(model, str(path))
    return judge_graph(Graph(path, Component.STEP, precision, "0" * 64, (), ()), open_rtx())


@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_tensorrt_rtx_builds_a_step_graph_of_every_precision(tmp_path: Path, precision: Precision) -> None:
    verdict = verdict_on(tmp_path, step_graph(precision), precision)
    assert verdict.findings == ()
    assert verdict.is_good
    assert verdict.layers["NORMALIZATION"] == verdict.normalizations == 1
    assert verdict.int8 == (1 if "int8" in str(precision) else 0)


def test_tensorrt_rtx_takes_weights_that_are_stored_in_fp16_behind_a_cast(tmp_path: Path) -> None:
    model = step_graph(Precision.FP32)
    weight = next(t for t in model.graph.initializer if t.name == "conv.weight")
    half = onnx.numpy_helper.to_array(weight).astype(np.float16)
    weight.CopyFrom(onnx.numpy_helper.from_array(half, "conv.weight.half"))
    cast = helper.make_node("Cast", ["conv.weight.half"], ["conv.weight"], name="cast", to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    assert verdict_on(tmp_path, model, Precision.FP32).is_good


def test_tensorrt_rtx_refuses_a_quantised_bias_and_the_node_is_named(tmp_path: Path) -> None:
    sketch = quantised_convolution()
    sketch.constant("bias.int32", np.ones(4), np.int32)
    sketch.constant("bias.scale", np.full(4, 0.001))
    sketch.add("DequantizeLinear", "bias", "bias.int32", "bias.scale", axis=0)
    sketch.nodes.append(sketch.nodes.pop(-2))
    sketch.nodes[-1].input.append("bias")
    verdict = verdict_on(tmp_path, finished(sketch), Precision.INT8)
    assert not verdict.is_parsed
    assert [(finding.rule, finding.node) for finding in verdict.findings] == [("parse", "bias")]


def test_tensorrt_rtx_refuses_a_zero_point_of_128(tmp_path: Path) -> None:
    sketch = quantised_convolution()
    sketch.constant("data.zero", 128, np.uint8)
    assert not verdict_on(tmp_path, finished(sketch), Precision.INT8).is_parsed


def test_the_command_writes_json_and_markdown_that_say_what_is_not_proved(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13")
    write_tiny_bundle(tmp_path / "bundle")
    options = [str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(verdict_command, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out" / "rtx-portable.json").read_text())
    assert written == json.loads(result.stdout)
    assert (written["proof"], written["is_good"], len(written["graphs"])) == ("rtx-portable", True, 3)
    assert "sm_87" in (tmp_path / "out" / "rtx-portable.md").read_text()


@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_onnxruntime_1_23_loads_a_step_graph_of_every_precision(precision: Precision) -> None:
    runtime = pytest.importorskip("onnxruntime")
    if not runtime.__version__.startswith("1.23."):
        pytest.skip(f"onnxruntime {runtime.__version__}; this is about 1.23, the last for Python 3.10")
    model = step_graph(precision)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["x_next", "x0"]


def test_onnxruntime_1_23_loads_every_graph_of_the_shipped_bundle() -> None:
    runtime = pytest.importorskip("onnxruntime")
    if not runtime.__version__.startswith("1.23."):
        pytest.skip(f"onnxruntime {runtime.__version__}; this is about 1.23, the last for Python 3.10")
    if not default_bundle().is_dir():
        pytest.skip("this checkout has no shipped bundle yet")
    bundle = Bundle.open(default_bundle())
    for component, graphs in bundle.manifest.graphs.items():
        for precision in graphs:
            path = bundle.graph(component, precision).path
            assert runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_outputs()
