"""The shipped fallback bundle, for boards too weak for diffusion: what is said of its graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from calibration.lint import lint_paths
from calibration.plan import read_plan
from calibration.trt_verdict import judge_graph, open_rtx
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.spec import Component, Precision
from tests.fakes import write_tiny_bundle

PLAN = Path(__file__).parents[2] / "calibration" / "plans" / "cxr-x4-cnn.json"
OPSET_8_2 = 13  # where TensorRT 8.2 ends, the last of the original Nano and the TX2
SINCE_18 = {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"}


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.open(find_bundle(Path("cxr-x4-cnn")))


def test_its_graphs_are_clean_and_its_plan_is_the_one_that_is_kept(shipped: Bundle) -> None:
    assert not [report for report in lint_paths([shipped.folder]) if report.findings]
    plan = read_plan(PLAN)
    assert plan.record() == shipped.manifest.calibration
    assert plan.facts.graphs == {"decoder": shipped.graph(Component.DECODER, Precision.FP32).sha256}


def test_its_fp16_graph_is_one_of_opset_13_but_for_two_attributes_at_their_defaults(shipped: Bundle) -> None:
    model = onnx.load(str(shipped.graph(Component.DECODER, Precision.FP16).path))
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"Cast", "Conv", "Add", "Relu", "DepthToSpace", "Resize"}
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.opset_import[0].version = OPSET_8_2
    for node in older.graph.node:
        for attribute in [a for a in node.attribute if a.name in SINCE_18]:
            assert onnx.helper.get_attribute_value(attribute) == SINCE_18[attribute.name]
            node.attribute.remove(attribute)
    onnx.checker.check_model(older, full_check=True)
    image = {"image": np.random.default_rng(0).uniform(-1, 1, (1, 1, 64, 64)).astype(np.float32)}
    made = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, image
        )
        for m in (model, older)
    ]
    assert np.array_equal(made[0][0], made[1][0])


def test_tensorrt_rtx_builds_a_bicubic_condition_and_the_fallback_in_every_precision(
    shipped: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13")
    pixel = write_tiny_bundle(tmp_path / "pixel", family="pixel")
    graphs = [pixel.graph(Component.ENCODER, Precision.FP32)]
    graphs += [shipped.graph(Component.DECODER, precision) for precision in Precision]
    library = open_rtx()
    for graph in graphs:
        assert judge_graph(graph, library).is_good, graph.path
