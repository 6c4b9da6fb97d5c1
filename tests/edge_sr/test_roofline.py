"""The floor under a graph's time on devices that are not here."""

from __future__ import annotations

import pytest

from edge_sr.errors import DeviceError, UsageError
from edge_sr.roofline import PEAKS, GraphCost, floor_ms
from edge_sr.spec import Precision

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
