"""Progressive distillation (Salimans and Ho 2022, algorithm 2): one step of a student for two of its teacher.

With the a and b of the student's step (see `edge_sr.schedule`), the x0 that it should have predicted follows
from where the teacher began and where two of its steps ended:

    x0_target = (x_after_two - a * x) / b

The loss is its squared error times SNR + 1 (section 4 there): that of v, where the student predicts v.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edge_sr.errors import UsageError
from edge_sr.schedule import Schedule

Denoise: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""x, timesteps (N,) and condition -> what the network predicts, shaped as x."""


def halvings(teacher_steps: int, student_steps: int) -> tuple[int, ...]:
    """The steps of each student in turn, such as 4, 2, 1 for 8 and 1.

    Raises:
        UsageError: Halving does not lead from one to the other.
    """
    chain = [teacher_steps]
    while chain[-1] > student_steps and chain[-1] % 2 == 0:
        chain.append(chain[-1] // 2)
    if len(chain) == 1 or chain[-1] != student_steps:
        raise UsageError(
            f"{teacher_steps} steps, halved again and again, are never {student_steps}",
            hint="--teacher-steps 8 --student-steps 1, for instance",
        )
    return tuple(chain[1:])


def check_nested(teacher: Schedule, student: Schedule) -> None:
    """Whether the student begins each step where its teacher begins every other.

    Raises:
        UsageError: Rounding to whole timesteps parts the two.
    """
    theirs, ours = ([step.timestep for step in schedule.steps] for schedule in (teacher, student))
    if theirs[::2] != ours:
        raise UsageError(
            f"the timesteps {theirs} of the teacher do not hold the student's {ours}",
            hint="take a number of steps that divides the timesteps of the model",
        )


def student_prediction(teacher: str) -> str:
    """What a student predicts: as its teacher, but v for epsilon, which at one step says nothing of x0."""
    return "v_prediction" if teacher == "epsilon" else teacher


def follow(
    denoise: Denoise, x: torch.Tensor, condition: torch.Tensor, schedule: Schedule
) -> list[torch.Tensor]:
    """Every state of a loop of DDIM with eta 0 and no clip, from x, the first, to the last."""
    states = [x]
    for step in schedule.steps:
        timesteps = torch.full((len(x),), step.timestep, device=x.device)
        x0 = step.p * x + step.q * denoise(x, timesteps, condition)
        x = step.a * x + step.b * x0
        states.append(x)
    return states


def targets(states: Sequence[torch.Tensor], student: Schedule) -> list[torch.Tensor]:
    """The x0 that each step of a student should predict.

    Args:
        states: What its teacher passes through in twice the steps: 2S + 1 of one shape.
        student: Its S steps.
    """
    ends = zip(student.steps, states[:-1:2], states[2::2], strict=True)
    return [(after - step.a * before) / step.b for step, before, after in ends]


def distillation_loss(
    denoise: Denoise,
    states: Sequence[torch.Tensor],
    condition: torch.Tensor,
    *,
    student: Schedule,
    alphas_bar: npt.NDArray[np.float64],
) -> torch.Tensor:
    """The mean of (SNR + 1) * (x0 - target)^2 over all steps of a student.

    Args:
        denoise: The student.
        states: What its teacher passes through, (N, L, h, w) each.
        condition: (N, K, h, w).
        student: Its S steps.
        alphas_bar: (T,), of the noise schedule.
    """
    steps, images = student.steps, len(condition)
    x, wanted = torch.cat(list(states[:-1:2])), torch.cat(targets(states, student))
    signal = torch.tensor([alphas_bar[step.timestep] for step in steps])
    table = torch.tensor([(step.p, step.q) for step in steps], dtype=torch.float64)
    table = torch.cat([table, 1 / (1 - signal[:, None])], dim=1)  # SNR + 1
    p, q, weight = table.to(x).repeat_interleave(images, dim=0)[:, :, None, None, None].unbind(1)
    timesteps = torch.tensor([step.timestep for step in steps], device=x.device).repeat_interleave(images)
    out = denoise(x, timesteps, condition.repeat(len(steps), 1, 1, 1))
    error = functional.mse_loss(p * x + q * out.to(x.dtype), wanted, reduction="none")
    return (weight * error).mean()
