"""What made a derived object, and the UIDs that follow from it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_sr import __version__

__all__ = ["IMPLEMENTATION_UID", "IMPLEMENTATION_VERSION", "MODEL_NAME", "Record", "derived_uid"]

MODEL_NAME = "edge-sr"
_NAMESPACE = uuid.UUID("6d1d5c5e-2c0f-4d55-9a8e-3b7f0e5a41c7")  # drawn once, at random, for this program
IMPLEMENTATION_UID = f"2.25.{_NAMESPACE.int}"
IMPLEMENTATION_VERSION = f"EDGE_SR_{__version__}"[:16]

# What a result says of itself that decides nothing about its pixels, or is one of them.
_NOT_SETTINGS = ("consistency_alarm_db", "consistency_db", "threads")


@dataclass(frozen=True, slots=True)
class Record:
    """What made the pixels of a derived object.

    Attributes:
        bundle: Name and version.
        bundle_sha256: Its digest.
        precision: Of the graphs that ran.
        seed: Of the noise; None where there is no loop, which alone draws some.
        loop: Steps and sampler in words, as in "20 ddim steps", and of what class it was told; empty where
            there is no loop.
        settings: All of this and the rest that decides the pixels, as canonical JSON.
    """

    bundle: str
    bundle_sha256: str
    precision: str
    seed: int | None
    loop: str
    settings: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Record:
        """The record of what a result says of itself.

        Args:
            facts: ``bundle``, ``bundle_sha256``, ``precision``, ``seed``, and ``preset`` with ``steps`` and
                ``sampler``, or None where there is no loop; of a model with classes ``class`` and
                ``guidance``. What else is there counts as a setting. It is the object that a PNG carries as
                JSON under ``edge-sr``.

        Raises:
            KeyError: One is missing.
        """
        preset = facts["preset"]
        told = f" told class {facts['class']} at guidance {facts['guidance']:g}" if "class" in facts else ""
        settings = {key: value for key, value in facts.items() if key not in _NOT_SETTINGS}
        return cls(
            bundle=facts["bundle"],
            bundle_sha256=facts["bundle_sha256"],
            precision=facts["precision"],
            seed=facts["seed"],
            loop="" if preset is None else f"{preset['steps']} {preset['sampler']} steps{told}",
            settings=json.dumps(settings | {"edge-sr": __version__}, sort_keys=True),
        )


def derived_uid(kind: str, source_uid: str, record: Record) -> str:
    """A UID that follows from a source and from what was done with it, so that doing it again gives it again.

    It is a name-based UUID under the root 2.25 (PS3.5, annex B.2; RFC 9562, section 5.5).

    Args:
        kind: What it names: the same source's series and instance have different ones.
        source_uid: What it is derived from.
        record: What made it.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join((kind, source_uid, record.settings))).int}"
