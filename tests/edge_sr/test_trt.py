"""The TensorRT backend over the fake CUDA and a fake TensorRT: engines found, checked, bound and run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sr.backends import Array, CanCapture, Captured, Engine, Stream, open_backend
from edge_sr.backends.engine_store import BuildFlags, EngineKey, EngineStore, make_sidecar
from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.trt import TensorRTBackend, obstacle
from edge_sr.backends.trt_library import BuildRequest, Library, open_library
from edge_sr.bundle import Bundle
from edge_sr.cuda import DeviceFacts
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError, EngineError
from edge_sr.pipeline import TileEngine, Upscaler, make_schedule
from edge_sr.spec import Component, Graph, Precision
from tests.edge_sr.fake_tensorrt import make_tensorrt
from tests.fakes import tiny_image, write_tiny_bundle

FACTS = {
    "created": "2026-01-01T00:00:00+00:00",
    "tool": "0",
    "build_seconds": 0.0,
    "checked": "not checked",
}


class Desk:
    """A fake GPU with a fake TensorRT and a folder of engines, built for it from a tiny bundle."""

    def __init__(self, folder: Path, bundle: Bundle, *, cuda: FakeCuda | None = None) -> None:
        self.cuda = cuda or FakeCuda(ORIN_NANO)
        module, self.calls = make_tensorrt(self.cuda)
        self.library, self.folder, self.bundle = Library(module), folder, bundle

    def backend(self, flags: BuildFlags | None = None) -> TensorRTBackend:
        return TensorRTBackend(engine_dir=self.folder, library=self.library, cuda=self.cuda, flags=flags)

    def build(self, *, batch: tuple[int, int, int] = (1, 1, 4)) -> None:
        for component in self.bundle.manifest.components:
            self.build_one(self.bundle.graph(component, Precision.FP32), batch=batch)

    def build_one(self, graph: Graph, *, batch: tuple[int, int, int] = (1, 1, 4)) -> Path:
        flags = BuildFlags(batch=batch)
        built = self.folder / "built.plan"
        built.write_bytes(self.library.build(BuildRequest(graph.path, flags, 1 << 20)).plan)
        key = EngineKey.of(graph, self.backend().target, str(flags))
        return EngineStore(self.folder).publish(built, make_sidecar(key, built, kind="device", **FACTS))


class Loop(ExitStack):
    """A prepared loop of one tile, which can be run, and captured as one piece of work."""

    def __init__(self, desk: Desk, preset: str = "noisy") -> None:
        super().__init__()
        bundle, self.backend = desk.bundle, self.enter_context(desk.backend())
        engines: dict[Component, Engine] = {
            c: self.backend.load(bundle.graph(c, Precision.FP32)) for c in Component
        }
        schedule = make_schedule(bundle, bundle.diffusion.presets[preset])
        embedding = bundle.time_embedding()
        self.engine = TileEngine(self.backend, engines, schedule=schedule, batch=1, embedding=embedding)
        self.enter_context(self.engine)
        self.stream = self.engine.stream

    def prepare(self, case: int) -> None:
        """Uploads what a run reads."""
        rng = np.random.default_rng(case)
        for name in ("image", "x0", "noise"):
            buffer = self.engine.buffers[name]
            buffer.upload(rng.standard_normal(buffer.shape).astype(np.float32), self.stream)

    def enqueue_all(self, *, skip_steps: bool = False) -> None:
        """Encode, loop and decode, plainly."""
        for binding in self.engine._encode:
            binding.enqueue(self.stream)
        if not skip_steps:
            self.engine.run_loop()
        for binding in self.engine._decode:
            binding.enqueue(self.stream)

    def result(self) -> Array:
        out = np.empty(self.engine.buffers["output"].shape, np.float32)
        self.engine.buffers["output"].download(out, self.stream)
        self.stream.synchronize()
        return out

    def run(self, case: int) -> Array:
        self.prepare(case)
        self.enqueue_all()
        return self.result()

    def capture(self, work: Callable[[Stream], None] | None = None) -> Captured:
        assert isinstance(self.backend, CanCapture)
        return self.backend.capture(
            work or (lambda stream: self.enqueue_all()),
            prepare=self.prepare,
            outputs=[self.engine.buffers["output"]],
            stream=self.stream,
        )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def desk(bundle: Bundle, tmp_path: Path) -> Desk:
    return Desk(tmp_path, bundle)


@pytest.fixture
def graph(bundle: Bundle) -> Graph:
    return bundle.graph(Component.STEP, Precision.FP32)


@pytest.fixture
def loop(desk: Desk) -> Iterator[Loop]:
    desk.build()
    with Loop(desk) as opened:
        yield opened


@pytest.fixture
def upscaler(desk: Desk) -> Iterator[Upscaler]:
    desk.build()
    with Upscaler(desk.bundle, desk.backend(), precision=Precision.FP32, batch=2) as opened:
        yield opened


def test_the_loop_over_tensorrt_gives_what_the_fake_backend_gives(upscaler: Upscaler, bundle: Bundle) -> None:
    preset = bundle.diffusion.presets["noisy"]
    image = tiny_image(40, 28)
    with Upscaler(bundle, FakeBackend(), precision=Precision.FP32, batch=2) as plain:
        wanted = plain.upscale(image, preset=preset, seed=3)
    found = upscaler.upscale(image, preset=preset, seed=3)
    np.testing.assert_array_equal(found.mean, wanted.mean)


def test_every_address_is_aligned_and_stays_the_same_over_100_images(loop: Loop, desk: Desk) -> None:
    for seed in range(100):
        loop.run(seed)
    runs = len(loop.engine.schedule.steps) + 2
    first, rest = desk.calls.enqueues[:runs], desk.calls.enqueues[runs:]
    assert len(rest) == 99 * runs
    assert all(rest[i] == first[i % runs] for i in range(len(rest)))
    assert all(p % 256 == 0 for _, addresses in first for p in addresses.values())


def test_nothing_is_allocated_after_the_first_image(loop: Loop, desk: Desk) -> None:
    loop.run(0)
    before, contexts = len(desk.cuda.asked), desk.calls.contexts
    loop.run(1)
    assert "allocate" not in {o.kind for o in desk.cuda.asked[before:]}
    assert desk.calls.contexts == contexts


def test_the_loop_itself_neither_copies_nor_waits(loop: Loop, desk: Desk) -> None:
    before = len(desk.cuda.asked)
    loop.engine.run_loop()
    steps = len(loop.engine.schedule.steps)
    assert [o.kind for o in desk.cuda.asked[before:]] == ["kernel"] * steps


def test_a_refused_run_is_an_error_that_names_the_graph(loop: Loop, desk: Desk) -> None:
    desk.calls.refused_run = 3
    with pytest.raises(BackendError, match="refused the run of the fp32 step"):
        loop.run(0)


def test_an_engine_says_which_batches_it_takes(desk: Desk, bundle: Bundle) -> None:
    desk.build(batch=(1, 1, 2))
    backend = desk.backend()
    engine = backend.load(bundle.graph(Component.DECODER, Precision.FP32))
    with ExitStack() as stack:
        specs = (*engine.inputs, *engine.outputs)
        buffers = {s.name: stack.enter_context(backend.allocate(s.concrete(3), s.dtype)) for s in specs}
        with pytest.raises(BackendError, match="batches of 1 to 2, wanted 3") as caught:
            engine.bind(buffers)
    assert "--max-batch 3" in caught.value.hint


def test_without_an_engine_the_hint_is_the_command_that_builds_it(desk: Desk, graph: Graph) -> None:
    with pytest.raises(EngineError, match="no engine for the fp32 step") as caught:
        desk.backend().load(graph)
    assert "edge-sr build-engine --precision fp32 --component step" in caught.value.hint


def test_a_changed_graph_is_refused_by_its_digest(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    with pytest.raises(EngineError, match="graph sha256: the engine has"):
        desk.backend().load(replace(graph, sha256="0" * 64))


def test_another_version_is_refused(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    module, _ = make_tensorrt(desk.cuda, version="10.7.0")
    desk.library = Library(module)
    with pytest.raises(EngineError, match=r"library version: the engine has 10\.3\.0, wanted 10\.7\.0"):
        desk.backend().load(graph)


def test_another_device_is_refused_with_both_parts_that_differ(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    desk.cuda = FakeCuda(RTX_CARD)
    with pytest.raises(
        EngineError, match=r"compute capability: the engine has 8\.7.*device name: the engine has"
    ):
        desk.backend().load(graph)


def test_other_flags_are_refused_where_flags_are_asked_for(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    with pytest.raises(EngineError, match="build flags: the engine has level=3"):
        desk.backend(BuildFlags(level=5)).load(graph)


def test_the_sidecar_is_checked_before_the_engine_is_opened(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    with pytest.raises(EngineError):
        desk.backend().load(replace(graph, sha256="0" * 64))
    assert desk.calls.opened == 0


def test_a_damaged_engine_is_never_opened(desk: Desk, graph: Graph) -> None:
    path = desk.build_one(graph)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(EngineError, match="not the file that its sidecar describes"):
        desk.backend().load(graph)
    assert desk.calls.opened == 0


def test_an_engine_that_anyone_may_write_is_never_opened(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph).chmod(0o666)
    with pytest.raises(EngineError, match="an engine is code"):
        desk.backend().load(graph)
    assert desk.calls.opened == 0


def test_an_engine_with_other_tensors_than_the_bundle_says_is_refused(desk: Desk, graph: Graph) -> None:
    desk.build_one(graph)
    with pytest.raises(EngineError, match="the bundle names"):
        desk.backend().load(replace(graph, outputs=graph.outputs[:1]))


def test_the_backend_is_on_the_list_and_says_why_it_cannot_run() -> None:
    with pytest.raises(BackendError) as caught:
        open_backend("tensorrt", cuda="no such adapter", library=Library(make_tensorrt(FakeCuda())[0]))
    assert "cuda-bindings" in caught.value.hint


def test_it_describes_what_runs(desk: Desk) -> None:
    facts = desk.backend().describe()
    assert (facts["version"], facts["provider"]) == ("tensorrt 10.3.0", "Orin (sm 8.7, CUDA 12.6)")


@pytest.mark.parametrize("facts", [ORIN_NANO, RTX_CARD], ids=["mapped", "staged"])
def test_a_shared_buffer_needs_no_copy_where_mapped_memory_is_coherent(
    bundle: Bundle, tmp_path: Path, facts: DeviceFacts
) -> None:
    desk = Desk(tmp_path, bundle, cuda=FakeCuda(facts))
    backend = desk.backend()
    data, out = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    with backend.allocate((6,), np.float32, shared=True) as buffer, backend.stream() as stream:
        buffer.upload(data, stream)
        buffer.download(out, stream)
        stream.synchronize()
    copies = {"copy_in", "copy_out"} & {o.kind for o in desk.cuda.asked}
    np.testing.assert_array_equal(out, data)
    assert bool(copies) == (facts is RTX_CARD)


def test_a_whole_loop_replays_as_one_launch_with_the_same_result(loop: Loop, desk: Desk) -> None:
    wanted = loop.run(7)
    with loop.capture() as captured:
        loop.prepare(7)
        before = len(desk.cuda.asked)
        captured.launch(loop.stream)
        assert [o.kind for o in desk.cuda.asked[before:]] == ["launch"]
        assert (captured.is_graph, captured.note) == (True, "")
        np.testing.assert_array_equal(loop.result(), wanted)


def test_the_warm_up_runs_come_before_the_capture(loop: Loop, desk: Desk) -> None:
    with loop.capture():
        kinds = [o.kind for o in desk.cuda.asked]
        runs = len(loop.engine.schedule.steps) + 2
        assert kinds[: kinds.index("capture")].count("kernel") == 2 * runs
        assert kinds[kinds.index("capture") :].count("kernel") == runs


def test_a_run_refused_inside_the_capture_falls_back_and_says_so(loop: Loop, desk: Desk) -> None:
    runs = len(loop.engine.schedule.steps) + 2
    desk.calls.refused_run = 2 * runs + 3
    with loop.capture() as captured:
        assert not captured.is_graph
        assert "refused the run of the fp32 step" in captured.note
        captured.launch(loop.stream)


def test_a_capture_that_misses_work_is_not_believed(loop: Loop) -> None:
    times = iter(range(10))

    def forgetful(stream: Stream) -> None:
        loop.enqueue_all(skip_steps=next(times) == 2)  # the third time is the one that is recorded

    with loop.capture(forgetful) as captured:
        assert not captured.is_graph
        assert "its replay is off by" in captured.note


def test_an_adapter_without_graphs_enqueues_plainly_and_says_so(bundle: Bundle, tmp_path: Path) -> None:
    desk = Desk(tmp_path, bundle, cuda=FakeCuda(ORIN_NANO, can_capture=False))
    desk.build()
    with Loop(desk) as loop, loop.capture() as captured:
        assert "no CUDA graphs" in captured.note


def test_work_that_fails_without_a_capture_is_an_error(loop: Loop, desk: Desk) -> None:
    desk.calls.refused_run = 1
    with pytest.raises(BackendError, match="refused the run of the fp32 encoder"):
        loop.capture()


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", 2), ("10.16.1.11", 2), ("11.4.0", 0)])
def test_networks_are_strongly_typed_in_every_version(
    version: str, flags: int, graph: Graph, tmp_path: Path
) -> None:
    module, calls = make_tensorrt(FakeCuda(), version=version)
    Library(module).build(BuildRequest(graph.path, BuildFlags(), 1 << 20))
    assert (calls.network_flags, calls.cleared) == ([flags], ["TF32"])


@pytest.mark.parametrize(
    ("complaint", "hint"),
    [
        ("libnvdla_compiler.so: cannot open shared object file", "--runtime nvidia"),
        ("No module named 'tensorrt'", "--system-site-packages"),
    ],
    ids=["in a container without the driver", "not installed"],
)
def test_a_tensorrt_that_cannot_be_imported_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, hint: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(f"raise ImportError({complaint!r})", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendError, match="tensorrt cannot be imported") as caught:
        open_library()
    assert hint in caught.value.hint


def test_a_tensorrt_that_is_too_old_is_refused() -> None:
    with pytest.raises(BackendError, match=r"TensorRT 8\.6\.2 is too old: 10\.3"):
        Library(make_tensorrt(FakeCuda(), version="8.6.2")[0])


def test_a_refused_timing_cache_is_started_afresh_with_a_note(graph: Graph) -> None:
    module, calls = make_tensorrt(FakeCuda())
    built = Library(module).build(BuildRequest(graph.path, BuildFlags(), 1 << 20, timing_cache=b"broken"))
    assert calls.caches == [b""]
    assert "started afresh" in built.notes[0]


def test_progress_tells_of_the_outermost_phase_and_can_stop_the_build(graph: Graph) -> None:
    seen: list[tuple[str, int, int]] = []
    library = Library(make_tensorrt(FakeCuda())[0])

    def note(phase: str, done: int, total: int) -> bool:
        seen.append((phase, done, total))
        return True

    library.build(BuildRequest(graph.path, BuildFlags(), 1 << 20), note)
    assert seen == [("Building", 1, 2), ("Building", 2, 2)]
    with pytest.raises(EngineError, match="cannot build"):
        library.build(BuildRequest(graph.path, BuildFlags(), 1 << 20), lambda *step: False)


def test_a_file_that_is_no_graph_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"cannot read step\.onnx: not an ONNX file"):
        Library(make_tensorrt(FakeCuda())[0]).build(BuildRequest(path, BuildFlags(), 1 << 20))


def test_auto_is_told_what_keeps_tensorrt_from_running(desk: Desk, graph: Graph) -> None:
    assert "no engine for the fp32 step" in obstacle([graph], desk.backend)
    desk.build_one(graph)
    assert obstacle([graph], desk.backend) == ""
