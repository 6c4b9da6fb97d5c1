"""Class-guided bundles: a step evaluates the class and the null class in one call, or one of them alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_sr.backends import Backend, Engine, open_backend
from edge_sr.bundle import Bundle, write_manifest
from edge_sr.cli import run
from edge_sr.errors import BundleError, UsageError
from edge_sr.image import LoadedImage, encode_png, read_png_text, write_atomic
from edge_sr.manifest import Preset
from edge_sr.pipeline import InFlight, Upscaler, make_guide, make_schedule
from edge_sr.result import Settings, upscale_image
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision
from edge_sr.tiling import position_noise
from tests.edge_sr.test_absent_stages import call
from tests.fakes import CLASSES, PRESETS, class_embedding, tiny_image, write_tiny_bundle

Float = npt.NDArray[np.float32]

TOLERANCE = 2e-5  # float32, four steps deep; images are of magnitude 1
GUIDED = ("guided", "guided-latent")
TOLD: dict[str, Any] = {"class_name": "pneumonia", "guidance": 3.0}


@pytest.fixture(scope="module", params=GUIDED)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_tiny_bundle(folder, family=request.param)


@pytest.fixture(scope="module")
def pixel(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", family="guided")


def preset(name: str = "even", **changes: Any) -> Preset:
    return Preset.model_validate(PRESETS[name] | changes)


def open_upscaler(bundle: Bundle, backend: str = "onnxruntime", *, batch: int = 1) -> Upscaler:
    return Upscaler(bundle, open_backend(backend, threads=1), precision=Precision.FP32, batch=batch)


def evaluate(
    backend: Backend, step: Engine, read: dict[str, Float], *, label: str, timestep: Float
) -> dict[str, Any]:
    """The step graph for one class alone."""
    row = class_embedding()[CLASSES["names"].index(label)]
    told = {"time_embedding": (timestep + row)[None], "guidance": np.array([[1, 0]], np.float32)}
    return call(backend, step, read | told | {"partner": np.zeros(1)})


def plainly(bundle: Bundle, image: Float, how: Preset, seed: int) -> Float:
    """A tile, written out: two calls a step, and the update around them by its formula."""
    manifest, side = bundle.manifest, bundle.latent
    size = manifest.tile * manifest.scale // side.factor
    place = {"y0": 0, "x0": 0, "height": size, "width": size, "channels": side.channels}
    with open_backend("onnxruntime", threads=1) as backend:
        graphs = {c: backend.load(bundle.graph(c, Precision.FP32)) for c in manifest.components}
        known = call(backend, graphs[Component.ENCODER], {"image": image[None]})
        x = position_noise(seed, step=0, **place)[None]
        before = np.zeros_like(x)
        schedule, table = make_schedule(bundle, how), bundle.time_embedding()
        identity = np.array([[0, 1, 0, 0, 0, 0, 1e9]], np.float32)  # x0 is the prediction itself
        for at, (step, row) in enumerate(zip(schedule.steps, coefficients(schedule), strict=True), start=1):
            read = known | {
                "x": x,
                "x0_previous": before,
                "noise": np.zeros_like(x),
                "coefficients": identity,
            }
            told, null = (
                evaluate(backend, graphs[Component.STEP], read, label=label, timestep=table[step.timestep])[
                    "x0"
                ]
                for label in (how.class_name or "none", "none")
            )
            predicted = null + np.float32(how.guidance or 0) * (told - null)
            p, q, a, b, c, d, clip = row
            x0 = np.clip(p * x + q * predicted, -clip, clip)
            x = a * x + b * x0 + c * position_noise(seed, step=at, **place)[None] + d * before
            before = x0
        if Component.DECODER not in graphs:
            return np.asarray(x[0])
        return call(backend, graphs[Component.DECODER], known | {"latent": x})["output"][0]


@pytest.mark.parametrize("name", ["even", "odd", "noisy", "multistep"])
@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 4.0])
def test_one_call_a_step_gives_what_two_calls_and_the_formula_give(
    bundle: Bundle, name: str, guidance: float
) -> None:
    how, image = preset(name, class_name="pneumonia", guidance=guidance), tiny_image()
    with open_upscaler(bundle) as upscaler:
        got = upscaler.upscale(image, preset=how, seed=3).mean
    np.testing.assert_allclose(got, plainly(bundle, image, how, 3), atol=TOLERANCE)


def test_a_class_and_its_guidance_change_the_result(bundle: Bundle) -> None:
    image = tiny_image()
    with open_upscaler(bundle) as upscaler:
        asked = [{}, {"class_name": "normal"}, TOLD, TOLD | {"guidance": 6.0}]
        made = [upscaler.upscale(image, preset=preset(**one), seed=0).mean for one in asked]
    for index, one in enumerate(made):
        for other in made[:index]:
            assert np.abs(one - other).max() > 100 * TOLERANCE


def test_without_guidance_a_step_is_one_evaluation(bundle: Bundle) -> None:
    table = bundle.class_embedding()
    for asked, evaluations in (
        ({}, 1),
        ({"class_name": "none"}, 1),
        ({"class_name": "normal", "guidance": 0.0}, 1),
        ({"class_name": "normal", "guidance": 1.0}, 1),
        ({"class_name": "normal", "guidance": 1.5}, 2),
        ({"class_name": "normal"}, 2),  # the bundle's own guidance
    ):
        guide = make_guide(bundle.manifest, table, preset(**asked))
        assert guide is not None and guide.evaluations == evaluations
    with open_upscaler(bundle) as upscaler:
        assert upscaler.tile_engine(preset(), 1).buffers["x0"].shape[0] == 1
        assert upscaler.tile_engine(preset(**TOLD), 3).buffers["x0"].shape[0] == 6


def test_all_classes_and_guidances_share_two_prepared_loops(bundle: Bundle) -> None:
    with open_upscaler(bundle) as upscaler:
        alone = {id(upscaler.tile_engine(preset(**one), 1)) for one in ({}, {"class_name": "none"})}
        guided = {
            id(upscaler.tile_engine(preset(class_name=name, guidance=w), 1))
            for name in ("normal", "pneumonia")
            for w in (2.0, 3.0, 7.5)
        }
    assert len(alone) == len(guided) == 1 and alone != guided


@pytest.mark.parametrize("backend", ["onnxruntime", "fake"])
def test_a_batch_of_guided_tiles_gives_what_they_give_one_by_one(bundle: Bundle, backend: str) -> None:
    image = tiny_image(21, 44)
    with open_upscaler(bundle, backend) as one, open_upscaler(bundle, backend, batch=3) as three:
        alone, together = (u.upscale(image, preset=preset(**TOLD), seed=1).mean for u in (one, three))
    np.testing.assert_allclose(alone, together, atol=TOLERANCE)


def test_samples_in_flight_may_each_be_told_something_else(bundle: Bundle) -> None:
    asked = [preset(**TOLD), preset("odd"), preset("noisy", class_name="normal"), preset(class_name="normal")]
    images = [tiny_image(21, 20, seed=index) for index in range(len(asked))]
    with open_upscaler(bundle) as upscaler:
        wanted = [
            upscaler.upscale(image, preset=how, seed=5).mean for image, how in zip(images, asked, strict=True)
        ]
    with open_upscaler(bundle, batch=3) as upscaler, InFlight(upscaler) as batch:
        got: dict[int, Float] = {}

        def enlarge(index: int) -> None:
            place = batch.place(lambda: True)
            got[index] = place.upscale(images[index], preset=asked[index], seed=5).mean

        threads = [
            threading.Thread(target=enlarge, args=(index,), daemon=True) for index in range(len(asked))
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            batch.advance()
    for index, want in enumerate(wanted):
        np.testing.assert_allclose(got[index], want, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"class_name": "covid"}, "no class 'covid'; there are normal, pneumonia, none"),
        ({"guidance": 2.0}, "none is named"),
        ({"class_name": "none", "guidance": 2.0}, "none is named"),
        ({"class_name": "normal", "guidance": 9.0}, "9 is not from 0 to 8"),
        ({"class_name": "normal", "guidance": float("nan")}, "nan is not from 0 to 8"),
    ],
)
def test_a_class_that_is_not_there_and_too_much_guidance_are_refused(
    pixel: Bundle, asked: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_upscaler(pixel) as upscaler, pytest.raises(UsageError, match=message):
        upscaler.upscale(tiny_image(), preset=preset().changed(asked), seed=0)
    options = [
        ("--class" if key == "class_name" else "--guidance", str(value)) for key, value in asked.items()
    ]
    words = [word for option in options for word in option]
    assert upscale(tmp_path, pixel, *words) == 1
    assert message in capsys.readouterr().err


def test_a_model_that_was_told_no_classes_refuses_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    assert upscale(tmp_path, bundle, "--class", "normal") == 1
    assert "told no classes" in capsys.readouterr().err
    regression = write_tiny_bundle(tmp_path / "plain", family="regression")
    assert upscale(tmp_path, regression, "--class", "normal", "--guidance", "2") == 1
    assert "no loop, which --class, --guidance would be for" in capsys.readouterr().err


def upscale(folder: Path, bundle: Bundle, *arguments: str) -> int:
    """The exit code of `edge-sr upscale` for a made-up image."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    write_atomic(folder / "in.png", encode_png(pixels, text={}))
    words = [str(folder / "in.png"), "-o", str(folder / "out"), "--bundle", str(bundle.folder), "--json"]
    return run(["upscale", *words, *arguments])


def test_a_result_says_what_it_was_told_and_warns_of_it(
    pixel: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(tmp_path, pixel, "--class", "pneumonia") == 0
    out, err = capsys.readouterr()
    record, stored = json.loads(out), read_png_text((tmp_path / "out" / "in.png").read_bytes())
    for facts in (record["provenance"], json.loads(stored["edge-sr"])):
        assert (facts["class"], facts["guidance"]) == ("pneumonia", 2.0)  # the bundle's own guidance
    assert "guided by class pneumonia at 2" in record["notices"][0] and "no finding" in err


def test_a_result_that_was_told_nothing_says_so_and_warns_of_nothing(pixel: Bundle) -> None:
    image = LoadedImage(np.full((16, 16), 90, np.uint8), "it", "PNG")
    with open_upscaler(pixel) as upscaler:
        result = upscale_image(upscaler, image, Settings(preset()))
    facts = json.loads(result.provenance["edge-sr"])
    assert (facts["class"], facts["guidance"]) == ("none", 1.0)
    assert not [notice for notice in result.notices if "class" in notice]


def test_info_lists_the_classes_with_the_danger(pixel: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(pixel.folder)]) == 0
    out = capsys.readouterr().out
    assert "normal, pneumonia; guidance 2, at most 8: draws what it is told, also where it is not" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"null": "covid"}, "the null class 'covid' among"),
        ({"names": ["normal", "normal", "none"]}, "wanted different names"),
        ({"names": ["normal", "none"]}, r"class embedding of shape \(3, 8\), wanted \(2, 8\)"),
        ({"most_guidance": 1.0}, "guidance 2 is more than the most, 1"),
        (
            None,
            "nothing writes step's guidance",
        ),
    ],
)
def test_classes_that_do_not_fit_are_refused(
    pixel: Bundle, tmp_path: Path, change: dict[str, Any] | None, message: str
) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny", family="guided").folder
    path = folder / "bundle.json"
    content = json.loads(path.read_text())
    content["classes"] = change and content["classes"] | change
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)


def test_a_preset_may_name_a_class_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", family="guided")
    diffusion = bundle.diffusion
    for name, is_known in (("pneumonia", True), ("covid", False)):
        presets = diffusion.presets | {"told": preset(class_name=name, guidance=3.0)}
        changed = diffusion.model_copy(update={"presets": presets, "default": "told"})
        write_manifest(bundle.folder, bundle.manifest.model_copy(update={"diffusion": changed}))
        if not is_known:
            with pytest.raises(BundleError, match="preset told: no class 'covid'"):
                Bundle.open(bundle.folder)
            continue
        with open_upscaler(Bundle.open(bundle.folder)) as upscaler:
            default = upscaler.bundle.diffusion.presets["told"]
            untold = default.changed({"class_name": "none"})
            asked = (default, preset(class_name=name, guidance=3.0), preset(), untold)
            made = [upscaler.upscale(tiny_image(), preset=one, seed=0).mean for one in asked]
        assert np.array_equal(made[0], made[1]) and np.array_equal(made[2], made[3])


def test_a_changed_class_embedding_is_noticed(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny", family="guided").folder
    path = folder / "classes.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"classes\.npy was changed"):
        Bundle.open(folder).class_embedding()
