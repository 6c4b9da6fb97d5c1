"""A tiny bundle of every family, of random weights and tiles of 64 pixels: who adds a family adds a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_sr.bundle import Bundle
from export.bundle import phantom, read_card, write_bundle
from export.families import Family, PixelModel, RegressionModel
from export.models.class_unet import ClassConfig, ClassUNet
from export.models.sr3 import SR3, SR3Config
from tests.export.tiny import CARD, shaken, tiny_model, tiny_vae

TOLD: dict[str, Any] = CARD | {
    "tile": 64,
    "overlap": 16,
    "presets": {"quiet": {"sampler": "ddim", "steps": 2, "spacing": "leading"}},
    "default": "quiet",
}
PIXEL = SR3Config(side=256, width=4, multipliers=(1, 1, 2), blocks=1, attention=(64,), groups=2, embedding=16)
CLASSES = ClassConfig(channels=(16, 16, 32), embedding=16, heads=2)
GUIDED = {"sampler": "ddim", "steps": 2, "class_name": "pneumonia", "guidance": 1.5}
CARDS = Path(__file__).parents[2] / "export" / "cards"
EPSILON = {"prediction": "epsilon", "noise_schedule": "cosine", "timesteps": 100, "clip": 1.0}


def _sr3() -> Family:
    network = shaken(SR3(PIXEL), seed=2)
    assert isinstance(network, SR3)
    return PixelModel(network, EPSILON)


def _class_guided() -> Family:
    network = shaken(ClassUNet(CLASSES), seed=2)
    assert isinstance(network, ClassUNet)
    return PixelModel(network, EPSILON | {"prediction": "sample"})


def _class_card() -> dict[str, Any]:
    told = read_card(CARDS / "cxr-x4-class.json")
    return told | {"name": "tiny", "presets": {"guided": GUIDED}, "default": "guided"}


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in ("presets", "default")}


def _write(folder: Path, model: Family, told: Mapping[str, Any]) -> Bundle:
    image = phantom(told["tile"], told["channels"])
    return write_bundle(model, told, folder, image=image, commands=("made up",))


FAMILIES: dict[str, Callable[[Path], Bundle]] = {
    "latent": lambda folder: _write(folder, tiny_model(), TOLD),
    "regression": lambda folder: _write(folder, RegressionModel(tiny_vae().lr_encoder), _plain(TOLD)),
    "class-guided": lambda folder: _write(folder, _class_guided(), _class_card()),
    "sr3": lambda folder: _write(folder, _sr3(), TOLD),
}
