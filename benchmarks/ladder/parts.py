"""What a long run has done so far, kept beside its results until it is finished: one file a seed."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from benchmarks.ladder.samples import SeedResult
from edge_sr.errors import ConfigError
from edge_sr.image import write_atomic

__all__ = ["Parts"]

Array = npt.NDArray[Any]
NESTED = ("images", "errors", "values", "to_fp32")  # fields of `SeedResult` that are dictionaries
LATENT_STD = "latent_std"
KEY_DIGITS = 12


class Parts:
    """The seeds that a run has finished.

    Args:
        out: FOLDER/NAME of the results.
        request: All that a seed's result depends on, as JSON has it. A run that asks for something else
            finds nothing here.
    """

    def __init__(self, out: Path, request: dict[str, Any]) -> None:
        text = json.dumps(request, sort_keys=True)
        self._out, self._key = out, hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]

    def load(self, seed: int) -> SeedResult | None:
        """What was stored of a seed; None where nothing was.

        Raises:
            ConfigError: It cannot be read.
        """
        path = self._path(seed)
        if not path.exists():
            return None
        try:
            # Opened here, since numpy leaves a damaged archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return SeedResult(latent_std=arrays[LATENT_STD], **{f: _branch(arrays, f) for f in NESTED})
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="remove it, and run again") from error

    def store(self, seed: int, result: SeedResult) -> None:
        """Keeps what a seed gave.

        Raises:
            OutputError: It cannot be written.
        """
        arrays: dict[str, Array] = {LATENT_STD: result.latent_std}
        for field in NESTED:
            arrays |= dict(_leaves(field, getattr(result, field)))
        packed = io.BytesIO()
        np.savez(packed, **arrays)  # type: ignore[arg-type]
        write_atomic(self._path(seed), packed.getvalue())

    def clear(self, seeds: range) -> None:
        """Removes what was stored."""
        for seed in seeds:
            self._path(seed).unlink(missing_ok=True)

    def _path(self, seed: int) -> Path:
        return self._out.with_name(f"{self._out.name}.{self._key}.seed{seed}.npz")


def _leaves(prefix: str, tree: Any) -> list[tuple[str, Array]]:
    """Nested dictionaries of arrays as one, names joined by slashes."""
    if not isinstance(tree, dict):
        return [(prefix, tree)]
    return [leaf for name, part in tree.items() for leaf in _leaves(f"{prefix}/{name}", part)]


def _branch(arrays: dict[str, Array], field: str) -> dict[str, Any]:
    """The dictionaries that `_leaves` made flat."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        first, *middle = path.split("/")
        if first != field:
            continue
        place = tree
        for name in middle[:-1]:
            place = place.setdefault(name, {})
        place[middle[-1]] = array
    return tree
