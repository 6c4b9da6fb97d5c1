"""Finds the results of a bundle in a folder. What cannot be used is named, with the reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from benchmarks.report_page.identity import earlier_digests
from benchmarks.report_page.sensitivity_files import NAME as SENSITIVITY
from benchmarks.report_page.sensitivity_files import SUFFIXES, read_sensitivity
from benchmarks.report_page.topics import Context, Found, Topic
from edge_sr.errors import ConfigError

__all__ = ["Findings", "LeftOut", "find_results"]

MAX_BYTES = 64 << 20
Json = dict[str, Any]


class Unusable(Exception):
    """A file that is no result of this bundle; the message says why, `topic` of what it would be."""

    def __init__(self, message: str, topic: str = "") -> None:
        super().__init__(message)
        self.topic = topic


@dataclass(frozen=True)
class LeftOut:
    """A file that the report makes no use of, why, and the topic that it would be of, where that is known."""

    name: str
    reason: str
    topic: str = ""


@dataclass(frozen=True)
class Findings:
    """What was found: topic's name -> its results, the one that tells most first; and what was left out."""

    found: dict[str, tuple[Found[Any], ...]]
    left_out: tuple[LeftOut, ...]


def find_results(folder: Path, topics: Sequence[Topic[Any]], context: Context) -> Findings:
    """Reads every JSON file of a folder, and sorts them by topic.

    Args:
        folder: With the results, and nothing below it.
        topics: Those that are wanted.
        context: The bundle that they have to be of.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", hint="name the folder of the results with --results")
    found: dict[str, list[Found[Any]]] = {topic.name: [] for topic in topics}
    left_out, digests = [], earlier_digests(context.bundle)
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(SUFFIXES):
            continue
        try:
            topic, record = _read(path, topics, digests)
        except Unusable as reason:
            left_out.append(LeftOut(path.name, str(reason), reason.topic))
        else:
            found[topic.name].append(Found(record, path.name))
    if SENSITIVITY in found:
        layers, refused = read_sensitivity(folder, context.bundle)
        found[SENSITIVITY] += [Found(record, name) for name, record in layers.items()]
        left_out += [LeftOut(name, reason, SENSITIVITY) for name, reason in refused.items()]
    return Findings({name: _by_worth(results, context) for name, results in found.items()}, tuple(left_out))


def _read(path: Path, topics: Sequence[Topic[Any]], digests: frozenset[str]) -> tuple[Topic[Any], Any]:
    """A result and where it belongs.

    Raises:
        Unusable: It is none of this bundle.
    """
    content = _parse(path)
    known = [topic for topic in topics if topic.kind == content.get("kind")]
    if not known:
        raise Unusable(f"no result of a known kind: {str(content.get('kind'))[:60]!r}")
    record = _validate(known[0].model, content)
    topic, bundle = next(topic for topic in known if topic.belongs(record)), record.bundle
    if bundle.digest not in digests:
        reason = f"of another model: {bundle.name} {bundle.version}, {bundle.digest[:12]}"
        raise Unusable(reason, topic.name)
    return topic, record


def _parse(path: Path) -> Json:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unusable(f"larger than {MAX_BYTES >> 20} MiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unusable("no JSON") from error
    if not isinstance(content, dict):
        raise Unusable("no result: wanted a JSON object")
    return content


def _validate(model: type[BaseModel], content: Json) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        raise Unusable(f"damaged, or of another version: {place}: {first['msg'][:120]}") from error


def _by_worth(results: Sequence[Found[Any]], context: Context) -> tuple[Found[Any], ...]:
    """FP32 first, then the images that were named, then the most images; names settle the rest."""
    return tuple(sorted(results, key=lambda found: (*_worth(found.record, context), found.name)))


def _worth(record: Any, context: Context) -> tuple[bool, bool, int]:
    data = getattr(record, "data", None)
    is_low = getattr(getattr(record, "bundle", None), "precision", "fp32") != "fp32"
    return is_low, not (data and context.covers(data)), -len(data.images) if data else 0
