"""Tensor specifications, and the names that stand in bundles."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sr.schedule import NoiseSchedule, build_schedule, coefficients
from edge_sr.spec import COEFFICIENTS, Component, Precision, TensorSpec

LATENT = TensorSpec("latent", "float32", ("N", 4, 8, 8))


def test_a_free_axis_takes_the_batch() -> None:
    assert LATENT.concrete(3) == (3, 4, 8, 8)


def test_a_fixed_first_axis_ignores_the_batch() -> None:
    assert TensorSpec("image", "float32", (1, 1, 16, 16)).concrete(3) == (1, 1, 16, 16)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_any_batch_of_the_right_shape_and_type_is_accepted(batch: int) -> None:
    assert LATENT.accepts((batch, 4, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 4, 8), "float32"),
        ((1, 4, 8, 8, 1), "float32"),
        ((1, 4, 8, 9), "float32"),
        ((1, 4, 8, 8), "float64"),
        ((1, 4, 8, 8), ">f4"),
        ((), "float32"),
    ],
)
def test_another_shape_or_type_or_byte_order_is_not_accepted(shape: tuple[int, ...], dtype: str) -> None:
    assert not LATENT.accepts(shape, dtype)


def test_a_specification_reads_as_name_type_and_shape() -> None:
    assert str(LATENT) == "latent: float32 (N, 4, 8, 8)"


def test_names_print_as_they_stand_in_bundles() -> None:
    assert [str(p) for p in Precision] == ["fp32", "fp16", "int8", "int8-fp16"]
    assert [f"{c}" for c in Component] == ["encoder", "step", "decoder"]


def test_there_is_a_name_for_every_column_of_the_schedule_s_table() -> None:
    schedule = build_schedule(
        NoiseSchedule("cosine"), sampler="ddim", prediction="epsilon", steps=2, clip=3.0
    )
    step, row = schedule.steps[0], coefficients(schedule)[0]

    assert row.tolist() == pytest.approx([getattr(step, name) for name in COEFFICIENTS], rel=1e-6)  # float32
