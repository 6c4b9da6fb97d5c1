"""What a service survives: the trend of what it holds, and the command over real servers."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.faults.watch import held, trend


def test_a_trend_is_found_under_noise_and_none_where_there_is_none() -> None:
    at_s = np.arange(0, 600, 0.5)
    noise = np.random.default_rng(1).normal(0, 3, len(at_s))
    leak, flat = trend(list(at_s), list(100 + 2 * at_s / 60 + noise)), trend(list(at_s), list(100 + noise))
    assert leak.low < 2 < leak.high and leak.low > 1
    assert flat.low < 0 < flat.high and flat.high < 0.5


def test_what_fills_up_at_the_begin_is_no_trend() -> None:
    at_s = np.arange(0, 400, 1.0)
    assert trend(list(at_s), list(np.minimum(at_s, 90))).a_minute == pytest.approx(0, abs=1e-9)


def test_an_open_file_and_a_thread_are_held() -> None:
    done, before = threading.Event(), held(os.getpid())
    thread = threading.Thread(target=done.wait)
    thread.start()
    with Path(os.devnull).open("rb"):
        now = held(os.getpid())
    done.set()
    thread.join()
    assert (now.files, now.threads) == (before.files + 1, before.threads + 1)
    assert now.memory_mib > 1


def test_processor_time_is_that_of_the_process() -> None:
    before, began = held(os.getpid()).cpu_s, time.process_time()
    while (spent := time.process_time() - began) < 0.1:
        pass
    tick = 2 / os.sysconf("SC_CLK_TCK")  # of either reading
    assert held(os.getpid()).cpu_s - before == pytest.approx(spent, abs=0.05 + tick)


@pytest.mark.slow
def test_the_command_does_every_fault_to_a_real_server_which_survives_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra: service)")
    from tests.fakes import write_tiny_bundle

    bundle = write_tiny_bundle(tmp_path / "tiny")
    arguments = ["--bundle", str(bundle.folder), "--precision", "fp32", "--threads", "1", "--seconds", "6"]
    assert run(["faults", *arguments, "--side", "256", "--out", str(tmp_path / "name")]) == 0
    told, found = capsys.readouterr().out, json.loads((tmp_path / "name.json").read_text())
    lost = [check["claim"] for check in found["checks"] if not check["holds"]]
    assert [claim for claim in lost if "trend" not in claim] == []  # six seconds have none
    assert "killed and started again" in told
    assert set(found["flood"]["statuses"]) == {"200", "429"}
    assert all(rate > 0 for rate in found["flood"]["images_a_s"])
    assert found["flood"]["clients"] == 10 * found["flood"]["places"]
