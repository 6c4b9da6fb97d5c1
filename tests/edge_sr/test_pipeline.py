"""The engine against the same loop written plainly, and what its results may not depend on."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.backends import Backend, Engine, open_backend
from edge_sr.backends.fake import FakeBackend
from edge_sr.backends.host import HostBuffer
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, BundleError, ScheduleError, UsageError
from edge_sr.manifest import Preset
from edge_sr.pipeline import StageSeconds, TileEngine, Upscaler, make_schedule
from edge_sr.schedule import NO_CLIP, apply_step
from edge_sr.spec import Component, Precision
from edge_sr.tiling import blend, extract, pad, plan_tiles, position_noise
from tests.fakes import PRESETS, tiny_image, write_tiny_bundle

Float = npt.NDArray[np.float32]

TOLERANCE = 2e-5  # float32, five steps and three graphs deep; images are of magnitude 1
OPTIONS: dict[str, dict[str, Any]] = {"onnxruntime": {"threads": 1}, "fake": {}}
BIG = (21, 44)  # no multiple of anything: 2 x 4 tiles


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", precisions=("fp32", "int8"))


@pytest.fixture(params=list(OPTIONS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def upscaler(bundle: Bundle, backend: str, *, batch: int = 1, precision: str = "fp32") -> Upscaler:
    opened = open_backend(backend, **OPTIONS[backend])
    return Upscaler(bundle, opened, precision=Precision(precision), batch=batch)


def preset(name: str, **changes: Any) -> Preset:
    return Preset.model_validate(PRESETS[name] | changes)


def enlarge(
    bundle: Bundle,
    backend: str,
    image: Float,
    *,
    how: Preset | None = None,
    seed: int = 1,
    batch: int = 1,
) -> Float:
    """One image by an engine that is made for it."""
    with upscaler(bundle, backend, batch=batch) as engine:
        return engine.upscale(image, preset=how or preset("even"), seed=seed).mean


def call(backend: Backend, engine: Engine, values: dict[str, Float]) -> dict[str, Float]:
    """A graph as a plain function of arrays."""
    stream = backend.stream()
    buffers = {s.name: backend.allocate(s.concrete(1), s.dtype) for s in (*engine.inputs, *engine.outputs)}
    for spec in engine.inputs:
        buffers[spec.name].upload(np.asarray(values[spec.name], np.float32), stream)
    engine.bind(buffers).enqueue(stream)
    outputs = {s.name: np.empty(buffers[s.name].shape, np.float32) for s in engine.outputs}
    for name, out in outputs.items():
        buffers[name].download(out, stream)
    stream.synchronize()
    return outputs


def reference(
    bundle: Bundle, backend_name: str, image: Float, *, how: Preset, seed: int, sample: int = 0
) -> Float:
    """One sample, tile by tile: no ping-pong, no batch, no scalars in the graph, no shared buffers."""
    manifest, schedule = bundle.manifest, make_schedule(bundle, how)
    factor, scale = bundle.latent.factor, manifest.scale
    align = next(n for n in range(1, factor + 1) if n * scale % factor == 0)
    grid = plan_tiles(*image.shape[1:], tile=manifest.tile, overlap=manifest.overlap, align=align)
    side, channels = manifest.tile * scale // factor, bundle.latent.channels
    embedding = bundle.time_embedding()
    bare = np.array([[0, 1, 0, 0, 0, 0, NO_CLIP]], np.float32)  # x0 is then what the network returns
    tiles = []
    with open_backend(backend_name, **OPTIONS[backend_name]) as backend:
        encoder, step, decoder = (backend.load(bundle.graph(c, Precision.FP32)) for c in Component)
        for index, (row, column) in enumerate(grid.origins):

            def noise(
                draw: int, y0: int = row * scale // factor, x0: int = column * scale // factor
            ) -> Float:
                place = {"y0": y0, "x0": x0, "height": side, "width": side}
                return position_noise(seed, step=draw, channels=channels, sample=sample, **place)[None]

            encoded = call(backend, encoder, {"image": extract(pad(image, grid), grid, index)[None]})
            x = noise(0) * np.float32(schedule.initial_sigma * how.noise_scale)
            previous = nothing = np.zeros_like(x)
            for draw, at in enumerate(schedule.steps, start=1):
                inputs = {"x": x, "x0_previous": nothing, "noise": nothing, "coefficients": bare}
                inputs |= encoded | {"time_embedding": embedding[[at.timestep]]}
                model_out = call(backend, step, inputs)["x0"]
                after = apply_step(at, x, model_out=model_out, noise=noise(draw), x0_previous=previous)
                x, previous = (np.asarray(value, np.float32) for value in after)
            tiles.append(call(backend, decoder, encoded | {"latent": x})["output"][0])
    return blend(tiles, grid, scale=scale)


def assert_close(got: Float, want: Float) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


# ---- the right result


@pytest.mark.parametrize("name", [n for n in PRESETS if "samples" not in PRESETS[n]])
def test_the_engine_agrees_with_the_same_loop_written_plainly(
    bundle: Bundle, backend: str, name: str
) -> None:
    image = tiny_image(*BIG)
    how = preset(name)
    assert_close(
        enlarge(bundle, backend, image, how=how, seed=9, batch=3),
        reference(bundle, backend, image, how=how, seed=9),
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"steps": 4}, "the last latent is in the first buffer"),
        ({"steps": 5}, "the last latent is in the second buffer"),
        ({"steps": 1}, "there is no history and no noise"),
        ({"steps": 20}, "every timestep is visited"),
        ({"sampler": "ddpm", "steps": 6}, "each step but the last has noise of its own"),
        ({"sampler": "dpmpp_2m", "steps": 6}, "steps use the clean latent of the step before"),
        ({"sampler": "ddim", "steps": 5, "spacing": "leading", "eta": 0.5}, "some noise, other timesteps"),
        ({"sampler": "ddpm", "steps": 4, "start": 0.6, "noise_scale": 0.0}, "it starts from the mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_loop_is_right_where(bundle: Bundle, backend: str, changes: dict[str, Any], why: str) -> None:
    how, image = preset("even", **changes), tiny_image()
    assert_close(enlarge(bundle, backend, image, how=how), reference(bundle, backend, image, how=how, seed=1))


def test_steps_that_add_noise_are_those_the_schedule_says(bundle: Bundle) -> None:
    with upscaler(bundle, "fake") as engine:
        assert engine.tile_engine(preset("even"), 1).noisy_steps == ()
        assert engine.tile_engine(preset("ancestral"), 1).noisy_steps == (0, 1, 2, 3)


def test_a_multistep_sampler_differs_from_the_same_loop_without_history(bundle: Bundle, backend: str) -> None:
    image, how = tiny_image(), preset("multistep")
    schedule = make_schedule(bundle, how)
    assert any(step.d for step in schedule.steps)
    first_order = enlarge(bundle, backend, image, how=preset("even", steps=len(schedule.steps)))
    assert np.abs(enlarge(bundle, backend, image, how=how) - first_order).max() > 100 * TOLERANCE


def test_onnx_runtime_gives_the_golden_output(bundle: Bundle) -> None:
    golden = bundle.golden()
    with upscaler(bundle, "onnxruntime") as engine:
        out = np.empty_like(golden["output"])
        nothing = np.empty((0, *golden["noise"].shape), np.float32)
        engine.tile_engine(preset("even"), 1).run(golden["image"], golden["noise"], nothing, out)
    assert_close(out, golden["output"])


def test_precisions_give_images_that_differ_a_little(bundle: Bundle) -> None:
    images = []
    for precision in ("fp32", "int8"):
        with upscaler(bundle, "onnxruntime", precision=precision) as engine:
            images.append(engine.upscale(tiny_image(), preset=preset("even"), seed=1).mean)
    difference = float(np.abs(images[0] - images[1]).mean())
    assert 1e-4 < difference < 0.2  # weights rounded to 8 bits, images of magnitude 1


# ---- any size


@pytest.mark.parametrize(
    ("size", "tiles"),
    [((16, 16), 1), ((1, 1), 1), ((5, 16), 1), ((16, 18), 2), ((40, 3), 3), ((33, 17), 6), (BIG, 8)],
    ids=str,
)
def test_any_size_is_enlarged(bundle: Bundle, backend: str, size: tuple[int, int], tiles: int) -> None:
    with upscaler(bundle, backend, batch=4) as engine:
        output = engine.upscale(tiny_image(*size), preset=preset("odd"), seed=1)

    assert output.mean.shape == (1, 4 * size[0], 4 * size[1])
    assert output.mean.dtype == np.float32
    assert output.tiles == tiles
    assert np.isfinite(output.mean).all()
    assert_close(output.mean, reference(bundle, backend, tiny_image(*size), how=preset("odd"), seed=1))


@pytest.mark.parametrize(("scale", "factor"), [(4, 8), (4, 4), (4, 2), (4, 1), (2, 8), (3, 6)])
def test_noise_belongs_to_a_place_whatever_the_latent_s_size(
    tmp_path: Path, backend: str, scale: int, factor: int
) -> None:
    made = write_tiny_bundle(tmp_path / "made", scale=scale, factor=factor)
    image = tiny_image(18, 30)
    assert_close(
        enlarge(made, backend, image, how=preset("noisy"), batch=2),
        reference(made, backend, image, how=preset("noisy"), seed=1),
    )


@pytest.mark.parametrize(
    ("scale", "factor", "align"), [(4, 8, 2), (4, 2, 1), (3, 4, 4), (6, 4, 2), (2, 1, 1)]
)
def test_tiles_start_on_whole_latent_pixels(bundle: Bundle, scale: int, factor: int, align: int) -> None:
    latent = bundle.latent.model_copy(update={"factor": factor})
    manifest = bundle.manifest.model_copy(update={"scale": scale, "latent": latent})
    with upscaler(Bundle(bundle.folder, manifest, bundle.digest), "fake") as engine:
        starts = [engine.grid(length, 16).rows for length in range(17, 64)]

    assert {row * scale % factor for rows in starts for row in rows} == {0}
    assert {row % align for rows in starts for row in rows} == {0}
    assert any(row == align for rows in starts for row in rows)  # no coarser than it has to be


def test_where_one_tile_alone_counts_the_rest_of_the_image_makes_no_difference(
    bundle: Bundle, backend: str
) -> None:
    image = tiny_image(16, 28)  # two tiles, at columns 0 and 12
    whole = enlarge(bundle, backend, image, how=preset("noisy"))
    first = enlarge(bundle, backend, image[:, :, :16], how=preset("noisy"))
    np.testing.assert_array_equal(whole[:, :, : 4 * 12], first[:, :, : 4 * 12])


def test_two_tiles_see_the_same_noise_where_they_overlap(bundle: Bundle) -> None:
    # On a blank image the fake's network sees nothing but the noise, pixel by pixel, so tiles that share
    # latent pixels agree there, and blending them changes nothing.
    blank = np.zeros((1, 16, 28), np.float32)
    how = preset("noisy")
    with FakeBackend() as backend:
        engines: dict[Component, Engine] = {
            c: backend.load(bundle.graph(c, Precision.FP32)) for c in Component
        }
        loop = TileEngine(
            backend,
            engines,
            schedule=make_schedule(bundle, how),
            batch=2,
            embedding=bundle.time_embedding(),
        )
        side, draws = 8, (0, *(i + 1 for i in loop.noisy_steps))
        place = {"channels": 4, "y0": 0, "height": side, "width": side}
        noise = [np.stack([position_noise(1, step=draw, x0=x0, **place) for x0 in (0, 6)]) for draw in draws]
        out = np.empty((2, 1, 64, 64), np.float32)
        loop.run(np.zeros((2, 1, 16, 16), np.float32), noise[0], np.stack(noise[1:]), out)

    np.testing.assert_array_equal(out[0, :, :, 48:], out[1, :, :, :16])
    whole = enlarge(bundle, "fake", blank, how=how)
    np.testing.assert_allclose(
        whole[:, :, :48], out[0, :, :, :48], rtol=0, atol=1e-6
    )  # weights that sum to 1
    np.testing.assert_allclose(whole[:, :, 48:], out[1], rtol=0, atol=1e-6)


# ---- what the result may not depend on


@pytest.mark.parametrize("batch", [2, 3, 8, 100])
@pytest.mark.parametrize("name", ["even", "ancestral", "multistep"])
def test_the_batch_size_makes_no_difference(bundle: Bundle, backend: str, name: str, batch: int) -> None:
    image = tiny_image(*BIG)
    one = enlarge(bundle, backend, image, how=preset(name))
    many = enlarge(bundle, backend, image, how=preset(name), batch=batch)
    if backend == "fake":
        np.testing.assert_array_equal(many, one)
    else:  # ONNX Runtime may choose another kernel for another batch
        assert_close(many, one)


@pytest.mark.parametrize("name", ["even", "odd", "ancestral", "multistep"])
@pytest.mark.parametrize("before", [0.5, 1e30, np.inf, np.nan])
def test_an_image_leaves_nothing_behind_for_the_next(
    bundle: Bundle, backend: str, name: str, before: float
) -> None:
    with upscaler(bundle, backend) as engine, np.errstate(all="ignore"):
        engine.upscale(np.full((1, 16, 16), before, np.float32), preset=preset(name), seed=2)
        after = engine.upscale(tiny_image(), preset=preset(name), seed=1).mean
    assert after.tobytes() == enlarge(bundle, backend, tiny_image(), how=preset(name)).tobytes()


def test_the_other_tiles_of_a_batch_make_no_difference(bundle: Bundle, backend: str) -> None:
    rng = np.random.default_rng(3)
    images = rng.uniform(-1, 1, (3, 1, 16, 16)).astype(np.float32)
    with upscaler(bundle, backend) as engine:
        loop = engine.tile_engine(preset("ancestral"), 3)
        first = rng.standard_normal(loop.latent_shape).astype(np.float32)
        steps = rng.standard_normal((len(loop.noisy_steps), *loop.latent_shape)).astype(np.float32)
        together, turned = (np.empty((3, 1, 64, 64), np.float32) for _ in range(2))
        loop.run(images, first, steps, together)
        order = [2, 0, 1]
        loop.run(images[order], first[order], steps[:, order], turned)
    np.testing.assert_array_equal(turned, together[order])


@pytest.mark.parametrize("name", ["even", "ancestral", "mean"])
def test_the_same_seed_gives_the_same_bytes(bundle: Bundle, backend: str, name: str) -> None:
    image = tiny_image(*BIG)
    first, second = (enlarge(bundle, backend, image, how=preset(name), batch=3) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("seed", [0, 2, 2**64 - 1])
def test_another_seed_gives_another_image(bundle: Bundle, backend: str, seed: int) -> None:
    image = tiny_image()
    assert np.abs(enlarge(bundle, backend, image) - enlarge(bundle, backend, image, seed=seed)).max() > 0.01


def test_the_image_that_is_given_is_not_changed(bundle: Bundle, backend: str) -> None:
    image = tiny_image(*BIG)
    enlarge(bundle, backend, image)
    np.testing.assert_array_equal(image, tiny_image(*BIG))


def test_an_image_in_another_memory_order_is_the_same_image(bundle: Bundle, backend: str) -> None:
    image = tiny_image(*BIG)
    turned = np.asfortranarray(image)
    np.testing.assert_array_equal(enlarge(bundle, backend, turned), enlarge(bundle, backend, image))


# ---- samples


def test_one_sample_has_no_deviation(bundle: Bundle) -> None:
    with upscaler(bundle, "fake") as engine:
        assert engine.upscale(tiny_image(), preset=preset("even"), seed=1).std is None


def test_samples_give_their_mean_and_their_deviation(bundle: Bundle, backend: str) -> None:
    image, how = tiny_image(16, 20), preset("mean", samples=4)
    with upscaler(bundle, backend, batch=2) as engine:
        output = engine.upscale(image, preset=how, seed=5)
    samples = [reference(bundle, backend, image, how=how, seed=5, sample=k) for k in range(4)]

    assert output.std is not None
    assert output.std.dtype == output.mean.dtype == np.float32
    assert output.std.mean() > 0.001, "samples are to differ"
    assert_close(output.mean, np.mean(samples, axis=0))
    assert_close(output.std, np.std(samples, axis=0, ddof=1))


def test_the_first_of_many_samples_is_the_one_that_comes_alone(bundle: Bundle) -> None:
    two = enlarge(bundle, "fake", tiny_image(), how=preset("even", samples=2))
    one = enlarge(bundle, "fake", tiny_image(), how=preset("even"))
    second = reference(bundle, "fake", tiny_image(), how=preset("even"), seed=1, sample=1)
    assert_close(two, (one + second) / np.float32(2))


# ---- made once


@pytest.fixture
def loop(bundle: Bundle, backend: str) -> Iterator[TileEngine]:
    with upscaler(bundle, backend) as engine:
        made = engine.tile_engine(preset("ancestral"), 2)
        shape = made.latent_shape
        steps = np.zeros((len(made.noisy_steps), *shape), np.float32)
        out = np.empty((2, 1, 64, 64), np.float32)
        made.run(np.zeros((2, 1, 16, 16), np.float32), np.zeros(shape, np.float32), steps, out)
        yield made


def addresses(loop: TileEngine) -> dict[str, tuple[int, int]]:
    """Which object each buffer is, and where its memory lies."""
    assert all(isinstance(b, HostBuffer) for b in loop.buffers.values())
    return {n: (id(b), b.array.ctypes.data) for n, b in loop.buffers.items() if isinstance(b, HostBuffer)}


def test_a_hundred_loops_use_the_same_buffers(loop: TileEngine) -> None:
    before = addresses(loop)
    for _ in range(100):
        loop.run_loop()
    assert addresses(loop) == before


def test_a_hundred_loops_allocate_nothing_that_stays(loop: TileEngine, backend: str) -> None:
    loop.run_loop()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            loop.run_loop()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    latent = int(np.prod(loop.latent_shape)) * 4
    assert after - before < latent  # nothing of the size of a latent is kept: 500 steps, 2 KiB each
    # The fake's numpy makes temporaries inside its network; ONNX Runtime leaves Python's memory alone.
    assert peak - before < (20 * latent if backend == "fake" else latent)


def test_steps_one_by_one_are_the_loop(bundle: Bundle, backend: str) -> None:
    with upscaler(bundle, backend) as engine:
        made = engine.tile_engine(preset("multistep"), 1)
        results = []
        for steps in ([made.run_loop], [partial(made.run_step, index) for index in range(5)]):
            for name in ("x0", "clean0", "condition"):
                buffer = made.buffers[name]
                values = np.random.default_rng(0).standard_normal(buffer.shape).astype(np.float32)
                buffer.upload(values, made.stream)
            for step in steps:
                step()
            out = np.empty(made.latent_shape, np.float32)
            made.buffers["x1"].download(out, made.stream)
            results.append(out)
    np.testing.assert_array_equal(results[0], results[1])


def test_a_loop_is_prepared_once_for_all_that_differs_in_noise_alone(bundle: Bundle) -> None:
    with upscaler(bundle, "fake") as engine:
        first = engine.tile_engine(preset("even"), 1)
        assert engine.tile_engine(preset("even", samples=3, noise_scale=0.1), 1) is first
        assert engine.tile_engine(preset("even", steps=5), 1) is not first
        assert engine.tile_engine(preset("even"), 2) is not first


def test_images_of_one_size_run_on_engines_that_are_there(bundle: Bundle) -> None:
    with FakeBackend() as backend, Upscaler(bundle, backend, precision=Precision.FP32, batch=3) as engine:
        engine.upscale(tiny_image(*BIG), preset=preset("even"), seed=1)
        loops = [engine.tile_engine(preset("even"), n) for n in (2, 3)]  # 8 tiles: 3, 3 and 2
        before, runs = [addresses(loop) for loop in loops], backend.runs
        engine.upscale(tiny_image(*BIG), preset=preset("even"), seed=2)

        assert [addresses(loop) for loop in loops] == before
        assert backend.runs - runs == 3 * (1 + 4 + 1)  # a batch is encoded, four steps, decoded


# ---- what is refused, and what fails


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 8), (16, 16), (1, 1, 16, 16), (16,), ()])
def test_an_image_of_other_axes_or_channels_is_refused(bundle: Bundle, shape: tuple[int, ...]) -> None:
    with (
        upscaler(bundle, "fake") as engine,
        pytest.raises(UsageError, match="wanted an image of 1 channels"),
    ):
        engine.upscale(np.zeros(shape, np.float32), preset=preset("even"), seed=1)


@pytest.mark.parametrize("shape", [(1, 0, 16), (1, 16, 0), (1, 0, 0)])
def test_an_image_without_pixels_is_refused(bundle: Bundle, shape: tuple[int, ...]) -> None:
    with upscaler(bundle, "fake") as engine, pytest.raises(UsageError, match="cannot tile"):
        engine.upscale(np.zeros(shape, np.float32), preset=preset("even"), seed=1)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(bundle: Bundle, seed: int) -> None:
    with upscaler(bundle, "fake") as engine, pytest.raises(UsageError, match="seed"):
        engine.upscale(tiny_image(), preset=preset("even"), seed=seed)


def test_more_steps_than_there_are_timesteps_are_refused(bundle: Bundle) -> None:
    with upscaler(bundle, "fake") as engine, pytest.raises(ScheduleError, match=r"steps must be in 1\.\.20"):
        engine.upscale(tiny_image(), preset=preset("even", steps=21), seed=1)


def test_a_precision_that_the_bundle_lacks_is_refused_with_how_to_make_it(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no fp16 encoder") as caught:
        upscaler(bundle, "fake", precision="fp16")
    assert "python -m calibration" in caught.value.hint


def test_a_time_embedding_of_another_width_than_the_step_reads_is_refused(
    bundle: Bundle, backend: str
) -> None:
    with open_backend(backend, **OPTIONS[backend]) as opened:
        engines = {c: opened.load(bundle.graph(c, Precision.FP32)) for c in Component}
        schedule = make_schedule(bundle, preset("even"))
        with pytest.raises(BackendError, match=r"wanted float32 \(4, 1, 8\), got float32 \(4, 1, 9\)"):
            TileEngine(opened, engines, schedule=schedule, batch=1, embedding=np.ones((20, 9), np.float32))


@pytest.mark.parametrize("runs", [0, 1, 3, 5, 9])
def test_a_backend_that_fails_at_any_point_is_a_backend_error_and_may_go_on(
    bundle: Bundle, runs: int
) -> None:
    backend = FakeBackend(fail_after=runs)
    with Upscaler(bundle, backend, precision=Precision.FP32) as engine:
        with pytest.raises(BackendError, match=f"told to fail after {runs} runs"):
            engine.upscale(tiny_image(16, 28), preset=preset("even"), seed=1)  # two tiles: 2 x 6 runs
        backend.fail_after = None
        after = engine.upscale(tiny_image(16, 28), preset=preset("even"), seed=1).mean
    np.testing.assert_array_equal(after, enlarge(bundle, "fake", tiny_image(16, 28)))


def test_a_closed_upscaler_refuses_and_may_be_closed_again(bundle: Bundle, backend: str) -> None:
    engine = upscaler(bundle, backend)
    engine.upscale(tiny_image(), preset=preset("even"), seed=1)
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        engine.upscale(tiny_image(), preset=preset("even"), seed=1)


# ---- where the time went


def test_every_stage_s_seconds_are_counted_over_tiles_and_samples(bundle: Bundle, backend: str) -> None:
    with upscaler(bundle, backend, batch=2) as engine:
        seconds = engine.upscale(tiny_image(*BIG), preset=preset("mean"), seed=1).seconds
        assert set(engine.load_seconds) == {"encoder", "step", "decoder"}
    assert all(value > 0 for value in (seconds.encode, seconds.loop, seconds.decode, seconds.host))


def test_seconds_add_up_stage_by_stage() -> None:
    assert StageSeconds(1, 2, 3, 4) + StageSeconds(10, 20, 30, 40) == StageSeconds(11, 22, 33, 44)
