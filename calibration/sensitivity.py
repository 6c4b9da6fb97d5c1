"""What each layer costs in INT8, alone against FP32, and the fastest plan within a budget of error.

The error of a layer is measured where it counts, in the latent and the image at the end of the whole loop.
Errors of layers are nearly independent, so their squares add up: leaving out the layers with the most squared
error for their work is a greedy walk along the front of error and time. Plans on it are measured whole.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.errors import CalibrationError
from calibration.graph import Index, read_graph, shapes
from calibration.layers import Layer, find_layers
from calibration.plan import Plan, with_exclusions
from calibration.quantize import emit
from calibration.trial import Float, Outcome, Trials
from edge_sr.bundle import Bundle
from edge_sr.spec import Component, Precision

__all__ = ["Candidate", "Row", "choose", "layer_work", "measure_layers", "measure_plans"]

ELEMENT_WORK = 32  # multiplications that writing one element of a sum costs as much as, on a CPU
ROUNDS = 3
COUNTS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64)  # of layers left out, along the walk

Excluded = Mapping[Component, Mapping[str, str]]
Progress = Callable[[Iterable[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Row:
    """One layer in INT8 and all else in FP32.

    Attributes:
        component, layer, kind: Which.
        latent_error: Root mean square difference from FP32 in the latent, in its standard deviations.
        image_error: The same in the image, in gray levels of 255.
        speedup: How many times faster than FP32 an image is, on this machine, in the same run. A single layer
            gains less than the machine's noise, unless it is a large one.
        work_share: Its part of all multiplications of an image, the loop's repeated, from 0 to 1.
    """

    component: Component
    layer: str
    kind: str
    latent_error: float
    image_error: float
    speedup: float
    work_share: float


@dataclass(frozen=True)
class Candidate:
    """A plan, measured whole.

    Attributes:
        name: "no exclusions", "by rule", or how many layers were left out.
        excluded: What it leaves out, with the reasons.
        image_error, latent_error: As in `Row`.
        speedup: How many times faster than FP32, on this machine, in the same run.
        psnr_db, psnr_loss_db: Against true images, and how much less than FP32's; None without them.
    """

    name: str
    excluded: Excluded
    image_error: float
    latent_error: float
    speedup: float
    psnr_db: float | None = None
    psnr_loss_db: float | None = None


class _Graphs:
    """The FP32 graphs of a bundle with their layers, read once."""

    def __init__(self, bundle: Bundle, plan: Plan) -> None:
        self.plan = plan
        graphs = {c: bundle.graph(c, Precision.FP32) for c in bundle.manifest.components}
        self.models = {c: read_graph(graph.path) for c, graph in graphs.items()}
        self.layers = {c: find_layers(model) for c, model in self.models.items()}

    def only(self, component: Component, layer: str) -> dict[Component, Any]:
        """That layer in INT8."""
        others = {other.name: "" for other in self.layers[component] if other.name != layer}
        plan = with_exclusions(self.plan, self.layers, {component: others})
        return {component: emit(self.models[component], plan.components[component], Precision.INT8)}

    def without(self, excluded: Excluded) -> dict[Component, Any]:
        """All but those layers in INT8."""
        plan = with_exclusions(self.plan, self.layers, excluded)
        return {c: emit(model, plan.components[c], Precision.INT8) for c, model in self.models.items()}


def measure_layers(trials: Trials, plan: Plan, *, progress: Progress = iter) -> list[Row]:
    """Every layer alone, the most harmful first.

    Raises:
        CalibrationError: A graph cannot be made.
        BackendError: One cannot be run.
    """
    graphs = _Graphs(trials.bundle, plan)
    work = layer_work(graphs.models, graphs.layers, plan.facts.steps)
    total = sum(work.values())
    reference = trials.run({})
    rows = []
    for component, layer in progress([(c, layer) for c, layers in graphs.layers.items() for layer in layers]):
        outcome, speedup = _raced(trials, graphs.only(component, layer.name), 1)
        errors = outcome.latent_error(reference), outcome.image_error(reference)
        share = work[component, layer.name] / total
        rows.append(Row(component, layer.name, layer.kind, *errors, speedup, share))
    return sorted(rows, key=lambda row: -row.image_error)


def measure_plans(
    trials: Trials,
    plan: Plan,
    rows: list[Row],
    *,
    truth: tuple[Float, ...] | None = None,
    rounds: int = ROUNDS,
    progress: Progress = iter,
) -> list[Candidate]:
    """Plans along the walk, the plan by rule, and the one without exclusions, each whole.

    Args:
        trials: What they are measured on.
        plan: Has the scales, and the exclusions by rule.
        rows: From `measure_layers`.
        truth: True images, one for each of the trials'.
        rounds: Timings of each plan; the median counts.
        progress: Wraps the plans.
    """
    graphs = _Graphs(trials.bundle, plan)
    named: dict[str, Excluded] = {
        "no exclusions": {c: {} for c in plan.components},
        "by rule": _by_rule(plan, rows),
    }
    walk = _walk(rows)
    named |= {f"{n} left out": _reasons(walk[:n], rows) for n in COUNTS if 0 < n <= len(walk)}
    models = {name: graphs.without(excluded) for name, excluded in named.items()}
    reference = trials.run({})
    found = []
    for name in progress(list(named)):
        outcomes, speedup = _raced(trials, models[name], rounds)
        found.append(_candidate(name, named[name], outcomes, reference, speedup, truth))
    return found


def choose(candidates: list[Candidate], budget: float) -> Candidate:
    """The fastest plan whose images differ from FP32's by at most `budget` gray levels (root mean square).

    Raises:
        CalibrationError: None does.
    """
    within = [candidate for candidate in candidates if candidate.image_error <= budget]
    if not within:
        best = min(candidates, key=lambda candidate: candidate.image_error)
        raise CalibrationError(
            f"no plan is within {budget} gray levels: the best, {best.name}, has {best.image_error:.2f}",
            hint="raise --budget, or take another --method",
        )
    return max(within, key=lambda candidate: candidate.speedup)


def layer_work(
    models: Mapping[Component, Any], layers: Mapping[Component, list[Layer]], steps: int
) -> dict[tuple[Component, str], float]:
    """The multiplications of each layer for a tile, the loop's repeated; for a sum, its worth in them."""
    work = {}
    for component, model in models.items():
        sizes, index = shapes(model), Index(model)
        runs = steps if component is Component.STEP else 1
        for layer in layers[component]:
            work[component, layer.name] = float(runs * _work(layer, index, sizes))
    return work


def _work(layer: Layer, index: Index, sizes: Mapping[str, tuple[int, ...]]) -> int:
    written = int(np.prod(sizes[layer.node]))
    if layer.kind == "Add":
        return written * ELEMENT_WORK
    if layer.kind == "Conv":
        return written * int(np.prod(index.array(layer.weight).shape[1:]))
    return written * sizes[layer.inputs[0]][-1]  # a product of matrices


def _walk(rows: list[Row]) -> list[Row]:
    """Layers in the order in which they are left out: the most squared error for their work first."""
    return sorted(rows, key=lambda row: -(row.image_error**2) / max(row.work_share, 1e-9))


def _reasons(left_out: list[Row], rows: list[Row]) -> dict[Component, dict[str, str]]:
    """Why each of them is left out, as measured."""
    ranks = {(row.component, row.layer): rank for rank, row in enumerate(rows, 1)}
    excluded: dict[Component, dict[str, str]] = {row.component: {} for row in rows}
    for row in left_out:
        latent = f" and the latent by {row.latent_error:.4f}" if row.latent_error else ""
        excluded[row.component][row.layer] = (
            f"alone in INT8 it changes the image by {row.image_error:.3f} gray levels{latent} "
            f"(rank {ranks[row.component, row.layer]} of {len(rows)}), for {row.work_share:.2%} of the work"
        )
    return excluded


def _by_rule(plan: Plan, rows: list[Row]) -> dict[Component, dict[str, str]]:
    """The exclusions by rule, with what was measured of them."""
    ruled = {(c, name): why for c, p in plan.components.items() for name, why in p.excluded.items()}
    measured = _reasons([row for row in rows if (row.component, row.layer) in ruled], rows)
    return {c: {n: f"{ruled[c, n]}; {why}" for n, why in found.items()} for c, found in measured.items()}


def _raced(trials: Trials, models: Mapping[Component, Any], rounds: int) -> tuple[Outcome, float]:
    """What a plan gives, and how much faster than FP32 it is: both in turn, the median of the rounds."""
    ratios = []
    for _ in range(rounds):
        ours, theirs = trials.run(models), trials.run({})
        ratios.append(statistics.median(theirs.seconds) / statistics.median(ours.seconds))
    return ours, statistics.median(ratios)


def _candidate(
    name: str,
    excluded: Excluded,
    outcome: Outcome,
    reference: Outcome,
    speedup: float,
    truth: tuple[Float, ...] | None,
) -> Candidate:
    errors = outcome.image_error(reference), outcome.latent_error(reference)
    if truth is None:
        return Candidate(name, excluded, *errors, speedup)
    psnr = outcome.psnr(truth)
    return Candidate(name, excluded, *errors, speedup, psnr, reference.psnr(truth) - psnr)
