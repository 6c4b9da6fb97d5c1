"""What is recorded, that it is what the engine computed, and what bad input leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibration.errors import CalibrationError
from calibration.images import MIN_IMAGES, CalibrationSet, choose_files, read_set
from calibration.observe import ObservingBackend
from calibration.record import Recorder, record
from calibration.recording import Recording, read_recording, write_recording
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.image import encode_png
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Component, Precision
from tests.calibration.conftest import IMAGES, write_images


def write_gray(path: Path, pixels: npt.NDArray[Any]) -> None:
    path.write_bytes(encode_png(np.asarray(pixels, np.uint8), text={}))


def test_every_step_of_every_image_is_counted(recording: Recording) -> None:
    hidden = recording.histograms[Component.STEP]["both"]
    assert hidden.counts.shape[0] == 4
    assert hidden.counts.sum(axis=1).tolist() == [IMAGES * 7 * 8 * 8] * 4  # 4 + 3 channels at 8x8


def test_inputs_that_a_layer_reads_are_recorded_too(recording: Recording, images: CalibrationSet) -> None:
    seen = recording.histograms[Component.ENCODER]["image"].pooled()
    assert seen.amax == max(float(np.abs(image).max()) for image in images.images)


def test_the_facts_say_what_was_run(recording: Recording, images: CalibrationSet) -> None:
    facts = recording.facts
    assert (facts.images_asked, facts.images_used, facts.set_digest) == (IMAGES, IMAGES, images.digest)
    assert (facts.sampler, facts.steps, facts.timesteps, facts.seed) == ("ddim", 4, (19, 14, 9, 4), 3)


def test_recording_twice_gives_the_same(
    shared_bundle: Bundle, images: CalibrationSet, recording: Recording
) -> None:
    again = record(shared_bundle, images, preset="even", seed=3)
    for component, histograms in recording.histograms.items():
        for name, histogram in histograms.items():
            assert np.array_equal(histogram.counts, again.histograms[component][name].counts)


def test_chunks_that_bound_memory_change_nothing(
    shared_bundle: Bundle, images: CalibrationSet, recording: Recording
) -> None:
    chunked = record(shared_bundle, images, preset="even", seed=3, chunk_bytes=1)
    for component, histograms in recording.histograms.items():
        for name, histogram in histograms.items():
            # Another chunk may be fused another way: a value on the edge of a bin may change sides.
            moved = np.abs(histogram.counts - chunked.histograms[component][name].counts).sum()
            assert moved <= 1e-3 * histogram.counts.sum()


def test_an_observed_engine_gives_what_the_deployed_one_gives(
    shared_bundle: Bundle, images: CalibrationSet
) -> None:
    preset = shared_bundle.diffusion.presets["noisy"]
    outputs = []
    for backend in (
        open_backend("onnxruntime"),
        ObservingBackend({c: [] for c in Component}, lambda *_: None),
    ):
        with Upscaler(shared_bundle, backend, precision=Precision.FP32) as upscaler:
            outputs.append(upscaler.upscale(images.images[0], preset=preset, seed=1).mean)
    assert np.allclose(outputs[0], outputs[1], atol=1e-5)  # fusions round otherwise


def test_a_recording_is_read_as_it_was_written(recording: Recording, tmp_path: Path) -> None:
    write_recording(tmp_path / "r.npz", recording)
    again = read_recording(tmp_path / "r.npz")
    assert again.facts == recording.facts
    for component, histograms in recording.histograms.items():
        assert again.histograms[component].keys() == histograms.keys()
        for name, histogram in histograms.items():
            found = again.histograms[component][name]
            assert np.array_equal(found.counts, histogram.counts)
            assert found.upper == histogram.upper
            assert np.array_equal(found.low, histogram.low)


def test_a_recording_names_no_image(recording: Recording, images: CalibrationSet, tmp_path: Path) -> None:
    write_recording(tmp_path / "r.npz", recording)
    data = (tmp_path / "r.npz").read_bytes()
    assert not any(name.encode() in data for name in images.names)


def test_a_recording_of_another_bundle_is_refused(bundle: Bundle, recording: Recording) -> None:
    strange = replace(recording.facts, graphs=recording.facts.graphs | {"step": "0" * 64})
    with pytest.raises(CalibrationError, match="another step"):
        Recording(strange, recording.histograms).check_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x00" * 100])
def test_a_damaged_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(CalibrationError):
        read_recording(tmp_path / "r.npz")


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_recording(tmp_path / "r.npz")


# What a reader of batches elsewhere got wrong: n references to one batch.


def test_each_image_reaches_the_encoder_as_another_batch(
    shared_bundle: Bundle, images: CalibrationSet
) -> None:
    recorder = Recorder({component: [] for component in Component}, 4)
    backend = ObservingBackend({component: [] for component in Component}, recorder)
    preset = shared_bundle.diffusion.presets["even"]
    with Upscaler(shared_bundle, backend, precision=Precision.FP32) as upscaler:
        for image in images.images:
            recorder.begin_image()
            upscaler.upscale(image, preset=preset, seed=0)
    assert len(set(recorder.batches)) == IMAGES


def test_a_batch_that_comes_again_is_an_error_that_names_both(
    shared_bundle: Bundle, images: CalibrationSet
) -> None:
    twice = CalibrationSet(images.names, (images.images[0],) * IMAGES, images.digest)
    with pytest.raises(CalibrationError, match=r"the same for 00\.png and 01\.png"):
        record(shared_bundle, twice, preset="even", seed=0)


def test_a_batch_that_fails_ends_the_recording(shared_bundle: Bundle, images: CalibrationSet) -> None:
    broken = np.full_like(images.images[3], np.nan)
    some = (*images.images[:3], broken, *images.images[4:])
    with pytest.raises(CalibrationError, match=r"stopped at 03\.png.*finite"):
        record(shared_bundle, replace(images, images=some), preset="even", seed=0)


def test_an_unknown_preset_is_refused(shared_bundle: Bundle, images: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="fancy"):
        record(shared_bundle, images, preset="fancy", seed=0)


# Images.


def test_images_are_chosen_by_the_seed(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 20)
    chosen = [choose_files(folder, 10, seed=seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_lr_images_of_pairs_are_taken(tmp_path: Path) -> None:
    write_images(tmp_path / "pairs" / "lr_16")
    assert choose_files(tmp_path / "pairs", 0, seed=0)[0].parent.name == "lr_16"


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (0, 0, "holds 0"),
        (1, 0, "too few"),
        (MIN_IMAGES - 1, 0, "too few"),
        (MIN_IMAGES, 1, "too few"),
        (MIN_IMAGES, MIN_IMAGES + 1, f"wanted {MIN_IMAGES + 1} images"),
    ],
)
def test_too_few_images_are_refused(tmp_path: Path, there: int, asked: int, message: str) -> None:
    folder = write_images(tmp_path / "images", there)
    with pytest.raises(CalibrationError, match=message):
        choose_files(folder, asked, seed=0)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no folder"):
        choose_files(tmp_path / "nowhere", 0, seed=0)


@pytest.mark.parametrize("level", [0, 200])
def test_a_flat_image_is_refused_by_name(bundle: Bundle, tmp_path: Path, level: int) -> None:
    folder = write_images(tmp_path / "images")
    write_gray(folder / "05.png", np.full((16, 16), level))
    with pytest.raises(CalibrationError, match=rf"05\.png is flat: every pixel is {level}"):
        read_set(choose_files(folder, 0, seed=0), bundle.manifest)


def test_an_image_smaller_than_a_tile_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", side=12)
    with pytest.raises(CalibrationError, match="12x12, wanted at least one tile of 16x16"):
        read_set(choose_files(folder, 0, seed=0), bundle.manifest)


def test_an_image_larger_than_a_tile_is_cut_as_ever(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", side=24)
    found = read_set(choose_files(folder, 0, seed=0), bundle.manifest)
    recording = record(bundle, found, preset="one", seed=0)
    assert recording.histograms[Component.ENCODER]["image"].counts.sum() > IMAGES * 24 * 24


def test_originals_are_reduced_where_asked(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", side=64)
    found = read_set(choose_files(folder, 0, seed=0), bundle.manifest, side=16)
    assert {image.shape for image in found.images} == {(1, 16, 16)}


def test_the_same_image_twice_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "copy.png").write_bytes((folder / "02.png").read_bytes())
    with pytest.raises(CalibrationError, match=r"02\.png and copy\.png"):
        read_set(choose_files(folder, 0, seed=0), bundle.manifest)


def test_a_file_that_is_no_image_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "04.png").write_bytes(b"hello")
    with pytest.raises(CalibrationError, match=r"04\.png"):
        read_set(choose_files(folder, 0, seed=0), bundle.manifest)


def test_the_digest_tells_one_set_from_another(bundle: Bundle, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 9)
    digests = [read_set(choose_files(folder, 8, seed=s), bundle.manifest).digest for s in (0, 0, 5)]
    assert digests[0] == digests[1] != digests[2]
