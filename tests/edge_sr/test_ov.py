"""What the OpenVINO backend promises besides `test_backend_contract.py`: how INT8 runs, when it is taken."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_sr.backends import open_backend
from edge_sr.backends.choice import choose_backend
from edge_sr.backends.unsigned import RECTIFIED
from edge_sr.bench.notices import backend_notices
from edge_sr.device import describe
from edge_sr.errors import BackendError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Graph, Precision, TensorSpec
from tests.fakes import tiny_image, write_tiny_bundle

HAS_VNNI = bool({"avx512_vnni", "avx_vnni"} & set(describe().cpu.flags))


def rectifying_graph(folder: Path) -> Graph:
    """output = Relu(image) in steps of 0.1, rounded as a bundle's INT8 graphs do it: signed."""
    nodes = [
        helper.make_node("Relu", ["image"], ["rectified"]),
        helper.make_node("QuantizeLinear", ["rectified", "step", RECTIFIED], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "step", RECTIFIED], ["output"]),
    ]
    sides = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4])] for n in ("image", "output")]
    values = {"step": np.float32(0.1), RECTIFIED: np.array(0, np.int8)}
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "rectifying", *sides, initializer=stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "rectifying.onnx").write_bytes(model.SerializeToString())
    image, output = (TensorSpec(n, "float32", ("N", 4)) for n in ("image", "output"))
    return Graph(folder / "rectifying.onnx", Component.ENCODER, Precision.INT8, "0" * 64, (image,), (output,))


def test_without_openvino_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="openvino cannot be imported") as refused:
        open_backend("openvino")
    assert "edge-sr[openvino]" in refused.value.hint


def test_int8_graphs_run_in_their_unsigned_form(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with open_backend("openvino", threads=1) as backend, backend.load(rectifying_graph(tmp_path)) as engine:
        stream = backend.stream()
        image, output = (backend.allocate((1, 4), "float32") for _ in range(2))
        image.upload(np.array([[-3, 1, 20, 30]], np.float32), stream)
        engine.bind({"image": image, "output": output}).enqueue(stream)
        made = np.empty((1, 4), np.float32)
        output.download(made, stream)
    # 255 steps; the signed form ends at 127 of them, 12.7.
    np.testing.assert_allclose(made, [[0, 1, 20, 25.5]], atol=1e-5)


@pytest.mark.parametrize("has_half", [True, False], ids=["with int8-fp16", "without"])
def test_it_takes_the_int8_form_that_suits_it_where_the_cpu_has_the_instructions(
    tmp_path: Path, has_half: bool
) -> None:
    form = Precision.INT8_FP16 if has_half else Precision.INT8
    bundle = write_tiny_bundle(
        tmp_path / "tiny", precisions=("fp32", "int8", form) if has_half else ("fp32", form)
    )
    chosen = choose_backend(bundle, "openvino", precision=None, engine_dir=tmp_path)
    assert (chosen.name, chosen.precision) == ("openvino", form if HAS_VNNI else Precision.FP32)
    asked = choose_backend(bundle, "openvino", precision=Precision.INT8, engine_dir=tmp_path)
    assert asked.precision is Precision.INT8


def test_auto_never_takes_it(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    assert choose_backend(bundle, "auto", precision=None, engine_dir=tmp_path).name == "onnxruntime"


def test_a_whole_upscale_is_onnx_runtime_s_and_passes_the_self_test(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    bundle, made = write_tiny_bundle(tmp_path / "tiny"), []
    for name in ("onnxruntime", "openvino"):
        backend = open_backend(name, threads=1)
        with Upscaler(bundle, backend, precision=Precision.FP32, batch=2) as upscaler:
            preset = bundle.manifest.default_preset
            made.append(upscaler.upscale(tiny_image(40, 24), preset=preset, seed=3).mean)
            assert run_selftest(upscaler, root=tmp_path).passed
    np.testing.assert_allclose(made[0], made[1], rtol=0, atol=1e-5)  # the order of float32 sums


def test_times_of_fp16_graphs_are_said_to_mean_nothing_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    bundle = write_tiny_bundle(tmp_path / "tiny", precisions=("fp32", "fp16"))
    with (
        open_backend("openvino", threads=1) as backend,
        Upscaler(bundle, backend, precision=Precision.FP16) as upscaler,
    ):
        assert any("OpenVINO computes FP16 in FP32" in notice for notice in backend_notices([upscaler]))
