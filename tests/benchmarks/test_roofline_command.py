from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.records import to_json
from benchmarks.roofline.operators import profile, shares
from benchmarks.roofline.peaks import bandwidth_probe, product_probes
from benchmarks.roofline.records import RooflineResult
from benchmarks.roofline.report import roofline_report
from benchmarks.roofline.run import Request, in_words, int8_share, run_roofline
from benchmarks.rows import Track
from edge_sr.bundle import Bundle
from edge_sr.spec import Component, Precision


def test_a_probe_does_the_operations_that_it_counts() -> None:
    for probe in product_probes(1):
        assert probe.precision in (Precision.FP32, Precision.INT8)
        made = np.asarray(probe.run()[0]) if "torch" not in probe.name else np.asarray(probe.run())  # type: ignore[index]
        inner = 128 * 9 if "convolution" in probe.name else made.shape[0]
        assert probe.operations == 2 * made.size * inner


def test_a_copy_reads_and_writes_the_bytes_that_it_counts() -> None:
    assert bandwidth_probe("copy", 1 << 20).operations == 1 << 20


def test_the_share_in_int8_is_none_of_fp32_and_most_of_int8(quantised: Bundle) -> None:
    shares = {
        p: int8_share(quantised.graph(Component.STEP, p).path) for p in (Precision.FP32, Precision.INT8)
    }
    assert shares[Precision.FP32] == 0
    assert 0.5 < shares[Precision.INT8] <= 1


def test_the_profiler_finds_the_convolutions_of_a_graph(quantised: Bundle, tmp_path: Path) -> None:
    found = profile(quantised.graph(Component.ENCODER, Precision.FP32), tmp_path, threads=1, runs=3)
    assert any("Conv" in operator for operator in found)
    assert sum(shares(found).values()) == pytest.approx(1)
    assert shares(found)["products"] > 0


def test_an_operator_of_no_kind_is_told_as_the_rest() -> None:
    assert shares({"Conv": 3.0, "NobodysOperator": 1.0})["rest"] == 0.25


def test_a_whole_run_is_a_record_and_a_table(quantised: Bundle, quietly: Track) -> None:
    result = run_roofline(
        Request(quantised.folder, rounds=3, threads=1), arguments=["roofline"], track=quietly
    )
    assert RooflineResult.model_validate_json(to_json(result)) == result
    assert len(result.stages) == 6
    for stage in result.stages:
        assert stage.mixed_ms > 0 and stage.floor_ms > 0
        assert stage.reached == pytest.approx(stage.mixed_ms / (1e3 * stage.seconds.median))
        assert stage.stage in in_words(stage)
    by_key = {(stage.stage, stage.precision): stage for stage in result.stages}
    assert by_key["step", "int8"].macs == by_key["step", "fp32"].macs
    assert "What stands between" in roofline_report(result)
