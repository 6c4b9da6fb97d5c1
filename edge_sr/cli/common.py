"""Options and small helpers that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_sr.backends import BACKENDS, Announces, Backend, open_backend
from edge_sr.backends.choice import AUTO, BackendChoice, choose_backend
from edge_sr.backends.engine_store import default_engine_dir
from edge_sr.backends.ort import OnnxRuntimeBackend
from edge_sr.bundle import Bundle, find_bundle
from edge_sr.errors import UsageError
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision

if TYPE_CHECKING:
    from edge_sr.service.settings import DeviceSettings

__all__ = [
    "BACKEND",
    "BUNDLE",
    "BUNDLE_OPTION",
    "ENGINE_DIR",
    "SAMPLING",
    "THREADS",
    "choose",
    "choose_preset",
    "engine_options",
    "log_opened",
    "notes_of",
    "open_configured",
    "open_upscaler",
    "pick",
    "sampling_options",
    "tell",
]

F = TypeVar("F", bound=Callable[..., Any])
BUNDLE = click.Path(file_okay=False, path_type=Path)
BUNDLE_OPTION = click.option(
    "--bundle", type=BUNDLE, help="Bundle folder, or cxr-x4-cnn for the other shipped one. [default: cxr-x4]"
)
ENGINE_DIR = click.option(
    "--engine-dir", type=BUNDLE, help="Folder of engines. [default: the user's cache; a service's state]"
)
BACKEND = click.option(
    "--backend",
    type=click.Choice([AUTO, *BACKENDS]),
    default=AUTO,
    show_default=True,
    help="Where graphs run: auto takes TensorRT where engines for this device exist, else the CPU "
    "(onnxruntime); openvino is an alternative there; fake is a dry run without weights.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(0, 256), default=0, help="CPU threads. [default: all]"
)
ENGINE = ("precision", "threads", "batch", "engine_dir")
SAMPLING = ("steps", "sampler", "noise_scale", "samples", "class_name", "guidance")


def engine_options(function: F) -> F:
    """What runs: bundle, backend, engines, precision, threads."""
    options = [
        BUNDLE_OPTION,
        BACKEND,
        ENGINE_DIR,
        click.option(
            "--precision",
            type=click.Choice([str(p) for p in Precision]),
            help="[default: the bundle's own; with TensorRT, that of the engines built last]",
        ),
        THREADS,
        click.option(
            "--batch", type=click.IntRange(1, 64), default=1, show_default=True, help="Tiles at once."
        ),
    ]
    return _apply(function, options)


def sampling_options(function: F) -> F:
    """How the loop runs, of a bundle that has one."""
    options = [
        click.option("--preset", help="A preset of the bundle; the options below change it."),
        click.option("--steps", type=click.IntRange(1), help="Steps of the loop."),
        click.option(
            "--sampler", type=click.Choice(["ddpm", "ddim", "dpmpp_2m", "lcm"]), help="The sampler."
        ),
        click.option("--noise-scale", type=click.FloatRange(0, 2), help="Scale of the first noise."),
        click.option(
            "--class",
            "class_name",
            help="What to tell a class-guided model that it sees. It draws that, also where it is not. "
            "[default: nothing]",
        ),
        click.option(
            "--guidance",
            type=click.FloatRange(0),
            help="How many times as far as by itself the class moves a result; a step then takes two "
            "evaluations. [default: the bundle's own, with --class]",
        ),
        click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True),
        click.option("--samples", type=click.IntRange(1, 64), help="Average this many samples."),
    ]
    return _apply(function, options)


def _apply(function: F, options: Sequence[Callable[[Any], Any]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def pick(options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options that `open_upscaler` takes by name."""
    return {key: options[key] for key in ENGINE}


def choose(bundle: Bundle, backend: str, *, precision: str | None, engine_dir: Path | None) -> BackendChoice:
    """What runs, by the options of a command."""
    asked = Precision(precision) if precision else None
    return choose_backend(bundle, backend, precision=asked, engine_dir=engine_dir or default_engine_dir())


def open_upscaler(
    bundle: Path | None,
    backend: str,
    *,
    precision: str | None,
    threads: int,
    batch: int,
    engine_dir: Path | None,
) -> tuple[Upscaler, str]:
    """Opens the bundle on a backend.

    Returns:
        The upscaler, and in words which backend runs and why.

    Raises:
        EdgeSRError: The bundle or the backend cannot be used.
    """
    opened = Bundle.open(find_bundle(bundle))
    choice = choose(opened, backend, precision=precision, engine_dir=engine_dir)
    running = open_backend(choice.name, threads=threads, engine_dir=engine_dir)
    upscaler = Upscaler(opened, running, precision=choice.precision, batch=batch)
    return upscaler, f"{_words(running)}: {choice.reason}"


def _words(running: Backend) -> str:
    """A backend with its versions, after it has loaded its graphs."""
    facts = running.describe()
    name, version = facts["backend"], facts["version"]
    library = version if version.startswith(name) else f"{name} {version}"
    threads = "" if name == "tensorrt" else f", {facts['threads']} threads"
    stored = ""
    if isinstance(running, OnnxRuntimeBackend) and running.optimised:
        stored = f", optimised {', '.join(running.optimised)} from {running.store.folder}"
    return f"{library} ({facts['provider']}{threads}{stored})"


def log_opened(log: logging.Logger, upscaler: Upscaler, running: str) -> None:
    """Says in a log what runs, and why."""
    log.info("%s, %s, on %s", upscaler.bundle.manifest.name, upscaler.precision, running)
    for note in notes_of(upscaler):
        log.info("%s", note)


def open_configured(settings: DeviceSettings, log: logging.Logger) -> Upscaler:
    """What a file of settings asks for, opened, and told in a log.

    Raises:
        EdgeSRError: As `open_upscaler`.
    """
    upscaler, running = open_upscaler(
        settings.bundle,
        settings.backend,
        precision=settings.precision,
        threads=settings.threads,
        batch=settings.batch,
        engine_dir=settings.engine_dir,
    )
    log_opened(log, upscaler, running)
    return upscaler


def notes_of(upscaler: Upscaler) -> list[str]:
    """What the user should know of how the graphs were loaded and are run; grows with the first run."""
    backend = upscaler.backend
    return [*(backend.notes if isinstance(backend, Announces) else ()), *upscaler.notes]


def tell(notes: Sequence[str]) -> int:
    """Prints notes on stderr; returns how many."""
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return len(notes)


def choose_preset(bundle: Bundle, name: str | None, **changes: Any) -> Preset | None:
    """A preset of the bundle with some of its values changed; None for a bundle without a loop.

    Raises:
        UsageError: The bundle has no preset of that name, or class, or so much guidance, or no loop that any
            of this could change.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    diffusion = bundle.manifest.diffusion
    if diffusion is None:
        asked = [_option(key) for key in ({"preset": name} if name else {}) | given]
        if asked:
            raise UsageError(
                f"bundle {bundle.manifest.name} has no loop, which {', '.join(asked)} would be for",
                hint="leave that out: the result is always the same",
            )
        return None
    presets, chosen = diffusion.presets, name or diffusion.default
    if chosen not in presets:
        raise UsageError(
            f"bundle {bundle.manifest.name} has no preset {chosen!r}", hint=f"it has {', '.join(presets)}"
        )
    preset = presets[chosen].changed(given)
    if problem := bundle.manifest.problem_of_class(preset):
        raise UsageError(problem, hint="edge-sr info lists the classes of a bundle, and the most guidance")
    return preset


def _option(key: str) -> str:
    return "--class" if key == "class_name" else f"--{key.replace('_', '-')}"
