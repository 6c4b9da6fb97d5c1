"""Results on disk: written whole, and read with every problem told at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from edge_sr.bench.records import KIND, READABLE_VERSIONS, BenchResult
from edge_sr.errors import OutputError, ResultError
from edge_sr.image import write_atomic
from edge_sr.strict import one_line, parse_json, problems_of, read_capped

__all__ = ["check_writable", "read_result", "to_json", "write_result"]

MAX_BYTES = 64 << 20
AGAIN = "measure again with: edge-sr bench --json FILE"


def to_json(result: BenchResult) -> str:
    """A result as one JSON object on one line."""
    return json.dumps(result.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)


def write_result(path: Path, result: BenchResult) -> None:
    """Writes a result whole or not at all.

    Raises:
        OutputError: It could not be written.
    """
    write_atomic(path, f"{to_json(result)}\n".encode())


def read_result(path: Path) -> BenchResult:
    """Reads what `edge-sr bench --json` wrote.

    Raises:
        ResultError: It is missing, truncated, something else, of a version that is not read, or not valid;
            every problem is named at once.
    """
    try:
        data = read_capped(path, limit=MAX_BYTES, error=ResultError)
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error.strerror or error}", hint=AGAIN) from error
    content = parse_json(path, data, error=ResultError)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind != KIND:
        raise ResultError(f"{path} is no result of edge-sr bench: its kind is {one_line(repr(kind))}")
    version = content.get("schema_version")
    if version not in READABLE_VERSIONS or isinstance(version, bool):
        raise ResultError(
            f"{path} has schema version {one_line(repr(version))}, this edge-sr reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}",
            hint="compare with the edge-sr that wrote it, or measure again with this one",
        )
    try:
        return BenchResult.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise ResultError(f"{path}: {problems_of(error, whole='result')}", hint=AGAIN) from error


def check_writable(path: Path) -> None:
    """Refuses a place for a result before minutes are spent on it.

    Raises:
        OutputError: It is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made: {error.strerror or error}") from error
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent} cannot be written", hint="name a file in another folder")
