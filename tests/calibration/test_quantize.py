"""Bundles with FP16 and INT8 graphs, written whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.images import CalibrationSet
from calibration.lint import lint_paths
from calibration.plan import Plan, make_plan, read_layers, read_plan, with_exclusions, write_plan
from calibration.quantize import FORMS, compare_precisions, quantize_bundle
from calibration.recording import Recording
from edge_sr.bundle import Bundle, graph_file, write_manifest
from edge_sr.spec import Component, Precision
from tests.calibration.conftest import snapshot


@pytest.fixture(scope="module")
def plan(shared_bundle: Bundle, recording: Recording) -> Plan:
    return make_plan(shared_bundle, recording, method="mse")


@pytest.fixture(scope="module")
def quantised(shared_bundle: Bundle, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return quantize_bundle(shared_bundle, plan, tmp_path_factory.mktemp("made") / "tiny")


def test_every_component_has_every_precision(quantised: Bundle) -> None:
    assert set(quantised.precisions()) == set(Precision)
    quantised.verify()


def test_the_tensors_of_every_precision_are_the_same(quantised: Bundle) -> None:
    for graphs in quantised.manifest.graphs.values():
        assert len({(entry.inputs, entry.outputs) for entry in graphs.values()}) == 1


def test_fp32_graphs_are_the_ones_that_were_there(quantised: Bundle, shared_bundle: Bundle) -> None:
    for component in Component:
        ours, theirs = (b.manifest.graphs[component][Precision.FP32] for b in (quantised, shared_bundle))
        assert ours == theirs


def test_the_manifest_says_how_it_was_made(quantised: Bundle, images: CalibrationSet, plan: Plan) -> None:
    record = quantised.manifest.calibration
    assert record is not None
    assert (record.method, record.set_digest) == ("mse", images.digest)
    assert record.images_asked == record.images_used == len(images.images)
    assert record.timesteps == (19, 14, 9, 4)
    assert record.excluded.keys() == {f"step/{name}" for name in plan.components[Component.STEP].excluded}


def test_every_graph_passes_the_lint(quantised: Bundle) -> None:
    assert [finding for report in lint_paths([quantised.folder]) for finding in report.findings] == []


def test_every_precision_computes_nearly_the_same(quantised: Bundle) -> None:
    errors = compare_precisions(quantised)
    assert errors[Precision.FP16] < 0.2  # gray levels; FP16 has 11 bits
    assert errors[Precision.INT8] < 4.0  # random weights are no trained model: this catches what is broken
    assert errors[Precision.INT8_FP16] < 4.0


def test_a_bundle_is_replaced_in_place(bundle: Bundle, plan: Plan) -> None:
    assert set(quantize_bundle(bundle, plan, bundle.folder).precisions()) == set(Precision)
    again = quantize_bundle(Bundle.open(bundle.folder), plan, bundle.folder)  # and once more, over the first
    assert set(again.precisions()) == set(Precision)


def test_the_same_plan_gives_the_same_bytes(
    bundle: Bundle, plan: Plan, quantised: Bundle, tmp_path: Path
) -> None:
    assert quantize_bundle(bundle, plan, tmp_path / "again").digest == quantised.digest


def test_without_exclusions_every_layer_is_quantised(shared_bundle: Bundle, recording: Recording) -> None:
    plan = make_plan(shared_bundle, recording, method="minmax", exclude=False)
    layers = read_layers(shared_bundle)
    assert all(set(plan.components[c].layers) == {layer.name for layer in layers[c]} for c in Component)
    assert plan.record().excluded == {}


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("text", ["", "{}", '{"method": "mse"}', "[1]"])
def test_a_damaged_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(CalibrationError, match="no calibration plan"):
        read_plan(tmp_path / "plan.json")


def test_excluding_a_layer_that_is_not_there_is_refused(shared_bundle: Bundle, plan: Plan) -> None:
    with pytest.raises(CalibrationError, match="nowhere"):
        with_exclusions(plan, read_layers(shared_bundle), {Component.STEP: {"nowhere": "because"}})


# What goes wrong leaves the bundle on disk as it was.


def test_a_plan_for_another_bundle_changes_nothing(bundle: Bundle, plan: Plan) -> None:
    before = snapshot(bundle.folder)
    strange = replace(plan, facts=replace(plan.facts, graphs=plan.facts.graphs | {"decoder": "0" * 64}))
    with pytest.raises(CalibrationError, match="another decoder"):
        quantize_bundle(bundle, strange, bundle.folder)
    assert snapshot(bundle.folder) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_changes_nothing(
    bundle: Bundle, plan: Plan, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    before, calls = snapshot(bundle.folder), []
    save = onnx.save

    def interrupted(model: Any, path: str) -> None:
        calls.append(path)
        if len(calls) == 5:
            raise error
        save(model, path)

    monkeypatch.setattr(onnx, "save", interrupted)
    with pytest.raises(error):
        quantize_bundle(bundle, plan, bundle.folder)
    assert snapshot(bundle.folder) == before


def test_a_result_that_is_no_image_changes_nothing(bundle: Bundle, plan: Plan) -> None:
    model = onnx.load(str(bundle.graph(Component.DECODER, Precision.FP32).path))
    next(node for node in model.graph.node if node.op_type == "Tanh").op_type = "Sqrt"  # of negative numbers
    strange, fitting = _with_decoder(bundle, model, plan)
    before = snapshot(strange.folder)
    with pytest.raises(CalibrationError, match="not finite"):
        quantize_bundle(strange, fitting, strange.folder)
    assert snapshot(strange.folder) == before


def test_a_graph_that_is_already_quantised_is_refused(quantised: Bundle) -> None:
    with pytest.raises(CalibrationError, match="already quantised"):
        read_graph(quantised.graph(Component.DECODER, Precision.INT8).path)


def test_an_operator_that_is_not_known_changes_nothing(bundle: Bundle, plan: Plan) -> None:
    model = onnx.load(str(bundle.graph(Component.DECODER, Precision.FP32).path))
    next(node for node in model.graph.node if node.op_type == "Tanh").op_type = "Asinh"
    strange, facts = _with_decoder(bundle, model, plan)
    before = snapshot(strange.folder)
    with pytest.raises(CalibrationError, match="Asinh"):
        quantize_bundle(strange, facts, strange.folder)
    assert snapshot(strange.folder) == before


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "step.onnx").write_bytes(content)
    with pytest.raises(CalibrationError):
        read_graph(tmp_path / "step.onnx")


def _with_decoder(bundle: Bundle, model: Any, plan: Plan) -> tuple[Bundle, Plan]:
    """The bundle with another decoder, and the plan made to fit it."""
    old = bundle.manifest.graphs[Component.DECODER][Precision.FP32]
    onnx.save(model, str(bundle.folder / old.file))
    entry = graph_file(bundle.folder, old.file, list(old.inputs), list(old.outputs))
    graphs = {**bundle.manifest.graphs, Component.DECODER: {Precision.FP32: entry}}
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"graphs": graphs}))
    facts = replace(plan.facts, graphs=plan.facts.graphs | {"decoder": entry.sha256})
    return Bundle.open(bundle.folder), replace(plan, facts=facts)


def test_there_are_three_forms() -> None:
    assert set(FORMS) == set(Precision) - {Precision.FP32}
