"""The whole measurement on the fake backend: what is in a result, and that it adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_sr.bench.comparison import compare
from edge_sr.bench.records import BenchResult
from edge_sr.bench.run import PARTS, Request, batch_sizes, run_bench
from edge_sr.bench.storage import read_result, write_result
from edge_sr.bench.subject import Wish, bench_image
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, BundleError
from edge_sr.spec import Precision
from tests.edge_sr import trees
from tests.fakes import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32", "fp16"))


def wishes(bundle: Bundle, *presets: str, precision: Precision = Precision.FP32) -> tuple[Wish, ...]:
    table = bundle.diffusion.presets
    return tuple(Wish(precision, table[name], bundle.manifest.tile) for name in presets)


def request_of(bundle: Bundle, root: Path, **changes: object) -> Request:
    wish = Wish(Precision.FP32, bundle.manifest.default_preset, bundle.manifest.tile)
    plain = {"wishes": (wish,), "batch": 3, "duration_s": 0.05, "energy_s": 0.0, "root": root}
    return Request(bundle, "fake", **(plain | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def everything(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchResult, list[str]]:
    """All parts for two precisions on a fake Orin, and the phases that were told."""
    root = trees.make(trees.ORIN_NANO_JP62, tmp_path_factory.mktemp("trees") / "orin")
    phases: list[str] = []
    both = (*wishes(bundle, "even"), *wishes(bundle, "even", precision=Precision.FP16))
    return run_bench(request_of(bundle, root, wishes=both), phase=phases.append), phases


def test_a_result_has_every_part_of_every_row(everything: tuple[BenchResult, list[str]]) -> None:
    result, phases = everything
    assert [str(row.case.precision) for row in result.rows] == ["fp32", "fp16"]
    for row in result.rows:
        assert len(row.stages.latency) >= 5
        assert [batch.size for batch in row.batches] == [1, 2, 3]
        assert all(len(batch.latency) >= 3 for batch in row.batches)
        assert [load.share for load in row.loads] == [0.5, 0.8]
        assert row.energy is not None and row.energy.rail == "VDD_IN"
        assert row.case.batch == 3 and row.case.threads == 1
    for word in ("fresh process", "warm-up", "images", "batches", "offered load", "energy"):
        assert any(word in phase for phase in phases)
    assert result.settings.parts == PARTS
    assert "Orin Nano" in result.environment.device and result.before.power_mode


def test_a_first_image_in_a_fresh_process_has_its_times_and_its_memory(
    everything: tuple[BenchResult, list[str]],
) -> None:
    for row in everything[0].rows:
        start = row.start
        assert start is not None
        assert set(start.engines) == {"encoder", "step", "decoder"}
        assert start.imported > 0 and start.first > 0
        assert start.total >= start.imported + start.first
        assert start.peak_bytes >= start.base_bytes > 10 << 20  # an interpreter with numpy
        assert start.device_bytes is None


def test_stages_add_up_to_the_image_and_the_file(everything: tuple[BenchResult, list[str]]) -> None:
    for row in everything[0].rows:
        s = row.stages
        np.testing.assert_allclose(s.latency, np.sum([s.encode, s.loop, s.decode, s.host], axis=0))
        assert min(s.host) > 0  # one tile at a time here, so nothing overlaps
        np.testing.assert_allclose(s.whole, np.sum([s.read, s.latency, s.write], axis=0))
        assert min(s.read) > 0 and min(s.write) > 0 and min(s.step) > 0


def test_a_measured_result_reads_back(everything: tuple[BenchResult, list[str]], tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", everything[0])
    assert read_result(tmp_path / "a.json") == everything[0]


def test_a_result_names_no_folder_and_no_host(
    everything: tuple[BenchResult, list[str]], bundle: Bundle
) -> None:
    text = everything[0].model_dump_json()
    assert str(Path.home()) not in text and str(bundle.folder) not in text and "/tmp" not in text


def test_the_fake_backend_is_called_what_it_is(everything: tuple[BenchResult, list[str]]) -> None:
    assert any("say nothing of the model" in notice for notice in everything[0].notices)


def test_only_what_is_asked_for_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    phases: list[str] = []
    (row,) = run_bench(request_of(bundle, tmp_path, parts=()), phase=phases.append).rows
    assert (row.start, row.batches, row.loads, row.energy) == (None, (), (), None)
    assert [phase.partition(":")[0] for phase in phases] == ["warm-up", "images"]


def test_without_a_rail_there_is_no_energy_and_no_failure(bundle: Bundle, tmp_path: Path) -> None:
    result = run_bench(request_of(bundle, tmp_path, parts=("energy",)), phase=str)
    assert result.rows[0].energy is None
    assert result.processors is None  # no /proc/stat in this root


def test_rows_may_differ_in_steps_and_size_and_share_their_engines(bundle: Bundle, tmp_path: Path) -> None:
    large = Wish(Precision.FP32, bundle.diffusion.presets["even"], 40)
    request = request_of(bundle, tmp_path, wishes=(*wishes(bundle, "one", "even"), large), parts=())
    result = run_bench(request, phase=str)
    found = [(row.case.preset and row.case.preset.steps, row.case.size) for row in result.rows]
    assert found == [(1, 16), (4, 16), (4, 40)]
    assert len({len(row.stages.latency) for row in result.rows}) == 1


@pytest.mark.parametrize("family", ["pixel", "bare", "regression"])
def test_a_bundle_without_some_graphs_is_measured_whole_and_compared(family: str, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / family, family=family)
    wish = Wish(Precision.FP32, bundle.manifest.default_preset, 20)
    result = run_bench(request_of(bundle, tmp_path, wishes=(wish,)), phase=str)
    (row,) = result.rows
    assert [batch.size for batch in row.batches] == [1, 2, 3] and row.start is not None
    assert (max(row.stages.step) == 0) == (family == "regression")
    write_result(tmp_path / "a.json", result)
    assert read_result(tmp_path / "a.json") == result
    (pair,) = compare(result, result).pairs
    names = {metric.name for metric in pair.metrics}
    stages = {"encode", "loop", "step", "decode"}
    assert (
        stages - names
        == {
            "pixel": {"decode"},
            "bare": {"encode", "decode"},
            "regression": {"encode", "loop", "step"},
        }[family]
    )


def test_time_is_shared_among_the_parts_that_are_measured(bundle: Bundle, tmp_path: Path) -> None:
    whole = request_of(bundle, tmp_path, duration_s=10.0)
    assert [whole.seconds(p) for p in ("images", "batches", "load")] == pytest.approx([5, 2, 3])
    assert request_of(bundle, tmp_path, duration_s=10.0, parts=()).seconds("images") == pytest.approx(10)


def test_a_process_that_fails_is_the_error_that_it_met(bundle: Bundle, tmp_path: Path) -> None:
    request = request_of(bundle, tmp_path, wishes=wishes(bundle, "even", precision=Precision.INT8))
    with pytest.raises(BundleError, match="no int8 encoder"):
        run_bench(request, phase=str)


def test_a_backend_that_does_not_exist_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    broken = Request(bundle, "abacus", wishes(bundle, "even"), root=tmp_path, parts=())
    with pytest.raises(BackendError, match="abacus"):
        run_bench(broken, phase=str)


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))]
)
def test_batches_double_up_to_the_most(most: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(most) == sizes


def test_the_image_is_the_golden_one_mirrored_or_cut(bundle: Bundle) -> None:
    small, tile, large = (bench_image(bundle, size) for size in (8, 16, 40))
    assert (small.shape, tile.shape, large.shape) == ((8, 8), (16, 16), (40, 40))
    np.testing.assert_array_equal(large[:16, :16], tile)
    np.testing.assert_array_equal(tile[:8, :8], small)
    np.testing.assert_array_equal(large[:16, 16:32], tile[:, ::-1])
    np.testing.assert_array_equal(large[32:, :16], tile[:8])


def test_a_bundle_without_a_golden_image_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "golden", dict)
    with pytest.raises(BundleError, match="lacks image"):
        bench_image(bundle, 16)
