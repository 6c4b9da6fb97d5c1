"""What a request asks for: query parameters, and the media type of the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge_sr.cascade import plan_scale
from edge_sr.image import Limits
from edge_sr.manifest import Manifest
from edge_sr.result import Settings
from edge_sr.service.problems import Problem
from edge_sr.service.settings import ServiceSettings

__all__ = ["DICOM", "JSON", "MAX_SCALE", "PNG", "Include", "Parameters", "negotiate", "parse_parameters"]

PNG, JSON, DICOM = "image/png", "application/json", "application/dicom"
MAX_SCALE = 256
"""Of any model; one's own limit is `edge_sr.cascade.plan_scale`'s."""


class Include(str, Enum):
    """What can come beside the result in JSON."""

    INPUT = "input"
    BICUBIC = "bicubic"
    UNCERTAINTY = "uncertainty"
    CHANGE = "change"
    DICOM = "dicom"

    def __str__(self) -> str:
        return self.value


class Parameters(BaseModel):
    """The query of an upscale request.

    Attributes:
        seed: Of the noise; the same seed gives the same bytes.
        steps: Of the loop; None for the bundle's own.
        samples: Of how many the result is the mean; None for the bundle's own.
        scale: The wanted enlargement; None for the model's own.
        class_name: What the model is told that it sees, `class` in the query; None for nothing.
        guidance: How many times as far as by itself the class moves a result; None for the bundle's own.
        include: What comes beside the result; the answer is then JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Field(ge=0, le=2**64 - 1)] = 0
    steps: Annotated[int, Field(ge=1)] | None = None
    samples: Annotated[int, Field(ge=1)] | None = None
    scale: Annotated[int, Field(ge=1, le=MAX_SCALE)] | None = None
    class_name: Annotated[str, Field(max_length=64)] | None = Field(None, alias="class")
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    include: frozenset[Include] = frozenset()

    @field_validator("include", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """A query has names with commas between them."""
        return given.split(",") if isinstance(given, str) else given

    def resolve(self, manifest: Manifest, limits: ServiceSettings) -> Settings:
        """What the engine is told.

        Raises:
            UsageError: The model does not offer the scale.
            Problem: 422, the bundle's timesteps are fewer than the steps, it has no such class or guidance,
                or no loop to change.
        """
        given = self.model_dump(include=_OF_LOOP, exclude_none=True)
        preset = manifest.default_preset
        if preset is None and given:
            raise _refused(_asked(next(iter(given))), "this model has no loop, its result is always the same")
        preset = preset and preset.changed(given)
        if preset and (problem := manifest.problem_of_class(preset)):
            names = manifest.classes.names if manifest.classes else ()
            is_class = self.class_name is not None and self.class_name not in names
            raise _refused("class" if is_class else "guidance", problem)
        if manifest.diffusion and (self.steps or 0) > manifest.diffusion.timesteps:
            raise _refused("steps", f"at most {manifest.diffusion.timesteps}, the timesteps of this model")
        return Settings(
            preset,
            self.seed,
            limits=Limits(max_bytes=limits.max_bytes, max_pixels=limits.max_pixels),
            scale=plan_scale(self.scale, manifest.scale).scale,
        )


_OF_LOOP = {"steps", "samples", "class_name", "guidance"}


def _asked(field: str) -> str:
    """A field's name in the query."""
    return Parameters.model_fields[field].alias or field


_NAMES = tuple(map(_asked, Parameters.model_fields))


def parse_parameters(query: Iterable[tuple[str, str]], limits: ServiceSettings) -> Parameters:
    """Reads a query.

    Raises:
        Problem: 422, with the field: it is unknown, given twice, no whole number, or out of range. What was
            given is not repeated.
    """
    values: dict[str, str] = {}
    for name, value in query:
        if name not in _NAMES:
            raise _refused("query", f"has an unknown parameter; known are {', '.join(_NAMES)}")
        if name in values:
            raise _refused(name, "was given twice")
        values[name] = value
    try:
        parameters = Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _refused(str(first["loc"][0]), first["msg"]) from error
    for name, most in (("steps", limits.max_steps), ("samples", limits.max_samples)):
        if (getattr(parameters, name) or 0) > most:
            raise _refused(name, f"at most {most} on this service")
    return parameters


def _refused(field: str, why: str) -> Problem:
    return Problem(422, f"{field}: {why}", field=field)


def negotiate(accept: str, offered: Sequence[str]) -> str:
    """The offered media type that an Accept header prefers (RFC 9110, section 12.5.1).

    Args:
        accept: The header; empty for anything.
        offered: By our own preference, which decides where the client has none.

    Raises:
        Problem: 406, none of them is accepted.
    """
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]
    ranked = sorted(offered, key=lambda media: -_quality(media, ranges))
    if not ranked or _quality(ranked[0], ranges) <= 0:
        raise Problem(406, f"the answer can be {', '.join(offered)}", field="Accept")
    return ranked[0]


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality; one whose quality cannot be read is not wanted."""
    media, *parameters = (text.strip().lower() for text in part.split(";"))
    for text in parameters:
        if text.startswith("q="):
            try:
                return media, min(1.0, max(0.0, float(text[2:])))
            except ValueError:
                return media, 0.0
    return media, 1.0


def _quality(media: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality that the most specific range gives to a media type; 0 where none matches."""
    for wanted in (media, f"{media.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
