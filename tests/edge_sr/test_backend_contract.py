"""What every backend promises, tried on each that can run here; then what each promises besides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from edge_sr.backends import BACKENDS, Backend, Buffer, Engine, Resource, Stream, open_backend
from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostBuffer
from edge_sr.bundle import Bundle
from edge_sr.cuda import DeviceFacts
from edge_sr.cuda.fake import ORIN_NANO, RTX_CARD, FakeCuda
from edge_sr.errors import BackendError, EdgeSRError
from edge_sr.schedule import NO_CLIP
from edge_sr.spec import Component, Graph, Precision, TensorSpec
from tests.edge_sr.test_trt import Desk
from tests.fakes import write_tiny_bundle

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float32]

OPTIONS: dict[str, dict[str, Any]] = {"onnxruntime": {"threads": 1}, "openvino": {"threads": 1}}
SENTINEL = np.float32(-77.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


ON_THE_CPU = ("fake", "onnxruntime", "openvino")
OPTIONAL = ("openvino",)  # an extra of its own, which no other brings
FAKE_DEVICES = {"tensorrt on a fake Jetson": ORIN_NANO, "tensorrt on a fake card": RTX_CARD}
EACH = [name if name in ON_THE_CPU else pytest.param(name, marks=pytest.mark.gpu) for name in BACKENDS]


class Tidy(Resource):
    """A backend that closes at its end what a test had it make: what lies on a GPU warns where it is not."""

    def __init__(self, backend: Backend) -> None:
        self._held = ExitStack()
        self.backend, self.name = self._held.enter_context(backend), backend.name

    def describe(self) -> dict[str, str]:
        return self.backend.describe()

    def load(self, graph: Graph) -> Engine:
        return self._held.enter_context(self.backend.load(graph))

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, shared: bool = False) -> Buffer:
        return self._held.enter_context(self.backend.allocate(shape, dtype, shared=shared))

    def stream(self) -> Stream:
        return self._held.enter_context(self.backend.stream())

    def close(self) -> None:
        self._held.close()


def on_a_fake_device(facts: DeviceFacts, folder: Path, bundle: Bundle) -> Backend:
    """TensorRT and CUDA are fakes; what lies between them and this suite is not."""
    desk = Desk(folder, bundle, cuda=FakeCuda(facts))
    desk.build(batch=(1, 1, 8))
    return desk.backend()


@pytest.fixture(params=[*EACH, *FAKE_DEVICES])
def backend(request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path) -> Iterator[Backend]:
    name = request.param
    try:
        if name in FAKE_DEVICES:
            opened = on_a_fake_device(FAKE_DEVICES[name], tmp_path, bundle)
        else:
            opened = open_backend(name, **OPTIONS.get(name, {}))
    except EdgeSRError as error:
        if name in ON_THE_CPU and name not in OPTIONAL:
            raise
        pytest.skip(f"{name} cannot run here: {error}")
    with Tidy(opened) as tidy:
        yield tidy


@pytest.fixture(params=["onnxruntime", *OPTIONAL])
def real(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """What reads ONNX files on the CPU."""
    if request.param in OPTIONAL:
        pytest.importorskip(request.param)
    with open_backend(request.param, threads=1) as opened:
        yield opened


@pytest.fixture
def ort() -> Iterator[Backend]:
    with open_backend("onnxruntime", threads=1) as opened:
        yield opened


def load(backend: Backend, bundle: Bundle, component: Component) -> Engine:
    """A loaded graph, or a skip for a backend that needs an engine built first."""
    try:
        return backend.load(bundle.graph(component, Precision.FP32))
    except EdgeSRError as error:
        if backend.name in ON_THE_CPU:
            raise
        pytest.skip(f"{backend.name} has no engine here: {error}")


def specs(engine: Engine) -> tuple[TensorSpec, ...]:
    return (*engine.inputs, *engine.outputs)


def allocate(backend: Backend, engine: Engine, *, batch: int = 2) -> dict[str, Buffer]:
    return {s.name: backend.allocate(s.concrete(batch), s.dtype) for s in specs(engine)}


def values_for(engine: Engine, *, batch: int = 2, seed: int = 0) -> dict[str, Float]:
    """Seeded inputs; the step's scalars are those of no sampler, to tell all of them apart."""
    rng = np.random.default_rng(seed)
    values = {s.name: rng.standard_normal(s.concrete(batch)).astype(np.float32) for s in engine.inputs}
    if "coefficients" in values:
        values["coefficients"][:, -1] = 0.5 + np.arange(batch)  # clip, a bound above 0
    return values


def fetch(backend: Backend, buffer: Buffer) -> Array:
    stream = backend.stream()
    out = np.empty(buffer.shape, buffer.dtype)
    buffer.download(out, stream)
    stream.synchronize()
    return out


def put(backend: Backend, buffer: Buffer, value: Array) -> None:
    stream = backend.stream()
    buffer.upload(value, stream)
    stream.synchronize()


def run(backend: Backend, engine: Engine, values: dict[str, Float]) -> dict[str, Array]:
    """One run with buffers of its own: what the outputs hold, which held the sentinel before."""
    buffers = allocate(backend, engine, batch=len(next(iter(values.values()))))
    for spec in engine.outputs:
        put(backend, buffers[spec.name], np.full(buffers[spec.name].shape, SENTINEL))
    for name, value in values.items():
        put(backend, buffers[name], value)
    stream = backend.stream()
    engine.bind(buffers).enqueue(stream)
    stream.synchronize()
    return {s.name: fetch(backend, buffers[s.name]) for s in engine.outputs}


each_component = pytest.mark.parametrize("component", Component)
shared_or_not = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


# ---- opening and loading


def test_an_unknown_backend_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(BackendError, match="no backend 'abacus'") as caught:
        open_backend("abacus")
    assert all(name in caught.value.hint for name in BACKENDS)


def test_it_says_what_it_is_in_words(backend: Backend) -> None:
    described = backend.describe()
    assert described["backend"] == backend.name
    assert all(isinstance(key, str) and value and isinstance(value, str) for key, value in described.items())


@each_component
def test_a_loaded_graph_has_the_bundle_s_tensors(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    graph = bundle.graph(component, Precision.FP32)
    assert (engine.inputs, engine.outputs) == (graph.inputs, graph.outputs)


# ---- memory


@shared_or_not
def test_new_memory_is_zero(backend: Backend, shared: bool) -> None:
    assert not fetch(backend, backend.allocate((3, 4), np.float32, shared=shared)).any()


@shared_or_not
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8"])
def test_what_is_uploaded_comes_back(backend: Backend, dtype: str, shared: bool) -> None:
    buffer = backend.allocate((2, 3), dtype, shared=shared)
    value = np.arange(6).reshape(2, 3).astype(dtype)
    put(backend, buffer, value)

    assert (buffer.shape, buffer.dtype) == ((2, 3), np.dtype(dtype))
    assert np.array_equal(fetch(backend, buffer), value)


def test_an_upload_is_a_copy(backend: Backend) -> None:
    buffer, value = backend.allocate((4,), np.float32), np.ones(4, np.float32)
    put(backend, buffer, value)
    value[:] = 2
    assert fetch(backend, buffer).tolist() == [1, 1, 1, 1]


def test_arrays_in_another_memory_order_are_copied_by_their_elements(backend: Backend) -> None:
    buffer = backend.allocate((3, 2), np.float32)
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    put(backend, buffer, value)
    out = np.empty((2, 3), np.float32).T
    stream = backend.stream()
    buffer.download(out, stream)
    stream.synchronize()

    assert np.array_equal(out, value)


@pytest.mark.parametrize(
    "array",
    [np.ones((2, 4), np.float32), np.ones((1, 3), np.float32), np.ones(3, np.float32), np.ones((2, 3))],
    ids=["longer", "broadcastable", "fewer axes", "float64"],
)
def test_an_array_of_another_shape_or_type_is_neither_uploaded_nor_filled(
    backend: Backend, array: Array
) -> None:
    buffer, stream = backend.allocate((2, 3), np.float32), backend.stream()
    with pytest.raises(BackendError, match=r"wanted float32 \(2, 3\), got"):
        buffer.upload(array, stream)
    with pytest.raises(BackendError, match=r"wanted float32 \(2, 3\), got"):
        buffer.download(array, stream)


@shared_or_not
def test_a_part_shares_the_memory_of_the_whole(backend: Backend, shared: bool) -> None:
    whole = backend.allocate((3, 2, 4), np.float32, shared=shared)
    part = whole.at(1)
    put(backend, part, np.full((2, 4), 5, np.float32))

    assert part.shape == (2, 4)
    assert fetch(backend, whole).sum(axis=(1, 2)).tolist() == [0, 40, 0]
    put(backend, whole, np.full((3, 2, 4), 6, np.float32))
    assert np.array_equal(fetch(backend, part), np.full((2, 4), 6))


def test_closing_a_part_leaves_the_whole(backend: Backend) -> None:
    whole = backend.allocate((3, 2), np.float32)
    whole.at(2).close()
    put(backend, whole, np.ones((3, 2), np.float32))
    assert fetch(backend, whole).all()


@shared_or_not
def test_rows_share_the_memory_of_the_whole_and_keep_its_axes(backend: Backend, shared: bool) -> None:
    whole = backend.allocate((4, 64), np.float32, shared=shared)
    put(backend, whole.rows(1, 3), np.full((2, 64), 5, np.float32))

    assert fetch(backend, whole).sum(axis=1).tolist() == [0, 320, 320, 0]
    assert np.array_equal(fetch(backend, whole.rows(2, 4)), [[5] * 64, [0] * 64])
    put(backend, whole.rows(1, 4).rows(2, 3), np.full((1, 64), 6, np.float32))
    assert fetch(backend, whole).sum(axis=1).tolist() == [0, 320, 320, 384]


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (-1, 2), (2, 2), (3, 1)])
def test_rows_that_are_not_there_are_refused(backend: Backend, start: int, stop: int) -> None:
    with pytest.raises(BackendError, match=r"no rows .* in a buffer of \(4, 2\)"):
        backend.allocate((4, 2), np.float32).rows(start, stop)


@shared_or_not
def test_a_row_is_copied_onto_another_in_the_streams_order(backend: Backend, shared: bool) -> None:
    whole, stream = backend.allocate((3, 5), np.float32, shared=shared), backend.stream()
    before, after = np.empty((1, 5), np.float32), np.empty((1, 5), np.float32)
    whole.rows(2, 3).upload(np.full((1, 5), 7, np.float32), stream)
    whole.rows(0, 1).download(before, stream)
    whole.rows(0, 1).copy(whole.rows(2, 3), stream)
    whole.rows(2, 3).upload(np.full((1, 5), 8, np.float32), stream)
    whole.rows(0, 1).download(after, stream)
    stream.synchronize()

    assert (before == 0).all()
    assert (after == 7).all()
    assert fetch(backend, whole)[:, 0].tolist() == [7, 0, 8]


def test_a_buffer_of_another_shape_or_type_is_not_copied(backend: Backend) -> None:
    buffer, stream = backend.allocate((2, 3), np.float32), backend.stream()
    for shape, dtype in (((1, 3), "float32"), ((2, 3), "float16")):
        with pytest.raises(BackendError, match=r"wanted float32 \(2, 3\), got"):
            buffer.copy(backend.allocate(shape, dtype), stream)


# ---- binding


@each_component
def test_the_right_buffers_of_any_batch_are_bound(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    for batch in (1, 2, 5):
        engine.bind(allocate(backend, engine, batch=batch))


def test_every_buffer_that_does_not_fit_is_named_at_once(backend: Backend, bundle: Bundle) -> None:
    engine = load(backend, bundle, Component.STEP)
    buffers = allocate(backend, engine)
    del buffers["noise"]
    buffers["surprise"] = backend.allocate((1,), np.float32)
    buffers["x"] = backend.allocate((2, 4, 8, 9), np.float32)
    buffers["x0"] = backend.allocate((2, 4, 8, 8), np.float16)
    with pytest.raises(BackendError) as caught:
        engine.bind(buffers)

    for problem in (
        "unknown tensor 'surprise'",
        "missing noise: float32 (N, 4, 8, 8)",
        "wanted x: float32 (N, 4, 8, 8), got float32 (2, 4, 8, 9)",
        "wanted x0: float32 (N, 4, 8, 8), got float16 (2, 4, 8, 8)",
    ):
        assert problem in caught.value.message


@pytest.mark.parametrize("name", ["features", "output"])
def test_buffers_of_different_batches_are_not_bound(backend: Backend, bundle: Bundle, name: str) -> None:
    engine = load(backend, bundle, Component.DECODER)
    buffers = allocate(backend, engine, batch=2)
    buffers[name] = allocate(backend, engine, batch=3)[name]
    with pytest.raises(BackendError, match=r"batch sizes differ: \[2, 3\]"):
        engine.bind(buffers)


@each_component
def test_rows_are_bound_as_a_batch_of_their_own(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    values, stream = values_for(engine, batch=4), backend.stream()
    four, own = (allocate(backend, engine, batch=batch) for batch in (4, 2))
    for name in {"coefficients", "time_embedding"} & set(four):  # too short for a GPU to start at their rows
        del four[name]
    bound = own | {name: buffer.rows(1, 3) for name, buffer in four.items()}
    for name, value in values.items():
        put(backend, bound[name], value[1:3])
    engine.bind(bound).enqueue(stream)
    stream.synchronize()
    alone = run(backend, engine, {name: value[1:3] for name, value in values.items()})
    for spec in engine.outputs:
        whole = fetch(backend, four[spec.name])
        assert np.array_equal(whole[1:3], alone[spec.name]), spec.name
        assert not whole[[0, 3]].any(), spec.name


def test_nothing_bound_is_not_enough(backend: Backend, bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="missing image"):
        load(backend, bundle, Component.ENCODER).bind({})


# ---- running


@each_component
def test_a_run_writes_every_element_of_every_output(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    for name, value in run(backend, engine, values_for(engine)).items():
        assert np.isfinite(value).all(), name
        assert not (value == SENTINEL).any(), name


@each_component
def test_a_run_touches_nothing_but_the_outputs_it_was_given(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    values, stream = values_for(engine), backend.stream()
    # Every buffer is the middle of three, so that a write over either end is seen too.
    around = {s.name: backend.allocate((3, *s.concrete(2)), s.dtype) for s in specs(engine)}
    for buffer in around.values():
        put(backend, buffer, np.full(buffer.shape, SENTINEL))
    bound = {name: buffer.at(1) for name, buffer in around.items()}
    for name, value in values.items():
        put(backend, bound[name], value)
    engine.bind(bound).enqueue(stream)
    stream.synchronize()

    for name, buffer in around.items():
        assert (fetch(backend, buffer.at(0)) == SENTINEL).all(), name
        assert (fetch(backend, buffer.at(2)) == SENTINEL).all(), name
    for name, value in values.items():
        assert np.array_equal(fetch(backend, bound[name]), value), name


def test_a_hundred_runs_read_and_write_the_same_memory(backend: Backend, bundle: Bundle) -> None:
    engine = load(backend, bundle, Component.STEP)
    buffers, stream = allocate(backend, engine), backend.stream()
    binding = engine.bind(buffers)
    before = {n: b.array.ctypes.data for n, b in buffers.items() if isinstance(b, HostBuffer)}
    for seed in range(100):
        values = values_for(engine, seed=seed)
        for name, value in values.items():
            buffers[name].upload(value, stream)
        binding.enqueue(stream)
    stream.synchronize()
    expected = run(backend, engine, values)

    assert before == {n: b.array.ctypes.data for n, b in buffers.items() if isinstance(b, HostBuffer)}
    for name, value in expected.items():
        assert np.array_equal(fetch(backend, buffers[name]), value), name


@each_component
def test_the_same_inputs_give_the_same_bytes(backend: Backend, bundle: Bundle, component: Component) -> None:
    engine, again = load(backend, bundle, component), load(backend, bundle, component)
    values = values_for(engine)
    first, second = run(backend, engine, values), run(backend, again, values)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@each_component
def test_a_sample_does_not_depend_on_the_others_of_its_batch(
    backend: Backend, bundle: Bundle, component: Component
) -> None:
    engine = load(backend, bundle, component)
    values = values_for(engine, batch=3)
    together = run(backend, engine, values)
    for index in range(3):
        alone = run(backend, engine, {name: value[index : index + 1] for name, value in values.items()})
        for name, value in alone.items():
            # A library may choose another kernel for another batch, whose float32 sums round differently.
            np.testing.assert_allclose(together[name][index], value[0], rtol=0, atol=1e-5, err_msg=name)


def test_two_bindings_of_one_engine_keep_to_their_own_buffers(backend: Backend, bundle: Bundle) -> None:
    engine, stream = load(backend, bundle, Component.STEP), backend.stream()
    both = [allocate(backend, engine), allocate(backend, engine)]
    bindings = [engine.bind(buffers) for buffers in both]
    values = [values_for(engine, seed=seed) for seed in range(2)]
    for buffers, inputs in zip(both, values, strict=True):
        for name, value in inputs.items():
            buffers[name].upload(value, stream)
    for binding in bindings:
        binding.enqueue(stream)
    stream.synchronize()

    for buffers, inputs in zip(both, values, strict=True):
        assert np.array_equal(fetch(backend, buffers["x_next"]), run(backend, engine, inputs)["x_next"])


def test_what_one_graph_writes_the_next_one_reads_in_place(backend: Backend, bundle: Bundle) -> None:
    encoder, decoder = (load(backend, bundle, c) for c in (Component.ENCODER, Component.DECODER))
    buffers = allocate(backend, encoder) | {
        s.name: backend.allocate(s.concrete(2), s.dtype)
        for s in specs(decoder)
        if s.name in ("latent", "output")
    }
    taken = {s.name: buffers[s.name] for s in specs(decoder)}
    values, stream = values_for(encoder), backend.stream()
    buffers["image"].upload(values["image"], stream)
    encode, decode = encoder.bind({s.name: buffers[s.name] for s in specs(encoder)}), decoder.bind(taken)
    encode.enqueue(stream)
    decode.enqueue(stream)
    stream.synchronize()

    encoded = run(backend, encoder, values)
    latent = np.zeros(buffers["latent"].shape, np.float32)
    expected = run(
        backend, decoder, {"latent": latent, "features": encoded["features"], "mean": encoded["mean"]}
    )
    assert np.array_equal(fetch(backend, buffers["output"]), expected["output"])


def test_the_step_applies_the_sampler_s_scalars_to_each_sample_by_itself(
    backend: Backend, bundle: Bundle
) -> None:
    engine = load(backend, bundle, Component.STEP)
    values = values_for(engine, batch=3)
    got = run(backend, engine, values)
    # With p = 0, q = 1 and no clip, x0 is what the network alone returns.
    bare = np.tile(np.array([0, 1, 0, 0, 0, 0, NO_CLIP], np.float32), (3, 1))
    network = run(backend, engine, values | {"coefficients": bare})["x0"]

    p, q, a, b, c, d, clip = values["coefficients"].T[:, :, None, None, None]
    x0 = np.clip(p * values["x"] + q * network, -clip, clip)
    x_next = a * values["x"] + b * x0 + c * values["noise"] + d * values["x0_previous"]
    assert (np.abs(x0) == clip).any(), "the clip is to be seen at work"
    np.testing.assert_allclose(got["x0"], x0, rtol=0, atol=1e-5)  # the order of float32 sums
    np.testing.assert_allclose(got["x_next"], x_next, rtol=0, atol=1e-5)


def test_marks_around_a_run_say_how_long_it_took_and_may_be_set_again(
    backend: Backend, bundle: Bundle
) -> None:
    engine, stream = load(backend, bundle, Component.DECODER), backend.stream()
    binding = engine.bind(allocate(backend, engine))
    with stream.mark() as start, stream.mark() as middle, stream.mark() as end:
        for _ in range(2):
            start.set()
            binding.enqueue(stream)
            middle.set()
            binding.enqueue(stream)
            end.set()
            stream.synchronize()

            assert middle.seconds_since(start) > 0
            # The sum of the parts is the whole, but for the resolution of a GPU's clock, half a microsecond.
            parts = middle.seconds_since(start) + end.seconds_since(middle)
            assert end.seconds_since(start) == pytest.approx(parts, abs=5e-6)


# ---- the end


def test_everything_may_be_closed_twice(backend: Backend, bundle: Bundle) -> None:
    engine = load(backend, bundle, Component.ENCODER)
    stream = backend.stream()
    for resource in (engine, backend.allocate((2,), np.float32), stream.mark(), stream, backend):
        resource.close()
        resource.close()


def test_everything_is_a_context_manager(backend: Backend, bundle: Bundle) -> None:
    with load(backend, bundle, Component.ENCODER) as engine, backend.stream() as stream:
        assert engine.inputs
        with backend.allocate((2,), np.float32) as buffer:
            buffer.upload(np.ones(2, np.float32), stream)
            stream.synchronize()


def test_a_closed_engine_refuses_to_be_bound(backend: Backend, bundle: Bundle) -> None:
    engine = load(backend, bundle, Component.ENCODER)
    buffers = allocate(backend, engine)
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.bind(buffers)


# ---- the fake alone


def test_the_fake_does_not_read_the_graph_s_file(bundle: Bundle) -> None:
    graph = replace(bundle.graph(Component.STEP, Precision.FP32), path=Path("/nowhere"))
    with FakeBackend() as backend, backend.load(graph) as engine:
        assert np.isfinite(run(backend, engine, values_for(engine))["x_next"]).all()


def test_the_fake_fails_when_it_is_told_to(bundle: Bundle) -> None:
    with FakeBackend(fail_after=1) as backend, load(backend, bundle, Component.ENCODER) as engine:
        binding, stream = engine.bind(allocate(backend, engine)), backend.stream()
        binding.enqueue(stream)
        with pytest.raises(BackendError, match="told to fail after 1 runs"):
            binding.enqueue(stream)
        assert backend.runs == 2


# ---- what reads ONNX files on the CPU


@each_component
def test_it_agrees_with_the_golden_values(real: Backend, bundle: Bundle, component: Component) -> None:
    golden = bundle.golden()
    engine = load(real, bundle, component)
    got = run(real, engine, {s.name: golden[f"{component}.{s.name}"] for s in engine.inputs})
    for name, value in got.items():
        # ONNX's reference evaluator sums in another order; values are of magnitude 1.
        np.testing.assert_allclose(value, golden[f"{component}.{name}"], rtol=0, atol=1e-5, err_msg=name)


def test_it_uses_as_many_threads_as_it_is_given_or_may_have(real: Backend) -> None:
    assert open_backend(real.name, threads=3).describe()["threads"] == "3"
    assert int(open_backend(real.name).describe()["threads"]) >= 1


@pytest.mark.parametrize(
    "size", [0, 1, 100, -1, None], ids=["empty", "a byte", "torn", "cut short", "garbage"]
)
def test_a_file_that_is_no_graph_is_refused(
    real: Backend, bundle: Bundle, tmp_path: Path, size: int | None
) -> None:
    graph = bundle.graph(Component.STEP, Precision.FP32)
    data = np.random.default_rng(0).bytes(1000) if size is None else graph.path.read_bytes()[:size]
    (tmp_path / "step.onnx").write_bytes(data)
    with pytest.raises(BackendError, match=rf"{real.name} .* refuses step\.onnx") as caught:
        real.load(replace(graph, path=tmp_path / "step.onnx"))

    assert caught.value.__cause__ is not None
    assert "\n" not in caught.value.message


def test_a_missing_graph_file_is_refused(real: Backend, bundle: Bundle, tmp_path: Path) -> None:
    graph = bundle.graph(Component.STEP, Precision.FP32)
    with pytest.raises(BackendError, match=r"refuses none\.onnx"):
        real.load(replace(graph, path=tmp_path / "none.onnx"))


@pytest.mark.parametrize(
    "other",
    [
        TensorSpec("picture", "float32", ("N", 1, 16, 16)),
        TensorSpec("image", "float16", ("N", 1, 16, 16)),
        TensorSpec("image", "float32", ("N", 1, 16, 17)),
        TensorSpec("image", "float32", (1, 1, 16, 16)),
        TensorSpec("image", "float32", ("N", 1, 16)),
    ],
    ids=str,
)
def test_a_graph_whose_tensors_are_not_the_bundle_s_is_refused(
    real: Backend, bundle: Bundle, other: TensorSpec
) -> None:
    graph = bundle.graph(Component.ENCODER, Precision.FP32)
    with pytest.raises(BackendError, match="the bundle names inputs") as caught:
        real.load(replace(graph, inputs=(other,)))
    assert caught.value.hint == "export the bundle again"


def test_a_bound_buffer_lives_as_long_as_the_binding(real: Backend, bundle: Bundle) -> None:
    engine, stream = load(real, bundle, Component.ENCODER), real.stream()
    buffers = allocate(real, engine)
    binding, output = engine.bind(buffers), buffers["features"]
    values = values_for(engine)
    put(real, buffers["image"], values["image"])
    del buffers
    trash = [np.full((2, 1, 64, 64), SENTINEL) for _ in range(50)]  # takes what would have been freed
    binding.enqueue(stream)

    assert np.array_equal(fetch(real, output), run(real, engine, values)["features"])
    assert all((array == SENTINEL).all() for array in trash)


# ---- ONNX Runtime alone


def picking_graph(folder: Path) -> Graph:
    """A graph that fails at a run whose image is no index: output = table[image]."""
    nodes = [
        helper.make_node("Cast", ["image"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["output"]),
    ]
    sides = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2])] for n in ("image", "output")]
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [10.0, 11.0, 12.0])
    graph = helper.make_graph(nodes, "picking", *sides, initializer=[table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "picking.onnx").write_bytes(model.SerializeToString())
    image, output = (TensorSpec(n, "float32", ("N", 2)) for n in ("image", "output"))
    return Graph(folder / "picking.onnx", Component.ENCODER, Precision.FP32, "0" * 64, (image,), (output,))


def test_a_run_that_fails_is_a_backend_error_and_the_next_one_works(ort: Backend, tmp_path: Path) -> None:
    engine, stream = ort.load(picking_graph(tmp_path)), ort.stream()
    buffers = allocate(ort, engine, batch=1)
    binding = engine.bind(buffers)
    put(ort, buffers["image"], np.array([[1, 1000]], np.float32))
    with pytest.raises(BackendError, match="onnxruntime failed") as caught:
        binding.enqueue(stream)
    assert caught.value.__cause__ is not None

    put(ort, buffers["image"], np.array([[1, 2]], np.float32))
    binding.enqueue(stream)
    assert fetch(ort, buffers["output"]).tolist() == [[11, 12]]
