"""One image: settings in, a result out, and with it what is known of how far it can be trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sr import __version__
from edge_sr.cascade import ScalePlan, enlarge, plan_scale
from edge_sr.errors import ConsistencyError
from edge_sr.evidence import alarm_notice, change_facts, change_map, evidence_files, residual_db, spread_facts
from edge_sr.image import Limits, LoadedImage, from_unit, merge_luminance, split_luminance, to_planes
from edge_sr.manifest import Manifest, Preset, samples_of
from edge_sr.pipeline import Enlarges, Output, StageSeconds

__all__ = ["DISCLAIMER", "Result", "Settings", "upscale_image", "warm_up"]

DISCLAIMER = "AI-generated detail. Research use only. Not for diagnosis."
GUIDED = (
    "guided by class {name} at {guidance:g}: what belongs to that class is drawn, also where the input shows "
    "none of it; no finding may be read from this image"
)
COLOUR = "colour: luminance through the model, chroma by bicubic interpolation"
GRAY = "gray through a model of colour: as equal channels, of whose enlargement the luminance is kept"
Pixels = npt.NDArray[Any]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How every image of a job is enlarged.

    Attributes:
        preset: How the loop runs; None for a bundle without one.
        seed: Unsigned 64-bit; the same seed gives the same bytes. Without a loop, any does.
        limits: What an input may be.
        scale: The wanted enlargement; None for the model's own.
        back_project: The operator of a back-projection as the last step; None for none.
        min_consistency_db: A result below it is an error; None for no such limit.
        has_evidence: Whether images of what is known of a result are written beside it.
    """

    preset: Preset | None
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    scale: int | None = None
    back_project: str | None = None
    min_consistency_db: float | None = None
    has_evidence: bool = False


@dataclass(frozen=True)
class Result:
    """An enlarged image and what is known about it.

    Attributes:
        name: The input, as it was given.
        pixels: (H, W) or (H, W, 3), the input's bit depth.
        luminance: (H, W), what the model made; the pixels themselves where they are gray.
        source: (h, w), the input's luminance.
        scale: How many times larger.
        samples: Of how many the pixels are the mean.
        std: (H, W) float32 in [-1, 1] units, the spread over samples; None for one sample.
        consistency_db: PSNR in dB of the output, reduced by the declared operator, against the input.
        alarm_db: What true images reach, where that was measured at this scale; None where not.
        tiles: How many tiles it took.
        seconds: Wall time in seconds by stage.
        notices: What was changed on the way, and what is alarming, for the user to see.
        provenance: What made it, as text for the file.
    """

    name: str
    pixels: Pixels
    luminance: Pixels
    source: Pixels
    scale: int
    samples: int
    std: Float | None
    consistency_db: float
    alarm_db: float | None
    tiles: int
    seconds: dict[str, float]
    notices: tuple[str, ...]
    provenance: dict[str, str]

    @property
    def is_alarming(self) -> bool | None:
        """Whether it is less consistent than true images are; None where theirs was not measured."""
        return None if self.alarm_db is None else self.consistency_db < self.alarm_db

    @cached_property
    def std_levels(self) -> Float | None:
        """`std` in gray levels."""
        return None if self.std is None else self.std * np.float32(np.iinfo(self.pixels.dtype).max / 2)

    @cached_property
    def change(self) -> Float:
        """(H, W), what the model changed against bicubic, in gray levels."""
        return change_map(self.luminance, self.source, self.scale)

    def trust(self, *, has_evidence: bool) -> dict[str, Any]:
        """What is known of how far it can be trusted, as JSON.

        Args:
            has_evidence: Whether to take the figures of the change map too, which cost some time.
        """
        std = self.std_levels
        return {
            "consistency_db": round(self.consistency_db, 2),
            "consistency_alarm_db": self.alarm_db,
            "is_alarming": self.is_alarming,
            "uncertainty": None if std is None else spread_facts(std, samples=self.samples),
            "change": change_facts(self.change) if has_evidence else None,
        }

    def evidence(self) -> dict[str, bytes]:
        """The files beside the output, by their suffix: see `edge_sr.evidence.evidence_files`."""
        return evidence_files(
            self.luminance,
            std=self.std_levels,
            change=self.change,
            samples=self.samples,
            text=self.provenance,
        )


def upscale_image(upscaler: Enlarges, image: LoadedImage, settings: Settings) -> Result:
    """Enlarges one decoded image.

    Raises:
        UsageError: The scale is not offered.
        ConsistencyError: The result agrees with the input less than the settings ask.
        EdgeSRError: The preset is not offered, or the backend failed.
    """
    manifest = upscaler.bundle.manifest
    plan = plan_scale(settings.scale, manifest.scale)
    given, chroma = image.pixels, None
    if image.is_colour and manifest.channels == 1:
        given, chroma = split_luminance(image.pixels)
    output = enlarge(
        upscaler,
        to_planes(given, manifest.channels),
        plan=plan,
        preset=settings.preset,
        seed=settings.seed,
        operator=settings.back_project,
    )
    made = from_unit(_unplaned(output.mean), image.bit_depth)
    is_grayed = made.ndim > given.ndim
    made = _gray(made) if is_grayed else made
    consistency = residual_db(made, given, scale=plan.scale, operator=manifest.degradation)
    _check_consistency(image.name, consistency, settings.min_consistency_db)
    known = manifest.consistency if plan.is_plain else None
    notices = [COLOUR] if chroma is not None else [GRAY] if is_grayed else []
    notices += _guided(manifest, settings.preset)
    notices += filter(None, [alarm_notice(consistency, known)])
    return Result(
        name=image.name,
        pixels=made if chroma is None else merge_luminance(made, chroma, plan.scale),
        luminance=_gray(made),
        source=_gray(given),
        scale=plan.scale,
        samples=samples_of(settings.preset),
        std=_spread(output),
        consistency_db=consistency,
        alarm_db=None if known is None else known.alarm_db,
        tiles=output.tiles,
        seconds=_seconds(output.seconds),
        notices=(*image.notices, *notices),
        provenance=_provenance(upscaler, settings, plan, consistency),
    )


def _guided(manifest: Manifest, preset: Preset | None) -> list[str]:
    """The danger of naming a class, where one is named."""
    told = _told(manifest, preset)
    is_told = manifest.classes is not None and told["class"] != manifest.classes.null
    return [GUIDED.format(name=told["class"], guidance=told["guidance"])] if is_told else []


def _told(manifest: Manifest, preset: Preset | None) -> dict[str, Any]:
    """The class and the guidance that the loop ran with; nothing of a model that was told no classes."""
    if manifest.classes is None or preset is None:
        return {}
    asked = manifest.classes.asked(preset.class_name, preset.guidance)
    return dict(zip(("class", "guidance"), asked, strict=True))


def warm_up(upscaler: Enlarges, settings: Settings) -> None:
    """Enlarges one made-up tile, so that what is made on first use is there, and what must fail has failed.

    Raises:
        EdgeSRError: As `upscale_image`, for these settings or this device.
    """
    side = upscaler.bundle.manifest.tile
    ramp = np.linspace(0, 255, side * side).reshape(side, side).astype(np.uint8)
    image = LoadedImage(ramp, "warm-up", "PNG")
    upscale_image(upscaler, image, replace(settings, min_consistency_db=None))


def _check_consistency(name: str, found_db: float, least_db: float | None) -> None:
    if least_db is not None and not found_db >= least_db:  # NaN is no limit that can be met
        raise ConsistencyError(
            f"{name}: consistency {found_db:.2f} dB, wanted at least {least_db:g}: the result, made small "
            "again, is not its input",
            hint="look at the input: it may be unlike what the model was made for",
        )


def _unplaned(planes: Float) -> Float:
    """(C, H, W) -> (H, W) or (H, W, C)."""
    return np.asarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))


def _gray(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else split_luminance(pixels)[0]


def _spread(output: Output) -> Float | None:
    """(H, W), the root mean square over channels."""
    if output.std is None or len(output.std) == 1:
        return None if output.std is None else output.std[0]
    return np.asarray(np.sqrt(np.square(output.std).mean(axis=0)), np.float32)


def _seconds(spent: StageSeconds) -> dict[str, float]:
    return {"encode": spent.encode, "loop": spent.loop, "decode": spent.decode, "host": spent.host}


def _provenance(
    upscaler: Enlarges, settings: Settings, plan: ScalePlan, consistency_db: float
) -> dict[str, str]:
    """What a file says of itself; nothing in it depends on when, where or for whom it was made."""
    manifest = upscaler.bundle.manifest
    runtime = upscaler.backend.describe()
    runtime.pop("engines", None)  # a folder of this machine, which may name its user
    known = manifest.consistency if plan.is_plain else None
    preset = settings.preset
    facts = {
        "bundle": f"{manifest.name} {manifest.version}",
        "bundle_sha256": upscaler.bundle.digest,
        "precision": str(upscaler.precision),
        "seed": None if preset is None else settings.seed,
        "preset": None if preset is None else preset.model_dump(mode="json", exclude_none=True),
        **_told(manifest, preset),
        "scale": plan.scale,
        "passes": plan.passes,
        "back_projection": settings.back_project,
        "consistency_db": round(consistency_db, 2),
        "consistency_alarm_db": None if known is None else known.alarm_db,
        "degradation": manifest.degradation,
        **runtime,
    }
    return {
        "Software": f"edge-sr {__version__}",
        "Disclaimer": DISCLAIMER,
        "edge-sr": json.dumps(facts, sort_keys=True),
    }
