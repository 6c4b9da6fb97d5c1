"""What `bundle.json` says, as types: schema-versioned, validated, unknown fields refused.

History of the format:
    1  first version
    2  consistency, what true images give for a result's residual; version 1 opens as before, without it
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge_sr.card import Calibration, Consistency, Count, Operator, Provenance, QualityRow, Record, Sha256
from edge_sr.spec import (
    BATCH,
    IMAGE,
    LATENT,
    LOOP_INPUTS,
    LOOP_OUTPUTS,
    OUTPUT,
    Component,
    Precision,
    TensorSpec,
)

__all__ = [
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "ArrayFile",
    "Calibration",
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
]

SCHEMA_VERSION = 2
"""The version that is written."""

READABLE_VERSIONS = (1, 2)
"""The versions that are read."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _File(Record):
    """A file inside the bundle."""

    file: Annotated[str, Field(max_length=200)]
    sha256: Sha256
    bytes: Annotated[int, Field(ge=1)]

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not value or path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
            raise ValueError(f"path {value!r} leaves the bundle's folder")
        return value


class TensorEntry(Record):
    """One input or output of a graph; "N" is the free length, of the first axis only."""

    name: Name
    dtype: Literal["float32", "float16", "int8", "uint8", "int32", "int64"]
    shape: tuple[Annotated[int, Field(ge=1, le=65536)] | Literal["N"], ...]

    @model_validator(mode="after")
    def _only_the_first_axis_is_free(self) -> TensorEntry:
        if BATCH in self.shape[1:]:
            raise ValueError(f"{self.name}: only the first axis may be {BATCH!r}")
        return self

    def spec(self) -> TensorSpec:
        """The same as a `TensorSpec`."""
        return TensorSpec(self.name, self.dtype, self.shape)


class Cost(Record):
    """What one run of a graph costs for a batch of one; see `edge_sr.roofline.GraphCost`."""

    macs: Annotated[int, Field(ge=0)]
    weight_bytes: Annotated[int, Field(ge=0)]
    activation_bytes: Annotated[int, Field(ge=0)]


class GraphFile(_File):
    """An ONNX file, its tensors, and its cost where it was counted."""

    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    cost: Cost | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> GraphFile:
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{self.file}: more than one tensor is named {', '.join(repeated)}")
        return self


class ArrayFile(_File):
    """A numpy file (.npy, no pickle)."""

    dtype: Literal["float16", "float32"]
    shape: tuple[int, ...]


class Latent(Record):
    """The latent of one tile, as the step graph sees it: zero mean and unit variance a channel.

    Attributes:
        channels: Channels.
        factor: HR pixels a latent pixel, along each axis.
    """

    channels: Count
    factor: Count


class Conditioning(Record):
    """What the step graph is told of the LR image, and by which graph."""

    kind: Literal["encoder"]


class Preset(Record):
    """A way to run the loop.

    Attributes:
        sampler, steps, spacing, eta: See `edge_sr.schedule.build_schedule`.
        start: Share of the noise chain that is run, in (0, 1].
        noise_scale: What the first noise is multiplied by: below 1, less is invented.
        samples: Samples whose mean is the result.
    """

    sampler: Literal["ddpm", "ddim", "dpmpp_2m", "lcm"]
    steps: Count
    spacing: Literal["leading", "trailing"] = "trailing"
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    start: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise_scale: Annotated[float, Field(ge=0, le=2)] = 1.0
    samples: Annotated[int, Field(ge=1, le=64)] = 1


class Diffusion(Record):
    """How the model was trained, and how it is run by default.

    Attributes:
        prediction: What the network predicts.
        noise_schedule, timesteps, beta_start, beta_end, zero_terminal_snr: The training noise schedule.
        clip: Largest magnitude of a predicted clean latent; null for none.
        presets: Ways to run it, by name; `default` names one.
    """

    prediction: Literal["epsilon", "v_prediction", "sample"]
    noise_schedule: Literal["linear", "scaled_linear", "cosine"]
    timesteps: Annotated[int, Field(ge=1, le=100000)]
    beta_start: float = 0.0001
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    clip: Annotated[float, Field(gt=0)] | None = None
    presets: dict[Name, Preset]
    default: Name

    @model_validator(mode="after")
    def _default_exists(self) -> Diffusion:
        if self.default not in self.presets:
            raise ValueError(f"default preset {self.default!r} is not one of {sorted(self.presets)}")
        return self


class Manifest(Record):
    """The whole of `bundle.json`."""

    schema_version: Literal[1, 2]
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
    latent: Latent
    conditioning: Conditioning
    diffusion: Diffusion
    graphs: dict[Component, dict[Precision, GraphFile]]
    time_embedding: ArrayFile
    golden: _File
    calibration: Calibration | None = None
    consistency: Consistency | None = None
    default_precision: Precision = Precision.FP32
    provenance: Provenance
    quality: tuple[QualityRow, ...] = ()
    intended_use: str
    limits: tuple[str, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        problems = []
        if missing := [str(c) for c in Component if c not in self.graphs]:
            problems.append(f"no graphs for {', '.join(missing)}")
        for component, graphs in self.graphs.items():
            if self.default_precision not in graphs:
                problems.append(f"{component} has no graph of the default precision {self.default_precision}")
        if self.overlap * 2 > self.tile:
            problems.append(f"overlap {self.overlap} is more than half of tile {self.tile}")
        if self.tile * self.scale % self.latent.factor:
            factor = self.latent.factor
            problems.append(f"tile {self.tile} x {self.scale} is no multiple of latent factor {factor}")
        rows, shape = self.diffusion.timesteps, self.time_embedding.shape
        if len(shape) != 2 or shape[0] != rows:
            problems.append(f"time embedding of shape {shape}, wanted a row for each of {rows} timesteps")
        for precision in Precision:
            graphs_of = {c: self.graphs[c][precision] for c in self.graphs if precision in self.graphs[c]}
            problems += [f"{precision}: {problem}" for problem in _unjoined(graphs_of)]
        problems += self._problems_of_consistency()
        if problems:
            raise ValueError("; ".join(problems))
        return self

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


_JOINTS: dict[Component, tuple[frozenset[str], frozenset[str]]] = {
    Component.ENCODER: (frozenset({IMAGE}), frozenset()),
    Component.STEP: (LOOP_INPUTS, LOOP_OUTPUTS),
    Component.DECODER: (frozenset({LATENT}), frozenset({OUTPUT})),
}
"""What each graph must read and write by name, whatever else it does."""


def _unjoined(graphs: dict[Component, GraphFile]) -> list[str]:
    """What three graphs lack to be run one after the other; nothing for fewer, which are never run."""
    if len(graphs) < len(Component):
        return []
    problems: list[str] = []
    written: set[str] = set()
    for component, (reads, writes) in _JOINTS.items():
        inputs = {tensor.name for tensor in graphs[component].inputs}
        outputs = {tensor.name for tensor in graphs[component].outputs}
        problems += [f"{component} has no {name}" for name in sorted((reads - inputs) | (writes - outputs))]
        problems += [f"nothing writes {component}'s {name}" for name in sorted(inputs - reads - written)]
        written |= outputs
    return problems
