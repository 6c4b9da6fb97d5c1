"""Options and small helpers that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle, default_bundle
from edge_sr.errors import UsageError
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision

__all__ = ["choose_preset", "engine_options", "open_upscaler", "sampling_options"]

F = TypeVar("F", bound=Callable[..., Any])
BUNDLE = click.Path(file_okay=False, path_type=Path)


def engine_options(function: F) -> F:
    """What runs: bundle, backend, precision, threads."""
    options = [
        click.option("--bundle", type=BUNDLE, help="Bundle folder. [default: the shipped cxr-x4]"),
        click.option(
            "--backend",
            type=click.Choice(["auto", "onnxruntime", "fake"]),
            default="auto",
            show_default=True,
            help="Where graphs run; fake is a dry run without weights.",
        ),
        click.option(
            "--precision",
            type=click.Choice([str(p) for p in Precision]),
            help="[default: the bundle's own choice]",
        ),
        click.option("--threads", type=click.IntRange(0, 256), default=0, help="CPU threads. [default: all]"),
        click.option(
            "--batch", type=click.IntRange(1, 64), default=1, show_default=True, help="Tiles at once."
        ),
    ]
    return _apply(function, options)


def sampling_options(function: F) -> F:
    """How the loop runs."""
    options = [
        click.option("--preset", help="A preset of the bundle; the options below change it."),
        click.option("--steps", type=click.IntRange(1), help="Steps of the loop."),
        click.option(
            "--sampler", type=click.Choice(["ddpm", "ddim", "dpmpp_2m", "lcm"]), help="The sampler."
        ),
        click.option("--noise-scale", type=click.FloatRange(0, 2), help="Scale of the first noise."),
        click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True),
        click.option("--samples", type=click.IntRange(1, 64), help="Average this many samples."),
    ]
    return _apply(function, options)


def _apply(function: F, options: Sequence[Callable[[Any], Any]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def open_upscaler(
    bundle: Path | None, backend: str, *, precision: str | None, threads: int, batch: int
) -> tuple[Upscaler, str]:
    """Opens the bundle on a backend.

    Returns:
        The upscaler, and in words which backend runs and why.

    Raises:
        EdgeSRError: The bundle or the backend cannot be used.
    """
    opened = Bundle.open(bundle or default_bundle())
    chosen = Precision(precision) if precision else opened.manifest.default_precision
    name = "onnxruntime" if backend == "auto" else backend
    running = open_backend(name, threads=threads)
    reason = "no TensorRT engine is used by default on this machine" if backend == "auto" else "asked for"
    upscaler = Upscaler(opened, running, precision=chosen, batch=batch)
    facts = running.describe()
    words = (
        f"{facts['backend']} {facts['version']} ({facts['provider']}, {facts['threads']} threads): {reason}"
    )
    return upscaler, words


def choose_preset(bundle: Bundle, name: str | None, **changes: Any) -> Preset:
    """A preset of the bundle with some of its values changed.

    Raises:
        UsageError: The bundle has no preset of that name.
    """
    presets = bundle.manifest.diffusion.presets
    chosen = name or bundle.manifest.diffusion.default
    if chosen not in presets:
        raise UsageError(
            f"bundle {bundle.manifest.name} has no preset {chosen!r}", hint=f"it has {', '.join(presets)}"
        )
    given = {key: value for key, value in changes.items() if value is not None}
    return presets[chosen].model_copy(update=given)
