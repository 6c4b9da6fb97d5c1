"""The reverse-diffusion loop as data: every sampler becomes a tuple of seven-number steps, in numpy float64.

    x0     = clip(p * x + q * model_out)                 the predicted clean latent
    x_next = a * x + b * x0 + c * noise + d * x0_previous

Symbols of Ho et al. 2020: T is the number of training timesteps, t one of 0..T-1, alpha_bar_t the part of
signal variance left at t, so that x_t = sqrt(alpha_bar_t) * x0 + sqrt(1 - alpha_bar_t) * epsilon. A step goes
from one visited timestep to the next, whichever that is, and the last one to alpha_bar = 1, the clean latent;
DDIM can be told to end at alpha_bar_0 instead (diffusers' set_alpha_to_one=False).
(diffusers' DDIM goes to t - T // steps: with trailing spacing, the same only where steps divides T.)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sr.errors import ScheduleError

__all__ = [
    "ENDS",
    "NOISES",
    "NO_CLIP",
    "PREDICTIONS",
    "SAMPLERS",
    "SPACINGS",
    "Combination",
    "NoiseSchedule",
    "Schedule",
    "Step",
    "apply_step",
    "build_schedule",
    "coefficients",
    "combinations",
    "timesteps",
]

Array: TypeAlias = npt.NDArray[np.floating[Any]]

NOISES = ("linear", "scaled_linear", "cosine")
SAMPLERS = ("ddpm", "ddim", "dpmpp_2m", "lcm")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
SPACINGS = ("trailing", "leading")
ENDS = ("clean", "first")
NO_CLIP = 1e30  # what a graph, whose clip is always finite, is given for "do not clip"

_MIN_ALPHA_BAR = 1e-20  # below it an epsilon step's 1 / sqrt(alpha_bar) leaves float32 little to work with
_COSINE_OFFSET = 0.008  # s in Nichol & Dhariwal 2021, eq. 17
_COSINE_MAX_BETA = 0.999  # the same, section 3.2
_DPM_ZERO_ALPHA_BAR = 2.0**-24  # diffusers' stand-in for a terminal 0, whose log-SNR would be infinite
_LCM_SIGMA_DATA = 0.5  # Luo et al. 2023, the released consistency distillation
_LCM_TIMESTEP_SCALING = 10.0  # the same
_LCM_ORIGINAL_STEPS = 50  # the same


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise each training timestep holds; every field is a JSON scalar.

    Attributes:
        name: One of NOISES. 'cosine' takes no notice of beta_start and beta_end.
        timesteps: T, at least 2.
        beta_start: Noise variance added at t = 0, in (0, 1).
        beta_end: Noise variance added at t = T - 1, in [beta_start, 1).
        zero_terminal_snr: Whether the table is rescaled so that t = T - 1 is pure noise.

    Raises:
        ScheduleError: An unknown name, or a number outside its range.
    """

    name: str
    timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check_name("noise schedule", self.name, NOISES)
        _check(self.timesteps >= 2, f"timesteps must be at least 2, got {self.timesteps}", "1000 is usual")
        in_order = 0.0 < self.beta_start <= self.beta_end < 1.0
        got = f"got beta_start={self.beta_start}, beta_end={self.beta_end}"
        _check(in_order, f"betas must be 0 < beta_start <= beta_end < 1, {got}", "1e-4 and 0.02 are usual")
        left = float(np.prod(1.0 - self._betas()))
        no_signal = f"alpha_bar must end above {_MIN_ALPHA_BAR}, it ends at {left:.1e}"
        _check(left >= _MIN_ALPHA_BAR, no_signal, "lower beta_end, or take fewer timesteps")

    def alphas_bar(self) -> npt.NDArray[np.float64]:
        """The signal variance left at each timestep: (T,) float64, strictly decreasing, in [0, 1)."""
        table = np.cumprod(1.0 - self._betas(), dtype=np.float64)
        return _to_zero_terminal_snr(table) if self.zero_terminal_snr else table

    def _betas(self) -> Array:
        """(T,) of Ho et al. 2020, section 4; Rombach et al. 2022 (scaled); Nichol & Dhariwal 2021, eq. 17."""
        if self.name == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.timesteps)
        if self.name == "scaled_linear":
            return np.linspace(math.sqrt(self.beta_start), math.sqrt(self.beta_end), self.timesteps) ** 2
        fraction = np.arange(self.timesteps + 1) / self.timesteps
        signal = np.cos((fraction + _COSINE_OFFSET) / (1.0 + _COSINE_OFFSET) * math.pi / 2.0) ** 2
        return np.asarray(np.minimum(1.0 - signal[1:] / signal[:-1], _COSINE_MAX_BETA))


@dataclass(frozen=True)
class Step:
    """One pass of the loop; the module's docstring says what p, q, a, b, c and d multiply.

    Attributes:
        timestep: Row of the time embedding, 0..T-1.
        clip: Largest magnitude of x0, in latent units; math.inf clips nothing.
    """

    timestep: int
    p: float
    q: float
    a: float
    b: float
    c: float = 0.0
    d: float = 0.0
    clip: float = math.inf


@dataclass(frozen=True)
class Schedule:
    """A whole run: x_init = initial_signal * x_start + initial_sigma * noise, then each step in turn.

    Attributes:
        steps: Timesteps strictly decreasing; none where there is no loop.
        initial_signal: 0 for a run from pure noise, where no x_start is needed.
        initial_sigma: 1 for a run from pure noise.
    """

    steps: tuple[Step, ...]
    initial_signal: float = 0.0
    initial_sigma: float = 1.0


class Combination(NamedTuple):
    """One offered combination, in the words that NoiseSchedule and build_schedule take."""

    sampler: str
    prediction: str
    noise: str
    spacing: str
    zero_terminal_snr: bool


class _Level(NamedTuple):
    """A noise level: sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""

    signal: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """Half the log of the signal-to-noise ratio: lambda in Lu et al. 2022."""
        return math.log(self.signal / self.sigma)


_CLEAN = _Level(1.0, 0.0)


def combinations() -> tuple[Combination, ...]:
    """Every combination that build_schedule accepts."""
    every = itertools.product(SAMPLERS, PREDICTIONS, NOISES, SPACINGS, (False, True))
    return tuple(c for c in map(Combination._make, every) if _conflict(c) is None)


def timesteps(
    total: int, steps: int, *, spacing: str = "trailing", start: float = 1.0, offset: int = 0
) -> tuple[int, ...]:
    """Which training timesteps a run visits, strictly decreasing (Lin et al. 2023, table 2).

    Args:
        total: T, the number of training timesteps.
        steps: How many to visit, 1..start * T.
        spacing: 'trailing' begins at the noisiest timestep, 'leading' ends at timestep 0.
        start: Fraction of the chain to visit, in (0, 1], as in SDEdit (Meng et al. 2022).
        offset: What 'leading' adds to every timestep (diffusers' steps_offset); 0 for 'trailing'.

    Raises:
        ScheduleError: An unknown spacing, or a number outside its range.
    """
    _check_name("spacing", spacing, SPACINGS)
    length = _visited(total, steps, start)
    _check_offset(offset, total, steps, length, spacing)
    if spacing == "leading":
        return tuple(range((steps - 1) * (length // steps) + offset, -1, -(length // steps)))[:steps]
    # Rounding in the floats of arange may leave one value too many, never one too few.
    ends = np.round(np.arange(length, 0, -length / steps)[:steps])
    return tuple(int(end) - 1 for end in ends)


def build_schedule(
    noise_schedule: NoiseSchedule,
    *,
    sampler: str,
    prediction: str,
    steps: int,
    spacing: str = "trailing",
    eta: float = 0.0,
    clip: float | None = None,
    start: float = 1.0,
    offset: int = 0,
    end: str = "clean",
    original_inference_steps: int | None = None,
) -> Schedule:
    """The steps of one sampler over one noise schedule.

    Args:
        noise_schedule: What the model was trained with.
        sampler: One of SAMPLERS. 'dpmpp_2m' is second-order but for its first and last step.
        prediction: What the model was trained to return, one of PREDICTIONS.
        steps: Model calls, 1..T.
        spacing: One of SPACINGS.
        eta: Share of the ancestral noise that DDIM adds back, in [0, 1]; 0 for every other sampler.
        clip: Largest magnitude of the predicted x0, above 0. The noise estimate is then taken from the
            clipped x0 (diffusers' use_clipped_model_output=True).
        start: Fraction of the chain to run, in (0, 1]; below 1 the run begins from a noised x_start.
        offset: What 'leading' spacing adds to every timestep.
        end: Where the last step goes, one of ENDS: the clean latent, or, with 'ddim' alone, the noise level
            of timestep 0, as models are run that were trained with diffusers' set_alpha_to_one=False.
        original_inference_steps: For 'lcm' alone: timesteps it was distilled at; 50 if None.

    Raises:
        ScheduleError: A combination that is not offered, or a number outside its range.
    """
    zero_terminal_snr, total = noise_schedule.zero_terminal_snr, noise_schedule.timesteps
    _check_request(Combination(sampler, prediction, noise_schedule.name, spacing, zero_terminal_snr))
    _check_numbers(sampler, eta=eta, clip=clip, original_steps=original_inference_steps)
    _check_name("end", end, ENDS)
    _check(end == "clean" or sampler == "ddim", f"end={end} means nothing to {sampler}", "use ddim")
    if sampler == "lcm":
        original_steps = _LCM_ORIGINAL_STEPS if original_inference_steps is None else original_inference_steps
        visited = _lcm_timesteps(total, steps, original_steps=original_steps, start=start)
    else:
        visited = timesteps(total, steps, spacing=spacing, start=start, offset=offset)
    zero = _DPM_ZERO_ALPHA_BAR if sampler == "dpmpp_2m" else 0.0
    levels = _levels(noise_schedule.alphas_bar(), visited, zero=zero, end=end)
    limit = math.inf if clip is None else clip
    table = tuple(
        Step(t, *_prediction(prediction, level), *update, clip=limit)
        for t, level, update in zip(visited, levels, _updates(sampler, levels, visited, eta), strict=False)
    )
    return Schedule(table) if start == 1.0 else Schedule(table, levels[0].signal, levels[0].sigma)


def coefficients(schedule: Schedule) -> npt.NDArray[np.float32]:
    """The table an engine reads: (steps, 7) float32, p, q, a, b, c, d and clip, finite (NO_CLIP for none)."""
    rows = [(s.p, s.q, s.a, s.b, s.c, s.d, min(s.clip, NO_CLIP)) for s in schedule.steps]
    return np.asarray(rows, dtype=np.float32)


def apply_step(
    step: Step, x: Array, *, model_out: Array, noise: Array | None = None, x0_previous: Array | None = None
) -> tuple[Array, Array]:
    """One step in numpy, the reference that every backend is compared with.

    Args:
        step: The numbers to apply.
        x: The current latent, any shape, float32 or float64; the result has its dtype.
        model_out: What the model returned at step.timestep, shaped as x.
        noise: Standard normal, shaped as x; may be None where c == 0.
        x0_previous: The x0 of the step before, shaped as x; may be None where d == 0.

    Returns:
        x_next and x0, both shaped as x.

    Raises:
        ScheduleError: A missing noise or x0_previous.
    """
    x0 = np.clip(step.p * x + step.q * model_out, -step.clip, step.clip)
    x_next = step.a * x + step.b * x0
    for weight, term, name in ((step.c, noise, "noise"), (step.d, x0_previous, "x0_previous")):
        if weight != 0.0:
            if term is None:
                raise ScheduleError(f"the step at {step.timestep} needs {name}", hint=f"pass {name}")
            x_next = x_next + weight * term
    return x_next, x0


def _lcm_timesteps(total: int, steps: int, *, original_steps: int, start: float) -> tuple[int, ...]:
    """Evenly spaced among those of the distillation, which end at T - 1 (Luo et al. 2023, section 4.3)."""
    known = f"original_inference_steps must be in 1..{total} and divide {total}, got {original_steps}"
    _check(1 <= original_steps <= total and total % original_steps == 0, known, "a divisor of T")
    length = _visited(original_steps, steps, start)
    stride = total // original_steps
    picks = np.floor(np.linspace(0, length, num=steps, endpoint=False)).astype(int)
    return tuple((length - int(pick)) * stride - 1 for pick in picks)


def _to_zero_terminal_snr(alphas_bar: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shifts and scales sqrt(alpha_bar) to end at 0, its first value kept (Lin et al. 2023, algorithm 1)."""
    signal = np.sqrt(alphas_bar)
    rescaled = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return np.asarray(rescaled**2, dtype=np.float64)


def _levels(
    alphas_bar: npt.NDArray[np.float64], visited: tuple[int, ...], *, zero: float, end: str
) -> list[_Level]:
    """The noise level at each visited timestep, and then at the end; zero stands for an alpha_bar of 0."""
    kept = [float(alphas_bar[t]) or zero for t in (*visited, 0)]
    levels = [_Level(math.sqrt(k), math.sqrt(1.0 - k)) for k in kept]
    return levels if end == "first" else [*levels[:-1], _CLEAN]


def _prediction(prediction: str, now: _Level) -> tuple[float, float]:
    """(p, q): the x0 that a model's output stands for (Salimans & Ho 2022, section 4 and appendix D)."""
    if prediction == "epsilon":
        return 1.0 / now.signal, -now.sigma / now.signal
    return (now.signal, -now.sigma) if prediction == "v_prediction" else (0.0, 1.0)


def _updates(
    sampler: str, levels: list[_Level], visited: tuple[int, ...], eta: float
) -> list[tuple[float, float, float, float]]:
    """(a, b, c, d) of every step."""
    pairs = list(itertools.pairwise(levels))
    if sampler == "ddpm":
        return [_ddpm(now, after) for now, after in pairs]
    if sampler == "ddim":
        return [_ddim(now, after, eta) for now, after in pairs]
    if sampler == "lcm":
        return [_lcm(t, after) for t, (_, after) in zip(visited, pairs, strict=True)]
    history = [None, *levels[:-2]]
    return [_dpmpp_2m(before, now, after) for before, (now, after) in zip(history, pairs, strict=True)]


def _ddpm(now: _Level, after: _Level) -> tuple[float, float, float, float]:
    """Posterior mean and variance ('fixed_small') between any two timesteps (Ho et al. 2020, eq. 6 and 7)."""
    ratio = (now.signal / after.signal) ** 2  # alpha_t of a respaced chain
    a = math.sqrt(ratio) * (after.sigma / now.sigma) ** 2
    b = after.signal * (1.0 - ratio) / now.sigma**2
    c = after.sigma / now.sigma * math.sqrt(1.0 - ratio)
    return a, b, c, 0.0


def _ddim(now: _Level, after: _Level, eta: float) -> tuple[float, float, float, float]:
    """Song et al. 2021, eq. 12 and 16, with epsilon = (x - signal * x0) / sigma."""
    injected = eta * math.sqrt(1.0 - (now.signal / after.signal) ** 2) / now.sigma  # sigma_t / after.sigma
    a = after.sigma * math.sqrt(max(0.0, 1.0 - injected**2)) / now.sigma
    return a, after.signal - a * now.signal, after.sigma * injected, 0.0


def _lcm(timestep: int, after: _Level) -> tuple[float, float, float, float]:
    """Multistep consistency sampling (Song et al. 2023, eq. 5, algorithm 1; scalings of Luo et al. 2023)."""
    scaled = timestep * _LCM_TIMESTEP_SCALING
    norm = math.hypot(scaled, _LCM_SIGMA_DATA)
    c_skip, c_out = (_LCM_SIGMA_DATA / norm) ** 2, scaled / norm
    return after.signal * c_skip, after.signal * c_out, after.sigma, 0.0


def _dpmpp_2m(before: _Level | None, now: _Level, after: _Level) -> tuple[float, float, float, float]:
    """Lu et al. 2022 (DPM-Solver++), algorithm 2, midpoint; first order, which is DDIM, at either end."""
    a, b, _, _ = _ddim(now, after, 0.0)
    if before is None or after is _CLEAN:
        return a, b, 0.0, 0.0
    inverse_2r = 0.5 * (after.half_log_snr - now.half_log_snr) / (now.half_log_snr - before.half_log_snr)
    return a, b * (1.0 + inverse_2r), 0.0, -b * inverse_2r


def _conflict(wanted: Combination) -> tuple[str, str] | None:
    """Why a combination of known names is not offered, and what to do instead; None if it is offered."""
    if wanted.zero_terminal_snr and wanted.prediction == "epsilon":
        return (
            "zero-terminal SNR with epsilon prediction: at a signal of 0 it says nothing of x0",
            "use v_prediction or sample, or a noise schedule without zero_terminal_snr",
        )
    if wanted.zero_terminal_snr and wanted.spacing == "leading":
        return "zero-terminal SNR with leading spacing never visits T - 1", "use trailing spacing"
    if wanted.spacing == "leading" and wanted.sampler in ("dpmpp_2m", "lcm"):
        return f"leading spacing with {wanted.sampler} is not offered", "use trailing spacing"
    return None


def _check_request(wanted: Combination) -> None:
    """Raises ScheduleError for an unknown name or a combination that is not offered."""
    _check_name("sampler", wanted.sampler, SAMPLERS)
    _check_name("prediction", wanted.prediction, PREDICTIONS)
    _check_name("spacing", wanted.spacing, SPACINGS)
    conflict = _conflict(wanted)
    if conflict is not None:
        raise ScheduleError(conflict[0], hint=conflict[1])


def _check_numbers(sampler: str, *, eta: float, clip: float | None, original_steps: int | None) -> None:
    """Raises ScheduleError for a number outside its range, or given to a sampler that has no use for it."""
    _check(0.0 <= eta <= 1.0, f"eta must be in 0..1, got {eta}", "0 is deterministic, 1 is ancestral")
    _check(eta == 0.0 or sampler == "ddim", f"eta={eta} means nothing to {sampler}", "use ddim, or eta 0")
    _check(clip is None or clip > 0.0, f"clip must be above 0, got {clip}", "None clips nothing")
    misplaced = f"original_inference_steps={original_steps} means nothing to {sampler}"
    _check(original_steps is None or sampler == "lcm", misplaced, "use lcm, or leave it out")


def _visited(total: int, steps: int, start: float) -> int:
    """How many of total timesteps lie within start; raises ScheduleError where steps do not fit in them."""
    _check(0.0 < start <= 1.0, f"start must be above 0 and at most 1, got {start}", "1 runs the whole chain")
    length = round(total * start)
    message = f"steps must be in 1..{length} (start {start} of {total} timesteps), got {steps}"
    _check(1 <= steps <= length, message, "take fewer steps, or start from more noise")
    return length


def _check_offset(offset: int, total: int, steps: int, length: int, spacing: str) -> None:
    """Raises ScheduleError for an offset that spacing has no use for, or that passes T - 1."""
    _check(offset == 0 or spacing == "leading", f"offset={offset} means nothing to {spacing}", "use leading")
    most = total - 1 - (steps - 1) * (length // steps)
    _check(
        0 <= offset <= most, f"offset must be in 0..{most}, got {offset}", "0 is usual, 1 with some models"
    )


def _check_name(kind: str, name: str, valid: tuple[str, ...]) -> None:
    _check(name in valid, f"unknown {kind} {name!r}", f"one of {', '.join(valid)}")


def _check(is_valid: bool, message: str, hint: str) -> None:
    if not is_valid:
        raise ScheduleError(message, hint=hint)
