"""Whether a result is of this model, though its bundle has been written to since.

A bundle gets its alarm and its smaller precisions after it was made, and each of these changes its digest. A
result of an earlier state is of the same graphs as long as nothing else has changed.
That needs no trust: the earlier `bundle.json` is written again, and hashed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from edge_sr.bundle import Bundle, digest_of, manifest_text
from edge_sr.manifest import Manifest
from edge_sr.spec import Precision

__all__ = ["earlier_digests"]

Undo = Callable[[Manifest], Manifest]


def earlier_digests(bundle: Bundle) -> frozenset[str]:
    """The digests of the bundle, and of what it was before it got what changes no graph's output."""
    changes: tuple[Undo, ...] = (_without_alarm, _fp32_alone)
    found = {bundle.digest}
    for kept in itertools.product((False, True), repeat=len(changes)):
        manifest = bundle.manifest
        for undo in itertools.compress(changes, kept):
            manifest = undo(manifest)
        found.add(digest_of(manifest_text(manifest)))
    return frozenset(found)


def _without_alarm(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"consistency": None})


def _fp32_alone(manifest: Manifest) -> Manifest:
    """As it was exported: a result of it can be of FP32 alone."""
    fp32 = Precision.FP32
    graphs = {part: {p: g for p, g in files.items() if p is fp32} for part, files in manifest.graphs.items()}
    return manifest.model_copy(update={"graphs": graphs, "calibration": None, "default_precision": fp32})
