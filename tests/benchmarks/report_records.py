"""Result files for the tests of the report: this repository's, made to be of another bundle and images.

Their formats are what matters. Raw values are cut to as many images as there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.pairs import Pairs
from edge_sr.bundle import Bundle

__all__ = ["Change", "load", "store", "unchanged"]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
FILES = {
    "quality": "quality-cxr-x4-fp32-test.json",
    "ladder": "ladder-cxr-x4.json",
    "evidence": "evidence-cxr-x4-fp32-test.json",
    "seams": "seams-cxr-x4-fp32.json",
    "loop": "loop-cxr-x4-int8.json",
}
Json = dict[str, Any]
Change = Callable[[Json], None]


def unchanged(_content: Json) -> None:
    """Leaves a result as it is."""


def load(name: str, bundle: Bundle, pairs: Pairs) -> Json:
    """A result of a bundle and its images."""
    content: Json = json.loads((RESULTS / FILES[name]).read_text(encoding="utf-8"))
    manifest = bundle.manifest
    content["bundle"] |= {"digest": bundle.digest, "name": manifest.name, "version": manifest.version}
    if "data" in content:
        facts = pairs.facts(degradation="made up", operator="cubic")
        content["data"] = facts.model_dump(mode="json")
    if name in ("quality", "ladder"):
        _cut(content, len(pairs.names))
    return content


def _cut(result: Json, count: int) -> None:
    """Values of so many images."""
    for row in result["rows"]:
        row["values"] = {metric: [seed[:count] for seed in seeds] for metric, seeds in row["values"].items()}


def store(folder: Path, name: str, content: Json) -> Path:
    """Writes a result."""
    path = folder / f"{name}-made-up.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
