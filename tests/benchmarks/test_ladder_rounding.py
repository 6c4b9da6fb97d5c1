"""FP16 emulated on a CPU: rounding takes place, everywhere that it should and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.ladder.rounding import RoundingBackend, count_roundings, emulate_half
from edge_sr.backends import Backend, Engine
from edge_sr.backends.ort import OnnxRuntimeBackend
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, BundleError
from edge_sr.spec import Component, Graph, Precision, TensorSpec

Float = npt.NDArray[np.float32]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def typed_graph(nodes: list[Any], weights: dict[str, Any]) -> Any:
    """A graph from x to y, FP32 at its edges."""
    sides = [[helper.make_tensor_value_info(name, FLOAT, ["N", 4])] for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "typed", *sides, initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def in_half(*nodes: Any) -> list[Any]:
    """Nodes between a cast of x to FP16 and one of `last` to y."""
    first = helper.make_node("Cast", ["x"], ["h"], to=HALF)
    return [first, *nodes, helper.make_node("Cast", ["last"], ["y"], to=FLOAT)]


def swallowing() -> Any:
    """y = (x + 2048) - 2048 in FP16, which holds no fraction beside 2048."""
    adding = helper.make_node("Add", ["h", "large"], ["sum"])
    subtracting = helper.make_node("Sub", ["sum", "large"], ["last"])
    return typed_graph(in_half(adding, subtracting), {"large": np.array([2048], np.float16)})


def graph_of(model: Any, folder: Path, precision: Precision = Precision.FP16) -> Graph:
    path = folder / "typed.onnx"
    onnx.save(model, str(path))
    specs = [(TensorSpec(name, "float32", ("N", 4)),) for name in ("x", "y")]
    return Graph(path, Component.STEP, precision, "0" * 64, *specs)


def run(engine: Engine, backend: Backend, values: Float) -> Float:
    with backend.stream() as stream:
        x, y = (backend.allocate(values.shape, np.float32) for _ in range(2))
        x.upload(values, stream)
        engine.bind({"x": x, "y": y}).enqueue(stream)
        result = np.empty_like(values)
        y.download(result, stream)
        return result


def emulated(model: Any, folder: Path, values: Float) -> Float:
    with RoundingBackend(threads=1) as backend, backend.load(graph_of(model, folder)) as engine:
        return run(engine, backend, values)


def test_a_fraction_that_fp16_cannot_hold_is_lost_where_an_upcast_would_keep_it(tmp_path: Path) -> None:
    x = np.array([[0.25, 0.5, 0.75, 3.0]], np.float32)
    upcast = (x + np.float32(2048)) - np.float32(2048)
    assert upcast.tolist() == x.tolist()
    # Between 2048 and 4096 FP16 holds even numbers alone; a tie goes to the even mantissa.
    assert emulated(swallowing(), tmp_path, x).tolist() == [[0.0, 0.0, 0.0, 4.0]]


def test_onnxruntimes_own_upcast_does_not_round(tmp_path: Path) -> None:
    x = np.array([[0.25, 0.5, 0.75, 3.0]], np.float32)
    graph = graph_of(swallowing(), tmp_path)
    with OnnxRuntimeBackend(threads=1) as backend, backend.load(graph) as engine:
        result = run(engine, backend, x)
    if result.tolist() == [[0.0, 0.0, 0.0, 4.0]]:
        pytest.skip("this onnxruntime computes FP16 additions itself")
    assert result.tolist() == x.tolist()


def test_elementwise_arithmetic_is_bit_for_bit_numpys_in_fp16(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (500, 4)).astype(np.float32)
    factor, shift = rng.normal(0, 2, (2, 4)).astype(np.float16)
    nodes = [
        helper.make_node("Mul", ["h", "factor"], ["product"]),
        helper.make_node("Relu", ["product"], ["r"]),
    ]
    nodes += [
        helper.make_node("Add", ["r", "shift"], ["sum"]),
        helper.make_node("Mul", ["sum", "h"], ["last"]),
    ]
    got = emulated(typed_graph(in_half(*nodes), {"factor": factor, "shift": shift}), tmp_path, x)
    half = x.astype(np.float16)
    wanted = (np.maximum(half * factor, np.float16(0)) + shift) * half
    assert wanted.dtype == np.float16
    np.testing.assert_array_equal(got, wanted.astype(np.float32))


def test_numbers_beyond_fp16_become_infinite_as_on_a_device(tmp_path: Path) -> None:
    x = np.array([[1.0, 40000.0, -40000.0, 1e-9]], np.float32)
    doubling = helper.make_node("Add", ["h", "h"], ["last"])
    assert emulated(typed_graph(in_half(doubling), {}), tmp_path, x).tolist() == [[2.0, np.inf, -np.inf, 0.0]]


def test_what_is_fp32_in_the_graph_is_not_rounded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=HALF),
        helper.make_node("Sub", ["h", "h"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["wide"], to=FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),  # as the latent's update: x itself, and a part in FP16
    ]
    x = np.array([[1 + 2**-20, 0.1, 1 / 3, 2.0]], np.float32)
    assert emulated(typed_graph(nodes, {}), tmp_path, x).tolist() == x.tolist()


def test_every_fp16_output_of_the_shipped_graphs_has_its_rounding_in_the_graph_that_runs(
    quantised: Bundle,
) -> None:
    with RoundingBackend(threads=1) as backend:
        for component in Component:
            graph = quantised.graph(component, Precision.FP16)
            inferred = onnx.shape_inference.infer_shapes(onnx.load(str(graph.path)), strict_mode=True).graph
            types = {v.name: v.type.tensor_type.elem_type for v in inferred.value_info}
            outputs = [types.get(name) for node in inferred.node for name in node.output]
            backend.load(graph).close()
            assert backend.roundings[str(component)] == outputs.count(HALF) > 10
        assert backend.describe()["roundings"].startswith("encoder ")


@pytest.mark.parametrize("component", list(Component))
def test_it_computes_what_onnx_says_of_the_rounded_graph(quantised: Bundle, component: Component) -> None:
    graph = quantised.graph(component, Precision.FP16)
    model = emulate_half(onnx.load(str(graph.path)))
    rng = np.random.default_rng(0)
    feeds = {s.name: rng.normal(0, 0.5, s.concrete(2)).astype(np.float32) for s in graph.inputs}
    wanted = dict(
        zip([s.name for s in graph.outputs], ReferenceEvaluator(model).run(None, feeds), strict=True)
    )
    got = _run_graph(graph, feeds)
    for name, want in wanted.items():
        # A sum in another order may round to the neighbour: one part in 1024, a few layers deep.
        assert np.abs(got[name] - want).max() < 8e-3 * np.abs(want).max()


def _run_graph(graph: Graph, feeds: dict[str, Float]) -> dict[str, Float]:
    with RoundingBackend(threads=1) as backend, backend.load(graph) as engine, backend.stream() as stream:
        specs = (*graph.inputs, *graph.outputs)
        buffers = {s.name: backend.allocate(s.concrete(2), s.dtype) for s in specs}
        for name, values in feeds.items():
            buffers[name].upload(values, stream)
        engine.bind(buffers).enqueue(stream)
        results = {s.name: np.empty(s.concrete(2), np.float32) for s in graph.outputs}
        for name, result in results.items():
            buffers[name].download(result, stream)
        return results


def test_the_weights_are_the_fp16_graphs(quantised: Bundle) -> None:
    shipped = onnx.load(str(quantised.graph(Component.STEP, Precision.FP16).path))
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for model in (shipped, emulate_half(shipped))
    )
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert after[name].dtype != np.float16
        np.testing.assert_array_equal(after[name], values)


def test_a_runtime_that_removes_roundings_is_refused(tmp_path: Path) -> None:
    class Forgetful(RoundingBackend):
        """As ONNX Runtime does with the casts that it puts in itself."""

        def optimise(self, onnx: Path, target: Path) -> None:
            super().optimise(onnx, target)
            model = _load(target)
            casts = [node for node in model.graph.node if count_roundings(_only(node))]
            model.graph.node.remove(casts[0])
            target.write_bytes(model.SerializeToString())

    with Forgetful(threads=1) as backend, pytest.raises(BackendError, match=r"3 roundings .* kept 2"):
        backend.load(graph_of(swallowing(), tmp_path))


def _load(path: Path) -> Any:
    return onnx.load(str(path))


def _only(node: Any) -> Any:
    return helper.make_model(helper.make_graph([node], "one", [], []))


def test_graphs_of_other_precisions_are_loaded_as_they_are(tmp_path: Path) -> None:
    model = typed_graph([helper.make_node("Add", ["x", "x"], ["y"])], {})
    x = np.array([[0.1, 1 / 3, 1 + 2**-20, 5.0]], np.float32)
    with RoundingBackend(threads=1) as backend:
        with backend.load(graph_of(model, tmp_path, Precision.FP32)) as engine:
            assert run(engine, backend, x).tolist() == (2 * x).tolist()
        assert backend.roundings == {}


def test_a_graph_whose_types_cannot_be_told_is_refused() -> None:
    unknown = typed_graph(in_half(helper.make_node("Mystery", ["h"], ["last"])), {})
    with pytest.raises(BundleError, match="cannot be emulated"):
        emulate_half(unknown)
