"""The service under load: what is sent, what it comes to, and the command over real servers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.service.figures import Baseline, Rounds, cell, jain
from benchmarks.service.load import Answer, arrivals
from edge_sr.errors import DeviceError

BASELINE = Baseline((0.1, 1.0), (1, 9))


def answer(latency_s: float, *, is_large: bool = False, status: int = 200) -> Answer:
    return Answer(is_large, latency_s, status, "same" if status == 200 else "")


def test_arrivals_are_a_poisson_process_of_the_rate_and_share_that_were_asked_for() -> None:
    found = arrivals(50, 200, large_share=0.2, seed=(0, 1))
    gaps = np.diff([a.at_s for a in found])
    assert len(found) == pytest.approx(10_000, rel=0.03)  # a standard deviation is 1 %
    assert gaps.mean() == pytest.approx(0.02, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # as of an exponential distribution
    assert np.mean([a.is_large for a in found]) == pytest.approx(0.2, abs=0.02)
    assert 0 <= found[0].at_s < found[-1].at_s < 200


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others() -> None:
    first, second, other = (arrivals(5, 10, large_share=0.5, seed=(0, turn)) for turn in (1, 1, 2))
    assert first == second
    assert first != other


def test_fairness_is_one_where_shares_are_equal_and_one_over_n_where_one_has_all() -> None:
    assert jain([0.3, 0.3, 0.3]) == pytest.approx(1)
    assert jain([1, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([1, 2]) == pytest.approx(0.9)


def test_a_cell_comes_to_its_throughput_quantiles_and_slowdowns() -> None:
    rounds = Rounds(
        [[answer(0.1), answer(0.3)], [answer(2.0, is_large=True), answer(0.01, status=429)]], [1.0, 2.0]
    )
    peer = Rounds([[answer(0.1)], [answer(0.1), answer(0.1)]], [1.0, 2.0])
    found = cell("open", 0.5, 4, rounds, peer=peer, baseline=BASELINE)
    summary = found.summary
    assert found.round == (0, 0, 1, 1)
    assert summary.throughput == pytest.approx(3 / 3)
    assert summary.tiles == pytest.approx((1 + 1 + 9) / 3)
    assert summary.refused == 0.25
    assert summary.small_p50_s == pytest.approx(0.2)
    assert summary.small_p99_s == pytest.approx(0.298)
    assert (summary.large_p50_s, summary.large_p99_s) == (2.0, 2.0)
    assert summary.small_slowdown == pytest.approx(2)
    assert summary.large_slowdown == pytest.approx(2)
    assert summary.jain == pytest.approx(jain([1, 1 / 3, 1 / 2]))
    assert summary.throughput_ratio == pytest.approx((1.25, 0.5, 2.0))


def test_a_cell_without_answers_has_no_latencies() -> None:
    rounds = Rounds([[answer(0.01, status=429)]], [1.0])
    summary = cell("open", 9, 2, rounds, peer=rounds, baseline=BASELINE).summary
    assert (summary.throughput, summary.refused) == (0, 1)
    assert summary.small_p99_s is summary.large_slowdown is summary.jain is None


def test_the_command_loads_real_servers_and_every_answer_is_the_same_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra: service)")
    from tests.fakes import write_tiny_bundle

    bundle = write_tiny_bundle(tmp_path / "tiny")
    arguments = ["--bundle", str(bundle.folder), "--precision", "fp32", "--threads", "1"]
    arguments += ["--batch", "1", "--batch", "3", "--load", "0.5", "--clients", "2", "--large-side", "24"]
    arguments += ["--rounds", "2", "--seconds", "0.2", "--lone", "1", "--large-share", "0.3"]
    assert run(["service", *arguments, "--out", str(tmp_path / "name")]) == 0
    told = capsys.readouterr().out
    assert "| images that differ from those made one by one | 0 | 0 | yes |" in told
    assert "| 2 clients | 3 |" in told
    found = json.loads((tmp_path / "name.json").read_text())
    assert found["tiles"] == [1, 4]
    assert {(c["kind"], c["batch"]) for c in found["cells"]} == {
        ("open", 1), ("open", 3), ("closed", 1), ("closed", 3),
    }  # fmt: skip
    by_batch = {c["batch"]: c["is_large"] for c in found["cells"] if c["kind"] == "open"}
    assert by_batch[1] == by_batch[3], "every server is sent the same"
    assert {status for c in found["cells"] for status in c["status"]} == {200}


def test_a_server_that_does_not_start_is_told_with_what_it_said(tmp_path: Path) -> None:
    from benchmarks.service.server import serving

    with (
        pytest.raises(DeviceError, match=r"did not become ready; it said: .*error: .*nowhere.*"),
        serving(["--bundle", str(tmp_path / "nowhere")], queue_size=1),
    ):
        pytest.fail("it is not there")


def test_a_comparison_needs_a_server_without_batching(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "name")]
    assert run(["service", "--batch", "2", *out]) == 1
    assert "a batch of 1 to compare with" in capsys.readouterr().err
    assert run(["service", "--large-side", "64", *out]) == 1
