"""The class-guided family: from labelled images through training and every precision to TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from calibration.lint import lint_paths
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.selftest import run_selftest
from edge_sr.spec import GUIDANCE_INPUTS, Component, Precision
from export.__main__ import run
from export.bundle import phantom, read_card, write_bundle
from export.families import PixelModel, load_class_model
from export.graphs import Geometry
from export.labelled import LabelledStream, read_labelled
from export.models.blocks import Attention
from export.models.class_unet import ClassConfig, ClassUNet, Told, split_class_skips
from export.train import TrainOptions, fit
from export.train_class import NULL_SHARE, ClassTask, load_class_unet
from tests.export.precisions import errors_to_fp32, quantised_from
from tests.export.tiny import original, shaken

TINY = ClassConfig(channels=(16, 16, 32), embedding=16, heads=2)
CARDS = Path(__file__).parents[2] / "export" / "cards"
PRESETS = {
    "quiet": {"sampler": "ddim", "steps": 3},
    "told": {"sampler": "ddim", "steps": 3, "class_name": "pneumonia", "guidance": 3.0},
}
CHANGED: dict[str, Any] = {"tile": 16, "overlap": 4, "presets": PRESETS, "default": "quiet"}
TOLD = read_card(CARDS / "cxr-x4-class.json") | CHANGED
DIFFUSION = {"prediction": "sample", "noise_schedule": "cosine", "timesteps": 100, "clip": 1.0}
LABELS = ("normal", "pneumonia_virus", "normal", "pneumonia_bacteria", "covid")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_network(config: ClassConfig = TINY) -> ClassUNet:
    """A small network that does something."""
    torch.manual_seed(2)
    network = shaken(ClassUNet(config), seed=2)
    assert isinstance(network, ClassUNet)
    return network


def write_labelled(folder: Path, *, labels: tuple[str, ...] = LABELS, patients: int = 30) -> Path:
    """A table of made-up images, a patient each; some are of a test split."""
    (folder / "images").mkdir(parents=True)
    lines = ["file,split,patient_id,source,label"]
    for index in range(patients):
        side, label = "test" if index % 10 == 9 else "train", labels[index % len(labels)]
        cv2.imwrite(str(folder / f"images/{index}.png"), original(index, height=256 + index, width=260))
        lines.append(f"images/{index}.png,{side},p{index},made up,{label}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def class_run(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny network."""
    out = tmp_path_factory.mktemp("runs") / "class"
    fit(
        ClassTask(TINY, labels=labels, batch=2, crop=64),
        TrainOptions(out=out, iterations=4, validate_every=4, warmup=1),
    )
    return out


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a network whose weights are all at work, with the family's own card."""
    out = tmp_path_factory.mktemp("bundles") / "guided"
    model = PixelModel(tiny_network(), DIFFUSION)
    return write_bundle(model, TOLD, out, image=phantom(16, 1), commands=("made up",))


# ---- the network


def test_the_class_moves_what_is_predicted_and_so_does_all_else_that_is_read() -> None:
    network = tiny_network()
    x, condition, row = noise(2, 1, 64, 64), noise(2, 1, 64, 64, seed=1), noise(2, 16, seed=2)
    normal, pneumonia, _ = network.classes.weight
    out = network.denoise(x, row + normal, condition)
    assert out.shape == x.shape
    for other in (
        network.denoise(x, row + pneumonia, condition),
        network.denoise(x, row + normal, condition + 0.1),
        network.denoise(x + 0.1, row + normal, condition),
    ):
        assert (out - other).abs().max() > 1e-4


def test_it_has_two_attention_blocks_and_begins_at_bicubic() -> None:
    network = ClassUNet(TINY)
    assert sum(isinstance(module, Attention) for module in network.modules()) == 2
    condition = noise(1, 1, 64, 64)
    out = network(noise(1, 1, 64, 64, seed=1), torch.tensor([5]), condition)
    torch.testing.assert_close(out, condition)


def test_what_is_exported_computes_what_was_trained() -> None:
    network = tiny_network()
    x, row, condition = noise(2, 1, 64, 64), noise(2, 16, seed=1), noise(2, 1, 64, 64, seed=2)
    difference = split_class_skips(network).denoise(x, row, condition) - network.denoise(x, row, condition)
    assert difference.abs().max() < 1e-4  # the same sums in another order, in FP32


def test_guidance_is_the_formula_of_its_paper() -> None:
    network = tiny_network()
    x, row, condition = noise(1, 1, 64, 64), noise(1, 16, seed=1), noise(1, 1, 64, 64, seed=2)
    _, told, null = network.classes.weight
    alone = {
        key: network.denoise(x, row + key_row, condition) for key, key_row in (("told", told), ("null", null))
    }
    for guidance in (0.0, 1.0, 3.0):
        got = Told(network, told, null=null, guidance=guidance).denoise(x, row, condition)
        wanted = alone["null"] + guidance * (alone["told"] - alone["null"])
        torch.testing.assert_close(got, wanted)


# ---- labelled images


def test_labels_belong_to_the_class_that_they_begin_with_and_no_patient_is_on_two_sides(labels: Path) -> None:
    train, val = read_labelled(labels, ("normal", "pneumonia"))
    kept = sum(LABELS[i % 5] != "covid" and i % 10 != 9 for i in range(30))
    assert len(train.images) + len(val.images) == kept
    assert {image.shape for image in (*train.images, *val.images)} == {(256, 256)}
    assert set(train.labels) == set(val.labels) == {0, 1}
    seen = {image.tobytes() for image in train.images}
    assert not seen & {image.tobytes() for image in val.images}


def test_classes_come_equally_often_and_a_batch_depends_on_its_number_alone(labels: Path) -> None:
    train, _ = read_labelled(labels, ("normal", "pneumonia"))
    stream = LabelledStream(train, batch=4, crop=64, scale=2, seed=1)
    lr, hr, told = stream.batch(3)
    assert lr.shape == (4, 1, 32, 32) and hr.shape == (4, 1, 64, 64)
    assert sorted(told) == [0, 0, 1, 1]
    later = stream.batches(2)
    next(later)
    for one, other in zip(next(later), (lr, hr, told), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_table_without_a_class_or_a_column_and_a_wrong_crop_are_refused(
    labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no images to train with of tuberculosis"):
        read_labelled(labels, ("normal", "tuberculosis"))
    table = tmp_path / "labels.csv"
    table.write_text("file,split\n1.png,train\n")
    with pytest.raises(ConfigError, match="no rows with patient_id, label"):
        read_labelled(table, ("normal",))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labelled(tmp_path / "none.csv", ("normal",))
    train, _ = read_labelled(labels, ("normal", "pneumonia"))
    with pytest.raises(UsageError, match=r"a crop of 16, 32, \.\.\. 256, got 2 and 40"):
        LabelledStream(train, batch=2, crop=40, scale=4, seed=0)


# ---- training


def test_the_class_is_dropped_in_10_to_20_percent_and_the_loss_falls(labels: Path, tmp_path: Path) -> None:
    assert 0.10 <= NULL_SHARE <= 0.20
    task = ClassTask(TINY, labels=labels, batch=4, crop=64)
    batch = next(task.batches(0))
    assert isinstance(task.model, ClassUNet)
    torch.nn.init.constant_(task.model.unet.conv_out.bias, 0.3)  # far from bicubic, which is good already

    def loss() -> float:
        torch.manual_seed(5)
        with torch.no_grad():
            return float(task.loss(task.model, batch, progress=0.0)["loss"])

    before, rows = loss(), task.model.get_parameter("classes.weight").detach().clone()
    fit(task, TrainOptions(out=tmp_path, iterations=30, validate_every=30, warmup=1, learning_rate=2e-3))
    assert loss() < 0.5 * before
    moved = (task.model.get_parameter("classes.weight").detach() - rows).abs().amax(dim=1)
    assert (moved > 0).all()  # the null class too


def test_a_run_is_read_back_and_another_is_refused(class_run: Path, tmp_path: Path) -> None:
    network, diffusion = load_class_unet(class_run)
    assert network.config == TINY
    assert diffusion == {"prediction": "sample", "noise_schedule": "cosine", "timesteps": 1000, "clip": 1.0}
    torch.save({"config": {"latent_channels": 4}, "weights": {}}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match="is no run of train-class"):
        load_class_model(tmp_path)


def test_the_command_trains_at_scale_2_and_exports_alone(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    choices = ["--scale", "2", "--batch", "1", "--crop", "16", "--iterations", "1"]
    assert run(["train-class", "--labels", str(labels), "--out", str(out), *choices]) == 0
    network, _ = load_class_unet(out)
    assert network.config.scale == 2 and network.config.names == ("normal", "pneumonia", "none")
    bundle = ["bundle", "--class-guided", str(out), "--out", str(tmp_path / "made")]
    assert run(bundle) == 0  # every graph is held against torch
    made = Bundle.open(tmp_path / "made").manifest
    assert (made.name, made.scale, made.tile) == ("cxr-x2-class", 2, 128)
    assert run([*bundle, "--regression", str(out)]) == 2
    assert "or --class-guided alone" in capsys.readouterr().err


def test_the_bundle_has_the_classes_of_network_and_card(guided: Bundle, tmp_path: Path) -> None:
    classes = guided.manifest.classes
    assert classes is not None and classes.names == ("normal", "pneumonia", "none") and classes.null == "none"
    assert (classes.guidance, classes.most_guidance) == (1.0, 8.0)
    without = {key: value for key, value in TOLD.items() if key != "guidance"}
    model = PixelModel(tiny_network(), DIFFUSION)
    with pytest.raises(ConfigError, match="the card has no guidance"):
        model.loop(without, tmp_path, Geometry(scale=4, factor=1, channels=1))


# ---- the bundle


def test_one_graph_call_a_step_gives_what_torch_gives_with_two(guided: Bundle, tmp_path: Path) -> None:
    guided.verify()
    step = guided.graph(Component.STEP, Precision.FP32)
    assert {spec.name for spec in step.inputs} > GUIDANCE_INPUTS
    model = PixelModel(tiny_network(), DIFFUSION)
    told = guided.diffusion.presets["told"]
    changed = guided.manifest.diffusion.model_copy(update={"default": "told"})  # type: ignore[union-attr]
    as_told = Bundle(guided.folder, guided.manifest.model_copy(update={"diffusion": changed}), guided.digest)
    golden = model.golden(as_told, torch.from_numpy(phantom(16, 1)[None]))
    with Upscaler(guided, open_backend("onnxruntime", threads=1), precision=Precision.FP32) as upscaler:
        assert run_selftest(upscaler, root=tmp_path).passed
        engine = upscaler.tile_engine(told, 1)
        out = np.empty(engine.output.shape, np.float32)
        nothing = np.empty((0, *engine.latent_shape), np.float32)
        engine.run(phantom(16, 1)[None], golden["noise"].numpy(), nothing, out)
    np.testing.assert_allclose(out, golden["output"].numpy(), atol=1e-3)  # three steps deep, in FP32


@pytest.fixture(scope="module")
def quantised(guided: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle in every precision, recorded as a guided loop runs."""
    return quantised_from(guided, tmp_path_factory.mktemp("made") / "guided", preset="told")


def test_it_is_recorded_and_quantised_and_its_graphs_are_lint_free(quantised: Bundle, tmp_path: Path) -> None:
    assert set(quantised.precisions()) == set(Precision)
    assert not [report for report in lint_paths([quantised.folder]) if report.errors]
    errors = errors_to_fp32(
        quantised, phantom(24, 1), preset=quantised.diffusion.presets["told"], root=tmp_path
    )
    # INT8 keeps 8 bits of what is about 1 in magnitude, layer after layer; FP16 eleven.
    for precision, bound in ((Precision.FP16, 0.02), (Precision.INT8, 0.15)):
        assert 0 < errors[precision] < bound
