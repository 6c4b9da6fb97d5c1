"""The commands that write a bundle."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from export.commands.notes import commands_of, without_places
from export.commands.options import COUNT, FILE, FOLDER, VAE_HELP


@click.command("bundle")
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

    cards = Path(__file__).parents[1] / "cards"
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
    commands = tuple(line for run in runs for line in commands_of(run))
    image = phantom(told["tile"], told["channels"])
    _tell(write_bundle(model, told, out, image=image, commands=commands), out)


@click.command("from-diffusers")
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
    written = write_bundle(model, whole, out, image=image, commands=(without_places(sys.argv[1:]),))
    _tell(written, out)


@click.command("untrained-sr3")
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
    _tell(written, out)


def _tell(written: Any, out: Path) -> None:
    size = sum(path.stat().st_size for path in out.iterdir())
    click.echo(f"{out}: {written.manifest.name}, {size / 1e6:.1f} MB, digest {written.digest[:12]}")
