"""The files of a bundle: graphs with their tensors, and arrays."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edge_sr.card import Record, Sha256
from edge_sr.spec import BATCH, TensorSpec

__all__ = ["ArrayFile", "Cost", "File", "GraphFile", "Name", "TensorEntry"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class File(Record):
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


class GraphFile(File):
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


class ArrayFile(File):
    """A numpy file (.npy, no pickle)."""

    dtype: Literal["float16", "float32"]
    shape: tuple[int, ...]
