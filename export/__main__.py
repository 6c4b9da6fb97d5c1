"""The command line of the training side: `python -m export COMMAND`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_sr.errors import EdgeSRError, OutputError

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
COUNT, NOT_NEGATIVE = click.IntRange(1), click.FloatRange(0)
VAE_HELP = "The run of train-vae, or an AutoencoderKL or AutoencoderTiny in diffusers' layout."
COMMAND = "command.txt"  # how a run was started, for the bundle's provenance


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """Trains super-resolution models and exports them to bundles. Needs torch."""


def originals_options(function: F) -> F:
    """Where the images to train on come from."""
    options = [
        click.option("--train", type=FOLDER, required=True, help="Folder of originals, at least 256 a side."),
        click.option("--views", default="", help="Only these views of index.csv, such as PA or PA,AP."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def training_options(function: F) -> F:
    """The options of a training command that validates on pairs."""
    options = [
        click.option("--val", type=FOLDER, required=True, help="Folder with hr_256/ and lr_64/."),
        click.option("--lpips", type=FOLDER, help="Folder with squeezenet1_1.pth and lpips' squeeze.pth."),
        run_options,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def run_options(function: F) -> F:
    """The options that every training command has."""
    options = [
        click.option(
            "--out", type=FOLDER, required=True, help="The run's folder; an unfinished run goes on."
        ),
        click.option("--iterations", type=COUNT, default=100_000, help="Optimiser steps at most."),
        click.option(
            "--minutes", type=NOT_NEGATIVE, default=0.0, help="Training time at most; 0 for no limit."
        ),
        click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=5e-4),
        click.option("--validate-every", type=COUNT, default=400, help="Iterations between validations."),
        click.option(
            "--checkpoint-every", type=NOT_NEGATIVE, default=60.0, help="Seconds between checkpoints."
        ),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu"),
        click.option(
            "--threads", type=click.IntRange(0, 256), default=0, help="CPU threads; 0 for torch's choice."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@cli.command("prepare")
@click.option("--images", type=FOLDER, required=True, help="Folder of originals, with folders in it or not.")
@click.option(
    "--metadata", type=FILE, required=True, help="CSV: Data_Entry_2017.csv, or file,patient_id,view."
)
@click.option("--out", type=FOLDER, required=True, help="The data set's folder; new or empty.")
@click.option("--views", default="PA", help="Only these views, such as PA or PA,AP; empty for all.")
@click.option("--split", default="70,20,10", help="Percent of the patients for train, val and test.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the split.")
def prepare(images: Path, metadata: Path, out: Path, views: str, split: str, seed: int) -> None:
    """Make a data set: originals to train on, and pairs of 256 and 64 pixels to judge with.

    No patient is on two sides. Images that cannot be used are left out and named.
    """
    from export.prepare import parse_shares, prepare_dataset

    report = prepare_dataset(
        images, metadata, out, views=_views(views), shares=parse_shares(split), seed=seed
    )
    for path, reason in report.left_out.items():
        click.echo(f"left out: {path}: {reason}", err=True)
    if report.absent:
        click.echo(f"{report.absent} images of {metadata} are not in {images}", err=True)
    counts = ", ".join(f"{name} {count}" for name, count in report.images.items())
    click.echo(f"{out}: {counts} images; {len(report.left_out)} left out")


@cli.command("train-regression")
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


@cli.command("train-vae")
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


@cli.command("train-unet")
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


@cli.command("train-sr3")
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


@cli.command("train-class")
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


@cli.command("train-decoder")
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


@cli.command("distill")
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


@cli.command("bundle")
@click.option("--vae", type=FOLDER, help=VAE_HELP)
@click.option("--unet", type=FOLDER, help="The run of train-unet, or a student of distill.")
@click.option("--decoder", type=FOLDER, help="The run of train-decoder.  [default: the autoencoder's own]")
@click.option("--regression", type=FOLDER, help="A run of train-regression alone, in place of those three.")
@click.option("--sr3", type=FOLDER, help="A run of train-sr3 alone, in place of those three.")
@click.option("--class-guided", type=FOLDER, help="A run of train-class alone, in place of those three.")
@click.option("--out", type=FOLDER, required=True, help="The bundle's folder; an older one is replaced.")
@click.option(
    "--card",
    type=FILE,
    help="What people are told of the model, and its presets.  [default: export/cards/cxr-x4.json; with "
    "--regression cxr-x4-cnn.json, with --sr3 cxr-x4-sr3.json, with --class-guided cxr-x4-class.json, or "
    "cxr-x2-class.json of its scale]",
)
def bundle(
    vae: Path | None,
    unet: Path | None,
    decoder: Path | None,
    regression: Path | None,
    sr3: Path | None,
    class_guided: Path | None,
    out: Path,
    card: Path | None,
) -> None:
    """Export a trained model to a bundle, each graph verified against torch.

    A latent diffusion model is given by --vae and --unet, a regression by --regression, diffusion in pixel
    space by --sr3, and one that can be told classes by --class-guided.
    """
    from export.bundle import phantom, read_card, write_bundle
    from export.families import (
        Family,
        load_class_model,
        load_model,
        load_regression_model,
        load_sr3_model,
    )

    cards = Path(__file__).parent / "cards"
    model: Family
    alone = [run for run in (regression, sr3, class_guided) if run]
    if vae and unet and not alone:
        told, model = read_card(card or cards / "cxr-x4.json"), load_model(vae, unet, decoder_run=decoder)
    elif len(alone) != 1 or vae or unet or decoder:
        raise click.UsageError(
            "give --vae and --unet, or --regression alone, or --sr3 alone, or --class-guided alone"
        )
    elif regression:
        told, model = read_card(card or cards / "cxr-x4-cnn.json"), load_regression_model(regression)
    elif sr3:
        told, model = read_card(card or cards / "cxr-x4-sr3.json"), load_sr3_model(sr3)
    else:
        guided = load_class_model(alone[0])
        of_its_scale = cards / f"cxr-x{guided.network.config.scale}-class.json"
        told, model = read_card(card or of_its_scale), guided
    runs = [run for run in (vae, unet, decoder, *alone) if run is not None]
    commands = tuple(line for run in runs for line in _commands(run))
    image = phantom(told["tile"], told["channels"])
    _tell_written(write_bundle(model, told, out, image=image, commands=commands), out)


@cli.command("from-diffusers")
@click.argument("folder", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The bundle's folder; an older one is replaced.")
@click.option(
    "--card", type=FILE, help="Any fields of a card, such as name, data and limits; see export/cards."
)
@click.option("--tile", type=COUNT, help="Side of a tile in LR pixels.  [default: the card's, or 64]")
@click.option(
    "--overlap", type=click.IntRange(0), help="Of tiles, in LR pixels.  [default: the card's, or a quarter]"
)
@click.option(
    "--sampler",
    type=click.Choice(["ddim", "ddpm", "dpmpp_2m", "lcm"]),
    help="Run by this one, with trailing spacing.  [default: as the folder's scheduler does]",
)
@click.option("--steps", type=COUNT, help="Of the loop.  [default: 50; 4 for lcm]")
@click.option(
    "--eta", type=click.FloatRange(0, 1), default=0.0, help="Share of DDIM's noise that is added back."
)
@click.option("--noise-level", type=click.IntRange(0), help="Of an upscaler's LR image.  [default: 20]")
@click.option("--class-label", type=click.IntRange(0), help="The one class of a UNet with classes.")
@click.option(
    "--text-embedding",
    type=FILE,
    help="The one prompt of a UNet with cross attention: (tokens, width), .npy.",
)
def from_diffusers(folder: Path, out: Path, card: Path | None, **options: Any) -> None:
    """Export a super-resolution pipeline in diffusers' layout, from FOLDER with its model_index.json.

    docs/own-model.md says what is read, what is refused, and how close the bundle comes to diffusers.
    """
    from export.bundle import phantom, write_bundle
    from export.diffusers_scheduler import Wish
    from export.from_diffusers import Constants, complete_card, load_diffusers, read_text
    from export.models.diffusers_folder import read_config

    text = options["text_embedding"]
    model = load_diffusers(
        folder,
        wish=Wish(options["sampler"], options["steps"], options["eta"]),
        constants=Constants(
            None if text is None else read_text(text), options["class_label"], options["noise_level"]
        ),
    )
    told = read_config(card) if card else {}
    whole = complete_card(told, model, folder, tile=options["tile"], overlap=options["overlap"])
    image = phantom(whole["tile"], whole["channels"])
    written = write_bundle(model, whole, out, image=image, commands=(_without_places(sys.argv[1:]),))
    _tell_written(written, out)


def _tell_written(written: Any, out: Path) -> None:
    size = sum(path.stat().st_size for path in out.iterdir())
    click.echo(f"{out}: {written.manifest.name}, {size / 1e6:.1f} MB, digest {written.digest[:12]}")


@cli.command("untrained-sr3")
@click.option("--size", type=click.Choice(["lite", "paper", "paper-x8"]), default="paper")
@click.option("--colour", is_flag=True, help="RGB instead of gray.")
@click.option("--steps", type=COUNT, default=2, help="Of the loop that its golden values go through.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the weights.")
@click.option("--out", type=FOLDER, required=True, help="The bundle's folder; an older one is replaced.")
def untrained_sr3(size: str, colour: bool, steps: int, seed: int, out: Path) -> None:
    """Export SR3 with random weights: what a size costs on a device, before anybody trains it."""
    from export.bundle import phantom, write_bundle
    from export.families import untrained_sr3_model

    model, card = untrained_sr3_model(size, channels=3 if colour else 1, steps=steps, seed=seed)
    image = phantom(card["tile"], card["channels"])
    command = shlex.join(["python", "-m", "export", "untrained-sr3", "--size", size, "--seed", str(seed)])
    written = write_bundle(model, card, out, image=image, commands=(command,))
    size_mb = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    click.echo(f"{out}: {written.manifest.name}, {size_mb:.1f} MB, digest {written.digest[:12]}")


def _data(options: dict[str, Any]) -> dict[str, Any]:
    """What a task is told of the data."""
    names = ("train", "val", "lpips")
    return {name: options[name] for name in names} | {"views": _views(options["views"])}


def _views(text: str) -> frozenset[str]:
    return frozenset(filter(None, (view.strip() for view in text.split(","))))


def _train_options(options: dict[str, Any], *, after: Path | None = None) -> Any:
    """How to train; the command is noted in the run's folder, behind that of the run it comes `after`."""
    from export.train import TrainOptions

    out = options["out"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = () if after is None else _commands(after)
        (out / COMMAND).write_text("\n".join([*before, _without_places(sys.argv[1:])]) + "\n")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    names = ("iterations", "minutes", "learning_rate", "validate_every", "seed", "device", "threads")
    named = {name: options[name] for name in names}
    return TrainOptions(out=out, checkpoint_every_s=options["checkpoint_every"], **named)


def _without_places(arguments: list[str]) -> str:
    """The command, with every path cut to its last part: a bundle does not say where it was made."""
    words = [f"FOLDER/{Path(word).name}" if "/" in word else word for word in arguments]
    return shlex.join(["python", "-m", "export", *words])


def _commands(run: Path) -> tuple[str, ...]:
    """The command that started a run, behind that of its teacher where it had one."""
    path = run / COMMAND
    return tuple(path.read_text().splitlines()) if path.is_file() else (f"unknown ({run.name})",)


def main() -> None:
    """Runs a command and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs a command; an error that is understood is one line, and a hint.

    Returns:
        The exit code.
    """
    try:
        cli.main(arguments, prog_name="python -m export", standalone_mode=False)
    except EdgeSRError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return EXIT_ERROR
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    main()
