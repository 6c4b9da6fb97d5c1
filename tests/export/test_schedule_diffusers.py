"""The schedule against diffusers: the same trajectory, in float64, for every combination that is offered.

diffusers makes its noise tables in float32, and its multistep solver works in float32, whatever it is given.
Here each of its modules sees a torch whose float32 is float64, so that what is compared is the mathematics.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers import (
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_lcm,
)

from edge_sr.schedule import (
    NOISES,
    Array,
    Combination,
    NoiseSchedule,
    Schedule,
    apply_step,
    build_schedule,
    combinations,
)

pytestmark = [
    pytest.mark.torch,
    # torch's own, when diffusers makes a numpy array of a tensor
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

OFFERED = combinations()
TOTAL = 1000
SHAPE = (2, 3, 4, 4)
PEERS = {
    "ddpm": scheduling_ddpm.DDPMScheduler,
    "ddim": scheduling_ddim.DDIMScheduler,
    "dpmpp_2m": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
    "lcm": scheduling_lcm.LCMScheduler,
}
each_combination = pytest.mark.parametrize("offered", OFFERED, ids=["-".join(map(str, c)) for c in OFFERED])


class Float64Torch(ModuleType):
    """torch, except that float32 is float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@pytest.fixture(autouse=True)
def _diffusers_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (scheduling_ddpm, scheduling_ddim, scheduling_dpmsolver_multistep, scheduling_lcm):
        monkeypatch.setattr(module, "torch", Float64Torch("torch"))


def noise_of(offered: Combination) -> NoiseSchedule:
    return NoiseSchedule(offered.noise, TOTAL, zero_terminal_snr=offered.zero_terminal_snr)


def build(offered: Combination, steps: int, **options: Any) -> Schedule:
    return build_schedule(
        noise_of(offered),
        sampler=offered.sampler,
        prediction=offered.prediction,
        spacing=offered.spacing,
        steps=steps,
        **options,
    )


def peer_of(offered: Combination, *, clip: bool = False, **options: Any) -> Any:
    """The diffusers scheduler of the same name, clipping x0 to -1..1 or not at all."""
    if offered.sampler == "dpmpp_2m":  # its only clipping is by a quantile, which this maximum pins to 1
        clipping = {"thresholding": clip, "sample_max_value": 1.0, "final_sigmas_type": "zero"}
    else:
        clipping = {"clip_sample": clip, "clip_sample_range": 1.0}
    return PEERS[offered.sampler](
        num_train_timesteps=TOTAL,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule={"cosine": "squaredcos_cap_v2"}.get(offered.noise, offered.noise),
        prediction_type=offered.prediction,
        timestep_spacing=offered.spacing,
        rescale_betas_zero_snr=offered.zero_terminal_snr,
        **clipping,
        **options,
    )


def set_timesteps(peer: Any, **options: Any) -> None:
    """Sets the peer's timesteps, and undoes the one cast to float32 that numpy does for it."""
    peer.set_timesteps(**options)
    if hasattr(peer, "sigmas"):
        kept = peer.alphas_cumprod[peer.timesteps]
        peer.sigmas = torch.cat([torch.sqrt((1.0 - kept) / kept), torch.zeros(1, dtype=torch.float64)])


def fake_model(x: Array, timestep: int) -> Array:
    """Any smooth function of x and t that mixes the pixels."""
    mixed = 0.7 * x + 0.3 * np.roll(x, 1, axis=-1)
    return np.asarray(np.tanh(mixed + math.sin(timestep)))


def noise_at(timestep: int) -> Any:
    """The noise that a peer draws from generator_at(timestep)."""
    return torch.randn(SHAPE, generator=generator_at(timestep), dtype=torch.float64)


def generator_at(timestep: int) -> Any:
    return torch.Generator().manual_seed(timestep)


def our_trajectory(schedule: Schedule, x: Array) -> list[Array]:
    visited: list[Array] = []
    previous: Array | None = None
    for step in schedule.steps:
        noise = noise_at(step.timestep).numpy()
        output = fake_model(x, step.timestep)
        x, previous = apply_step(step, x, model_out=output, noise=noise, x0_previous=previous)
        visited.append(x)
    return visited


def peer_trajectory(peer: Any, x: Array, **options: Any) -> list[Array]:
    visited: list[Array] = []
    for timestep in peer.timesteps.tolist():
        output = torch.from_numpy(fake_model(x, timestep))
        generator = generator_at(timestep)
        result = peer.step(output, timestep, torch.from_numpy(x), generator=generator, **options)
        x = result.prev_sample.numpy()
        visited.append(x)
    return visited


def assert_same(ours: list[Array], theirs: list[Array]) -> None:
    """To 1e-6 of each latent's largest value: x0 from epsilon reaches 1e4 where alpha_bar is 2e-9."""
    assert len(ours) == len(theirs)
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert mine.dtype == other.dtype == np.float64
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(mine / scale, other / scale, rtol=0, atol=1e-6, err_msg=f"step {index}")


def first_latent() -> Array:
    return np.random.default_rng(0).standard_normal(SHAPE)


def compare(offered: Combination, steps: int, *, clip: bool = False, eta: float = 0.0) -> None:
    peer = peer_of(offered, clip=clip)
    set_timesteps(peer, num_inference_steps=steps)
    schedule = build(offered, steps, eta=eta, clip=1.0 if clip else None)
    assert [step.timestep for step in schedule.steps] == peer.timesteps.tolist()
    options: dict[str, Any] = {}
    if offered.sampler == "ddim":
        options = {"eta": eta, "use_clipped_model_output": True}
    assert_same(our_trajectory(schedule, first_latent()), peer_trajectory(peer, first_latent(), **options))


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("total", [300, 1000])
def test_the_noise_table_is_that_of_diffusers(name: str, zero_terminal_snr: bool, total: int) -> None:
    betas = {"cosine": "squaredcos_cap_v2"}.get(name, name)
    peer = scheduling_ddim.DDIMScheduler(
        num_train_timesteps=total, beta_schedule=betas, rescale_betas_zero_snr=zero_terminal_snr
    )
    ours = NoiseSchedule(name, total, zero_terminal_snr=zero_terminal_snr).alphas_bar()
    # They multiply the table up once more; 1 - beta of a beta near 1 costs them digits.
    np.testing.assert_allclose(ours, peer.alphas_cumprod.numpy(), rtol=1e-9, atol=1e-18)


@each_combination
@pytest.mark.parametrize("steps", [1, 5, 25])
def test_a_trajectory_is_that_of_diffusers(offered: Combination, steps: int) -> None:
    compare(offered, steps)


@each_combination
def test_a_clipped_trajectory_is_that_of_diffusers(offered: Combination) -> None:
    compare(offered, 10, clip=True)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("offered", [c for c in OFFERED if c.sampler == "ddim"], ids=str)
def test_a_noisy_ddim_trajectory_is_that_of_diffusers(offered: Combination, eta: float) -> None:
    compare(offered, 10, eta=eta)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_loop_that_begins_at_an_offset_and_ends_at_the_first_level_is_that_of_diffusers(eta: float) -> None:
    """As Stable Diffusion is run: steps_offset=1, set_alpha_to_one=False."""
    offered = Combination("ddim", "v_prediction", "scaled_linear", "leading", False)
    peer = peer_of(offered, steps_offset=1, set_alpha_to_one=False)
    set_timesteps(peer, num_inference_steps=7)
    schedule = build(offered, 7, eta=eta, offset=1, end="first")
    assert [step.timestep for step in schedule.steps] == peer.timesteps.tolist()
    assert_same(our_trajectory(schedule, first_latent()), peer_trajectory(peer, first_latent(), eta=eta))


@pytest.mark.parametrize("offered", [c for c in OFFERED if c.sampler in ("ddpm", "dpmpp_2m", "lcm")], ids=str)
def test_steps_that_do_not_divide_the_chain_agree_with_diffusers(offered: Combination) -> None:
    compare(offered, 7)


@pytest.mark.parametrize(
    "offered",
    [c for c in OFFERED if c.sampler == "ddim" and c.spacing == "trailing" and not c.zero_terminal_snr],
    ids=str,
)
def test_ddim_over_uneven_steps_is_the_first_order_solver_of_diffusers(offered: Combination) -> None:
    """Their DDIM steps by T // steps there, past the timesteps it visits; their DPM-Solver++ does not."""
    peer = peer_of(offered._replace(sampler="dpmpp_2m"), solver_order=1)
    set_timesteps(peer, num_inference_steps=7)
    ours = our_trajectory(build(offered, 7), first_latent())
    assert_same(ours, peer_trajectory(peer, first_latent()))


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m"])
def test_a_partial_start_is_a_run_over_the_same_timesteps_in_diffusers(sampler: str) -> None:
    offered = Combination(sampler, "v_prediction", "cosine", "trailing", False)
    schedule = build(offered, 8, start=0.4)
    peer = peer_of(offered)
    set_timesteps(peer, timesteps=[step.timestep for step in schedule.steps])
    clean, noise = np.full(SHAPE, 0.5), first_latent()
    x = schedule.initial_signal * clean + schedule.initial_sigma * noise
    theirs = peer.add_noise(torch.from_numpy(clean), torch.from_numpy(noise), peer.timesteps[:1])
    np.testing.assert_allclose(x, theirs.numpy(), rtol=1e-12)
    assert_same(our_trajectory(schedule, x), peer_trajectory(peer, x))


@pytest.mark.parametrize(
    ("steps", "original", "start"), [(4, 50, 1.0), (4, 50, 0.5), (7, 40, 1.0), (3, 20, 0.25)]
)
def test_lcm_visits_the_timesteps_of_diffusers(steps: int, original: int, start: float) -> None:
    offered = Combination("lcm", "epsilon", "scaled_linear", "trailing", False)
    peer = peer_of(offered)
    set_timesteps(peer, num_inference_steps=steps, original_inference_steps=original, strength=start)
    schedule = build(offered, steps, original_inference_steps=original, start=start)
    assert [step.timestep for step in schedule.steps] == peer.timesteps.tolist()
    assert_same(our_trajectory(schedule, first_latent()), peer_trajectory(peer, first_latent()))
