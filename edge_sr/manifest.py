"""What `bundle.json` says, as types: schema-versioned, validated, unknown fields refused.

An image passes through the graphs that are there: the encoder once, the step in a loop, the decoder once.
Each reads by name what there is by then: `image`, what graphs before it wrote, behind the loop `latent`.
    all three        a latent diffusion model
    encoder, step    diffusion in pixel space: its latent is the image, and the loop ends at the output
    step             the same, but the step reads the LR image by itself
    step, decoder    a latent diffusion model whose step reads the LR image as it is
    decoder          a plain network, image -> output: no loop, hence no latent, diffusion or time embedding
What describes the loop comes with a step graph, and only with it.

History of the format:
    1  first version
    2  consistency, what true images give for a result's residual; version 1 opens as before, without it
    3  graphs may be absent, a preset may have an offset, a loop may end at the first noise level, classes;
       versions 1 and 2 open as before, with all three graphs and none of the rest
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edge_sr.card import Calibration, Consistency, Count, Operator, Provenance, QualityRow, Record
from edge_sr.classes import Classes
from edge_sr.entries import ArrayFile, Cost, File, GraphFile, Name, TensorEntry
from edge_sr.spec import (
    GUIDANCE_INPUTS,
    IMAGE,
    LATENT,
    LOOP_INPUTS,
    LOOP_OUTPUTS,
    OUTPUT,
    Component,
    Precision,
)

__all__ = [
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "ArrayFile",
    "Calibration",
    "Classes",
    "Conditioning",
    "Consistency",
    "Cost",
    "Diffusion",
    "GraphFile",
    "Latent",
    "Manifest",
    "Preset",
    "Provenance",
    "QualityRow",
    "TensorEntry",
    "one_sample",
    "samples_of",
]

SCHEMA_VERSION = 3
"""The version that is written."""

READABLE_VERSIONS = (1, 2, 3)
"""The versions that are read."""


class Latent(Record):
    """What the loop runs on for one tile, as the step graph sees it.

    Zero mean and unit variance a channel before a decoder; without one, the image itself in [-1, 1].

    Attributes:
        channels: Channels, and those in which a model keeps the noise of its condition.
        factor: HR pixels a latent pixel, along each axis.
    """

    channels: Count
    factor: Count


class Conditioning(Record):
    """What the step graph is told of the LR image: what the encoder made of it, or the image itself."""

    kind: Literal["encoder", "image"]


class Preset(Record):
    """A way to run the loop.

    Attributes:
        sampler, steps, spacing, offset, eta: See `edge_sr.schedule.build_schedule`.
        start: Share of the noise chain that is run, in (0, 1].
        noise_scale: What the first noise is multiplied by: below 1, less is invented.
        samples: Samples whose mean is the result.
        class_name: What the model is told that it sees, of a bundle with classes; None for its null class.
        guidance: How many times as far as by itself the class moves a prediction from the null class's; None
            for the bundle's own. Without a class there is none.
    """

    sampler: Literal["ddpm", "ddim", "dpmpp_2m", "lcm"]
    steps: Count
    spacing: Literal["leading", "trailing"] = "trailing"
    offset: Annotated[int, Field(ge=0)] = 0
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise_scale: Annotated[float, Field(ge=0, le=2)] = 1.0
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    class_name: Name | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None

    def changed(self, given: Mapping[str, Any]) -> Preset:
        """With these values in place of its own; a class that is named takes no guidance from it."""
        return self.model_copy(update=({"guidance": None} if "class_name" in given else {}) | dict(given))


def samples_of(preset: Preset | None) -> int:
    """Of how many samples a result is the mean; one without a loop, where all would be the same."""
    return 1 if preset is None else preset.samples


def one_sample(preset: Preset | None) -> Preset | None:
    """The preset for one sample at a time."""
    return None if preset is None else preset.model_copy(update={"samples": 1})


class Diffusion(Record):
    """How the model was trained, and how it is run by default.

    Attributes:
        prediction: What the network predicts.
        noise_schedule, timesteps, beta_start, beta_end, zero_terminal_snr: The training noise schedule.
        clip: Largest magnitude of a predicted clean latent; null for none.
        end: Where DDIM's last step goes; every other sampler's goes to the clean latent.
        presets: Ways to run it, by name; `default` names one.
    """

    prediction: Literal["epsilon", "v_prediction", "sample"]
    noise_schedule: Literal["linear", "scaled_linear", "cosine"]
    timesteps: Annotated[int, Field(ge=1, le=100000)]
    beta_start: float = 0.0001
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    clip: Annotated[float, Field(gt=0)] | None = None
    end: Literal["clean", "first"] = "clean"
    presets: dict[Name, Preset]
    default: Name

    @model_validator(mode="after")
    def _default_exists(self) -> Diffusion:
        if self.default not in self.presets:
            raise ValueError(f"default preset {self.default!r} is not one of {sorted(self.presets)}")
        return self


class Manifest(Record):
    """The whole of `bundle.json`."""

    schema_version: Literal[1, 2, 3]
    name: Name
    version: Name
    description: str
    task: Literal["super-resolution"]
    scale: Annotated[int, Field(ge=1, le=16)]
    channels: Literal[1, 3]
    tile: Annotated[int, Field(ge=8, le=4096)]
    overlap: Annotated[int, Field(ge=0)]
    image_range: tuple[float, float] = (-1.0, 1.0)
    degradation: Operator
    latent: Latent | None = None
    conditioning: Conditioning | None = None
    diffusion: Diffusion | None = None
    classes: Classes | None = None
    graphs: dict[Component, dict[Precision, GraphFile]]
    time_embedding: ArrayFile | None = None
    golden: File
    calibration: Calibration | None = None
    consistency: Consistency | None = None
    default_precision: Precision = Precision.FP32
    provenance: Provenance
    quality: tuple[QualityRow, ...] = ()
    intended_use: str
    limits: tuple[str, ...]

    @property
    def components(self) -> tuple[Component, ...]:
        """The graphs that are there, in the order in which an image passes through them."""
        return tuple(component for component in Component if component in self.graphs)

    @property
    def default_preset(self) -> Preset | None:
        """How the loop runs by default; None where there is none."""
        return None if self.diffusion is None else self.diffusion.presets[self.diffusion.default]

    def problem_of_class(self, preset: Preset) -> str:
        """Why the class or the guidance of a preset cannot be had from this model, or nothing."""
        if self.classes is not None:
            return self.classes.problem(preset.class_name, preset.guidance)
        is_asked = preset.class_name is not None or preset.guidance is not None
        return f"{self.name} was told no classes" if is_asked else ""

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        problems = [*self._problems_of_stages(), *self._problems_of_loop(), *self._problems_of_classes()]
        for component, graphs in self.graphs.items():
            if self.default_precision not in graphs:
                problems.append(f"{component} has no graph of the default precision {self.default_precision}")
        if self.overlap * 2 > self.tile:
            problems.append(f"overlap {self.overlap} is more than half of tile {self.tile}")
        for precision in Precision:
            graphs_of = {c: self.graphs[c][precision] for c in self.components if precision in self.graphs[c]}
            if len(graphs_of) == len(self.graphs):  # fewer are never run one after the other
                unjoined = _unjoined(graphs_of, has_classes=self.classes is not None)
                problems += [f"{precision}: {problem}" for problem in unjoined]
        problems += self._problems_of_consistency()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems_of_stages(self) -> list[str]:
        """Graphs that may not be absent, and what describes the loop without one, or lacks for one."""
        problems = []
        absent = [str(c) for c in Component if c not in self.graphs]
        if absent and self.schema_version < 3:
            problems.append(
                f"no graphs for {', '.join(absent)}: only from schema version 3 may they be absent"
            )
        if not {Component.STEP, Component.DECODER} & set(self.graphs):
            problems.append("neither step nor decoder: no graph makes the output")
        has_loop = Component.STEP in self.graphs
        of_loop = ("latent", "conditioning", "diffusion", "time_embedding")
        if wrong := [name for name in of_loop if (getattr(self, name) is None) == has_loop]:
            problems.append(f"{'no' if has_loop else 'no step graph, but'} {', '.join(wrong)}")
        if self.calibration is not None and (self.calibration.steps is None) == has_loop:
            problems.append(f"calibration with {self.calibration.steps} steps of the loop")
        return problems

    def _problems_of_loop(self) -> list[str]:
        """Sizes of the loop that do not fit the graphs, the table or the image."""
        problems = []
        if self.latent and self.tile * self.scale % self.latent.factor:
            factor = self.latent.factor
            problems.append(f"tile {self.tile} x {self.scale} is no multiple of latent factor {factor}")
        if self.diffusion and self.time_embedding:
            rows, shape = self.diffusion.timesteps, self.time_embedding.shape
            if len(shape) != 2 or shape[0] != rows:
                problems.append(f"time embedding of shape {shape}, wanted a row for each of {rows} timesteps")
        if self.conditioning and (self.conditioning.kind == "encoder") != (Component.ENCODER in self.graphs):
            problems.append(f"conditioning by {self.conditioning.kind}, but the graphs say otherwise")
        return problems + self._problems_of_pixel_space()

    def _problems_of_classes(self) -> list[str]:
        """Presets that name what is not there, and embeddings that cannot be added to the timestep's."""
        presets = self.diffusion.presets if self.diffusion else {}
        told = {name: self.problem_of_class(preset) for name, preset in presets.items()}
        problems = [f"preset {name}: {problem}" for name, problem in told.items() if problem]
        if self.classes is None:
            return problems
        if self.schema_version < 3:
            problems.append("classes came with schema version 3")
        if self.time_embedding is None:
            return [*problems, "classes, but no loop that they guide"]
        found, width = self.classes.embedding.shape, self.time_embedding.shape[-1:]
        if found != (wanted := (len(self.classes.names), *width)):
            problems.append(f"class embedding of shape {found}, wanted {wanted}")
        return problems

    def _problems_of_pixel_space(self) -> list[str]:
        """A loop without a decoder runs on the image itself, and its last step clips it."""
        if Component.DECODER in self.graphs or self.latent is None or self.diffusion is None:
            return []
        wanted = (self.channels, 1, self.image_range[1])
        found = (self.latent.channels, self.latent.factor, self.diffusion.clip)
        if found == wanted:
            return []
        return [
            f"without a decoder the latent is the image: wanted channels, factor, clip {wanted}, got {found}"
        ]

    def _problems_of_consistency(self) -> list[str]:
        if self.consistency is None:
            return []
        problems = []
        if self.schema_version < 2:
            problems.append("consistency came with schema version 2")
        if (measured := self.consistency.operator) != self.degradation:
            problems.append(
                f"consistency was measured with {measured}, the degradation is {self.degradation}"
            )
        return problems


def _unjoined(graphs: dict[Component, GraphFile], *, has_classes: bool) -> list[str]:
    """What the graphs of a bundle, in order, lack to be run one after the other."""
    problems: list[str] = []
    known = {IMAGE}
    for component, graph in graphs.items():
        reads, writes = _own(component, has_loop=Component.STEP in graphs)
        if has_classes and component is Component.STEP:
            reads |= GUIDANCE_INPUTS
        inputs = {tensor.name for tensor in graph.inputs}
        outputs = {tensor.name for tensor in graph.outputs}
        needed = reads | ({IMAGE} if component is next(iter(graphs)) else set())
        problems += [f"{component} has no {name}" for name in sorted((needed - inputs) | (writes - outputs))]
        problems += [f"nothing writes {component}'s {name}" for name in sorted(inputs - reads - known)]
        known |= outputs - LOOP_OUTPUTS
    return problems


def _own(component: Component, *, has_loop: bool) -> tuple[frozenset[str], frozenset[str]]:
    """What a graph must read and write by name that no other graph writes or reads."""
    if component is Component.STEP:
        return LOOP_INPUTS, LOOP_OUTPUTS
    if component is Component.DECODER:
        return frozenset({LATENT} if has_loop else ()), frozenset({OUTPUT})
    return frozenset(), frozenset()
