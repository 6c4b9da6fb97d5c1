"""The schedule without torch: what any sampler must satisfy, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sr.errors import ScheduleError
from edge_sr.schedule import (
    NO_CLIP,
    NOISES,
    SAMPLERS,
    Array,
    Combination,
    NoiseSchedule,
    Schedule,
    apply_step,
    build_schedule,
    coefficients,
    combinations,
    timesteps,
)

OFFERED = combinations()
OFFERED_IDS = ["-".join(map(str, c)) for c in OFFERED]
each_combination = pytest.mark.parametrize("offered", OFFERED, ids=OFFERED_IDS)
COSINE = NoiseSchedule("cosine")
ZERO_SNR = NoiseSchedule("cosine", zero_terminal_snr=True)


def noise_of(offered: Combination, total: int = 1000) -> NoiseSchedule:
    return NoiseSchedule(offered.noise, total, zero_terminal_snr=offered.zero_terminal_snr)


def build(offered: Combination, steps: int = 10, **options: Any) -> Schedule:
    names: dict[str, Any] = {
        "sampler": offered.sampler,
        "prediction": offered.prediction,
        "spacing": offered.spacing,
    }
    return build_schedule(noise_of(offered), steps=steps, **names, **options)


def perfect_output(prediction: str, x: Array, x0: Array, alpha_bar: float) -> Array:
    """What a model that knows x0 would return for x."""
    epsilon: Array = (x - math.sqrt(alpha_bar) * x0) / math.sqrt(1.0 - alpha_bar)
    velocity: Array = math.sqrt(alpha_bar) * epsilon - math.sqrt(1.0 - alpha_bar) * x0
    return {"epsilon": epsilon, "v_prediction": velocity, "sample": x0}[prediction]


def run_perfect_model(schedule: Schedule, offered: Combination, x0: Array, rng: np.random.Generator) -> Array:
    table = noise_of(offered).alphas_bar()
    x: Array = schedule.initial_signal * x0 + schedule.initial_sigma * rng.standard_normal(x0.shape)
    previous: Array | None = None
    for step in schedule.steps:
        output = perfect_output(offered.prediction, x, x0, float(table[step.timestep]))
        noise = rng.standard_normal(x0.shape) if step.c else None
        x, previous = apply_step(step, x, model_out=output, noise=noise, x0_previous=previous)
    return x


@each_combination
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_perfect_model_ends_at_its_clean_latent(offered: Combination, steps: int) -> None:
    rng = np.random.default_rng(0)
    x0 = rng.uniform(-1.0, 1.0, (2, 3))
    x = run_perfect_model(build(offered, steps), offered, x0, rng)
    # 1 / sqrt(alpha_bar) is up to 2e4 for cosine, so rounding shows at 1e-11. LCM keeps c_skip of x: 7e-6.
    # DPM-Solver++ keeps 2**-12 of x where alpha_bar is 0, which only a run of one step shows.
    stands_for_zero = offered.sampler == "dpmpp_2m" and offered.zero_terminal_snr and steps == 1
    tolerance = 1e-3 if stands_for_zero else 5e-5 if offered.sampler == "lcm" else 1e-9
    np.testing.assert_allclose(x, x0, rtol=0, atol=tolerance)


@each_combination
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_every_coefficient_is_finite_in_float32(offered: Combination, steps: int) -> None:
    table = coefficients(build(offered, steps))
    assert table.shape == (steps, 7)
    assert table.dtype == np.float32
    assert np.isfinite(table).all()


@each_combination
def test_the_last_step_is_deterministic_and_needs_no_history(offered: Combination) -> None:
    last = build(offered).steps[-1]
    assert last.c == 0.0
    assert last.d == 0.0


@each_combination
def test_the_first_step_needs_no_history(offered: Combination) -> None:
    assert build(offered).steps[0].d == 0.0


@each_combination
def test_a_partial_start_noises_its_input_to_the_level_of_the_first_step(offered: Combination) -> None:
    schedule = build(offered, 5, start=0.5)
    alpha_bar = noise_of(offered).alphas_bar()[schedule.steps[0].timestep]
    assert schedule.steps[0].timestep < 500
    assert schedule.initial_signal**2 == pytest.approx(alpha_bar, rel=1e-12)
    assert schedule.initial_sigma**2 == pytest.approx(1.0 - alpha_bar, rel=1e-12)


def test_a_full_run_starts_from_noise_alone() -> None:
    schedule = build_schedule(COSINE, sampler="ddim", prediction="v_prediction", steps=5)
    assert (schedule.initial_signal, schedule.initial_sigma) == (0.0, 1.0)


@pytest.mark.parametrize("offered", [c for c in OFFERED if c.sampler == "ddpm"], ids=str)
def test_ddpm_is_ddim_with_eta_1(offered: Combination) -> None:
    ddpm = coefficients(build(offered, 25))
    ddim = coefficients(build(offered._replace(sampler="ddim"), 25, eta=1.0))
    # Two forms of one number, each rounded to float32.
    np.testing.assert_allclose(ddpm, ddim, rtol=1e-6, atol=1e-7)


def test_the_first_step_of_dpmpp_2m_is_ddim() -> None:
    dpm, ddim = (
        build_schedule(COSINE, sampler=name, prediction="v_prediction", steps=10)
        for name in ("dpmpp_2m", "ddim")
    )
    assert dpm.steps[0] == ddim.steps[0]
    assert dpm.steps[1] != ddim.steps[1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_total_variance_of_a_run_on_pure_noise_stays_bounded(sampler: str) -> None:
    """With x0 = 0 always predicted, what is left of x after each step has at most unit variance."""
    schedule = build_schedule(COSINE, sampler=sampler, prediction="sample", steps=20)
    variance = 1.0
    for step in schedule.steps:
        variance = step.a**2 * variance + step.c**2
        assert variance <= 1.0 + 1e-12


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_noise_level_whatever_its_eta(eta: float) -> None:
    schedule = build_schedule(COSINE, sampler="ddim", prediction="sample", steps=20, eta=eta)
    table = COSINE.alphas_bar()
    for step, after in itertools.pairwise(schedule.steps):
        sigma_2 = (step.a**2) * (
            1.0 - table[step.timestep]
        ) + step.c**2  # of x when epsilon has unit variance
        assert sigma_2 == pytest.approx(1.0 - table[after.timestep], rel=1e-10)


@given(total=st.integers(2, 2000), data=st.data(), spacing=st.sampled_from(["trailing", "leading"]))
def test_timesteps_fall_strictly_within_the_chain(total: int, data: st.DataObject, spacing: str) -> None:
    steps = data.draw(st.integers(1, total))
    visited = timesteps(total, steps, spacing=spacing)
    assert len(visited) == steps
    assert all(later < earlier for earlier, later in itertools.pairwise(visited))
    assert 0 <= visited[-1] <= visited[0] <= total - 1


@given(total=st.integers(2, 2000), data=st.data())
def test_trailing_starts_at_the_noisiest_timestep_and_leading_ends_at_0(
    total: int, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(1, total))
    assert timesteps(total, steps)[0] == total - 1
    assert timesteps(total, steps, spacing="leading")[-1] == 0


def test_timesteps_follow_the_published_table() -> None:
    """Lin et al. 2023, table 2, for T = 1000 and 10 steps, counted from 0 instead of 1."""
    assert timesteps(1000, 10) == (999, 899, 799, 699, 599, 499, 399, 299, 199, 99)
    assert timesteps(1000, 10, spacing="leading") == (900, 800, 700, 600, 500, 400, 300, 200, 100, 0)


def test_an_offset_moves_every_timestep_of_leading_spacing() -> None:
    plain = timesteps(1000, 10, spacing="leading")
    assert timesteps(1000, 10, spacing="leading", offset=1) == tuple(t + 1 for t in plain)
    assert timesteps(1000, 10, spacing="leading", offset=99)[0] == 999


@pytest.mark.parametrize("steps", [1, 3, 1000])
def test_every_offset_keeps_the_number_of_steps(steps: int) -> None:
    most = 999 - timesteps(1000, steps, spacing="leading")[0]
    for offset in {0, min(1, most), most}:
        visited = timesteps(1000, steps, spacing="leading", offset=offset)
        assert (len(visited), visited[-1]) == (steps, offset)


def test_ddim_can_end_at_the_first_noise_level() -> None:
    schedule = build_schedule(
        COSINE, sampler="ddim", prediction="sample", steps=5, spacing="leading", offset=1, end="first"
    )
    kept, last = COSINE.alphas_bar(), schedule.steps[-1]
    # x = signal * x0 + sigma * epsilon, before and after: here for x0 = 1 and epsilon = 1.
    x = math.sqrt(kept[1]) + math.sqrt(1 - kept[1])
    assert last.a * x + last.b == pytest.approx(math.sqrt(kept[0]) + math.sqrt(1 - kept[0]), rel=1e-12)


def test_a_partial_start_spreads_its_steps_over_its_part_of_the_chain() -> None:
    assert timesteps(1000, 4, start=0.4) == (399, 299, 199, 99)


def test_lcm_visits_only_timesteps_of_its_distillation() -> None:
    for steps, original in ((4, None), (8, 50), (7, 20)):
        schedule = build_schedule(
            COSINE, sampler="lcm", prediction="epsilon", steps=steps, original_inference_steps=original
        )
        visited = [step.timestep for step in schedule.steps]
        assert visited[0] == 999
        assert all((t + 1) % (1000 // (original or 50)) == 0 for t in visited)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("total", [2, 300, 1000, 2000])
def test_alpha_bar_falls_and_ends_at_zero_only_when_asked(
    name: str, zero_terminal_snr: bool, total: int
) -> None:
    table = NoiseSchedule(name, total, zero_terminal_snr=zero_terminal_snr).alphas_bar()
    assert table.shape == (total,)
    assert table.dtype == np.float64
    assert (np.diff(table) < 0).all()
    assert table[0] < 1.0
    assert (table[-1] == 0.0) == zero_terminal_snr


def test_zero_terminal_snr_keeps_the_first_noise_level() -> None:
    plain, rescaled = (NoiseSchedule("linear", zero_terminal_snr=zero).alphas_bar() for zero in (False, True))
    assert rescaled[0] == pytest.approx(plain[0], rel=1e-14)


def test_cosine_is_the_published_curve_until_its_betas_are_capped() -> None:
    """Nichol & Dhariwal 2021, eq. 17: alpha_bar at t is f((t + 1) / T) / f(0)."""
    curve = np.cos((np.arange(1, 1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = curve / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    # Near the end the curve itself loses digits to cancellation; the last beta is the capped one.
    np.testing.assert_allclose(COSINE.alphas_bar()[:-1], expected[:-1], rtol=1e-8)
    assert COSINE.alphas_bar()[-1] == pytest.approx(expected[-2] * 0.001, rel=1e-6)


def test_dpmpp_2m_stays_finite_where_the_signal_is_zero() -> None:
    first, second, *_ = build_schedule(ZERO_SNR, sampler="dpmpp_2m", prediction="sample", steps=10).steps
    signal = math.sqrt(ZERO_SNR.alphas_bar()[second.timestep])
    # The limit of alpha_bar -> 0 is b = signal; 2**-24 stands for 0, and so it is off by sqrt(2**-24).
    assert first.b == pytest.approx(signal, abs=2.0**-12)
    assert abs(second.d) < 0.2


def test_clip_bounds_the_clean_latent_and_reaches_the_table() -> None:
    schedule = build_schedule(COSINE, sampler="ddim", prediction="sample", steps=3, clip=0.5)
    x = np.zeros((2, 2))
    _, x0 = apply_step(schedule.steps[0], x, model_out=np.full((2, 2), 7.0))
    assert (x0 == 0.5).all()
    assert (coefficients(schedule)[:, 6] == 0.5).all()


def test_no_clip_is_infinite_in_a_step_and_finite_in_the_table() -> None:
    schedule = build_schedule(COSINE, sampler="ddim", prediction="sample", steps=3)
    assert all(step.clip == math.inf for step in schedule.steps)
    assert (coefficients(schedule)[:, 6] == np.float32(NO_CLIP)).all()


def test_a_step_in_float32_stays_in_float32() -> None:
    step = build_schedule(COSINE, sampler="lcm", prediction="epsilon", steps=2).steps[0]
    x = np.ones((1, 2), dtype=np.float32)
    x_next, x0 = apply_step(step, x, model_out=x, noise=x)
    assert x_next.dtype == x0.dtype == np.float32


def test_a_step_that_adds_noise_refuses_to_go_without_it() -> None:
    step = build_schedule(COSINE, sampler="ddpm", prediction="epsilon", steps=2).steps[0]
    with pytest.raises(ScheduleError, match="noise"):
        apply_step(step, np.ones(2), model_out=np.ones(2))


def test_a_multistep_step_refuses_to_go_without_its_history() -> None:
    step = build_schedule(COSINE, sampler="dpmpp_2m", prediction="epsilon", steps=4).steps[1]
    with pytest.raises(ScheduleError, match="x0_previous"):
        apply_step(step, np.ones(2), model_out=np.ones(2))


def test_a_noise_schedule_survives_json() -> None:
    assert NoiseSchedule(**json.loads(json.dumps(dataclasses.asdict(ZERO_SNR)))) == ZERO_SNR


def test_what_is_listed_is_what_is_built() -> None:
    """Every product of valid names is either listed or refused."""
    offered = set(combinations())
    for sampler, prediction, noise, spacing, zero in itertools.product(
        SAMPLERS, ("epsilon", "v_prediction", "sample"), NOISES, ("trailing", "leading"), (False, True)
    ):
        wanted = Combination(sampler, prediction, noise, spacing, zero)
        try:
            build(wanted)
        except ScheduleError as error:
            assert error.hint
            assert wanted not in offered
        else:
            assert wanted in offered


GOOD: dict[str, Any] = {"sampler": "ddim", "prediction": "v_prediction", "steps": 10}


@pytest.mark.parametrize(
    ("noise", "change", "says"),
    [
        (COSINE, {"sampler": "euler"}, "'euler'.*ddpm, ddim, dpmpp_2m, lcm"),
        (COSINE, {"prediction": "v"}, "'v'.*epsilon, v_prediction, sample"),
        (COSINE, {"spacing": "linspace"}, "'linspace'.*trailing, leading"),
        (COSINE, {"steps": 0}, "1..1000.*got 0"),
        (COSINE, {"steps": 1001}, "1..1000.*got 1001"),
        (COSINE, {"steps": 26, "start": 0.025}, "1..25 .*got 26"),
        (COSINE, {"start": 0.0}, "start.*got 0.0"),
        (COSINE, {"start": 1.5}, "start.*got 1.5"),
        (COSINE, {"eta": 1.1}, "eta.*got 1.1"),
        (COSINE, {"eta": math.nan}, "eta.*got nan"),
        (COSINE, {"eta": 0.5, "sampler": "ddpm"}, "eta=0.5 means nothing to ddpm"),
        (COSINE, {"clip": 0.0}, "clip.*got 0.0"),
        (COSINE, {"original_inference_steps": 50}, "means nothing to ddim"),
        (COSINE, {"offset": 1}, "offset=1 means nothing to trailing"),
        (COSINE, {"offset": 100, "spacing": "leading"}, "offset must be in 0..99, got 100"),
        (COSINE, {"end": "dirty"}, "'dirty'.*clean, first"),
        (COSINE, {"end": "first", "sampler": "ddpm"}, "end=first means nothing to ddpm"),
        (COSINE, {"sampler": "lcm", "original_inference_steps": 0}, "original_inference_steps.*got 0"),
        (COSINE, {"sampler": "lcm", "original_inference_steps": 30}, "divide 1000, got 30"),
        (COSINE, {"sampler": "lcm", "steps": 51}, "1..50 .*got 51"),
        (COSINE, {"sampler": "lcm", "spacing": "leading"}, "leading spacing with lcm"),
        (COSINE, {"sampler": "dpmpp_2m", "spacing": "leading"}, "leading spacing with dpmpp_2m"),
        (ZERO_SNR, {"prediction": "epsilon"}, "zero-terminal SNR with epsilon"),
        (ZERO_SNR, {"spacing": "leading"}, "zero-terminal SNR with leading"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_met_is_refused_with_a_hint(
    noise: NoiseSchedule, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ScheduleError, match=says) as caught:
        build_schedule(noise, **(GOOD | change))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "sigmoid"}, "'sigmoid'.*linear, scaled_linear, cosine"),
        ({"name": "cosine", "timesteps": 1}, "at least 2, got 1"),
        ({"name": "linear", "beta_start": 0.0}, "beta_start=0.0"),
        ({"name": "linear", "beta_start": 0.03}, "beta_start=0.03, beta_end=0.02"),
        ({"name": "linear", "beta_end": 1.0}, "beta_end=1.0"),
        ({"name": "linear", "beta_end": 0.9}, "alpha_bar must end above"),
    ],
    ids=str,
)
def test_a_noise_schedule_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ScheduleError, match=says) as caught:
        NoiseSchedule(**fields)
    assert caught.value.hint
