from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.peers.assembly import SAME_DB
from benchmarks.peers.calibrating import STEP_SAMPLES, collect, is_same_set, read_calibration
from benchmarks.peers.child import Child, prepare
from benchmarks.peers.footprint import code_lines, dependencies, import_seconds, installed_bytes, snippet_path
from benchmarks.peers.laid import diffusers_settings, draw_start
from benchmarks.peers.picture import peers_picture
from benchmarks.peers.protocol import OURS, OURS_FP32, PEERS, Case, find_peer
from benchmarks.peers.records import PeersResult
from benchmarks.peers.report import peers_report
from benchmarks.peers.run import Request, run_peers
from benchmarks.peers.worker import IMAGES, case_text, read_case, serve
from benchmarks.records import to_json
from benchmarks.rows import Track
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, ConfigError, UsageError
from edge_sr.metrics import psnr
from edge_sr.schedule import NoiseSchedule
from edge_sr.spec import Component, Precision
from export.bundle import phantom


@pytest.fixture
def case(quantised: Bundle, tmp_path: Path) -> Case:
    """One thread, a folder of its own."""
    return Case(quantised.folder, tmp_path, 1)


@pytest.fixture
def calibration_images(tmp_path: Path) -> Path:
    """Forty noisy tiles."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(40):
        cv2.imwrite(str(folder / f"{index:02}.png"), rng.integers(0, 256, (64, 64), dtype=np.uint8))
    return folder


def test_a_case_comes_back_from_its_text(case: Case) -> None:
    assert read_case(case_text(case)) == case


def test_an_unknown_peer_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        find_peer("ncnn")
    assert OURS in refused.value.hint


@pytest.mark.parametrize("key", PEERS)
def test_every_peer_is_what_the_table_says_and_its_snippet_is_there(key: str) -> None:
    peer = find_peer(key)
    assert peer.key == key
    assert peer.precision in SAME_DB
    assert 5 < code_lines(snippet_path(peer.snippet)) < 60


@pytest.mark.parametrize("key", [key for key in PEERS if key not in ("torch-compile", "openvino-int8")])
def test_peers_in_one_process_make_edge_srs_image(case: Case, key: str) -> None:
    peer = find_peer(key)
    if reason := peer.available(case):
        pytest.skip(reason)
    image = phantom(64, 1)
    ours = find_peer(OURS_FP32).open(case)(image, 3)
    peer.prepare(case)
    made = peer.open(case)(image, 3)
    assert made.shape == ours.shape
    # Random weights leave INT8 a little less than a trained model's.
    least = SAME_DB[peer.precision] - (5 if peer.precision == "int8" else 0)
    assert psnr(made[0], ours[0], data_range=2) > least


def test_another_seed_makes_another_image(case: Case) -> None:
    find_peer("ort-fp32").prepare(case)
    upscale = find_peer("ort-fp32").open(case)
    assert not np.array_equal(upscale(phantom(64, 1), 0), upscale(phantom(64, 1), 1))


def test_diffusers_is_given_the_bundles_own_noise_schedule(bundle: Bundle) -> None:
    from diffusers import DDIMScheduler

    diffusion = bundle.diffusion
    settings = diffusers_settings(bundle, diffusion.presets["default"])
    assert settings.pop("steps") == diffusion.presets["default"].steps
    ours = NoiseSchedule(diffusion.noise_schedule, timesteps=diffusion.timesteps).alphas_bar()
    theirs = DDIMScheduler(**settings).alphas_cumprod.numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-6)  # theirs is made in FP32


def test_a_preset_that_draws_noise_is_left_to_edge_sr(quantised: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "ancestral"
    other.mkdir()
    for file in quantised.folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["diffusion"]["default"] = "ancestral"
    (other / "bundle.json").write_text(json.dumps(manifest))
    case = Case(other, tmp_path, 1)
    for key in ("torch-eager", "ort-fp32", "openvino-fp32"):
        assert find_peer(key).available(case)
    assert not find_peer(OURS).available(case)


def test_a_quantiser_sees_every_graphs_inputs_all_along_the_loop(
    case: Case, quantised: Bundle, calibration_images: Path
) -> None:
    given = Case(case.bundle, case.work, 1, calibration_images)
    samples = collect(given, case.folder("graphs"))
    steps, count = 3, len(read_calibration(calibration_images, quantised)[0])
    assert {c: len(s) for c, s in samples.items()} == {
        Component.ENCODER: count,
        Component.STEP: min(count * steps, STEP_SAMPLES),
        Component.DECODER: count,
    }
    for component, found in samples.items():
        specs = {s.name: s.concrete(1) for s in quantised.graph(component, Precision.FP32).inputs}
        assert {name: value.shape for name, value in found[0].items()} == specs
    embeddings = {sample["time_embedding"].tobytes() for sample in samples[Component.STEP]}
    assert len(embeddings) == steps


def test_calibration_images_are_those_of_the_bundle_or_are_told_apart(
    quantised: Bundle, recording_images: Path, calibration_images: Path
) -> None:
    assert is_same_set(recording_images, quantised)
    assert not is_same_set(calibration_images, quantised)


def test_too_few_calibration_images_are_refused(quantised: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_calibration(tmp_path, quantised)


def test_the_start_of_the_loop_is_what_the_engine_draws(quantised: Bundle) -> None:
    preset = quantised.diffusion.presets["default"]
    start = draw_start(quantised, preset, seed=5)
    assert start.shape == (1, 4, 32, 32)
    assert start.std() == pytest.approx(preset.noise_scale, rel=0.05)


def test_a_worker_answers_each_line_until_there_is_none(tmp_path: Path) -> None:
    seen = []

    def upscale(image: np.ndarray, seed: int) -> np.ndarray:
        seen.append(seed)
        return image + seed

    images, answered = np.zeros((2, 1, 4, 4), np.float32), io.StringIO()
    asked = io.StringIO(f'{{"image": 1}}\n{{"save": "{tmp_path / "made.npy"}"}}\n')
    serve(upscale, images, asked, answered)
    timed, saved = map(json.loads, answered.getvalue().splitlines())
    assert timed["seconds"] >= 0 and saved["peak_bytes"] > 1 << 20
    assert seen == [1, 1, 0, 1]
    assert np.load(tmp_path / "made.npy")[:, 0, 0, 0].tolist() == [0, 1]


def test_a_child_that_cannot_open_says_why(case: Case) -> None:
    np.save(case.work / IMAGES, phantom(64, 1)[None])
    with pytest.raises(BackendError, match="ort-fp32 ended"):
        Child("ort-fp32", case)  # nothing was prepared for it


def test_a_preparation_that_fails_says_why(case: Case) -> None:
    broken = Case(case.work / "no-bundle", case.work, 1)
    with pytest.raises(BackendError, match="could not be prepared"):
        prepare("ort-fp32", broken)


def test_lines_are_those_with_code(tmp_path: Path) -> None:
    path = tmp_path / "snippet.py"
    words = '"""Words."""\n\nfrom __future__ import annotations\n\n# more words\n'
    code = 'import os\n\n\ndef f(\n    a: int,\n) -> int:\n    """Words,\n    and words."""\n'
    path.write_text(words + code + "    return [\n        a,  # a word\n        1,\n    ]\n")
    assert code_lines(path) == 8  # the import, three of the definition, four of what it returns


def test_a_size_counts_what_a_distribution_brings() -> None:
    found = dependencies(["pydantic"])
    assert {"pydantic", "pydantic-core", "typing-extensions"} <= found
    sizes = installed_bytes(found)
    assert sizes["pydantic-core"] > 1_000_000
    assert all(size > 0 for size in sizes.values())


def test_edge_srs_own_size_is_that_of_its_package_with_its_bundle() -> None:
    names = dependencies(["edge-sr[cpu]"])
    assert "onnxruntime" in names and "torch" not in names
    package = Path(__file__).parents[2] / "edge_sr"
    models = sum(path.stat().st_size for path in package.rglob("*.onnx"))
    assert installed_bytes(["edge-sr"])["edge-sr"] > models


def test_a_package_that_is_not_there_is_an_error_not_a_zero() -> None:
    with pytest.raises(BackendError):
        installed_bytes(["no-such-distribution"])


def test_imports_are_timed_in_a_process_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "snippet.py"
    path.write_text("import json\nimport no_such_module\n")
    with pytest.raises(BackendError, match="no_such_module"):
        import_seconds(path, repeats=1)
    path.write_text("import json\n")
    assert len(import_seconds(path, repeats=2)) == 2


def test_a_whole_run_is_a_record_a_table_and_a_picture(
    quantised: Bundle, pairs_folder: Path, quietly: Track
) -> None:
    request = Request(
        quantised.folder,
        pairs_folder,
        peers=("ort-fp32", "openvino-int8"),
        limit=2,
        rounds=3,
        imports=1,
        threads=1,
    )
    result = run_peers(request, arguments=["peers"], track=quietly)
    assert PeersResult.model_validate_json(to_json(result)) == result
    assert [row.key for row in result.rows] == [OURS, OURS_FP32, "ort-fp32"]
    assert [out.key for out in result.left_out] == ["openvino-int8"]  # no images to calibrate with
    for row in result.rows:
        assert len(row.seconds.seconds) == 3 and len(row.to_truth_db) == 2 and row.peak_bytes > 1 << 20
    ours = result.row(OURS)
    assert ours is not None and ours.over_ours.mean == 1
    assert not [notice for notice in result.notices if "something else" in notice]
    text = peers_report(result)
    assert "openvino-int8 was left out" in text and "**edge-sr, INT8**" in text
    assert cv2.imdecode(np.frombuffer(peers_picture(result), np.uint8), cv2.IMREAD_COLOR).shape[1] == 900
