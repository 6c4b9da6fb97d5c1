"""The tables of `python -m calibration sensitivity`. They name no bundle; its plan tells whose they are."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.records import Record
from edge_sr.bundle import Bundle

__all__ = ["NAME", "SUFFIXES", "Layer", "Plan", "Sensitivity", "read_sensitivity"]

NAME = "sensitivity"
LAYERS, PLANS = "layers.csv", "plans.json"
SUFFIXES = (f"-{PLANS}", PLANS)
Reasons = dict[str, str]


class Layer(Record):
    """A layer in INT8 alone: gray levels of 255 in the image, and its share of the work, from 0 to 1."""

    component: str
    layer: str
    image_error: float
    work_share: float


class Plan(Record):
    """A plan measured whole: what it leaves out of INT8 and why, its error, its speed over FP32's."""

    name: str
    excluded: dict[str, Reasons]
    image_error: float
    speedup: float

    @property
    def reasons(self) -> Reasons:
        """As a bundle has them: component/layer -> reason."""
        return {f"{c}/{layer}": why for c, layers in self.excluded.items() for layer, why in layers.items()}


class Sensitivity(Record):
    """Every layer alone, the most harmful first; every plan; and which of them the bundle has.

    Attributes:
        is_of_bundle: Whether the bundle was made with the figures of this very run; otherwise another run, or
            an earlier state of the model, had left the same layers out.
    """

    layers: tuple[Layer, ...]
    plans: tuple[Plan, ...]
    chosen: str
    is_of_bundle: bool


def read_sensitivity(folder: Path, bundle: Bundle) -> tuple[dict[str, Sensitivity], Reasons]:
    """The tables of a folder that are of this bundle, by name, and why the others are not used.

    Args:
        folder: With NAME-layers.csv and NAME-plans.json.
        bundle: Its calibration lists what was left out of INT8, with what was measured of it: tables that
            have a plan which leaves out the same layers are its own.
    """
    found, refused = {}, {}
    for path in sorted(folder.glob(f"*{PLANS}")):
        try:
            found[path.name] = _read(path, bundle)
        except (OSError, ValueError, KeyError, RecursionError) as error:
            refused[path.name] = _why(error)
    return found, refused


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return f"damaged: {error.error_count()} problems"
    return str(error)[:160]


def _read(path: Path, bundle: Bundle) -> Sensitivity:
    """The pair of tables.

    Raises:
        OSError: One of them is missing.
        ValueError: One is damaged, or they are of another bundle.
    """
    plans = TypeAdapter(tuple[Plan, ...]).validate_python(_known(Plan, json.loads(path.read_bytes())))
    record = bundle.manifest.calibration
    chosen = [plan for plan in plans if record and set(plan.reasons) == set(record.excluded)]
    if record is None or not chosen:
        raise ValueError("of another model: no plan in it leaves out the layers that the bundle leaves out")
    text = path.with_name(path.name.removesuffix(PLANS) + LAYERS).read_text(encoding="utf-8")
    rows = _known(Layer, list(csv.DictReader(io.StringIO(text))))
    layers = TypeAdapter(tuple[Layer, ...]).validate_python(rows)
    ordered = sorted(layers, key=lambda layer: -layer.image_error)
    return Sensitivity(
        layers=tuple(ordered),
        plans=plans,
        chosen=chosen[0].name,
        is_of_bundle=chosen[0].reasons == record.excluded,
    )


def _known(model: type[Record], rows: Any) -> list[Any]:
    """Rows with the fields that are read here: other versions have others besides."""
    if not isinstance(rows, list):
        raise ValueError("no table: wanted a list")
    return [{name: row[name] for name in model.model_fields} for row in rows]
