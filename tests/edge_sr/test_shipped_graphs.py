"""The graphs of the bundle in the wheel, under whatever ONNX Runtime is installed.

CI runs this twice: with the newest ONNX Runtime, and with 1.23, the last for Python 3.10.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from edge_sr.bundle import Bundle, default_bundle
from edge_sr.spec import Component, Precision

FREE_BATCH = 2


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(default_bundle())


@pytest.mark.parametrize("precision", list(Precision), ids=str)
@pytest.mark.parametrize("component", list(Component), ids=str)
def test_a_shipped_graph_loads_and_gives_finite_values(
    bundle: Bundle, component: Component, precision: Precision
) -> None:
    graph = bundle.graph(component, precision)
    session = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    inputs = {i.name: np.full(_shape(i.shape), 0.5, _dtype(i.type)) for i in session.get_inputs()}
    outputs = session.run(None, inputs)
    assert [o.name for o in session.get_outputs()] == [spec.name for spec in graph.outputs]
    assert all(np.isfinite(output).all() for output in outputs)


def _shape(shape: list[int | str]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else FREE_BATCH for size in shape)


def _dtype(name: str) -> type[np.generic]:
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[name]
