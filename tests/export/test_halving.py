"""Distillation's arithmetic, in float64: targets against the paper's own formula, and what a student becomes.

The teacher is exact: for Gaussian data the best guess at x0 is a straight line in x, known in closed form.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edge_sr.errors import UsageError
from edge_sr.schedule import PREDICTIONS, NoiseSchedule, Schedule, build_schedule, timesteps
from export.halving import (
    Denoise,
    check_nested,
    distillation_loss,
    follow,
    halvings,
    student_prediction,
    targets,
)

Values = npt.NDArray[np.float64]
NOISE = NoiseSchedule(
    "linear", timesteps=400
)  # of which epsilon, too, can be turned into x0 to the last digit
ALPHAS_BAR = NOISE.alphas_bar()
SPREAD = 0.7  # of the data around what the condition says
SHAPE = (5, 3, 4, 4)


def schedule(prediction: str, steps: int) -> Schedule:
    return build_schedule(NOISE, sampler="ddim", prediction=prediction, steps=steps)


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONDITION = noise(1)


def guess(x: Values, mean: Values, alpha_bar: float) -> Values:
    """E[x0 | x] where x0 ~ N(mean, SPREAD^2) and x = signal * x0 + sigma * noise: conjugate Gaussians."""
    signal, variance = math.sqrt(alpha_bar), 1 - alpha_bar
    return (signal * SPREAD**2 * x + variance * mean) / (alpha_bar * SPREAD**2 + variance)


def exact(prediction: str) -> Denoise:
    """The best denoiser of that data, in the words of a prediction type."""

    def denoise(x: torch.Tensor, at: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        rows = []
        for row, t, mean in zip(x.numpy(), at.tolist(), condition.numpy(), strict=True):
            signal, sigma = math.sqrt(ALPHAS_BAR[t]), math.sqrt(1 - ALPHAS_BAR[t])
            x0 = guess(row, mean, ALPHAS_BAR[t])
            epsilon = (row - signal * x0) / sigma
            rows.append(
                {"sample": x0, "epsilon": epsilon, "v_prediction": signal * epsilon - sigma * x0}[prediction]
            )
        return torch.from_numpy(np.stack(rows))

    return denoise


def papers_targets(x: Values, mean: Values, steps: int) -> tuple[list[Values], Values]:
    """Salimans and Ho 2022, algorithm 2, line by line, with their z, alpha and sigma; and where it ends."""
    visited = [*timesteps(NOISE.timesteps, 2 * steps), None]
    alphas = [1.0 if t is None else math.sqrt(ALPHAS_BAR[t]) for t in visited]
    sigmas = [0.0 if t is None else math.sqrt(1 - ALPHAS_BAR[t]) for t in visited]
    found, z_t = [], x
    for i in range(0, 2 * steps, 2):
        guessed = guess(z_t, mean, alphas[i] ** 2)
        z_mid = alphas[i + 1] * guessed + sigmas[i + 1] / sigmas[i] * (z_t - alphas[i] * guessed)
        guessed = guess(z_mid, mean, alphas[i + 1] ** 2)
        z_end = alphas[i + 2] * guessed + sigmas[i + 2] / sigmas[i + 1] * (z_mid - alphas[i + 1] * guessed)
        ratio = sigmas[i + 2] / sigmas[i]
        found.append((z_end - ratio * z_t) / (alphas[i + 2] - ratio * alphas[i]))
        z_t = z_end
    return found, z_t


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [8, 4, 2, 1])
def test_targets_are_those_of_the_paper_whatever_the_teacher_predicts(prediction: str, steps: int) -> None:
    x = 0.6 * noise()
    states = follow(exact(prediction), x, CONDITION, schedule(prediction, 2 * steps))
    wanted, end = papers_targets(x.numpy(), CONDITION.numpy(), steps)
    got = targets(states, schedule("v_prediction", steps))
    for mine, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(states[-1].numpy(), end, rtol=0, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_student_that_hits_its_targets_lands_where_its_teacher_does(prediction: str) -> None:
    states = follow(exact("v_prediction"), noise(), CONDITION, schedule("v_prediction", 8))
    student = schedule(prediction, 4)
    for step, x0, before, after in zip(
        student.steps, targets(states, student), states[:-1:2], states[2::2], strict=True
    ):
        torch.testing.assert_close(step.a * before + step.b * x0, after, rtol=0, atol=1e-12)


class Lines(nn.Module):
    """A student with room for the answer: a straight line in x and in the condition at every timestep."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(NOISE.timesteps, 2, dtype=torch.float64))

    def forward(self, x: torch.Tensor, at: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        of_x, of_condition = self.weights[at][:, :, None, None, None].unbind(1)
        return of_x * x + of_condition * condition


def train(student: Lines, states: list[torch.Tensor], learnt: Schedule) -> float:
    """Minimises the loss, which is a parabola, and returns what is left of it."""
    optimiser = torch.optim.LBFGS(
        student.parameters(),
        max_iter=500,
        tolerance_grad=1e-14,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = distillation_loss(student, states, CONDITION, student=learnt, alphas_bar=ALPHAS_BAR)
        loss.backward()
        return loss

    optimiser.step(closure)
    return closure().item()


def test_a_trained_student_makes_in_one_step_what_its_teacher_makes_in_two_down_to_a_single_step() -> None:
    teacher: Denoise = exact("v_prediction")
    for steps in halvings(8, 1):
        taught, learnt = (schedule("v_prediction", count) for count in (2 * steps, steps))
        student = Lines()
        assert train(student, follow(teacher, noise(), CONDITION, taught), learnt) < 1e-13
        with torch.no_grad():
            unseen = 0.6 * noise(2)  # another draw: what was learnt is the map, not the images
            wanted = follow(teacher, unseen, CONDITION, taught)[::2]
            got = follow(student, unseen, CONDITION, learnt)
        for mine, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
        teacher = student.requires_grad_(requires_grad=False)
    _, end = papers_targets(unseen.numpy(), CONDITION.numpy(), 4)
    np.testing.assert_allclose(got[-1].numpy(), end, rtol=0, atol=1e-5)


def test_the_undistilled_model_does_not_make_in_one_step_what_it_makes_in_eight() -> None:
    denoise = exact("v_prediction")
    one, eight = (follow(denoise, noise(), CONDITION, schedule("v_prediction", n))[-1] for n in (1, 8))
    assert (one - eight).abs().max() > 0.1


def test_the_loss_of_a_student_that_predicts_v_is_the_plain_error_of_v() -> None:
    states = follow(exact("v_prediction"), noise(), CONDITION, schedule("v_prediction", 8))
    learnt = schedule("v_prediction", 4)
    student = Lines()
    nn.init.normal_(student.weights, generator=torch.Generator().manual_seed(3))
    loss = distillation_loss(student, states, CONDITION, student=learnt, alphas_bar=ALPHAS_BAR)
    errors = []
    for step, x, x0 in zip(learnt.steps, states[:-1:2], targets(states, learnt), strict=True):
        signal, sigma = math.sqrt(ALPHAS_BAR[step.timestep]), math.sqrt(1 - ALPHAS_BAR[step.timestep])
        v = (signal * x - x0) / sigma  # from x = signal * x0 + sigma * epsilon
        out = student(x, torch.full((len(x),), step.timestep), CONDITION)
        errors.append((out - v).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-9, atol=0)


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 20))
def test_steps_that_divide_the_chain_are_every_other_step_of_a_teacher(
    halved: int, steps: int, times: int
) -> None:
    count = steps * 2**halved
    total = 2 * count * times
    assert timesteps(total, count) == timesteps(total, 2 * count)[::2]


def test_steps_that_rounding_moves_off_the_teachers_are_refused() -> None:
    odd = NoiseSchedule("cosine", timesteps=113)
    teacher, student = (
        build_schedule(odd, sampler="ddim", prediction="v_prediction", steps=count) for count in (12, 6)
    )
    with pytest.raises(UsageError, match="of the teacher do not hold the student's"):
        check_nested(teacher, student)


@pytest.mark.parametrize(("teacher", "student", "chain"), [(8, 1, (4, 2, 1)), (8, 4, (4,)), (12, 3, (6, 3))])
def test_a_chain_halves_until_it_is_there(teacher: int, student: int, chain: tuple[int, ...]) -> None:
    assert halvings(teacher, student) == chain


@pytest.mark.parametrize(("teacher", "student"), [(20, 1), (8, 3), (8, 8), (4, 8), (1, 1)])
def test_a_chain_that_halving_does_not_make_is_refused(teacher: int, student: int) -> None:
    with pytest.raises(UsageError, match=f"{teacher} steps, halved again and again, are never {student}"):
        halvings(teacher, student)


def test_a_student_of_an_epsilon_teacher_predicts_v() -> None:
    assert [student_prediction(name) for name in ("epsilon", "v_prediction", "sample")] == [
        "v_prediction", "v_prediction", "sample",
    ]  # fmt: skip
