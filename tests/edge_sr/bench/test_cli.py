"""`edge-sr bench` and `edge-sr compare` as they are typed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sr.backends import BACKENDS
from edge_sr.backends.fake import FakeBackend, FakeEngine
from edge_sr.bench.records import Start
from edge_sr.bench.start import first_image
from edge_sr.bench.storage import read_result, to_json
from edge_sr.bundle import Bundle
from edge_sr.cli import run
from edge_sr.spec import Graph
from tests.edge_sr.bench.results import result_of, row_of
from tests.edge_sr.fake_device import install, write_fake_bundle
from tests.fakes import write_tiny_bundle

Run = Callable[..., tuple[int, str, str]]


class Interrupted(FakeBackend):
    """A backend during which somebody presses Ctrl-C."""

    def load(self, graph: Graph) -> FakeEngine:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32", "fp16"))


@pytest.fixture
def edge_sr(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; `bench` on the fake backend and the tiny bundle, for a moment."""

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        plain = ["--bundle", bundle.folder, "--backend", "fake", "--duration", "0.1"]
        given = [*(plain if command == "bench" else []), *arguments]
        code = run([command, *map(str, given)])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_the_table_speaks_as_trtexec_does_and_marks_percentiles_of_few(edge_sr: Run) -> None:
    code, out, err = edge_sr("bench", "--quick")
    assert code == 0
    for word in (
        "Latency",
        "Compute Time",
        "Host Time",
        "Throughput",
        "median",
        "99%",
        "one step",
        "File to file",
    ):
        assert word in out
    assert "fake: asked for" in err and "say nothing of the model" in err
    line = next(line for line in out.splitlines() if line.strip().startswith("Latency"))
    images = int(
        next(line for line in out.splitlines() if " images after " in line).split(": ")[1].split()[0]
    )
    assert line.count("*") == sum(images < wanted for wanted in (29, 59, 299))
    assert ("* too few samples" in out) == (images < 299)


def test_everything_is_measured_by_default_and_kept(edge_sr: Run, tmp_path: Path) -> None:
    code, out, _ = edge_sr("bench", "--batch", "2", "--json", tmp_path / "new" / "a.json")
    assert code == 0
    (row,) = read_result(tmp_path / "new" / "a.json").rows
    assert row.start and len(row.batches) == 2 and len(row.loads) == 2
    for word in ("Batch 2", "Offered", "Cold start", "Memory", "Enqueue Time"):
        assert word in out


def test_stdout_holds_the_json_alone_where_it_is_asked_for(edge_sr: Run, tmp_path: Path) -> None:
    code, out, _ = edge_sr("bench", "--quick", "--json", "-")
    (tmp_path / "a.json").write_text(out, encoding="utf-8")
    assert code == 0
    assert read_result(tmp_path / "a.json").settings.parts == ()


def test_precisions_run_in_turns_and_are_compared(edge_sr: Run, tmp_path: Path) -> None:
    command = ["--precision", "fp32", "--precision", "fp16", "--quick", "--json", tmp_path / "a.json"]
    code, out, _ = edge_sr("bench", *command)
    assert code == 0
    one, two = read_result(tmp_path / "a.json").rows
    assert len(one.stages.latency) == len(two.stages.latency)
    assert "fp16, 4 ddim steps, 16x16, 1 thread against fp32, 4 ddim steps" in out


@pytest.mark.parametrize(
    ("sweep", "wanted"),
    [("steps=1,3", [(1, 16), (3, 16)]), ("size=16,24", [(4, 16), (4, 24)]), ("size=32", [(4, 32)])],
)
def test_a_sweep_has_a_row_for_each_value(
    edge_sr: Run, tmp_path: Path, sweep: str, wanted: list[tuple[int, int]]
) -> None:
    assert edge_sr("bench", "--sweep", sweep, "--json", tmp_path / "a.json")[0] == 0
    rows = read_result(tmp_path / "a.json").rows
    assert [(row.case.preset and row.case.preset.steps, row.case.size) for row in rows] == wanted
    assert all(row.start is None and not row.loads for row in rows)


def test_a_bundle_without_a_loop_is_timed_and_has_no_steps_to_sweep(edge_sr: Run, tmp_path: Path) -> None:
    plain = ("--bundle", write_tiny_bundle(tmp_path / "plain", family="regression").folder)
    code, out, err = edge_sr("bench", "--quick", *plain, "--json", tmp_path / "a.json")
    assert code == 0, err
    assert "one pass" in out
    assert edge_sr("compare", tmp_path / "a.json", tmp_path / "a.json")[0] == 0
    for option in (("--sweep", "steps=1,2"), ("--steps", 2)):
        code, out, err = edge_sr("bench", "--quick", *plain, *option)
        assert (code, out) == (1, "")
        assert "bundle tiny has no loop" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--sweep", "batch"], 2, "for batches there is --batch"),
        (["--sweep", "steps="], 2, "wanted steps=N,N"),
        (["--sweep", "steps=1,"], 2, "wanted steps=N,N"),
        (["--sweep", "steps=0"], 2, "wanted steps=N,N"),
        (["--sweep", "steps=2,x"], 2, "wanted steps=N,N"),
        (["--sweep", "steps=2,2"], 2, "named twice"),
        (["--sweep", "steps=2", "--steps", "3"], 1, "contradict each other"),
        (["--sweep", "threads"], 1, "no threads to sweep"),
        (["--steps", "21"], 1, "steps must be in"),
        (["--precision", "int8"], 1, "no int8 encoder"),
        (["--preset", "unknown"], 1, "no preset 'unknown'"),
        (["--batch", "0"], 2, "range"),
        (["--duration", "0"], 2, "range"),
    ],
)
def test_bad_options_are_told_before_anything_is_measured(
    edge_sr: Run, arguments: list[str], code: int, words: str
) -> None:
    found, out, err = edge_sr("bench", *arguments)
    assert (found, out) == (code, "")
    assert words in err


def test_a_place_that_cannot_be_written_is_told_first(edge_sr: Run, tmp_path: Path) -> None:
    code, out, err = edge_sr("bench", "--json", tmp_path)
    assert (code, out) == (1, "")
    assert "is a folder" in err


def test_interrupted_it_leaves_the_old_file_and_nothing_else(
    edge_sr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "a.json"
    old.write_text("old")
    monkeypatch.setitem(BACKENDS, "fake", f"{__name__}:{Interrupted.__name__}")
    code, out, err = edge_sr("bench", "--quick", "--json", old)
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and old.read_text() == "old"


def test_trtexec_is_told_to_time_the_same_graphs(edge_sr: Run) -> None:
    code, out, _ = edge_sr("bench", "--quick", "--precision", "fp16", "--batch", "2", "--trtexec")
    commands = [line for line in out.splitlines() if line.startswith("trtexec ") or "/trtexec " in line]
    assert code == 0
    assert len(commands) == 3 and all("fp16.onnx" in line and "--duration=" in line for line in commands)
    assert "image:2x1x16x16" in commands[0]


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, Path]:
    """Results on disk."""
    results = {
        "base": result_of([row_of(0.1), row_of(0.05, precision="int8")]),
        "slow": result_of([row_of(0.12, seed=1), row_of(0.05, precision="int8", seed=2)]),
        "mode": result_of([row_of(0.1)], power_mode="MAXN_SUPER"),
        "few": result_of([row_of(0.1, count=5)]),
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(to_json(result), encoding="utf-8")
    return {name: tmp_path / f"{name}.json" for name in results}


def test_a_comparison_shows_medians_ratio_interval_and_words(edge_sr: Run, stored: dict[str, Path]) -> None:
    code, out, _ = edge_sr("compare", stored["base"], stored["slow"])
    assert code == 0
    first, second = (line for line in out.splitlines() if line.strip().startswith("latency"))
    assert "slower" in first and "[" in first
    assert "no difference seen" in second


def test_a_comparison_as_json_has_every_metric(edge_sr: Run, stored: dict[str, Path]) -> None:
    code, out, _ = edge_sr("compare", stored["base"], stored["slow"], "--json")
    rows = json.loads(out)["rows"]
    assert code == 0
    assert [row["after"]["precision"] for row in rows] == ["fp32", "int8"]
    latency = rows[0]["metrics"][0]
    assert latency["name"] == "latency" and latency["ratio"]["low"] > 1.1 and "slower" in latency["verdict"]


@pytest.mark.parametrize(
    ("after", "limit", "code"), [("slow", "1.05", 1), ("slow", "1.5", 0), ("base", "1.001", 0)]
)
def test_a_limit_decides_the_exit_code(
    edge_sr: Run, stored: dict[str, Path], after: str, limit: str, code: int
) -> None:
    found, _, err = edge_sr("compare", stored["base"], stored[after], "--fail-above", limit)
    assert found == code
    assert ("slower than" in err) == bool(code)
    assert "int8" not in err  # the row that is as fast as before


def test_another_power_mode_is_refused_by_name_or_allowed(edge_sr: Run, stored: dict[str, Path]) -> None:
    code, out, err = edge_sr("compare", stored["base"], stored["mode"])
    assert (code, out) == (1, "")
    assert "power_mode 15W against MAXN_SUPER" in err and "--across" in err
    code, _, err = edge_sr("compare", stored["base"], stored["mode"], "--across", "power_mode")
    assert code == 0
    assert "power_mode differs" in err and "only the first has int8" in err


def test_too_few_samples_do_not_pass_a_limit(edge_sr: Run, stored: dict[str, Path]) -> None:
    code, _, err = edge_sr("compare", stored["base"], stored["few"], "--fail-above", "1.05")
    assert code == 1
    assert "5 samples cannot decide" in err


@pytest.mark.parametrize("data", ["", "{", '{"kind": "edge-sr/bench", "schema_version": 9}', "[NaN]"])
def test_what_is_no_result_is_told(edge_sr: Run, stored: dict[str, Path], tmp_path: Path, data: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(data)
    code, out, err = edge_sr("compare", stored["base"], bad)
    assert (code, out) == (1, "")
    assert "bad.json" in err


def test_a_gpu_is_measured_by_its_own_clock(
    edge_sr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the fake Jetson, whose loop is recorded and replayed."""
    device = fake_device(edge_sr, tmp_path, monkeypatch)
    code, out, err = edge_sr("bench", *device, "--quick", "--json", tmp_path / "a.json")
    assert code == 0, err
    result = read_result(tmp_path / "a.json")
    assert result.environment.backend == "tensorrt" and "Orin" in result.environment.provider
    assert "GPU Compute Time" in out
    assert str(tmp_path) not in to_json(result)


def test_a_first_image_on_a_gpu_tells_the_device_memory_that_it_took(
    edge_sr: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where the fake TensorRT and the fake CUDA are one device."""
    fake_device(edge_sr, tmp_path, monkeypatch)
    preset = {"sampler": "ddim", "steps": 4}
    job: dict[str, Any] = {
        "bundle": str(tmp_path / "bundle"),
        "backend": "tensorrt",
        "engine_dir": str(tmp_path / "engines"),
    }
    job |= {"precision": "fp16", "preset": preset, "size": 16, "batch": 1}
    start = Start(**first_image(job | {"threads": 0, "seed": 0, "spawned": time.monotonic()}))
    latent = 4 * 8 * 8 * 4  # bytes of one latent of the tiny model, of which the loop has several
    assert start.device_bytes is not None and start.device_bytes > 4 * latent


def fake_device(edge_sr: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A fake Jetson with the engines of a bundle; the options that run them."""
    install(folder / "packages", monkeypatch)
    bundle = write_fake_bundle(folder / "bundle").folder
    device = ["--bundle", bundle, "--engine-dir", folder / "engines", "--precision", "fp16"]
    assert edge_sr("build-engine", *device)[0] == 0
    return [*device, "--backend", "tensorrt"]
