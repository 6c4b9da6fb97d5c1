"""Bundles without some graphs: a loop in pixel space, a plain network, through all that runs bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.backends import Backend, Engine, open_backend
from edge_sr.bundle import MANIFEST, Bundle, default_bundle, find_bundle, write_manifest
from edge_sr.cascade import enlarge, plan_scale
from edge_sr.errors import BundleError, UsageError
from edge_sr.image import LoadedImage, resize_bicubic
from edge_sr.manifest import Cost, Preset
from edge_sr.pipeline import Upscaler, make_schedule
from edge_sr.result import Settings, upscale_image
from edge_sr.schedule import coefficients
from edge_sr.selftest import check_graph, measure_golden, run_selftest
from edge_sr.spec import Component, Precision
from edge_sr.tiling import blend, extract, pad, plan_tiles, position_noise
from tests.edge_sr.commands import Commands, write_image
from tests.edge_sr.test_trt import Desk
from tests.fakes import FAMILIES, PRESETS, tiny_image, write_tiny_bundle

Float = npt.NDArray[np.float32]

TOLERANCE = 2e-5  # float32, four steps deep; images are of magnitude 1
BIG = (21, 44)  # no multiple of anything: 2 x 4 tiles
PIXEL = ("pixel", "bare")
ABSENT = (*PIXEL, "regression")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One of each family."""
    folder = tmp_path_factory.mktemp("bundles")
    return {
        family: write_tiny_bundle(folder / family, family=family, precisions=("fp32", "int8"))
        for family in FAMILIES
    }


def open_upscaler(bundle: Bundle, backend: str = "onnxruntime", *, batch: int = 1) -> Upscaler:
    return Upscaler(bundle, open_backend(backend, threads=1), precision=Precision.FP32, batch=batch)


def preset(bundle: Bundle, name: str = "even", **changes: Any) -> Preset | None:
    """A preset of the tiny bundles, where there is a loop."""
    has_loop = bundle.manifest.diffusion is not None
    return Preset.model_validate(PRESETS[name] | changes) if has_loop else None


def call(backend: Backend, engine: Engine, values: dict[str, Float]) -> dict[str, Float]:
    """A graph as a plain function of arrays."""
    stream = backend.stream()
    buffers = {s.name: backend.allocate(s.concrete(1), s.dtype) for s in (*engine.inputs, *engine.outputs)}
    for spec in engine.inputs:
        buffers[spec.name].upload(np.asarray(values[spec.name], spec.dtype), stream)
    engine.bind(buffers).enqueue(stream)
    outputs = {s.name: np.empty(buffers[s.name].shape, np.float32) for s in engine.outputs}
    for name, out in outputs.items():
        buffers[name].download(out, stream)
    stream.synchronize()
    return outputs


def plainly(bundle: Bundle, image: Float, how: Preset | None, seed: int) -> Float:
    """The same, written out: tile by tile, graph by graph, with no buffer used twice."""
    manifest = bundle.manifest
    grid = plan_tiles(*image.shape[1:], tile=manifest.tile, overlap=manifest.overlap)
    side = manifest.tile * manifest.scale
    tiles = []
    with open_backend("onnxruntime", threads=1) as backend:
        graphs = {c: backend.load(bundle.graph(c, Precision.FP32)) for c in manifest.components}
        for index, (y, x) in enumerate(grid.origins):
            known = {"image": extract(pad(image, grid), grid, index)[None]}
            if Component.ENCODER in graphs:
                known |= call(backend, graphs[Component.ENCODER], known)
            if how is None:
                tiles.append(call(backend, graphs[Component.DECODER], known)["output"][0])
                continue
            place = {"y0": y * manifest.scale, "x0": x * manifest.scale, "height": side, "width": side}

            def noise(step: int, place: dict[str, int] = place) -> Float:
                return position_noise(seed, step=step, channels=1, **place)[None]

            schedule, table = make_schedule(bundle, how), bundle.time_embedding()
            state = {
                "x": noise(0) * np.float32(how.noise_scale),
                "x0": np.zeros((1, 1, side, side), np.float32),
            }
            for at, (step, row) in enumerate(
                zip(schedule.steps, coefficients(schedule), strict=True), start=1
            ):
                loop = {"x": state["x"], "x0_previous": state["x0"], "noise": noise(at)}
                loop |= {"coefficients": row[None], "time_embedding": table[[step.timestep]]}
                made = call(backend, graphs[Component.STEP], known | loop)
                state = {"x": made["x_next"], "x0": made["x0"]}
            tiles.append(state["x"][0])
    return blend(iter(tiles), grid, scale=manifest.scale)


@pytest.mark.parametrize("name", ["even", "odd", "noisy", "multistep", "quiet"])
@pytest.mark.parametrize("family", PIXEL)
def test_a_loop_in_pixel_space_ends_at_the_image(bundles: dict[str, Bundle], family: str, name: str) -> None:
    bundle, image = bundles[family], tiny_image(*BIG)
    how = preset(bundle, name)
    with open_upscaler(bundle) as upscaler:
        got = upscaler.upscale(image, preset=how, seed=3).mean
    np.testing.assert_allclose(got, plainly(bundle, image, how, 3), atol=TOLERANCE)
    assert np.abs(got).max() <= 1 + TOLERANCE  # the last step clips what it ends at


def test_a_plain_network_is_one_pass_over_each_tile(bundles: dict[str, Bundle]) -> None:
    bundle, image = bundles["regression"], tiny_image(*BIG)
    with open_upscaler(bundle) as upscaler:
        output = upscaler.upscale(image, preset=None, seed=3)
    np.testing.assert_allclose(output.mean, plainly(bundle, image, None, 3), atol=TOLERANCE)
    assert output.std is None and output.tiles == 8


def test_the_bicubic_condition_of_pixel_space_is_that_of_the_runtime(bundles: dict[str, Bundle]) -> None:
    image = tiny_image(16, 16)
    with open_backend("onnxruntime", threads=1) as backend:
        engine = backend.load(bundles["pixel"].graph(Component.ENCODER, Precision.FP32))
        condition = call(backend, engine, {"image": image[None]})["condition"][0, 0]
    gray = np.rint((image[0] + 1) * 127.5).astype(np.uint8)
    enlarged = resize_bicubic(gray, 4) / np.float32(127.5) - 1
    inside = np.abs(np.clip(condition, -1, 1) - enlarged)
    assert inside.max() < 2.5 / 127.5  # the runtime's is of 8 bits, and rounds twice


@pytest.mark.parametrize("backend", ["onnxruntime", "fake"])
@pytest.mark.parametrize("family", ABSENT)
def test_batches_and_samples_leave_a_result_as_it_is(
    bundles: dict[str, Bundle], family: str, backend: str
) -> None:
    bundle, image = bundles[family], tiny_image(*BIG)
    with open_upscaler(bundle, backend) as one, open_upscaler(bundle, backend, batch=3) as three:
        alone, together = (u.upscale(image, preset=preset(bundle), seed=1).mean for u in (one, three))
    np.testing.assert_allclose(alone, together, atol=TOLERANCE)


def test_seeds_decide_a_loop_in_pixel_space_and_nothing_of_a_plain_network(
    bundles: dict[str, Bundle],
) -> None:
    image = tiny_image(16, 16)
    for family, differs in (("pixel", True), ("regression", False)):
        with open_upscaler(bundles[family]) as upscaler:
            one, other = (
                upscaler.upscale(image, preset=preset(bundles[family]), seed=s).mean for s in (1, 2)
            )
        assert np.array_equal(one, other) is not differs


def test_a_preset_without_a_loop_and_a_loop_without_a_preset_are_refused(bundles: dict[str, Bundle]) -> None:
    image = tiny_image(16, 16)
    with (
        open_upscaler(bundles["regression"]) as upscaler,
        pytest.raises(UsageError, match="has no loop, but a"),
    ):
        upscaler.upscale(image, preset=preset(bundles["pixel"]), seed=0)
    with open_upscaler(bundles["pixel"]) as upscaler, pytest.raises(UsageError, match="has a loop, but no"):
        upscaler.upscale(image, preset=None, seed=0)


@pytest.mark.parametrize("family", ABSENT)
def test_any_scale_is_reached_by_passes_and_a_reduction(bundles: dict[str, Bundle], family: str) -> None:
    with open_upscaler(bundles[family]) as upscaler:
        plan = plan_scale(6, 4)
        output = enlarge(
            upscaler, tiny_image(10, 12), plan=plan, preset=preset(bundles[family]), seed=0, operator="area"
        )
    assert output.mean.shape == (1, 60, 72)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_self_test_passes_on_every_graph_that_is_there(
    bundles: dict[str, Bundle], family: str, tmp_path: Path
) -> None:
    bundle = bundles[family]
    with open_upscaler(bundle) as upscaler:
        outcome = run_selftest(upscaler, root=tmp_path)
        assert np.isfinite(measure_golden(upscaler, runs=1).psnr_db)
    assert outcome.passed
    graphs = {check.name.partition(":")[0] for check in outcome.checks}
    assert graphs == {*map(str, FAMILIES[family]), "whole loop"} - {"step"}
    with open_backend("onnxruntime", threads=1) as backend:
        for component in FAMILIES[family]:
            checks = check_graph(backend, bundle.graph(component, Precision.FP32), bundle)
            assert checks and all(check.passed for check in checks)


@pytest.mark.parametrize("family", ABSENT)
def test_the_self_test_fails_where_something_else_is_computed(
    bundles: dict[str, Bundle], family: str, tmp_path: Path
) -> None:
    with open_upscaler(bundles[family], "fake") as upscaler:
        assert not run_selftest(upscaler, root=tmp_path).passed


@pytest.mark.parametrize("family", ABSENT)
def test_the_work_of_a_tile_is_recorded_as_one_whatever_stages_it_has(
    bundles: dict[str, Bundle], family: str, tmp_path: Path
) -> None:
    bundle = bundles[family]
    desk = Desk(tmp_path, bundle)
    desk.build()
    with (
        Upscaler(bundle, desk.backend(), precision=Precision.FP32) as captured,
        open_upscaler(bundle, "fake") as plain,
    ):
        got, want = (
            u.upscale(tiny_image(*BIG), preset=preset(bundle), seed=1).mean for u in (captured, plain)
        )
    assert np.array_equal(got, want)
    assert [o.kind for o in desk.cuda.asked].count("launch") >= 8


def test_a_result_without_a_loop_says_so_and_is_the_same_for_every_seed(bundles: dict[str, Bundle]) -> None:
    image = LoadedImage(np.full((9, 9), 90, np.uint8), "a.png", "PNG")
    with open_upscaler(bundles["regression"]) as upscaler:
        one, other = (upscale_image(upscaler, image, Settings(None, seed)) for seed in (1, 2))
    assert one.provenance == other.provenance
    facts = json.loads(one.provenance["edge-sr"])
    assert facts["preset"] is None and facts["seed"] is None
    assert one.samples == 1 and one.std is None


# ---- the manifest


def change(bundle: Bundle, folder: Path, **fields: Any) -> str:
    """What opening says of a copy with other fields; None removes one."""
    content = json.loads((bundle.folder / MANIFEST).read_bytes())
    content = {name: value for name, value in (content | fields).items() if value is not None}
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return caught.value.message


def graphs_of(bundle: Bundle, *components: str) -> dict[str, Any]:
    return {c: json.loads((bundle.folder / MANIFEST).read_bytes())["graphs"][c] for c in components}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("family", ABSENT)
def test_graphs_may_be_absent_only_from_version_3_on(
    bundles: dict[str, Bundle], family: str, version: int, tmp_path: Path
) -> None:
    message = change(bundles[family], tmp_path / "b", schema_version=version)
    absent = ", ".join(str(c) for c in Component if c not in FAMILIES[family])
    assert f"no graphs for {absent}: only from schema version 3 may they be absent" in message


def test_what_describes_a_loop_without_one_is_refused_by_name(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    loop = {"latent": {"channels": 1, "factor": 1}, "conditioning": {"kind": "image"}}
    message = change(bundles["regression"], tmp_path / "b", **loop)
    assert "no step graph, but latent, conditioning" in message


def test_a_loop_that_nothing_describes_is_refused_by_what_is_missing(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    message = change(bundles["pixel"], tmp_path / "b", diffusion=None, time_embedding=None)
    assert "no diffusion, time_embedding" in message


def test_a_bundle_whose_graphs_make_no_output_is_refused(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    graphs = graphs_of(bundles["pixel"], "encoder")
    assert "no graph makes the output" in change(bundles["pixel"], tmp_path / "b", graphs=graphs)


@pytest.mark.parametrize(
    ("latent", "clip"),
    [
        ({"channels": 4, "factor": 1}, 1.0),
        ({"channels": 1, "factor": 2}, 1.0),
        ({"channels": 1, "factor": 1}, 3.0),
    ],
)
def test_without_a_decoder_the_latent_has_to_be_the_image(
    bundles: dict[str, Bundle], tmp_path: Path, latent: dict[str, int], clip: float
) -> None:
    diffusion = json.loads((bundles["pixel"].folder / MANIFEST).read_bytes())["diffusion"] | {"clip": clip}
    message = change(bundles["pixel"], tmp_path / "b", latent=latent, diffusion=diffusion)
    assert "without a decoder the latent is the image: wanted channels, factor, clip (1, 1, 1.0)" in message


def test_a_first_graph_that_does_not_read_the_image_is_refused(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    graphs = graphs_of(bundles["pixel"], "step")
    message = change(bundles["pixel"], tmp_path / "b", graphs=graphs, conditioning={"kind": "image"})
    assert "step has no image" in message
    assert "nothing writes step's condition" in message


def test_a_condition_that_the_graphs_do_not_have_is_refused(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    message = change(bundles["bare"], tmp_path / "b", conditioning={"kind": "encoder"})
    assert "conditioning by encoder, but the graphs say otherwise" in message


def test_asking_for_an_absent_graph_or_for_the_loop_says_what_there_is(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(BundleError, match="bundle tiny has no step") as caught:
        bundles["regression"].graph(Component.STEP, Precision.FP32)
    assert caught.value.hint == "it has decoder"
    for part in ("diffusion", "latent"):
        with pytest.raises(BundleError, match="bundle tiny has no loop"):
            getattr(bundles["regression"], part)


# ---- commands


@pytest.mark.parametrize(
    "option",
    [("--steps", 3), ("--sampler", "ddim"), ("--samples", 2), ("--noise-scale", 1), ("--preset", "x")],
)
def test_an_option_of_the_loop_is_refused_where_there_is_none(
    bundles: dict[str, Bundle], edge_sr: Commands, image: Path, tmp_path: Path, option: tuple[str, object]
) -> None:
    bundle = ("--bundle", bundles["regression"].folder, "--backend", "onnxruntime")
    code, out, err = edge_sr("upscale", image, "-o", tmp_path / "out.png", *bundle, *option)
    assert (code, out) == (1, "")
    assert f"bundle tiny has no loop, which {option[0]} would be for" in err
    assert "leave that out" in err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("family", ABSENT)
def test_upscale_selftest_and_info_take_any_family(
    bundles: dict[str, Bundle], edge_sr: Commands, tmp_path: Path, family: str
) -> None:
    from edge_sr.cli import run

    which = ("--bundle", bundles[family].folder, "--backend", "onnxruntime", "--threads", 1)
    record, _ = edge_sr.upscale(write_image(tmp_path / "a.png"), tmp_path / "out.png", *which)
    assert (record["width"], record["height"]) == (120, 84)
    assert (record["provenance"]["preset"] is None) == (family == "regression")
    code, out, err = edge_sr("selftest", *which)
    assert (code, out.splitlines()[-1]) == (0, "PASS"), err
    assert run(["info", str(bundles[family].folder)]) == 0


# ---- bundles by name


def test_a_shipped_bundle_is_found_by_its_bare_name_and_a_folder_here_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_bundle(None) == default_bundle()
    assert find_bundle(Path("cxr-x4")) == default_bundle()
    assert find_bundle(Path("./nothing")) == Path("nothing")
    assert find_bundle(tmp_path / "cxr-x4") == tmp_path / "cxr-x4"
    (tmp_path / "cxr-x4").mkdir()
    assert find_bundle(Path("cxr-x4")) == Path("cxr-x4")


def test_the_floor_of_a_plain_network_is_that_of_its_one_graph(
    bundles: dict[str, Bundle], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from edge_sr.cli import run

    folder = write_tiny_bundle(tmp_path / "tiny", family="regression").folder
    bundle = Bundle.open(folder)
    cost = Cost(macs=5_000_000_000, weight_bytes=4, activation_bytes=4)  # 1 ms of FP16 on Orin Nano
    entry = bundle.manifest.graphs[Component.DECODER][Precision.FP32].model_copy(update={"cost": cost})
    graphs = {Component.DECODER: {Precision.FP32: entry}}
    write_manifest(folder, bundle.manifest.model_copy(update={"graphs": graphs}))
    assert run(["info", str(folder), "--device", "orin-nano", "--json"]) == 0
    floor = json.loads(capfd.readouterr().out)["floor"]
    assert floor["ms"]["fp16"] == {"decoder": 1.0, "tile": 1.0} and floor["steps"] == 0
