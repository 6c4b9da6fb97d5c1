"""The training loop that every network shares: EMA, checkpoints, curves, sample sheets, resume.

A run is a folder:

    checkpoint.pt   everything needed to go on, written whole at least once a minute
    weights.pt      the averaged weights and the configuration, written at every validation and at the end
    log.csv         one row a report; curve.png, the same as a picture
    samples/        a sheet of validation images for each validation

A killed run is resumed by the same command. Every random choice of iteration i depends on (seed, i) alone.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from edge_sr.errors import ConfigError, EdgeSRError, OutputError, UsageError
from edge_sr.image import encode_png, write_atomic

LOG = "log.csv"  # iteration, minutes, name, value
WEIGHTS = "weights.pt"
LOG_EVERY = 50  # iterations
VALIDATED = "val_"  # begins the name of a figure of the averaged model
Batch = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        out: The run's folder.
        iterations: Optimiser steps in all.
        minutes: Where above 0, the learning rate falls so that the run ends after this much training time,
            or after `iterations`, whichever comes first.
        learning_rate: Peak of a cosine that ends at a fiftieth, after `warmup` iterations.
        ema: Decay of the averaged weights.
        seed: Where every random choice comes from.
        device: "cpu" or "cuda"; on CUDA the forward pass runs in bf16.
        validate_every: Iterations between validations.
        checkpoint_every_s: Seconds between checkpoints, at least; 0 for one after every iteration.
        threads: CPU threads; 0 for torch's own choice.
    """

    out: Path
    iterations: int = 20000
    minutes: float = 0.0
    learning_rate: float = 4e-4
    warmup: int = 100
    ema: float = 0.999
    seed: int = 0
    device: str = "cpu"
    validate_every: int = 500
    checkpoint_every_s: float = 60.0
    threads: int = 0


class TrainingError(EdgeSRError):
    """A run that cannot go on."""


class Task(Protocol):
    """What is trained: a model, where its batches come from, its loss, and how it is judged."""

    model: nn.Module

    def config(self) -> dict[str, Any]:
        """The model's configuration as JSON values, stored beside the weights."""

    def batches(self, start: int) -> Generator[Batch, None, None]:
        """Batches `start`, `start` + 1, ... on the CPU; batch i depends on i alone."""

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, torch.Tensor]:
        """The terms, scalars; "loss" is what is minimised. progress: share of the run, in [0, 1]."""

    def validate(self, model: nn.Module) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
        """Figures of the averaged model and a sheet of images, (H, W) uint8."""


def fit(task: Task, options: TrainOptions) -> None:
    """Trains until done, resuming where a checkpoint is found.

    Raises:
        UsageError: CUDA is asked for and not there, or the folder holds a run of another configuration.
        TrainingError: The loss is no longer a number.
        OutputError: The folder cannot be written.
    """
    try:
        _Run(task, options).fit()
    except OSError as error:
        raise OutputError(f"{options.out} cannot be written: {error.strerror or error}") from error


def require_device(name: str) -> None:
    """Refuses a device that is not here.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here", hint="use --device cpu")


def load_weights(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The configuration and the averaged weights of a run.

    Raises:
        ConfigError: The folder holds no trained weights.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise ConfigError(f"no trained weights at {path}", hint="train first: python -m export --help")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return dict(saved["config"]), saved["weights"]
    except Exception as error:  # torch, zipfile and pickle have a dozen for damaged files
        raise ConfigError(f"{path} is damaged: {str(error).strip().splitlines()[0]}") from error


class _Run:
    """The state of one run between its first and its last iteration."""

    def __init__(self, task: Task, options: TrainOptions) -> None:
        require_device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        self.task, self.options = task, options
        self.device = torch.device(options.device)
        self.model = task.model.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(requires_grad=False).eval()
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=options.learning_rate, weight_decay=1e-4
        )
        self.iteration, self.trained_s, self.validated_at = 0, 0.0, -1
        (options.out / "samples").mkdir(parents=True, exist_ok=True)
        self._resume()

    def fit(self) -> None:
        """Runs to the end."""
        total = self.options.iterations
        saved_at = time.monotonic()
        with (
            tqdm(total=total, initial=self.iteration, disable=None, smoothing=0.05) as progress,
            closing(self.task.batches(self.iteration)) as batches,
        ):
            while self._progress() < 1.0:
                started = time.monotonic()
                terms = self._step(next(batches))
                self.trained_s += time.monotonic() - started
                self.iteration += 1
                progress.update()
                progress.set_postfix({k: f"{v:.4f}" for k, v in terms.items()}, refresh=False)
                self._report(terms)
                if time.monotonic() - saved_at >= self.options.checkpoint_every_s:
                    self._checkpoint()
                    saved_at = time.monotonic()
        if self.validated_at != self.iteration:  # killed between the last iteration and its validation
            self._log(self._validate())
        draw_curve(self.options.out / LOG, self.options.out / "curve.png")
        self._checkpoint()

    def _report(self, terms: dict[str, float]) -> None:
        """Writes what is due after an iteration, once."""
        is_due = self.iteration % self.options.validate_every == 0 or self._progress() >= 1.0
        if is_due:
            self._log(terms | self._validate())
            if self._progress() < 1.0:  # at the end it is drawn in any case
                draw_curve(self.options.out / LOG, self.options.out / "curve.png")
        elif self.iteration % LOG_EVERY == 0:
            self._log(terms)

    def _progress(self) -> float:
        """How much of the run is done, in [0, 1]."""
        by_time = self.trained_s / (60 * self.options.minutes) if self.options.minutes > 0 else 0.0
        return min(1.0, max(self.iteration / self.options.iterations, by_time))

    def _step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step."""
        progress = self._progress()
        warm = min(1.0, (self.iteration + 1) / self.options.warmup)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * warm * cosine
        batch = tuple(t.to(self.device, non_blocking=True) for t in batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            torch.manual_seed(self.options.seed * 1_000_003 + self.iteration)
            terms = self.task.loss(self.model, batch, progress=progress)
        values = {name: value.item() for name, value in terms.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"the loss is {values['loss']} at iteration {self.iteration}",
                hint="lower --learning-rate; the checkpoint is of before",
            )
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self._update_average()
        return values

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.options.ema, (1 + self.iteration) / (10 + self.iteration))
        averaged, current = list(self.average.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def _log(self, row: dict[str, float]) -> None:
        with (self.options.out / LOG).open("a", newline="") as file:
            writer = csv.writer(file)
            for name, value in row.items():
                writer.writerow([self.iteration, f"{self.trained_s / 60:.2f}", name, f"{value:.6g}"])

    def _validate(self) -> dict[str, float]:
        """Judges the averaged model and writes its weights; returns the figures as the log names them."""
        with torch.no_grad():
            figures, sheet = self.task.validate(self.average)
        tqdm.write(f"{self.iteration}: " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()))
        write_png(self.options.out / "samples" / f"{self.iteration:07d}.png", sheet)
        self._save(WEIGHTS, {"config": self.task.config(), "weights": self.average.state_dict()})
        self.validated_at = self.iteration
        return {f"{VALIDATED}{name}": value for name, value in figures.items()}

    def _checkpoint(self) -> None:
        state = {
            "config": self.task.config(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "trained_s": self.trained_s,
        }
        self._save("checkpoint.pt", state)

    def _save(self, name: str, state: dict[str, Any]) -> None:
        """Writes whole or not at all."""
        path = self.options.out / name
        temporary = path.with_suffix(".tmp")
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            temporary.unlink(missing_ok=True)
            raise OutputError(f"{path} cannot be written: {error}", hint="free some space") from error
        temporary.replace(path)

    def _resume(self) -> None:
        path = self.options.out / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["config"] != self.task.config():
            raise UsageError(
                f"{path} is of another configuration: {state['config']}, now {self.task.config()}",
                hint="give another --out, or remove that folder",
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration, self.trained_s = state["iteration"], state["trained_s"]
        self.validated_at = _cut_log(self.options.out / LOG, self.iteration)


def _cut_log(path: Path, iteration: int) -> int:
    """Drops the rows that a resumed run will write again; returns the last iteration that was validated."""
    if not path.is_file():
        return -1
    lines = [line.split(",") for line in path.read_text().splitlines()]
    rows = [row for row in lines if len(row) == 4 and int(row[0]) <= iteration]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{','.join(row)}\n" for row in rows))
    temporary.replace(path)
    return max((int(row[0]) for row in rows if row[2].startswith(VALIDATED)), default=-1)


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Writes an image, (H, W) uint8.

    Raises:
        OutputError: It cannot be written.
    """
    write_atomic(path, encode_png(image, text={}))


def draw_curve(log: Path, picture: Path) -> None:
    """Draws every figure of a log over the iterations, one small plot each."""
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[int, float]]] = {}
    with log.open(newline="") as file:
        for iteration, _, name, value in csv.reader(file):
            series.setdefault(name, []).append((int(iteration), float(value)))
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    for index, (name, points) in enumerate(sorted(series.items())):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.plot(*zip(*points, strict=True), linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=90)


def to_pixels(image: torch.Tensor) -> npt.NDArray[np.float64]:
    """(N, 1, H, W) in [-1, 1] -> (N, H, W) float64 in [0, 255], rounded as an 8-bit file would be."""
    scaled = (image[:, 0].float().cpu().double() + 1) * 127.5
    return np.asarray(scaled.round().clamp(0, 255).numpy())


def sheet(columns: list[torch.Tensor], *, rows: int) -> npt.NDArray[np.uint8]:
    """A contact sheet: one row an image, one column a version; LR images are enlarged by repetition.

    Args:
        columns: (N, 1, H, W) in [-1, 1] each.
        rows: Images to show.
    """
    side = max(c.shape[-1] for c in columns)
    blocks = []
    for column in columns:
        pixels = to_pixels(column[:rows]).astype(np.uint8)
        repeat = side // pixels.shape[-1]
        blocks.append(np.concatenate(list(pixels.repeat(repeat, axis=1).repeat(repeat, axis=2)), axis=0))
    return np.concatenate(blocks, axis=1)


def mean_psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean of the per-image PSNR in dB of images in [-1, 1], rounded to 8 bits."""
    error = np.square(to_pixels(a) - to_pixels(b)).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(255.0**2 / np.maximum(error, 1e-10))))
