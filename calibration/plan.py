"""The calibration plan: which layers run in INT8, with which scales, and why the others do not.

One plan is emitted twice, for ONNX Runtime and for TensorRT (see `calibration.quantize`), so that both have
the same layers and the same scales. Weights need no scale here: theirs follow from the weights alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.layers import Layer, default_exclusions, find_layers, touched
from calibration.ranges import choose_range, scale_for
from calibration.recording import Facts, Recording
from edge_sr.bundle import Bundle
from edge_sr.image import write_atomic
from edge_sr.manifest import Calibration
from edge_sr.spec import Component, Precision

__all__ = [
    "ComponentPlan",
    "Layers",
    "Plan",
    "make_plan",
    "read_layers",
    "read_plan",
    "with_exclusions",
    "write_plan",
]

Layers = Mapping[Component, list[Layer]]

UNSEEN = 1.0  # the range of a tensor that was zero throughout: any will do


@dataclass(frozen=True)
class ComponentPlan:
    """What INT8 means for one graph.

    Attributes:
        layers: Names of the layers that run in INT8, in the graph's order.
        excluded: Layers that do not, each with its reason.
        scales: The step of INT8 for every activation that those layers read or write, a number FP16 holds.
    """

    layers: tuple[str, ...]
    excluded: dict[str, str]
    scales: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """A plan for the graphs of a bundle.

    Attributes:
        method: How ranges were chosen, a name of `calibration.ranges.METHODS`.
        facts: Of the recording that they were chosen from.
        components: One a graph.
    """

    method: str
    facts: Facts
    components: dict[Component, ComponentPlan]

    def record(self) -> Calibration:
        """What the bundle's manifest says of it."""
        facts = self.facts
        excluded = {
            f"{c}/{name}": why for c, plan in self.components.items() for name, why in plan.excluded.items()
        }
        return Calibration(
            method=self.method,
            set_digest=facts.set_digest,
            images_asked=facts.images_asked,
            images_used=facts.images_used,
            sampler=facts.sampler,
            steps=facts.steps or None,
            timesteps=facts.timesteps,
            seed=facts.seed,
            excluded=excluded,
        )


def make_plan(bundle: Bundle, recording: Recording, *, method: str, exclude: bool = True) -> Plan:
    """A plan by rule, before sensitivity is measured.

    Args:
        bundle: What was recorded.
        recording: Where the ranges come from.
        method: How they are chosen.
        exclude: Whether to leave out what the rules leave out; without, every layer is quantised.

    Raises:
        CalibrationError: The recording is of another bundle, or the method is unknown.
    """
    recording.check_bundle(bundle)
    components = {}
    for component in bundle.manifest.components:
        model = read_graph(bundle.graph(component, Precision.FP32).path)
        layers = find_layers(model)
        excluded = default_exclusions(model, layers, component) if exclude else {}
        scales = _scales(recording, component, layers, method)
        components[component] = _component_plan(layers, excluded, scales)
    return Plan(method, recording.facts, components)


def read_layers(bundle: Bundle) -> dict[Component, list[Layer]]:
    """The layers of a bundle's FP32 graphs."""
    graphs = {c: bundle.graph(c, Precision.FP32) for c in bundle.manifest.components}
    return {c: find_layers(read_graph(graph.path)) for c, graph in graphs.items()}


def with_exclusions(plan: Plan, layers: Layers, excluded: Mapping[Component, Mapping[str, str]]) -> Plan:
    """The plan with other exclusions.

    Raises:
        CalibrationError: A name is no layer's.
    """
    components = {}
    for component, chosen in excluded.items():
        if unknown := set(chosen) - {layer.name for layer in layers[component]}:
            raise CalibrationError(f"{component} has no layers {', '.join(sorted(unknown))}")
        old = plan.components[component]
        components[component] = _component_plan(layers[component], dict(chosen), old.scales)
    return replace(plan, components=plan.components | components)


def write_plan(path: Path, plan: Plan) -> None:
    """Writes a plan as JSON.

    Raises:
        OutputError: The file cannot be written.
    """
    content = asdict(plan)
    content["components"] = {str(c): asdict(p) for c, p in plan.components.items()}
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def read_plan(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        CalibrationError: It is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts = content["facts"] | {"timesteps": tuple(content["facts"]["timesteps"])}
        components = {
            Component(name): ComponentPlan(tuple(p["layers"]), dict(p["excluded"]), dict(p["scales"]))
            for name, p in content["components"].items()
        }
        if set(map(str, components)) != set(facts["graphs"]):
            raise ValueError(f"it has {', '.join(components)}, recorded were {', '.join(facts['graphs'])}")
        return Plan(content["method"], Facts(**facts), components)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{path} is no calibration plan: {error}") from error


def _component_plan(layers: list[Layer], excluded: dict[str, str], scales: dict[str, float]) -> ComponentPlan:
    return ComponentPlan(
        tuple(layer.name for layer in layers if layer.name not in excluded), excluded, scales
    )


def _scales(recording: Recording, component: Component, layers: list[Layer], method: str) -> dict[str, float]:
    """The scale of every tensor that a layer touches, of excluded layers too: they may yet be taken in."""
    scales = {}
    for tensor in touched(layers):
        histogram = recording.histograms[component].get(tensor)
        is_zero = histogram is not None and not histogram.upper
        amax = UNSEEN if is_zero else choose_range(recording.distribution(component, tensor), method)
        scales[tensor] = float(scale_for(amax))
    return scales
