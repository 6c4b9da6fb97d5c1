"""The floor under a graph's time on devices that are not here."""

from __future__ import annotations

import pytest

from edge_sr.bundle import Bundle
from edge_sr.errors import BundleError, DeviceError, UsageError
from edge_sr.manifest import Cost, Manifest
from edge_sr.roofline import PEAKS, GraphCost, cost_of, floor_ms
from edge_sr.spec import Component, Precision
from tests.fakes import write_tiny_bundle

HEAVY = GraphCost(macs=5_000_000_000, weight_bytes=1, activation_bytes=1)
WIDE = GraphCost(macs=1, weight_bytes=34_000_000, activation_bytes=34_000_000)


def test_a_graph_of_arithmetic_is_bound_by_the_peak_rate() -> None:
    assert floor_ms(HEAVY, "orin-nano", precision=Precision.FP16) == pytest.approx(1.0)  # 1e10 ops at 1e13/s
    assert floor_ms(HEAVY, "orin-nano", precision=Precision.INT8) == pytest.approx(0.5)


def test_a_graph_of_traffic_is_bound_by_the_bandwidth() -> None:
    assert floor_ms(WIDE, "orin-nano", precision=Precision.INT8) == pytest.approx(1.0)  # 68 MB at 68 GB/s


def test_both_forms_of_int8_have_one_floor() -> None:
    forms = (Precision.INT8, Precision.INT8_FP16)
    assert len({floor_ms(HEAVY, "xavier-nx", precision=form) for form in forms}) == 1


@pytest.mark.parametrize("device", list(PEAKS))
def test_lower_precision_is_never_slower(device: str) -> None:
    fp32, fp16 = (floor_ms(HEAVY, device, precision=p) for p in (Precision.FP32, Precision.FP16))
    assert fp16 < fp32


def test_the_original_nano_has_no_floor_for_int8() -> None:
    with pytest.raises(DeviceError, match="no INT8 hardware"):
        floor_ms(HEAVY, "nano", precision=Precision.INT8)


def test_an_unknown_device_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError) as error:
        floor_ms(HEAVY, "pi", precision=Precision.FP16)
    assert "orin-nano-super" in error.value.hint


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", precisions=("fp32", "fp16"))


def with_costs(manifest: Manifest, costs: dict[Precision, Cost]) -> Manifest:
    """The manifest with these costs of its step."""
    entries = {
        p: e.model_copy(update={"cost": costs.get(p)}) for p, e in manifest.graphs[Component.STEP].items()
    }
    return manifest.model_copy(update={"graphs": manifest.graphs | {Component.STEP: entries}})


def test_a_cost_that_was_counted_is_taken_and_others_follow_from_that_of_fp32(bundle: Bundle) -> None:
    counted = {Precision.FP32: Cost(macs=10, weight_bytes=400, activation_bytes=80)}
    counted[Precision.FP16] = Cost(macs=9, weight_bytes=7, activation_bytes=5)
    manifest = with_costs(bundle.manifest, counted)
    found = [cost_of(manifest, Component.STEP, p) for p in (Precision.FP16, Precision.INT8)]
    assert found == [GraphCost(9, 7, 5), GraphCost(10, 100, 20)]


def test_a_bundle_whose_graphs_were_not_counted_is_told_of(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="does not say what its step costs"):
        cost_of(bundle.manifest, Component.STEP, Precision.FP16)
