"""What a class-guided model can be told, and how far it then goes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from edge_sr.card import Record
from edge_sr.entries import ArrayFile, Name

__all__ = ["Classes"]


class Classes(Record):
    """What a class-guided model can be told of an image (Ho and Salimans 2022).

    A step evaluates the class and the null class, as two rows of one batch, and goes on with
    null + guidance * (class - null). The null class alone, or a guidance of 0 or 1, takes one evaluation.

    Attributes:
        names: The classes, the null class among them.
        null: The null class, that of nothing being told: what runs where no class is named.
        guidance: The default, where a class is named.
        most_guidance: What may be asked for.
        embedding: (classes, D), a row a name, which is added to the timestep's.
    """

    names: Annotated[tuple[Name, ...], Field(min_length=2)]
    null: Name
    guidance: Annotated[float, Field(ge=0)]
    most_guidance: Annotated[float, Field(ge=0)]
    embedding: ArrayFile

    @model_validator(mode="after")
    def _agrees(self) -> Classes:
        if self.null not in self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"wanted different names and the null class {self.null!r} among {self.names}")
        if self.guidance > self.most_guidance:
            raise ValueError(f"guidance {self.guidance:g} is more than the most, {self.most_guidance:g}")
        return self

    def asked(self, name: str | None, guidance: float | None) -> tuple[str, float]:
        """The class and the guidance that run where these are given; the null class at 1 for no class."""
        if name is None or name == self.null:
            return self.null, 1.0
        return name, self.guidance if guidance is None else guidance

    def problem(self, name: str | None, guidance: float | None) -> str:
        """Why these cannot be had, or nothing."""
        if name is not None and name not in self.names:
            return f"no class {name!r}; there are {', '.join(self.names)}"
        if guidance is None:
            return ""
        if name is None or name == self.null:
            return f"guidance is away from {self.null!r} and towards a class, and none is named"
        if not 0 <= guidance <= self.most_guidance:  # NaN is neither
            return f"guidance {guidance:g} is not from 0 to {self.most_guidance:g}, what this model takes"
        return ""
