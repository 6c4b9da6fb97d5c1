"""The graphs of the bundles in the wheel, under whatever ONNX Runtime is installed.

CI runs this twice: with the newest ONNX Runtime, and with 1.23, the last for Python 3.10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import Component, Precision

FREE_BATCH = 2


SHIPPED = {name: Bundle.open(find_bundle(Path(name))) for name in ("cxr-x4", "cxr-x4-cnn")}
GRAPHS = [(name, component) for name, bundle in SHIPPED.items() for component in bundle.manifest.components]


@pytest.mark.parametrize("precision", list(Precision), ids=str)
@pytest.mark.parametrize(("name", "component"), GRAPHS)
def test_a_shipped_graph_loads_and_gives_finite_values(
    name: str, component: Component, precision: Precision
) -> None:
    graph = SHIPPED[name].graph(component, precision)
    session = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    inputs = {i.name: np.full(_shape(i.shape), 0.5, _dtype(i.type)) for i in session.get_inputs()}
    outputs = session.run(None, inputs)
    assert [o.name for o in session.get_outputs()] == [spec.name for spec in graph.outputs]
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("precision", list(Precision), ids=str)
def test_the_fallback_passes_its_self_test_and_is_under_4_mb_with_all_precisions(
    precision: Precision, tmp_path: Path
) -> None:
    bundle = SHIPPED["cxr-x4-cnn"]
    with Upscaler(bundle, open_backend("onnxruntime", threads=1), precision=precision) as upscaler:
        assert run_selftest(upscaler, root=tmp_path).passed
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 4_000_000
    assert bundle.precisions() == list(Precision)


def _shape(shape: list[int | str]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else FREE_BATCH for size in shape)


def _dtype(name: str) -> type[np.generic]:
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[name]
