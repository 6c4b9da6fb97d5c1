"""Writes a bundle: exports the graphs, verifies them against torch, and stores golden inputs and outputs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from pydantic import ValidationError

from edge_sr.backends import Backend, Engine, open_backend
from edge_sr.bundle import Bundle, graph_file, hash_file, new_folder, write_manifest
from edge_sr.errors import ConfigError
from edge_sr.manifest import SCHEMA_VERSION, GraphFile, Manifest
from edge_sr.pipeline import TileEngine, make_guide, make_schedule
from edge_sr.spec import Component, Graph, Precision
from export.cost import count_cost
from export.errors import ExportError
from export.families import Family
from export.graphs import Geometry, GraphModule, example_inputs, measure
from export.to_onnx import export_graph

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
OF_CLASSES = ("guidance", "most_guidance")  # what a card has of a class-guided model
OF_LOOP = ("presets", "default")  # what a card has of a model with a loop
Float = npt.NDArray[np.float32]


def write_bundle(
    model: Family, card: Mapping[str, Any], out: Path, *, image: Float, commands: tuple[str, ...]
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
        modules = model.modules()
        inputs = example_inputs(modules, channels=card["channels"], tile=card["tile"], batch=2, seed=0)
        geometry = measure(modules, inputs)
        _check_card_fits(card, geometry, has_loop=Component.STEP in modules)
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


def _check_card_fits(card: Mapping[str, Any], geometry: Geometry, *, has_loop: bool) -> None:
    """A card that promises something else than the graphs do."""
    if has_loop != ("presets" in card):
        mismatch = "no presets, the model has a loop" if has_loop else "presets, the model has no loop"
        raise ConfigError(f"the card has {mismatch}", hint="mend the card")
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


def golden_values(model: Family, bundle: Bundle, image: Float) -> dict[str, Float]:
    """What the self-test compares with: the default preset on one tile, every graph's tensors on the way.

    The values are torch's; the bundle's own run through ONNX Runtime has to agree with them first.

    Raises:
        ExportError: It does not, by more than `LOOP_TOLERANCE`.
    """
    tensors = model.golden(bundle, torch.from_numpy(image[None]))
    golden = {name: value.contiguous().numpy().astype(np.float32) for name, value in tensors.items()}
    schedule = make_schedule(bundle, bundle.manifest.default_preset)
    graphs = [bundle.graph(component, Precision.FP32) for component in bundle.manifest.components]
    with open_backend("onnxruntime") as backend, ExitStack() as stack:
        engines = {graph.component: stack.enter_context(backend.load(graph)) for graph in graphs}
        guide = make_guide(bundle.manifest, bundle.class_embedding(), bundle.manifest.default_preset)
        with TileEngine(
            backend, engines, schedule=schedule, batch=1, embedding=bundle.time_embedding(), guide=guide
        ) as engine:
            out = np.empty(golden["output"].shape, np.float32)
            nothing = np.zeros((len(engine.noisy_steps), *engine.latent_shape), np.float32)
            noise = golden.get("noise", np.zeros(engine.latent_shape, np.float32))
            engine.run(golden["image"], noise, nothing, out)
    check_close("the whole loop", out, golden["output"], tolerance=LOOP_TOLERANCE)
    return golden


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _manifest(
    model: Family,
    card: Mapping[str, Any],
    folder: Path,
    graphs: dict[Component, dict[Precision, GraphFile]],
    geometry: Geometry,
    commands: tuple[str, ...],
) -> Manifest:
    golden = folder / GOLDEN
    content = {key: card[key] for key in (*TOLD, *OPTIONAL) if key in card} | {
        "schema_version": SCHEMA_VERSION,
        "task": "super-resolution",
        "graphs": graphs,
        "golden": {"file": golden.name, "sha256": hash_file(golden), "bytes": golden.stat().st_size},
        "provenance": {key: card[key] for key in SOURCES}
        | {
            "commands": commands,
            "commit": _commit(),
            "created": datetime.now(timezone.utc).date().isoformat(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
        },
    }
    content |= model.loop(card, folder, geometry)
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
    needed = {*TOLD, *SOURCES} | (set(OF_LOOP) if set(OF_LOOP) & set(card) else set())
    problems = [f"no {name}" for name in sorted(needed - set(card))]
    problems += [
        f"{name}, which is not known" for name in sorted(set(card) - needed - {*OPTIONAL, *OF_CLASSES})
    ]
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
