"""What was seen while a bundle ran: histograms of every tensor that INT8 needs a range for.

A recording is one .npz file without pickles, written whole or not at all. It holds no image and no file name.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import CalibrationError
from calibration.histogram import Distribution, Histogram
from edge_sr.bundle import Bundle
from edge_sr.image import write_atomic
from edge_sr.spec import Component, Precision

__all__ = ["Facts", "Recording", "read_recording", "write_recording"]

VERSION = 1
FACTS = "facts"
PARTS = ("counts", "upper", "low", "high")


@dataclass(frozen=True)
class Facts:
    """How a recording was made.

    Attributes:
        version: Of the file's format.
        graphs: SHA-256 of the FP32 graph of each component.
        set_digest: SHA-256 over the decoded pixels of the images.
        images_asked, images_used: Their counts, which are equal.
        preset, sampler, steps, timesteps, noise_scale: The trajectory; no steps where there is no loop.
        seed: Of the first image's noise; each further image has the next one.
    """

    version: int
    graphs: dict[str, str]
    set_digest: str
    images_asked: int
    images_used: int
    preset: str | None
    sampler: str | None
    steps: int
    timesteps: tuple[int, ...]
    noise_scale: float | None
    seed: int


@dataclass(frozen=True)
class Recording:
    """Histograms by component and tensor; the step graph's have a row for every step."""

    facts: Facts
    histograms: dict[Component, dict[str, Histogram]]

    def distribution(self, component: Component, tensor: str) -> Distribution:
        """The magnitudes of a tensor over all steps.

        Raises:
            CalibrationError: The tensor was not recorded, or was zero throughout.
        """
        if tensor not in self.histograms[component]:
            raise CalibrationError(f"{component}: {tensor} was not recorded", hint="record again")
        try:
            return self.histograms[component][tensor].pooled()
        except CalibrationError as error:
            message = f"{component}, {tensor}: {error.message}"
            raise CalibrationError(message, hint="record real images") from error

    def check_bundle(self, bundle: Bundle) -> None:
        """Checks that this bundle's graphs are those that were recorded.

        Raises:
            CalibrationError: They are others.
        """
        again = "record again with this bundle"
        recorded, present = ", ".join(self.facts.graphs), ", ".join(bundle.manifest.components)
        if recorded != present:
            raise CalibrationError(f"the recording is of {recorded}, the bundle has {present}", hint=again)
        for component, sha256 in self.facts.graphs.items():
            found = bundle.graph(Component(component), Precision.FP32).sha256
            if found != sha256:
                raise CalibrationError(
                    f"the recording was made with another {component}: sha256 {sha256[:12]}..., "
                    f"the bundle has {found[:12]}...",
                    hint=again,
                )


def write_recording(path: Path, recording: Recording) -> None:
    """Writes a recording, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    arrays: dict[str, Any] = {FACTS: np.array(json.dumps(asdict(recording.facts)))}
    for component, histograms in recording.histograms.items():
        for tensor, histogram in histograms.items():
            arrays |= {f"{component}/{tensor}/{part}": np.asarray(getattr(histogram, part)) for part in PARTS}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_recording(path: Path) -> Recording:
    """Reads a recording.

    Raises:
        CalibrationError: The file is missing, damaged, or of another version.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(str(arrays.pop(FACTS)))
        recording = Recording(_facts(facts), _histograms(arrays, map(Component, facts["graphs"])))
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # numpy, zipfile and zlib have a dozen for damaged files
        raise CalibrationError(f"{path} is no recording: {error}", hint="record again") from error
    if recording.facts.version != VERSION:
        raise CalibrationError(f"{path} has version {recording.facts.version}, this code reads {VERSION}")
    return recording


def _facts(content: dict[str, Any]) -> Facts:
    known = {field.name for field in fields(Facts)}
    if set(content) != known:
        raise ValueError(f"its facts are {sorted(content)}, wanted {sorted(known)}")
    return Facts(**content | {"timesteps": tuple(content["timesteps"])})


def _histograms(
    arrays: dict[str, Any], components: Iterable[Component]
) -> dict[Component, dict[str, Histogram]]:
    found: dict[Component, dict[str, Histogram]] = {component: {} for component in components}
    for name in [name for name in arrays if name.endswith("/counts")]:
        component, tensor = name.removesuffix("/counts").split("/", 1)
        values = {part: arrays[f"{component}/{tensor}/{part}"] for part in PARTS}
        histogram = Histogram(*values["counts"].shape[:1], bins=values["counts"].shape[1])
        histogram.counts, histogram.upper = values["counts"], float(values["upper"])
        histogram.low, histogram.high = values["low"], values["high"]
        found[Component(component)][tensor] = histogram
    return found
