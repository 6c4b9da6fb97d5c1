"""Results as data: schema-versioned JSON with raw values, so that another reader can compute something else.

History of the formats:
    edge-sr/quality  1  first version
                     2  power spectrum and a second judge; version 1 opens as before
    edge-sr/loop     1  first version
    edge-sr/ladder   1  first version (see `benchmarks.ladder.records`)
    edge-sr/evidence 1  first version (see `benchmarks.evidence.records`)
    edge-sr/seams    1  first version (see `benchmarks.seams.records`)
    edge-sr/service  1  first version (see `benchmarks.service.records`)
    edge-sr/diagnostic 1  first version (see `benchmarks.diagnostic.records`)
    edge-sr/few-step 1  first version (see `benchmarks.few_step`)
    edge-sr/faults   1  first version (see `benchmarks.faults.records`)
    edge-sr/models   1  first version (see `benchmarks.models`)
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_sr.errors import OutputError
from edge_sr.image import write_atomic
from edge_sr.manifest import Preset

__all__ = [
    "BundleFacts",
    "Check",
    "DataFacts",
    "DiversityFacts",
    "Environment",
    "Estimate",
    "LoopResult",
    "QualityResult",
    "Record",
    "RowResult",
    "Statistics",
    "Timing",
    "check_writable",
    "save",
    "to_json",
]

NUMBERS = re.compile(r"\[\s+((?:-?[\d.eE+-]+,?\s+)+)\]")  # a list of numbers, spread over lines


class Record(BaseModel):
    """What every part of a result is: nothing unknown, nothing that is not a number, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Environment(Record):
    """Where and how a result was made.

    Attributes:
        cpu, cores, system: The machine; `cores` are those this process may use.
        threads: What the run was given.
        load: The one-minute load average when the run ended; the run's own work counts.
        versions: Of Python and the libraries.
        commit: The checkout's.
        command: Without paths.
    """

    cpu: str
    cores: int
    threads: int
    load: float | None
    system: str
    versions: dict[str, str]
    commit: str
    command: str


class BundleFacts(Record):
    """Which model, at which precision, on which backend."""

    name: str
    version: str
    digest: str
    precision: str
    backend: dict[str, str]


class DataFacts(Record):
    """Which images.

    Attributes:
        name: The folder's name.
        images: Their names, in the order of all per-image values.
        sha256: Over the pixels of all LR and HR images: two results with the same digest may be compared.
        degradation: How the LR images were made from the HR images or their originals, in words.
        operator: What reduces an output for the consistency with the LR image.
    """

    name: str
    images: tuple[str, ...]
    sha256: str
    degradation: str
    operator: str


class Statistics(Record):
    """A metric of a row.

    Attributes:
        mean: Over images, of the means over seeds.
        std: Over images, likewise; null for one image.
        seed_std: Over seeds, of the means over images: the noise that the choice of the seed makes.
    """

    mean: float
    std: float | None
    seed_std: float | None


class Estimate(Record):
    """A mean of per-image differences, with the bounds of its 95 % bootstrap interval over images."""

    mean: float
    low: float
    high: float


class RowResult(Record):
    """One line of the scoreboard.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        preset: How the loop ran, where it did.
        values: Metric -> one list a seed (one list alone where nothing is drawn) of one value an image.
        statistics: Metric -> what the table says.
        versus: Another row's key -> metric -> this row less that one.
    """

    key: str
    label: str
    note: str
    preset: Preset | None
    values: dict[str, tuple[tuple[float, ...], ...]]
    statistics: dict[str, Statistics]
    versus: dict[str, dict[str, Estimate]]


class DiversityFacts(Record):
    """Correlations of the spread over seeds with the error; see `benchmarks.summary.Diversity`."""

    values: dict[str, tuple[float, ...]]
    estimates: dict[str, Estimate]


class Check(Record):
    """A claim that this run supports or does not.

    Attributes:
        claim: In words.
        value, limit: What was measured, and what it is held against.
        holds: Whether the claim does.
    """

    claim: str
    value: float
    limit: float
    holds: bool


class QualityResult(Record):
    """The scoreboard of one bundle on one set of pairs.

    Attributes:
        features: SHA-256 of the second judge's weights; None where it was left out.
    """

    kind: Literal["edge-sr/quality"] = "edge-sr/quality"
    schema_version: Literal[1, 2] = 2
    environment: Environment
    bundle: BundleFacts
    data: DataFacts
    seeds: tuple[int, ...]
    bootstrap: dict[str, int]
    lpips: str | None
    features: str | None = None
    metrics: dict[str, str]
    rows: Annotated[tuple[RowResult, ...], Field(min_length=1)]
    diversity: DiversityFacts | None
    checks: tuple[Check, ...]
    notices: tuple[str, ...]


class Timing(Record):
    """Repeated measurements of one subject.

    Attributes:
        note: What is timed.
        seconds: Raw, in the order in which they were taken; those of one index ran one after the other.
        median, low, high: The median and the quartiles.
    """

    note: str
    seconds: tuple[float, ...]
    median: float
    low: float
    high: float


class LoopResult(Record):
    """What the loop costs beside its engine calls, and the whole beside eager torch."""

    kind: Literal["edge-sr/loop"] = "edge-sr/loop"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    preset: Preset
    image: tuple[int, int]
    loop: dict[str, Timing]
    upscale: dict[str, Timing]
    agreement: dict[str, float]
    peer: str
    checks: tuple[Check, ...]
    notices: tuple[str, ...]


def to_json(record: BaseModel) -> str:
    """A record as JSON, a list of numbers on one line."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    return NUMBERS.sub(lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def check_writable(out: Path) -> None:
    """Refuses a place for results before the work that fills it begins.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be made: {error.strerror or error}") from error
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"{out.parent} cannot be written", hint="name another place with --out FOLDER/NAME")


def save(out: Path, *, record: BaseModel, markdown: str, png: bytes | None = None) -> list[Path]:
    """Writes OUT.png, OUT.md and OUT.json, each whole or not at all; the JSON, which has all of it, last.

    Raises:
        OutputError: One of them could not be written.
    """
    parts = {".png": png, ".md": markdown.encode(), ".json": to_json(record).encode()}
    written = []
    for suffix, data in parts.items():
        if data is not None:
            written.append(out.with_name(out.name + suffix))
            write_atomic(written[-1], data)
    return written
