"""Bundles small enough for any test: real ONNX graphs with seeded weights, no torch, nothing learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_sr.bundle import Bundle, array_file, graph_file, hash_file, new_folder, write_manifest
from edge_sr.manifest import GraphFile, Manifest, TensorEntry
from edge_sr.schedule import NoiseSchedule, build_schedule, coefficients
from edge_sr.spec import COEFFICIENTS, Component, Precision
from edge_sr.tiling import position_noise

__all__ = ["FAMILIES", "PRESETS", "tiny_image", "write_tiny_bundle"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float32]

OPSET, IR_VERSION = 18, 10  # those of every graph of this project
TIMESTEPS, EMBEDDING = 20, 8
CLASSES: dict[str, Any] = {
    "names": ["normal", "pneumonia", "none"],
    "null": "none",
    "guidance": 2.0,
    "most_guidance": 8.0,
}
LATENTS, CONDITION, FEATURES, HIDDEN = 4, 3, 2, 8
CLIP = 3.0
GOLDEN_SEED = 7

PRESETS: dict[str, dict[str, Any]] = {
    "even": {"sampler": "ddim", "steps": 4},
    "odd": {"sampler": "ddim", "steps": 3},
    "one": {"sampler": "ddim", "steps": 1},
    "noisy": {"sampler": "ddim", "steps": 4, "eta": 1.0},
    "ancestral": {"sampler": "ddpm", "steps": 5},
    "multistep": {"sampler": "dpmpp_2m", "steps": 5},
    "quiet": {"sampler": "ddim", "steps": 4, "noise_scale": 0.5},
    "late": {"sampler": "ddim", "steps": 4, "start": 0.5},
    "mean": {"sampler": "ddim", "steps": 3, "samples": 3},
}
"""Ways to run the tiny bundle; "even" is its default."""


FAMILIES: dict[str, tuple[Component, ...]] = {
    "latent": (Component.ENCODER, Component.STEP, Component.DECODER),
    "pixel": (Component.ENCODER, Component.STEP),
    "bare": (Component.STEP,),
    "guided": (Component.ENCODER, Component.STEP),
    "guided-latent": (Component.ENCODER, Component.STEP, Component.DECODER),
    "regression": (Component.DECODER,),
}
"""Which graphs a bundle has: latent diffusion; SR3, whose encoder enlarges the LR image by bicubic; the same
with a step graph that does so by itself; SR3 and latent diffusion that were told classes; a plain network."""


class Geometry(NamedTuple):
    """Sizes of a model: tile side in LR pixels, enlargement, HR pixels a latent pixel; family and colours."""

    tile: int
    scale: int
    factor: int
    family: str = "latent"
    colours: int = 1

    @property
    def channels(self) -> int:
        """What the loop runs on: a latent, or the gray image."""
        return LATENTS if self.has_latent else 1

    @property
    def has_latent(self) -> bool:
        """Whether there is a decoder behind a loop."""
        return self.family in ("latent", "guided-latent")

    @property
    def has_classes(self) -> bool:
        """Whether the step graph is guided."""
        return self.family.startswith("guided")

    @property
    def condition(self) -> int:
        """Channels of what the step reads of the LR image."""
        return CONDITION if self.has_latent else 1

    @property
    def latent(self) -> int:
        """The latent's side."""
        return self.tile * self.scale // self.factor


def tiny_image(height: int = 16, width: int = 16, *, seed: int = 0, colours: int = 1) -> Float:
    """A made-up image: (colours, height, width) float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 1.0, (colours, height, width)).astype(np.float32)


def write_tiny_bundle(
    folder: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    tile: int = 16,
    overlap: int = 4,
    scale: int = 4,
    factor: int = 8,
    seed: int = 0,
    family: str = "latent",
    colours: int = 1,
) -> Bundle:
    """Writes a complete bundle and opens it: one channel, a 4-channel latent, 20 training timesteps.

    The golden archive has the default preset's `image`, first `noise`, `latent` and `output`, and the inputs
    and outputs of every graph as `<component>.<tensor>`, the step's being those of the first step. ONNX's
    reference evaluator computes them, so that a runtime under test is compared with something else.

    Args:
        folder: Where; a bundle that lies there is replaced.
        precisions: One graph a component for each, the first of them the default. All compute in FP32; they
            differ by what the precision's rounding does to the weights.
        tile, overlap: In LR pixels.
        scale: Enlargement.
        factor: HR pixels a latent pixel; it divides `scale`, or `scale` divides it.
        seed: Of the weights.
        family: One of `FAMILIES`; in all but the first, the latent is the image, or there is none.
        colours: Channels of the image; 3 for a regression alone.
    """
    geometry = Geometry(tile, scale, factor if family.endswith("latent") else 1, family, colours)
    components, has_loop = FAMILIES[family], Component.STEP in FAMILIES[family]
    embedding = np.random.default_rng(seed).standard_normal((TIMESTEPS, EMBEDDING)).astype(np.float32)
    with new_folder(folder) as new:
        graphs = {c: {p: _write_graph(new, c, p, geometry, seed) for p in precisions} for c in components}
        paths = {c: new / graphs[c][precisions[0]].file for c in components}
        golden: dict[str, Any] = _golden(paths, embedding, geometry)
        np.savez(new / "golden.npz", **golden)
        sizes = {"scale": scale, "tile": tile, "overlap": overlap, "channels": colours}
        files = {
            "graphs": graphs,
            "golden": {
                "file": "golden.npz",
                "sha256": hash_file(new / "golden.npz"),
                "bytes": (new / "golden.npz").stat().st_size,
            },
            "default_precision": precisions[0],
        }
        if has_loop:
            files |= _loop(geometry) | {"time_embedding": array_file(new, "time_embedding.npy", embedding)}
        if geometry.has_classes:
            files["classes"] = CLASSES | {"embedding": array_file(new, "classes.npy", class_embedding())}
        version = {"schema_version": 1 if family == "latent" else 3}
        write_manifest(new, Manifest.model_validate(_CARD | version | sizes | files))
    return Bundle.open(folder)


def _loop(geometry: Geometry) -> dict[str, Any]:
    """What the manifest says of the loop."""
    return {
        "latent": {"channels": geometry.channels, "factor": geometry.factor},
        "conditioning": {"kind": "image" if geometry.family == "bare" else "encoder"},
        "diffusion": {
            "prediction": "v_prediction",
            "noise_schedule": "cosine",
            "timesteps": TIMESTEPS,
            "clip": _clip(geometry),
            "presets": PRESETS,
            "default": "even",
        },
    }


def _clip(geometry: Geometry) -> float:
    return CLIP if geometry.has_latent else 1.0


def class_embedding() -> Float:
    """Of every class: (3, D)."""
    shape = (len(CLASSES["names"]), EMBEDDING)
    return 3 * np.random.default_rng(GOLDEN_SEED).standard_normal(shape).astype(np.float32)


_CARD: dict[str, Any] = {
    "name": "tiny",
    "version": "0.1",
    "description": "Made up for tests; it has learned nothing.",
    "task": "super-resolution",
    "channels": 1,
    "degradation": "cubic",
    "provenance": {
        "data": "none",
        "data_licence": "none",
        "weights_licence": "Apache-2.0",
        "commands": [],
        "commit": "none",
        "created": "2025-01-01",
        "versions": {},
    },
    "intended_use": "tests",
    "limits": ["everything"],
}


class _Network:
    """The nodes and weights of a graph while it is put together."""

    def __init__(self, precision: str, rng: np.random.Generator) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._precision, self._rng = precision, rng

    def add(self, operator: str, inputs: Sequence[str], outputs: str, **attributes: Any) -> None:
        """A node; `outputs` are separated by blanks."""
        self.nodes.append(helper.make_node(operator, list(inputs), outputs.split(), **attributes))

    def constant(self, name: str, values: Array) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, shape: tuple[int, ...], inputs: int) -> str:
        """Random weights that keep the variance of so many inputs."""
        values = self._rng.standard_normal(shape) / np.sqrt(inputs)
        return self.constant(name, _rounded(values, self._precision))

    def convolve(self, source: str, target: str, channels: tuple[int, int], *, stride: int = 1) -> None:
        """A 3x3 convolution with bias, from so many channels to so many."""
        inputs, outputs = channels
        weight = self.random(f"{target}.weight", (outputs, inputs, 3, 3), inputs * 9)
        bias = self.random(f"{target}.bias", (outputs,), 100)
        self.add("Conv", [source, weight, bias], target, pads=[1, 1, 1, 1], strides=[stride, stride])

    def enlarge(self, source: str, target: str, channels: tuple[int, int], *, scale: int) -> None:
        """A convolution, and a pixel shuffle."""
        inputs, outputs = channels
        self.convolve(source, f"{target}.shuffled", (inputs, outputs * scale**2))
        self.add("DepthToSpace", [f"{target}.shuffled"], target, blocksize=scale, mode="CRD")


def _rounded(values: Array, precision: str) -> Float:
    """Weights as the precision would hold them, in float32."""
    if precision == Precision.FP32.value:
        return values.astype(np.float32)
    if precision == Precision.FP16.value:
        return values.astype(np.float16).astype(np.float32)
    step = np.abs(values).max() / 127
    return (np.round(values / step) * step).astype(np.float32)


def _bicubic(net: _Network, geometry: Geometry, target: str) -> None:
    """The image enlarged as OpenCV and torch do it (Keys 1981, a = -0.75)."""
    scales = net.constant("scales", np.array([1, 1, geometry.scale, geometry.scale], np.float32))
    net.add("Resize", ["image", "", scales], target, mode="cubic", cubic_coeff_a=-0.75)


def _encoder(net: _Network, geometry: Geometry) -> None:
    """image -> condition at the latent's size, features, and mean: the image enlarged by repetition."""
    if not geometry.has_latent:
        _bicubic(net, geometry, "condition")
        return
    if geometry.factor >= geometry.scale:
        net.convolve("image", "condition", (1, CONDITION), stride=geometry.factor // geometry.scale)
    else:
        net.enlarge("image", "condition", (1, CONDITION), scale=geometry.scale // geometry.factor)
    net.convolve("image", "features", (1, FEATURES))
    copies = net.constant("copies", np.ones((geometry.scale**2, 1, 1, 1), np.float32))
    net.add("Conv", ["image", copies], "repeated")
    net.add("DepthToSpace", ["repeated"], "mean", blocksize=geometry.scale)


def _step(net: _Network, geometry: Geometry) -> None:
    """Two convolutions and the time embedding, and around them the update of `edge_sr.schedule`."""
    if geometry.family == "bare":
        _bicubic(net, geometry, "condition")
    net.add("Concat", ["x", "condition"], "both", axis=1)
    net.convolve("both", "first", (geometry.channels + geometry.condition, HIDDEN))
    net.add("MatMul", ["time_embedding", net.random("time.weight", (EMBEDDING, HIDDEN), EMBEDDING)], "time")
    axes = net.constant("axes", np.array([2, 3], np.int64))
    net.add("Unsqueeze", ["time", axes], "shift")
    net.add("Add", ["first", "shift"], "shifted")
    net.add("Tanh", ["shifted"], "hidden")
    if geometry.has_classes:
        net.convolve("hidden", "by_itself", (HIDDEN, geometry.channels))
        _guidance(net)
    else:
        net.convolve("hidden", "network", (HIDDEN, geometry.channels))

    net.add("Unsqueeze", ["coefficients", axes], "columns")
    net.add("Split", ["columns"], " ".join(COEFFICIENTS), axis=1, num_outputs=len(COEFFICIENTS))
    net.add("Neg", ["clip"], "least")
    for weight, tensor in (("p", "x"), ("q", "network"), ("a", "x"), ("c", "noise"), ("d", "x0_previous")):
        net.add("Mul", [weight, tensor], f"{weight}.term")
    net.add("Add", ["p.term", "q.term"], "unclipped")
    net.add("Min", ["unclipped", "clip"], "from_above")
    net.add("Max", ["from_above", "least"], "x0")
    net.add("Mul", ["b", "x0"], "b.term")
    net.add("Sum", ["a.term", "b.term", "c.term", "d.term"], "x_next")


def _guidance(net: _Network) -> None:
    """by_itself -> network: each row's own prediction and its partner's, weighted."""
    net.add("Gather", ["by_itself", "partner"], "of_partner", axis=0)
    net.add("Unsqueeze", ["guidance", net.constant("last", np.array([2, 3], np.int64))], "weights")
    net.add("Split", ["weights"], "own other", axis=1, num_outputs=2)
    net.add("Mul", ["own", "by_itself"], "own.term")
    net.add("Mul", ["other", "of_partner"], "other.term")
    net.add("Add", ["own.term", "other.term"], "network")


def _decoder(net: _Network, geometry: Geometry) -> None:
    """latent, features, mean -> output = mean + a correction from the other two; or all from the image."""
    if geometry.family == "regression":
        net.enlarge("image", "of_image", (geometry.colours, geometry.colours), scale=geometry.scale)
        _bicubic(net, geometry, "mean")
        net.add("Tanh", ["of_image"], "correction")
        net.add("Add", ["mean", "correction"], "output")
        return
    net.enlarge("latent", "of_latent", (LATENTS, 1), scale=geometry.factor)
    net.enlarge("features", "of_features", (FEATURES, 1), scale=geometry.scale)
    net.add("Add", ["of_latent", "of_features"], "both")
    net.add("Tanh", ["both"], "correction")
    net.add("Add", ["mean", "correction"], "output")


_BUILD = {Component.ENCODER: _encoder, Component.STEP: _step, Component.DECODER: _decoder}
_LOOP = ("x", "x0_previous", "noise", "coefficients", "time_embedding")
_LATENT_READS = {
    Component.ENCODER: ("image",),
    Component.STEP: (*_LOOP, "condition"),
    Component.DECODER: ("latent", "features", "mean"),
}
_READS: dict[str, dict[Component, tuple[str, ...]]] = {
    "latent": _LATENT_READS,
    "pixel": _LATENT_READS,
    "bare": {Component.STEP: (*_LOOP, "image")},
    **dict.fromkeys(
        ("guided", "guided-latent"),
        _LATENT_READS | {Component.STEP: (*_LOOP, "guidance", "partner", "condition")},
    ),
    "regression": {Component.DECODER: ("image",)},
}
_LATENT_WRITES: dict[Component, tuple[str, ...]] = {
    Component.ENCODER: ("condition", "features", "mean"),
    Component.STEP: ("x_next", "x0"),
    Component.DECODER: ("output",),
}
_WRITES = dict.fromkeys(FAMILIES, _LATENT_WRITES) | {
    family: _LATENT_WRITES | {Component.ENCODER: ("condition",)} for family in ("pixel", "guided")
}


def _shape(name: str, geometry: Geometry) -> tuple[int | str, ...]:
    tile, large, latent = geometry.tile, geometry.tile * geometry.scale, geometry.latent
    shapes: dict[str, tuple[int | str, ...]] = {
        "image": ("N", geometry.colours, tile, tile),
        "coefficients": ("N", len(COEFFICIENTS)),
        "time_embedding": ("N", EMBEDDING),
        "guidance": ("N", 2),
        "partner": ("N",),
        "condition": ("N", geometry.condition, latent, latent),
        "features": ("N", FEATURES, tile, tile),
        "mean": ("N", 1, large, large),
        "output": ("N", geometry.colours, large, large),
    }
    return shapes.get(name, ("N", geometry.channels, latent, latent))


_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


def _dtype(name: str) -> str:
    return "int32" if name == "partner" else "float32"


def _write_graph(
    folder: Path, component: Component, precision: str, geometry: Geometry, seed: int
) -> GraphFile:
    # One generator a component: the weights of every precision are the same before they are rounded.
    net = _Network(precision, np.random.default_rng([seed, list(Component).index(component)]))
    _BUILD[component](net, geometry)
    reads, writes = _READS[geometry.family][component], _WRITES[geometry.family][component]
    sides = [
        [helper.make_tensor_value_info(name, _TYPES[_dtype(name)], _shape(name, geometry)) for name in names]
        for names in (reads, writes)
    ]
    graph = helper.make_graph(net.nodes, component.value, *sides, initializer=net.weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    name = f"{component}.{precision}.onnx"
    (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    return graph_file(folder, name, _entries(reads, geometry), _entries(writes, geometry))


def _entries(names: Sequence[str], geometry: Geometry) -> list[TensorEntry]:
    found = [{"name": name, "dtype": _dtype(name), "shape": _shape(name, geometry)} for name in names]
    return [TensorEntry.model_validate(entry) for entry in found]


def _golden(paths: dict[Component, Path], embedding: Float, geometry: Geometry) -> dict[str, Float]:
    """One tile through every graph, by ONNX's reference evaluator."""
    evaluators = {component: ReferenceEvaluator(str(path)) for component, path in paths.items()}
    image = tiny_image(geometry.tile, geometry.tile, seed=GOLDEN_SEED, colours=geometry.colours)[None]
    golden: dict[str, Float] = {}
    known = {"image": image}

    def run(component: Component, **loop: Float) -> dict[str, Float]:
        names = _READS[geometry.family][component], _WRITES[geometry.family][component]
        taken = {name: np.asarray((known | loop)[name], _dtype(name)) for name in names[0]}
        given = dict(zip(names[1], evaluators[component].run(None, taken), strict=True))
        for name, value in (taken | given).items():
            golden.setdefault(f"{component}.{name}", value)
        return given

    if Component.ENCODER in paths:
        known |= run(Component.ENCODER)
    if Component.STEP in paths:
        golden |= _looped(run, embedding + _null_class(geometry), geometry)
        known["latent"] = golden["latent"]
    known |= run(Component.DECODER) if Component.DECODER in paths else {"output": golden["latent"]}
    return golden | {"image": image, "output": known["output"]}


def _null_class(geometry: Geometry) -> Float:
    """What is added to the time embedding where no class is named: (D,)."""
    table, names = class_embedding(), CLASSES["names"]
    return table[names.index(CLASSES["null"])] if geometry.has_classes else np.zeros(EMBEDDING, np.float32)


def _looped(run: Callable[..., dict[str, Float]], embedding: Float, geometry: Geometry) -> dict[str, Float]:
    """The noise that the default preset starts from, and what it ends at."""
    noise_schedule = NoiseSchedule("cosine", timesteps=TIMESTEPS)
    preset = PRESETS["even"]
    schedule = build_schedule(noise_schedule, prediction="v_prediction", clip=_clip(geometry), **preset)
    place = {"y0": 0, "x0": 0, "height": geometry.latent, "width": geometry.latent}
    noise = position_noise(GOLDEN_SEED, step=0, channels=geometry.channels, **place)[None]
    x, previous, nothing = noise, np.zeros_like(noise), np.zeros_like(noise)
    alone = {"guidance": np.array([[1, 0]], np.float32), "partner": np.zeros(1, np.int32)}
    for step, row in zip(schedule.steps, coefficients(schedule), strict=True):
        loop = {"x": x, "x0_previous": previous, "noise": nothing, "coefficients": row[None]}
        result = run(Component.STEP, **loop, **alone, time_embedding=embedding[[step.timestep]])
        x, previous = result["x_next"], result["x0"]
    return {"noise": noise, "latent": x}
