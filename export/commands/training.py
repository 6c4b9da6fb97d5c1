"""The commands that train: a task of its family's module, run by `export.train.fit`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from export.commands.notes import note_command
from export.commands.options import (
    COUNT,
    FILE,
    FOLDER,
    VAE_HELP,
    originals_options,
    run_options,
    training_options,
)


@click.command("train-regression")
@originals_options
@training_options
@click.option("--batch", type=COUNT, default=8, help="Crops an iteration.")
@click.option("--crop", default=128, help="Side of a training crop in HR pixels, a multiple of 8.")
@click.option("--width", type=COUNT, help="Channels at the LR grid.")
@click.option("--blocks", type=COUNT, help="Residual blocks there, before the deep part and again after it.")
@click.option("--deep-width", type=COUNT, help="Channels of the deep part, at half the LR grid.")
@click.option("--deep-blocks", type=COUNT, help="Residual blocks there.")
def train_regression(
    batch: int,
    crop: int,
    width: int | None,
    blocks: int | None,
    deep_width: int | None,
    deep_blocks: int | None,
    **options: Any,
) -> None:
    """Train the LR encoder alone, to give the expected HR image. LPIPS is not used.

    Of the default size it is what train-vae builds on; a smaller one is a model of its own.
    """
    from export.models.vae import VAEConfig
    from export.train import fit, require_device
    from export.train_regression import RegressionTask

    require_device(options["device"])
    data = _data(options)
    del data["lpips"]
    sizes = {
        "lr_width": width,
        "lr_blocks": blocks,
        "lr_deep_width": deep_width,
        "lr_deep_blocks": deep_blocks,
    }
    config = VAEConfig(**{name: size for name, size in sizes.items() if size is not None})
    fit(
        RegressionTask(config, batch=batch, crop=crop, seed=options["seed"], **data),
        _train_options(options),
    )


@click.command("train-vae")
@originals_options
@training_options
@click.option("--regression", type=FOLDER, help="A run of train-regression, which then stays as it is.")
@click.option("--batch", type=COUNT, default=8, help="Crops an iteration.")
@click.option("--crop", default=128, help="Side of a training crop in HR pixels, a multiple of 8.")
def train_vae(regression: Path | None, batch: int, crop: int, **options: Any) -> None:
    """Train the autoencoder of what the LR image lacks, and the condition of the UNet."""
    from export.models.vae import VAEConfig
    from export.train import fit, require_device
    from export.train_vae import VAETask

    require_device(options["device"])
    task = VAETask(
        VAEConfig(),
        batch=batch,
        crop=crop,
        seed=options["seed"],
        regression=regression,
        **_data(options),
    )
    fit(task, _train_options(options))


@click.command("train-unet")
@originals_options
@training_options
@click.option("--vae", type=FOLDER, required=True, help=VAE_HELP)
@click.option("--pairs", type=COUNT, default=6336, help="Encoded pairs to train on, kept in OUT/latents.")
@click.option("--batch", type=COUNT, default=16, help="Pairs an iteration.")
def train_unet(vae: Path, pairs: int, batch: int, **options: Any) -> None:
    """Train UNet-Lite on the latents of a trained autoencoder."""
    from export.models.unet_lite import UNetConfig
    from export.train import fit
    from export.train_unet import UNetTask

    task = UNetTask(
        UNetConfig(),
        vae=vae,
        store=options["out"] / "latents",
        pairs=pairs,
        batch=batch,
        seed=options["seed"],
        device=options["device"],
        **_data(options),
    )
    fit(task, _train_options(options))


@click.command("train-sr3")
@originals_options
@training_options
@click.option(
    "--size", type=click.Choice(["lite", "paper"]), default="lite", help="Of the network; paper: 202 M."
)
@click.option("--attention/--no-attention", default=True, help="Self-attention on the coarse maps.")
@click.option("--noise", type=click.Choice(["cosine", "linear"]), default="cosine", help="Noise schedule.")
@click.option(
    "--prediction",
    type=click.Choice(["epsilon", "v_prediction"]),
    default="epsilon",
    help="The noise, as SR3 has it, or v, which keeps an image's mean.",
)
@click.option("--batch", type=COUNT, default=16, help="Crops an iteration.")
@click.option("--crop", default=64, help="Side of a training crop in HR pixels, a multiple of 16.")
def train_sr3(
    size: str, attention: bool, noise: str, prediction: str, batch: int, crop: int, **options: Any
) -> None:
    """Train SR3, diffusion in pixel space: no autoencoder, the enlarged LR image beside the noisy one."""
    from export.models.sr3 import LITE, PAPER
    from export.train import fit, require_device
    from export.train_sr3 import SR3Task

    require_device(options["device"])
    config = LITE if size == "lite" else PAPER
    config = config if attention else replace(config, attention=())
    task = SR3Task(
        config,
        noise=noise,
        prediction=prediction,
        batch=batch,
        crop=crop,
        seed=options["seed"],
        **_data(options),
    )
    fit(task, _train_options(options))


@click.command("train-class")
@run_options
@click.option(
    "--labels",
    type=FILE,
    required=True,
    help="CSV with file (from its own folder), split, patient_id, label; images at least 256 a side.",
)
@click.option("--classes", default="normal,pneumonia", help="What a label begins with, for each class.")
@click.option("--scale", type=click.Choice(["2", "4"]), default="4", help="HR pixels an LR pixel.")
@click.option("--batch", type=COUNT, default=8, help="Pairs an iteration.")
@click.option("--crop", default=256, help="Side of a training crop in HR pixels.")
def train_class(labels: Path, classes: str, scale: str, batch: int, crop: int, **options: Any) -> None:
    """Train a class-guided denoiser in pixel space on labelled images. There is no autoencoder."""
    from export.models.class_unet import ClassConfig
    from export.train import fit, require_device
    from export.train_class import ClassTask

    require_device(options["device"])
    names = (*filter(None, (name.strip() for name in classes.split(","))), "none")
    config = ClassConfig(names=names, scale=int(scale))
    task = ClassTask(config, labels=labels, batch=batch, crop=crop, seed=options["seed"])
    fit(task, _train_options(options))


@click.command("train-decoder")
@training_options
@click.option("--vae", type=FOLDER, required=True, help=VAE_HELP)
@click.option("--unet", type=FOLDER, required=True, help="The run of train-unet, with its pairs.")
@click.option("--samples", type=COUNT, default=1600, help="Pairs to sample latents for, in OUT/latents.")
@click.option("--batch", type=COUNT, default=8, help="Crops an iteration.")
@click.option("--crop", default=128, help="Side of a training crop in HR pixels, a multiple of 8.")
def train_decoder(vae: Path, unet: Path, samples: int, batch: int, crop: int, **options: Any) -> None:
    """Train the decoder further, on latents of the loop and of real images."""
    from export.train import fit
    from export.train_decoder import DecoderTask

    task = DecoderTask(
        vae=vae,
        unet=unet,
        val=options["val"],
        lpips=options["lpips"],
        store=options["out"] / "latents",
        samples=samples,
        batch=batch,
        crop=crop,
        seed=options["seed"],
        device=options["device"],
    )
    fit(task, _train_options(options))


@click.command("distill")
@training_options
@click.option("--vae", type=FOLDER, required=True, help=VAE_HELP)
@click.option("--unet", type=FOLDER, required=True, help="The teacher: a run of train-unet, with its pairs.")
@click.option("--decoder", type=FOLDER, help="The run of train-decoder that samples are shown by.")
@click.option("--teacher-steps", type=COUNT, default=8, help="Steps in which the teacher samples.")
@click.option("--student-steps", type=COUNT, default=1, help="Steps of the last student: those halved.")
@click.option("--batch", type=COUNT, default=8, help="Steps of a student an iteration: images times steps.")
def distill(
    vae: Path,
    unet: Path,
    decoder: Path | None,
    teacher_steps: int,
    student_steps: int,
    batch: int,
    **options: Any,
) -> None:
    """Distil UNet-Lite to few steps: one student for 4, one for 2, one for 1.

    Each learns to go in one step where the one before it goes in two, in a run of its own: OUT/4-step,
    OUT/2-step, OUT/1-step. --iterations and --minutes are of each. Stopped, the same command goes on.
    """
    from export.distill import DistillTask
    from export.halving import halvings
    from export.train import fit

    teacher = unet
    for steps in halvings(teacher_steps, student_steps):
        run = options["out"] / f"{steps}-step"
        task = DistillTask(
            steps=steps,
            teacher=teacher,
            first=unet,
            first_steps=teacher_steps,
            vae=vae,
            val=options["val"],
            lpips=options["lpips"],
            decoder=decoder,
            batch=batch,
            seed=options["seed"],
            device=options["device"],
        )
        fit(task, _train_options(options | {"out": run}, after=unet))
        teacher = run


def _data(options: dict[str, Any]) -> dict[str, Any]:
    """What a task is told of the data."""
    from export.prepare import parse_views

    names = ("train", "val", "lpips")
    return {name: options[name] for name in names} | {"views": parse_views(options["views"])}


def _train_options(options: dict[str, Any], *, after: Path | None = None) -> Any:
    """How to train; the command is noted in the run's folder, behind that of the run it comes `after`."""
    from export.train import TrainOptions

    out = options["out"]
    note_command(out, sys.argv[1:], after=after)
    names = ("iterations", "minutes", "learning_rate", "validate_every", "seed", "device", "threads")
    named = {name: options[name] for name in names}
    return TrainOptions(out=out, checkpoint_every_s=options["checkpoint_every"], **named)
