"""Building engines: checks before, a worker that may die, checks after, and publishing whole."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree

import pytest

from edge_sr.backends import Backend
from edge_sr.backends.engine_store import BuildFlags, EngineStore, default_engine_dir, graph_precision
from edge_sr.backends.optimised import optimised_target
from edge_sr.backends.trt import TensorRTBackend
from edge_sr.backends.trt_library import Library
from edge_sr.build import BuildProgress, BuildReport, Machine, build_engines
from edge_sr.build.autotune import Measurement, autotune, choose
from edge_sr.build.checks import workspace_for
from edge_sr.build.child import run_job
from edge_sr.build.worker import OOM_SCORE, raise_oom_score
from edge_sr.bundle import Bundle
from edge_sr.cuda.fake import ORIN_NANO, FakeCuda
from edge_sr.errors import BackendError, BundleError, DeviceError, EngineError, UsageError
from edge_sr.spec import Component, Graph, Precision
from tests.edge_sr import trees
from tests.edge_sr.fake_tensorrt import make_tensorrt
from tests.fakes import write_tiny_bundle

PRECISIONS = ("fp32", "fp16", "int8", "int8-fp16")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", precisions=PRECISIONS)


@pytest.fixture(scope="module")
def ready(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """The step's engines in INT8 and FP16, built once."""
    folder = tmp_path_factory.mktemp("ready")
    seen: list[BuildProgress] = []
    reports = {
        p: build(bundle, folder / p.value, folder, precision=p, progress=seen.append)
        for p in (Precision.INT8, Precision.FP16)
    }
    return Ready(reports, tuple(seen))


@dataclass(frozen=True)
class Ready:
    """Engines that were built before the test.

    Attributes:
        reports: By precision.
        progress: What was told of the builds.
    """

    reports: dict[Precision, BuildReport]
    progress: tuple[BuildProgress, ...]

    def copy(self, precision: Precision, folder: Path) -> BuildReport:
        """The engines of a precision, as if they had been built in this folder."""
        report = self.reports[precision]
        copytree(report.engines[0].path.parent, folder, dirs_exist_ok=True)
        moved = tuple(replace(b, path=folder / b.path.name) for b in report.engines)
        return replace(report, engines=moved)


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def machine(root: Path, kind: str = "orin") -> Machine:
    """A machine with a fake GPU and a fake TensorRT, in this process and in the worker."""
    cuda = FakeCuda(ORIN_NANO)
    library = Library(make_tensorrt(cuda)[0])

    def open_engines(folder: Path) -> Backend:
        return TensorRTBackend(engine_dir=folder, library=library, cuda=cuda)

    return Machine(root, (sys.executable, "-m", "tests.edge_sr.fake_worker", kind), open_engines)


def build(bundle: Bundle, engines: Path, root: Path, **options: object) -> BuildReport:
    given = {"precision": Precision.INT8, "components": (Component.STEP,), "machine": machine(root)} | options
    return build_engines(bundle, engine_dir=engines, **given)  # type: ignore[arg-type]


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []


def test_an_engine_is_published_with_its_sidecar_and_can_be_loaded(
    bundle: Bundle, ready: Ready, tmp_path: Path
) -> None:
    (built,) = ready.reports[Precision.INT8].engines
    key = built.sidecar.engine_key()
    machine(tmp_path).open_engines(built.path.parent).load(bundle.graph(key.component, key.precision))
    assert (key.precision, key.device, key.version) == (Precision.INT8_FP16, "Orin", "10.3.0")
    assert (built.sidecar.kind, built.was_reused) == ("device", False)
    assert files(built.path.parent) == [".cache", ".json", ".plan"]


def test_what_is_there_already_is_kept(bundle: Bundle, engines: Path, tmp_path: Path, ready: Ready) -> None:
    ready.copy(Precision.INT8, engines)
    assert build(bundle, engines, tmp_path).engines[0].was_reused


def test_what_is_forced_is_built_again_with_the_timings_of_before(
    bundle: Bundle, engines: Path, tmp_path: Path, ready: Ready
) -> None:
    ready.copy(Precision.INT8, engines)
    assert not build(bundle, engines, tmp_path, force=True).engines[0].was_reused
    (cache,) = engines.glob("timing-*.cache")
    assert cache.read_bytes() == b"++"


def test_a_changed_flag_makes_another_engine(
    bundle: Bundle, engines: Path, tmp_path: Path, ready: Ready
) -> None:
    ready.copy(Precision.INT8, engines)
    build(bundle, engines, tmp_path, flags=BuildFlags(level=5))
    assert files(engines).count(".plan") == 2


def test_progress_comes_from_the_worker(ready: Ready) -> None:
    assert ready.progress[:2] == (
        BuildProgress(Component.STEP, "Building", 1, 2),
        BuildProgress(Component.STEP, "Building", 2, 2),
    )


def test_outputs_are_checked_before_the_engine_is_published(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    seen: list[list[str]] = []

    def check(backend: Backend, graph: Graph) -> str:
        backend.load(graph)
        seen.append([p.name for p in engines.glob("*.plan")])
        return "golden outputs within 0.4 %"

    report = build(bundle, engines, tmp_path, check=check)
    assert seen == [[]]
    assert report.engines[0].sidecar.checked == "golden outputs within 0.4 %"


def test_an_engine_with_wrong_outputs_is_not_published(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    def check(backend: Backend, graph: Graph) -> str:
        raise EngineError("the outputs are off by 31 %")

    with pytest.raises(EngineError, match="off by 31 %"):
        build(bundle, engines, tmp_path, check=check)
    assert ".plan" not in files(engines)
    assert not list(engines.glob(".building-*"))


def test_a_worker_that_is_killed_for_memory_is_told_of_with_advice(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="killed by the system, most likely out of memory") as caught:
        build(bundle, engines, tmp_path, machine=machine(tmp_path, "killed"))
    assert "stop the desktop" in caught.value.hint
    assert "nvzramconfig" in caught.value.hint
    assert files(engines) == []


def test_a_kill_that_the_kernel_counted_was_for_memory(tmp_path: Path) -> None:
    counter = tmp_path / "proc/vmstat"
    trees.write(tmp_path, {"proc/vmstat": "pgfault 1\noom_kill 3\n"})
    script = f"open({str(counter)!r}, 'w').write('oom_kill 4\\n'); import os; os.kill(os.getpid(), 9)"
    with pytest.raises(EngineError, match="killed by the system, out of memory"):
        run_job({"do": "nothing"}, worker=(sys.executable, "-c", script), root=tmp_path)


def test_a_library_that_crashes_takes_nothing_with_it(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="crashed during the build \\(SIGSEGV\\)"):
        build(bundle, engines, tmp_path, machine=machine(tmp_path, "crashing"))


def test_a_worker_that_says_nothing_is_an_error(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="ended without an answer"):
        build(bundle, engines, tmp_path, machine=machine(tmp_path, "silent"))


def test_a_worker_that_fails_leaves_its_last_words(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="RuntimeError: the last words"):
        build(bundle, engines, tmp_path, machine=machine(tmp_path, "mute-failure"))


def test_tensorrt_without_a_gpu_is_an_error_with_the_reason(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match="tensorrt is here, but no GPU: cudaGetDeviceCount failed"):
        build(bundle, engines, tmp_path, machine=machine(tmp_path, "no-gpu"))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_the_original_nano_is_told_what_is_missing_and_what_still_works(
    bundle: Bundle, engines: Path, tmp_path: Path, precision: Precision
) -> None:
    root = trees.make(trees.NANO, tmp_path)
    with pytest.raises(DeviceError, match=r"wanted 10\.3") as caught:
        build(bundle, engines, root, precision=precision)
    assert "--backend onnxruntime" in caught.value.hint
    assert "edge-sr info --trtexec" in caught.value.hint


def test_an_old_gpu_is_named_with_what_it_lacks(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    root = trees.make(trees.NANO, tmp_path)
    (root / "var/lib/dpkg/status").unlink()
    with pytest.raises(DeviceError, match=r"sm_53.*no INT8 hardware.*its last JetPack is 4\.6"):
        build(bundle, engines, root)


def test_an_orin_nano_passes_the_checks(bundle: Bundle, engines: Path, tmp_path: Path) -> None:
    root = trees.make(trees.ORIN_NANO_JP62, tmp_path)
    assert build(bundle, engines, root).target.compute_capability == "8.7"


def test_a_bundle_without_int8_names_the_calibration_command(tmp_path: Path, engines: Path) -> None:
    plain = write_tiny_bundle(tmp_path / "plain")
    with pytest.raises(BundleError) as caught:
        build(plain, engines, tmp_path)
    assert "python -m calibration" in caught.value.hint


@pytest.mark.parametrize(("free_mib", "workspace_mib"), [(840, 140), (1600, 400), (16000, 1024)])
def test_the_workspace_is_a_quarter_of_what_is_free_within_limits(
    bundle: Bundle, tmp_path: Path, free_mib: int, workspace_mib: int
) -> None:
    trees.write(tmp_path, {"proc/meminfo": trees.meminfo(8 << 20, free_mib << 10, 0)})
    path = bundle.graph(Component.STEP, Precision.FP32).path  # a few KiB
    assert workspace_for(path, root=tmp_path) == workspace_mib << 20


def test_too_little_memory_is_told_before_anything_is_built(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    trees.write(tmp_path, {"proc/meminfo": trees.meminfo(4 << 20, 600 << 10, 0)})
    with pytest.raises(EngineError, match=r"600 MiB are free, about 828 MiB are wanted") as caught:
        build(bundle, engines, tmp_path)
    assert "stop the desktop" in caught.value.hint


def test_the_worker_offers_itself_to_the_kernel_first(tmp_path: Path) -> None:
    trees.write(tmp_path, {"proc/self/oom_score_adj": "0"})
    assert raise_oom_score(tmp_path)
    assert (tmp_path / "proc/self/oom_score_adj").read_text(encoding="ascii") == str(OOM_SCORE)
    assert not raise_oom_score(tmp_path / "nowhere")


def test_an_unknown_backend_is_refused(bundle: Bundle, engines: Path) -> None:
    with pytest.raises(UsageError, match="'fake'"):
        build_engines(bundle, precision=Precision.FP32, backend="fake", engine_dir=engines)


def test_onnxruntime_saves_an_optimised_model_for_this_cpu(
    bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    checked: list[str] = []

    def check(backend: Backend, graph: Graph) -> str:
        backend.load(graph)
        checked.append(graph.path.suffix)
        return "as the golden outputs"

    report = build_engines(
        bundle, precision=Precision.FP32, backend="onnxruntime", engine_dir=engines, check=check
    )
    assert checked == [".onnx"] * 3
    assert {b.sidecar.kind for b in report.engines} == {"optimised-onnx"}
    assert report.target.library == "onnxruntime"


def test_an_optimised_model_belongs_to_a_cpu(tmp_path: Path) -> None:
    plain = optimised_target("1.23.0", root=trees.make(trees.PC_PLAIN, tmp_path / "a"))
    jetson = optimised_target("1.23.0", root=trees.make(trees.ORIN_NANO_JP62, tmp_path / "b"))
    assert plain.device != jetson.device


def test_int8_means_the_form_that_the_backend_runs() -> None:
    assert graph_precision("tensorrt", Precision.INT8) is Precision.INT8_FP16
    assert graph_precision("onnxruntime", Precision.INT8) is Precision.INT8


def test_engines_are_kept_in_the_state_directory_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_engine_dir() == Path("/cache/edge-sr/engines")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-sr:/other")
    assert default_engine_dir() == Path("/var/lib/edge-sr/engines")


FAST, SLOW = (9.0, 9.1, 9.2, 9.3), (12.0, 12.1, 12.2, 12.3)


@pytest.mark.parametrize(
    ("int8", "fp16", "wanted"),
    [
        (Measurement(FAST, 29.95), Measurement(SLOW, 30.0), Precision.INT8),
        (Measurement(SLOW, 30.0), Measurement(FAST, 30.0), Precision.FP16),
        (
            Measurement((9.0, 12.0, 9.0, 12.0), 30.0),
            Measurement((10.0, 11.0, 10.0, 11.0), 30.0),
            Precision.FP16,
        ),
        (Measurement(FAST, 29.5), Measurement(SLOW, 30.0), Precision.FP16),
    ],
    ids=["faster and as good", "slower", "not clearly faster", "worse than the budget"],
)
def test_int8_is_chosen_where_it_is_clearly_faster_and_good_enough(
    int8: Measurement, fp16: Measurement, wanted: Precision
) -> None:
    choice = choose(int8, fp16)
    assert choice.precision is wanted
    assert "ms" in choice.reason


def test_one_run_is_not_enough_to_choose() -> None:
    with pytest.raises(UsageError):
        choose(Measurement((1.0,), 30.0), Measurement((2.0,), 30.0))


@pytest.mark.parametrize(("winner", "precision"), [("fp16", "fp16"), ("int8", "int8-fp16")])
def test_autotune_publishes_the_winner_alone_with_the_reason(
    ready: Ready, engines: Path, winner: str, precision: str
) -> None:
    def measure(asked: Precision, folder: Path) -> Measurement:
        assert list(folder.glob("*.plan"))
        return Measurement(FAST if asked.value == winner else SLOW, 30.0)

    choice, report = autotune(ready.copy, measure, engine_dir=engines)
    (sidecar,) = (json.loads(p.read_text(encoding="utf-8")) for p in engines.glob("*.json"))
    assert choice.precision.value == winner
    assert sidecar["key"]["precision"] == precision
    assert sidecar["notes"] == [choice.reason]
    assert not list(engines.glob(".building-*"))
    assert report.engines[0].path.parent == engines


def test_tensorrt_rtx_builds_every_graph_without_a_gpu(tmp_path: Path, engines: Path, bundle: Bundle) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed; pip install tensorrt-rtx-cu13")
    if any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvmap")):
        pytest.skip("there is a GPU here")
    report = build_engines(bundle, precision=Precision.INT8, engine_dir=engines)
    for built in report.engines:
        assert built.path.name.startswith("rtx-portable-")
        assert built.sidecar.checked == "not run: built without a GPU, and not for a Jetson"
    assert "8.9" in report.target.compute_capability
    assert "not for a Jetson" in report.notes[0]
    again = build_engines(bundle, precision=Precision.INT8, engine_dir=engines)
    assert all(built.was_reused for built in again.engines)


def test_a_portable_engine_is_refused_on_a_jetson_by_name(engines: Path, ready: Ready) -> None:
    report = ready.copy(Precision.INT8, engines)
    key = report.engines[0].sidecar.engine_key()
    portable = {"library": "tensorrt_rtx", "compute_capability": "8.6+8.9", "device": "portable"}
    for path in engines.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["key"] |= portable
        path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(EngineError, match=r"library: the engine has tensorrt_rtx.*8\.6\+8\.9, wanted 8\.7"):
        EngineStore(engines).find(key)
