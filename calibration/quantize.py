"""From a plan to the graphs of a bundle, in three forms, with the record of how they were made.

fp16        strongly typed FP16
int8        the plan's layers in INT8, the rest in FP32: for ONNX Runtime
int8-fp16   the same layers with the same scales, the rest in FP16: for TensorRT
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.errors import CalibrationError
from calibration.graph import finish, read_graph, store_weights_in_half
from calibration.half import to_half
from calibration.layers import find_layers
from calibration.plan import ComponentPlan, Plan
from calibration.qdq import insert
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle, graph_file, new_copy, write_manifest
from edge_sr.errors import EdgeSRError
from edge_sr.manifest import GraphFile, one_sample
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Component, Precision

__all__ = ["FORMS", "compare_precisions", "emit", "quantize_bundle"]

FORMS = (Precision.FP16, Precision.INT8, Precision.INT8_FP16)
"""The precisions that are made here."""


def emit(model: Any, plan: ComponentPlan, form: Precision) -> Any:
    """One graph in one form.

    Args:
        model: The FP32 graph, from `calibration.graph.read_graph`; it is not changed.
        plan: What INT8 means for it.
        form: One of `FORMS`.

    Raises:
        CalibrationError: The plan does not fit the graph, or the graph cannot be made FP16.
    """
    if form is Precision.FP16:
        return to_half(model)
    layers = find_layers(model)
    if form is Precision.INT8_FP16:
        return to_half(insert(model, layers, plan, writes_int8=False))
    quantised = insert(model, layers, plan, writes_int8=True)
    finish(quantised)
    store_weights_in_half(quantised)
    return finish(quantised)


def quantize_bundle(bundle: Bundle, plan: Plan, out: Path) -> Bundle:
    """Writes a bundle with the FP16 and INT8 graphs of a plan, whole or not at all.

    Args:
        bundle: Has the FP32 graphs.
        plan: What to emit.
        out: The new bundle's folder; may be the old one's, which is then replaced.

    Raises:
        CalibrationError: A graph cannot be made, or the finished bundle does not run.
        OutputError: The folder cannot be written.
    """
    for component in bundle.manifest.components:
        if bundle.graph(component, Precision.FP32).sha256 != plan.facts.graphs.get(str(component)):
            raise CalibrationError(f"the plan is for another {component}", hint="record this bundle again")
    with new_copy(bundle, out) as folder:
        graphs = {c: dict(entries) for c, entries in bundle.manifest.graphs.items()}
        for component in bundle.manifest.components:
            model = read_graph(bundle.graph(component, Precision.FP32).path)
            for form in FORMS:
                emitted = emit(model, plan.components[component], form)
                graphs[component][form] = _write(folder, component, form, emitted, bundle)
        changes = {"graphs": graphs, "calibration": plan.record()}
        write_manifest(folder, bundle.manifest.model_copy(update=changes))
        compare_precisions(Bundle.open(folder))
    return Bundle.open(out)


def compare_precisions(bundle: Bundle) -> dict[Precision, float]:
    """Runs the golden image at every precision, through ONNX Runtime.

    Returns:
        The root mean square difference from FP32 for each other precision, in gray levels of 255.

    Raises:
        CalibrationError: A precision does not run, or gives something that is not finite.
    """
    image = bundle.golden()["image"][0]
    outputs = {precision: _golden_output(bundle, precision, image) for precision in bundle.precisions()}
    reference = outputs.pop(Precision.FP32)
    return {p: float(np.sqrt(np.mean((out - reference) ** 2))) * 127.5 for p, out in outputs.items()}


def _golden_output(bundle: Bundle, precision: Precision, image: Any) -> Any:
    preset = one_sample(bundle.manifest.default_preset)
    try:
        with Upscaler(bundle, open_backend("onnxruntime"), precision=precision) as upscaler:
            output = upscaler.upscale(image, preset=preset, seed=0).mean
    except EdgeSRError as error:
        raise CalibrationError(f"the {precision} graphs do not run: {error.message}") from error
    if not np.isfinite(output).all():
        raise CalibrationError(f"the {precision} graphs give something that is not finite")
    return output


def _write(folder: Path, component: Component, form: Precision, model: Any, bundle: Bundle) -> GraphFile:
    """Saves a graph; its inputs and outputs are those of the FP32 one."""
    name = f"{component}.{form}.onnx"
    onnx.save(model, str(folder / name))
    like = bundle.manifest.graphs[component][Precision.FP32]
    return graph_file(folder, name, list(like.inputs), list(like.outputs))
