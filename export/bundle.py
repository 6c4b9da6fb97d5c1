"""Writes a bundle: exports the graphs, verifies them against torch, and stores golden inputs and outputs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from pydantic import ValidationError

from edge_sr.backends import Backend, Engine, open_backend
from edge_sr.bundle import Bundle, array_file, graph_file, hash_file, new_folder, write_manifest
from edge_sr.errors import ConfigError
from edge_sr.manifest import SCHEMA_VERSION, GraphFile, Manifest
from edge_sr.pipeline import TileEngine, make_schedule
from edge_sr.spec import Component, Graph, Precision
from export.cost import count_cost
from export.graphs import Geometry, GraphModule, LatentScale, example_inputs, graph_modules, measure
from export.models.autoencoder import Autoencoder
from export.models.unet_lite import UNetLite
from export.sampling import sample_latents
from export.to_onnx import ExportError, export_graph, round_weights
from export.train_decoder import use_decoder
from export.train_unet import load_unet, load_vae

GRAPH_TOLERANCE = 1e-4  # largest difference of a graph from torch, relative to the larger of 1 and the value
GOLDEN = "golden.npz"
LOOP_TOLERANCE = 1e-3  # the same after all steps and the decoder: differences add up over the steps
TOLD = (  # what the manifest takes from a card as it is
    "name",
    "version",
    "description",
    "scale",
    "channels",
    "tile",
    "overlap",
    "degradation",
    "intended_use",
    "limits",
)
SOURCES = ("data", "data_licence", "weights_licence")  # what it takes for the provenance
OPTIONAL = ("quality",)  # measured figures, each with the result file it comes from
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A trained latent diffusion model, with its weights rounded to FP16.

    Attributes:
        vae, unet: The networks.
        scale: What the latent is standardised with.
        diffusion: Prediction type and training noise schedule, as the manifest has them.
    """

    vae: Autoencoder
    unet: UNetLite
    scale: LatentScale
    diffusion: dict[str, Any]


def load_model(vae_run: Path, unet_run: Path, *, decoder_run: Path | None = None) -> Model:
    """The averaged weights of the runs, rounded.

    Args:
        vae_run: A run of train-vae, or a folder in diffusers' layout.
        unet_run: A run of train-unet.
        decoder_run: A run of train-decoder, whose decoder is taken; the autoencoder's own where None.

    Raises:
        ConfigError: One of them holds no weights, or those of something else.
        ExportError: A weight that FP16 cannot hold.
    """
    unet, scale, diffusion = load_unet(unet_run)
    vae = load_vae(vae_run)
    if decoder_run is not None:
        use_decoder(vae, decoder_run)
    for what in ("latent_channels", "condition_channels"):
        theirs, ours = getattr(vae.config, what), getattr(unet.config, what)
        if theirs != ours:
            raise ConfigError(
                f"{unet_run} was trained for {ours} {what.replace('_', ' ')}, {vae_run} has {theirs}",
                hint="give the autoencoder that train-unet was given",
            )
    for network in (vae, unet):
        round_weights(network)
    return Model(vae, unet, scale, diffusion)


def write_bundle(
    model: Model, card: Mapping[str, Any], out: Path, *, image: Float, commands: tuple[str, ...]
) -> Bundle:
    """Exports a model and writes its bundle, whole or not at all.

    Args:
        model: What to export.
        card: What people are told: name, description, data, limits, presets; see `export/cards`.
        out: The bundle's folder; an older one is replaced.
        image: (C, t, t) float32 in [-1, 1], a tile for the golden outputs. It becomes part of the bundle.
        commands: What trained the model.

    Raises:
        ConfigError: The card does not fit the model, or says what a manifest cannot.
        ExportError: A graph cannot be exported, or differs from torch by more than the tolerance.
        OutputError: The folder cannot be written.
    """
    check_card(card)
    with new_folder(out) as folder:
        modules = graph_modules(model.vae, model.unet, model.scale)
        inputs = example_inputs(modules, channels=card["channels"], tile=card["tile"], batch=2, seed=0)
        geometry = measure(modules, inputs)
        _check_geometry(card, geometry)
        graphs = {}
        with open_backend("onnxruntime") as backend:
            for component, module in modules.items():
                entry = _export(module, inputs, folder, component)
                _verify(backend, folder, component, entry, module, inputs)
                graphs[component] = {Precision.FP32: entry}
        _save(folder / GOLDEN, {"image": image[None]})
        write_manifest(folder, _manifest(model, card, folder, graphs, geometry, commands))
        _save(folder / GOLDEN, golden_values(model, Bundle.open(folder), image))
        write_manifest(folder, _manifest(model, card, folder, graphs, geometry, commands))
    return Bundle.open(out)


def _check_geometry(card: Mapping[str, Any], geometry: Geometry) -> None:
    """A card that promises something else than the graphs do."""
    for what, said, found in (
        ("scale", card["scale"], geometry.scale),
        ("channels", card["channels"], geometry.channels),
    ):
        if said != found:
            raise ConfigError(f"the card says {what} {said}, the decoder makes {found}", hint="mend the card")


def _export(
    module: GraphModule, inputs: dict[str, torch.Tensor], folder: Path, component: Component
) -> GraphFile:
    name = f"{component}.fp32.onnx"
    entries = export_graph(module, inputs, folder / name)
    cost = count_cost(onnx.load(str(folder / name)))
    return graph_file(folder, name, *entries).model_copy(update={"cost": cost})


def _verify(
    backend: Backend,
    folder: Path,
    component: Component,
    entry: GraphFile,
    module: GraphModule,
    inputs: dict[str, torch.Tensor],
) -> None:
    """Runs an exported graph beside its module, for a batch of one and of two.

    Raises:
        ExportError: They differ by more than `GRAPH_TOLERANCE`.
    """
    specs = tuple(t.spec() for t in entry.inputs), tuple(t.spec() for t in entry.outputs)
    graph = Graph(folder / entry.file, component, Precision.FP32, entry.sha256, *specs)
    with backend.load(graph) as engine:
        for batch in (1, 2):
            values = {name: inputs[name][:batch].contiguous() for name in module.inputs}
            with torch.no_grad():
                result = module(*values.values())
            expected = result if isinstance(result, tuple) else (result,)
            got = run_once(backend, engine, {name: value.numpy() for name, value in values.items()})
            for name, want in zip(module.outputs, expected, strict=True):
                what = f"{component}.{name}, batch {batch}"
                check_close(what, got[name], want.numpy(), tolerance=GRAPH_TOLERANCE)


def run_once(backend: Backend, engine: Engine, values: Mapping[str, Float]) -> dict[str, Float]:
    """One run of one graph.

    Args:
        backend: Where the engine was loaded.
        engine: The graph.
        values: Its inputs by name, of one batch size.

    Returns:
        Its outputs by name.
    """
    batch = len(next(iter(values.values())))
    with ExitStack() as stack:
        stream = stack.enter_context(backend.stream())
        buffers = {
            spec.name: stack.enter_context(backend.allocate(spec.concrete(batch), spec.dtype))
            for spec in (*engine.inputs, *engine.outputs)
        }
        for name, value in values.items():
            buffers[name].upload(value, stream)
        engine.bind(buffers).enqueue(stream)
        outputs = {spec.name: np.empty(spec.concrete(batch), spec.dtype) for spec in engine.outputs}
        for name, array in outputs.items():
            buffers[name].download(array, stream)
        stream.synchronize()
    return outputs


def check_close(what: str, got: Float, want: Float, *, tolerance: float) -> float:
    """The largest difference relative to the larger of 1 and the wanted value.

    Raises:
        ExportError: It is above the tolerance.
    """
    error = float(np.max(np.abs(got - want) / np.maximum(1.0, np.abs(want))))
    if not error <= tolerance:
        raise ExportError(f"{what} differs from torch by {error:.2e}, more than {tolerance:.0e}")
    return error


def golden_values(model: Model, bundle: Bundle, image: Float) -> dict[str, Float]:
    """What the self-test compares with: the default preset on one tile, every graph's tensors on the way.

    The values are torch's; the bundle's own run through ONNX Runtime has to agree with them first.

    Raises:
        ExportError: It does not, by more than `LOOP_TOLERANCE`.
    """
    diffusion = bundle.manifest.diffusion
    preset = diffusion.presets[diffusion.default]
    schedule = make_schedule(bundle, preset)
    modules = graph_modules(model.vae, model.unet, model.scale)
    encoder, decoder = modules[Component.ENCODER], modules[Component.DECODER]
    values: dict[str, torch.Tensor] = {"image": torch.from_numpy(image[None])}
    with torch.no_grad():
        encoded = dict(zip(encoder.outputs, encoder(values["image"]), strict=True))
        values["latent"], values["noise"] = sample_latents(
            model.unet,
            encoded["condition"],
            schedule,
            seed=0,
            noise_scale=preset.noise_scale,
            embeddings=torch.from_numpy(bundle.time_embedding()),
            is_quiet=True,
        )
        read = {**encoded, "latent": values["latent"]}
        values["output"] = decoder(*(read[name] for name in decoder.inputs))
    values |= {f"encoder.{name}": value for name, value in encoded.items()}
    golden = {name: value.contiguous().numpy().astype(np.float32) for name, value in values.items()}
    with open_backend("onnxruntime") as backend, ExitStack() as stack:
        engines = {c: stack.enter_context(backend.load(bundle.graph(c, Precision.FP32))) for c in Component}
        with TileEngine(
            backend, engines, schedule=schedule, batch=1, embedding=bundle.time_embedding()
        ) as engine:
            out = np.empty(golden["output"].shape, np.float32)
            steps = np.zeros((len(engine.noisy_steps), *engine.latent_shape), np.float32)
            engine.run(golden["image"], golden["noise"], steps, out)
    check_close("the whole loop", out, golden["output"], tolerance=LOOP_TOLERANCE)
    return golden


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _manifest(
    model: Model,
    card: Mapping[str, Any],
    folder: Path,
    graphs: dict[Component, dict[Precision, GraphFile]],
    geometry: Geometry,
    commands: tuple[str, ...],
) -> Manifest:
    with torch.no_grad():
        table = model.unet.time(torch.arange(model.diffusion["timesteps"])).numpy().astype(np.float16)
    golden = folder / GOLDEN
    content = {key: card[key] for key in (*TOLD, *OPTIONAL) if key in card} | {
        "schema_version": SCHEMA_VERSION,
        "task": "super-resolution",
        "latent": {"channels": model.unet.config.latent_channels, "factor": geometry.factor},
        "conditioning": {"kind": "encoder"},
        "diffusion": {**model.diffusion, "presets": card["presets"], "default": card["default"]},
        "graphs": graphs,
        "time_embedding": array_file(folder, "time_embedding.npy", table),
        "golden": {"file": golden.name, "sha256": hash_file(golden), "bytes": golden.stat().st_size},
        "provenance": {key: card[key] for key in SOURCES}
        | {
            "commands": commands,
            "commit": _commit(),
            "created": datetime.now(timezone.utc).date().isoformat(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
        },
    }
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}"
            for e in error.errors(include_url=False)
        ]
        raise ConfigError(f"the card and the model make no manifest: {'; '.join(problems)}") from error


def phantom(tile: int, channels: int) -> Float:
    """A made-up tile for golden outputs: soft blobs and a little grain; nobody's image.

    Returns:
        (C, t, t) float32 in [-1, 1].
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:tile, :tile] / tile
    image = np.zeros((channels, tile, tile))
    for cy, cx, size, depth in rng.uniform((0, 0, 0.05, -1), (1, 1, 0.4, 1), (12, 4)):
        image += depth * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
    image += rng.normal(0, 0.02, image.shape)
    return np.clip(image * 0.6, -1, 1).astype(np.float32)


def read_card(path: Path) -> dict[str, Any]:
    """A card from its JSON file.

    Raises:
        ConfigError: It cannot be read, or lacks something.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise ConfigError(f"{path} holds no JSON object")
    check_card(card)
    return card


def check_card(card: Mapping[str, Any]) -> None:
    """Whether a card has every field.

    Raises:
        ConfigError: Naming what is missing, what nobody reads, and sizes that are no numbers.
    """
    needed = {*TOLD, *SOURCES, "presets", "default"}
    problems = [f"no {name}" for name in sorted(needed - set(card))]
    problems += [f"{name}, which is not known" for name in sorted(set(card) - needed - set(OPTIONAL))]
    sizes = ("scale", "channels", "tile", "overlap")
    problems += [f"{name} {card[name]!r}" for name in sizes if not isinstance(card.get(name, 1), int)]
    if problems:
        raise ConfigError(f"the card has {', '.join(problems)}", hint="see export/cards/cxr-x4.json")


def _commit() -> str:
    """This checkout's commit, "-dirty" where files were changed since; "unknown" outside one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
