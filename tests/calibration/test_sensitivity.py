"""What each layer costs, and which plan is chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from calibration.correction import Correction, corrected, fit, halves, judge
from calibration.errors import CalibrationError
from calibration.graph import read_graph
from calibration.images import CalibrationSet
from calibration.layers import find_layers
from calibration.plan import Plan, make_plan, read_layers, with_exclusions
from calibration.recording import Recording
from calibration.sensitivity import (
    ELEMENT_WORK,
    Candidate,
    Row,
    choose,
    layer_work,
    measure_layers,
    measure_plans,
)
from calibration.trial import Trials
from edge_sr.bundle import Bundle, write_manifest
from edge_sr.pipeline import make_schedule
from edge_sr.schedule import coefficients
from edge_sr.spec import Component, Precision
from tests.calibration.graphs import CHANNELS, SIDE, residual_graph


@pytest.fixture(scope="module")
def plan(shared_bundle: Bundle, recording: Recording) -> Plan:
    return make_plan(shared_bundle, recording, method="minmax")


@pytest.fixture(scope="module")
def trials(shared_bundle: Bundle, images: CalibrationSet) -> Trials:
    few = replace(images, names=images.names[:2], images=images.images[:2])
    return Trials(shared_bundle, few, preset="even", seed=0)


@pytest.fixture(scope="module")
def rows(trials: Trials, plan: Plan) -> list[Row]:
    return measure_layers(trials, plan)


def test_every_layer_is_measured_once(rows: list[Row], shared_bundle: Bundle) -> None:
    wanted = {(c, layer.name) for c, layers in read_layers(shared_bundle).items() for layer in layers}
    assert {(row.component, row.layer) for row in rows} == wanted
    assert len(rows) == len(wanted)


def test_the_most_harmful_layer_comes_first(rows: list[Row]) -> None:
    errors = [row.image_error for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0


def test_a_layer_of_the_decoder_leaves_the_latent_alone(rows: list[Row]) -> None:
    assert {row.latent_error for row in rows if row.component is Component.DECODER} == {0.0}


def test_shares_of_work_add_up(rows: list[Row]) -> None:
    assert sum(row.work_share for row in rows) == pytest.approx(1.0)


def test_work_is_the_number_of_multiplications() -> None:
    model = residual_graph()
    work = layer_work({Component.STEP: model}, {Component.STEP: find_layers(model)}, 5)
    assert work[Component.STEP, "conv1"] == 5 * SIDE**2 * CHANNELS**2 * 9
    assert work[Component.STEP, "first"] == 5 * SIDE**2 * CHANNELS * 9
    assert work[Component.STEP, "conv2.add"] == 5 * SIDE**2 * CHANNELS * ELEMENT_WORK


def test_plans_are_measured_and_their_reasons_carry_figures(
    trials: Trials, plan: Plan, rows: list[Row]
) -> None:
    candidates = {c.name: c for c in measure_plans(trials, plan, rows, truth=trials.run({}).images, rounds=1)}
    assert {"no exclusions", "by rule", "1 left out"} <= candidates.keys()
    everything = candidates[
        max(candidates, key=lambda name: sum(map(len, candidates[name].excluded.values())))
    ]
    assert everything.image_error < candidates["no exclusions"].image_error
    reasons = [why for found in candidates["by rule"].excluded.values() for why in found.values()]
    assert reasons and all("by rule: " in why and "gray levels" in why for why in reasons)
    assert all(c.psnr_loss_db is not None for c in candidates.values())


def test_the_fastest_plan_within_the_budget_is_chosen() -> None:
    plans = [
        Candidate(n, {}, error, 0.0, speed)
        for n, error, speed in (("a", 2.0, 3.0), ("b", 0.9, 2.0), ("c", 0.1, 1.0))
    ]
    assert choose(plans, 1.0).name == "b"
    assert choose(plans, 0.5).name == "c"


def test_a_budget_that_no_plan_meets_is_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"within 0\.1 gray levels: the best, only, has 2\.00"):
        choose([Candidate("only", {}, 2.0, 0.0, 3.0)], 0.1)


# The correction in the sampler's numbers.


def test_a_correction_of_nothing_changes_nothing(shared_bundle: Bundle) -> None:
    table = coefficients(make_schedule(shared_bundle, shared_bundle.diffusion.presets["even"]))
    same = Correction((1.0,) * len(table), (0.0,) * len(table))
    assert (corrected(table, same) == table).all()


def test_a_correction_is_fitted_and_judged_on_other_images(
    bundle: Bundle, images: CalibrationSet, recording: Recording
) -> None:
    diffusion = bundle.diffusion.model_copy(update={"clip": None})
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"diffusion": diffusion}))
    unclipped = Bundle.open(bundle.folder)
    plan = make_plan(unclipped, recording, method="minmax", exclude=False)
    to_fit, to_judge = halves(images)
    assert not set(to_fit.names) & set(to_judge.names)
    correction = fit(Trials(unclipped, to_fit, preset="even", seed=0), plan)
    assert correction.alpha == pytest.approx([1.0] * 4, abs=0.05)  # INT8 is close to FP32
    assert any(abs(alpha - 1) > 1e-5 for alpha in correction.alpha)
    verdict = judge(Trials(unclipped, to_judge, preset="even", seed=9), plan, correction)
    assert verdict.corrected_latent < 1.2 * verdict.plain_latent  # no worse but by chance


def test_a_clipped_prediction_cannot_be_corrected(trials: Trials, plan: Plan) -> None:
    with pytest.raises(CalibrationError, match="clipped"):
        fit(trials, plan)


def test_a_layer_alone_changes_less_than_all(trials: Trials, plan: Plan, rows: list[Row]) -> None:
    from calibration.quantize import emit

    bundle = trials.bundle
    graphs = {c: read_graph(bundle.graph(c, Precision.FP32).path) for c in Component}
    whole = with_exclusions(plan, read_layers(bundle), {c: {} for c in Component})
    outcome = trials.run({c: emit(m, whole.components[c], Precision.INT8) for c, m in graphs.items()})
    assert outcome.image_error(trials.run({})) > 0.5 * rows[0].image_error
