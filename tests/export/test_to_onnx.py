"""What is written to disk: opset, IR version, names, a free batch axis, half-size weights, equal values."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_sr.bundle import Bundle
from edge_sr.spec import COEFFICIENTS, Component, Precision
from export.errors import ExportError
from export.families import load_model
from export.graphs import example_inputs, graph_modules, measure
from export.to_onnx import IR_VERSION, OPSET, finish, round_weights, store_weights_in_half
from tests.export.tiny import tiny_model

each_component = pytest.mark.parametrize("component", Component, ids=str)
Float = npt.NDArray[np.float32]


def stored(bundle: Bundle, component: Component) -> onnx.ModelProto:
    return onnx.load(bundle.graph(component, Precision.FP32).path)


@each_component
def test_a_graph_is_of_the_one_opset_and_ir_version_and_tells_nothing_of_this_machine(
    bundle: Bundle, component: Component
) -> None:
    model = stored(bundle, component)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    assert not model.functions
    text = str(model)
    assert "/work" not in text
    assert "site-packages" not in text
    assert str(Path(__file__).parents[2]) not in text


@each_component
def test_the_manifest_describes_a_graphs_tensors(bundle: Bundle, component: Component) -> None:
    model, graph = stored(bundle, component), bundle.graph(component, Precision.FP32)
    for values, specs in ((model.graph.input, graph.inputs), (model.graph.output, graph.outputs)):
        shapes = {
            v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim) for v in values
        }
        assert {spec.name: spec.shape for spec in specs} == shapes
        assert all(spec.shape[0] == "N" and spec.dtype == "float32" for spec in specs)


def test_the_tensors_have_the_names_and_shapes_that_the_runtime_joins_them_by(bundle: Bundle) -> None:
    graphs = {component: bundle.graph(component, Precision.FP32) for component in Component}
    names = {c: ({s.name for s in g.inputs}, {s.name for s in g.outputs}) for c, g in graphs.items()}
    loop = {"x", "x0_previous", "noise", "coefficients", "time_embedding", "condition"}
    assert names == {
        Component.ENCODER: ({"image"}, {"condition", "features", "mean"}),
        Component.STEP: (loop, {"x_next", "x0"}),
        Component.DECODER: ({"latent", "features", "mean"}, {"output"}),
    }
    shapes = {
        spec.name: spec.shape[1:] for graph in graphs.values() for spec in (*graph.inputs, *graph.outputs)
    }
    assert shapes["image"] == (1, 16, 16)
    assert shapes["x"] == shapes["x_next"] == shapes["latent"] == (4, 8, 8)
    assert shapes["coefficients"] == (len(COEFFICIENTS),)
    assert shapes["output"] == shapes["mean"] == (1, 64, 64)


@each_component
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_graph_computes_what_the_module_does_for_any_batch(
    bundle: Bundle, vae_run: Path, unet_run: Path, component: Component, batch: int
) -> None:
    model = load_model(vae_run, unet_run)
    modules = graph_modules(model.vae, model.unet, model.scale)
    inputs = example_inputs(modules, channels=1, tile=16, batch=batch, seed=4)
    module = modules[component]
    with torch.no_grad():
        result = module(*(inputs[name] for name in module.inputs))
    wanted = result if isinstance(result, tuple) else (result,)
    session = onnxruntime.InferenceSession(bundle.graph(component, Precision.FP32).path)
    found = session.run(list(module.outputs), {name: inputs[name].numpy() for name in module.inputs})
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)  # FP32 sums in another order


def test_the_step_graph_updates_as_the_schedule_says() -> None:
    model = tiny_model()
    step = graph_modules(model.vae, model.unet, model.scale)[Component.STEP]
    inputs = example_inputs(
        {**graph_modules(model.vae, model.unet, model.scale)}, channels=1, tile=16, batch=2, seed=0
    )
    p, q, a, b, c, d, clip = inputs["coefficients"][:, :, None, None, None].unbind(1)
    with torch.no_grad():
        v = model.unet.denoise(inputs["x"], inputs["time_embedding"], inputs["condition"])
        x_next, x0 = step(*(inputs[name] for name in step.inputs))
    clean = (p * inputs["x"] + q * v).clamp(-clip, clip)
    torch.testing.assert_close(x0, clean, atol=1e-5, rtol=1e-5)
    update = a * inputs["x"] + b * clean + c * inputs["noise"] + d * inputs["x0_previous"]
    torch.testing.assert_close(x_next, update, atol=1e-5, rtol=1e-5)


def test_the_sizes_of_a_model_are_measured() -> None:
    model = tiny_model()
    modules = graph_modules(model.vae, model.unet, model.scale)
    geometry = measure(modules, example_inputs(modules, channels=1, tile=16, batch=2, seed=0))
    assert (geometry.channels, geometry.scale, geometry.factor) == (1, 4, 8)


def product(weights: dict[str, Float]) -> onnx.ModelProto:
    """x times each of the weights, added up."""
    nodes = [helper.make_node("MatMul", ["x", name], [f"{name}.out"]) for name in weights]
    nodes.append(helper.make_node("Sum", [f"{name}.out" for name in weights], ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", s]) for n, s in (("x", 32), ("y", 16)))
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "product", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def test_weights_that_half_precision_holds_are_stored_in_it_and_come_out_as_they_were() -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((32, 16)).astype(np.float16).astype(np.float32)
    other = rng.standard_normal((32, 16)).astype(np.float32)
    model = product({"exact": exact, "other": other})
    x = rng.standard_normal((3, 32)).astype(np.float32)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    store_weights_in_half(model)
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    assert np.array_equal(before, after)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types == {"exact.half": TensorProto.FLOAT16, "other": TensorProto.FLOAT}


def test_small_tensors_stay_in_full_precision() -> None:
    model = product({"w": np.ones((16, 16), np.float32)})
    store_weights_in_half(model)
    assert [tensor.data_type for tensor in model.graph.initializer] == [TensorProto.FLOAT]


def test_the_large_weights_of_a_bundle_are_all_stored_in_half(bundle: Bundle) -> None:
    for component in Component:
        for tensor in stored(bundle, component).graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                assert np.prod(tensor.dims) <= 256, f"{component}: {tensor.name}"


def test_rounded_weights_are_those_that_half_precision_holds() -> None:
    model = tiny_model().unet
    before = model.conv_out.bias.clone()
    round_weights(model)
    large = [parameter for parameter in model.parameters() if parameter.numel() > 256]
    assert large
    assert all(torch.equal(parameter, parameter.half().float()) for parameter in large)
    assert torch.equal(model.conv_out.bias, before)


def test_a_graph_of_another_opset_or_that_is_damaged_is_refused() -> None:
    model = product({"w": np.ones((32, 16), np.float32)})
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="checker refuses"):
        finish(model)
    model.opset_import[0].version = 17
    with pytest.raises(ExportError, match="wanted opset 18"):
        finish(model)


def test_exporting_leaves_the_exporters_log_level_as_it_was(bundle: Bundle) -> None:
    assert bundle.manifest.name == "tiny"
    assert logging.getLogger("torch.onnx").level != logging.ERROR
