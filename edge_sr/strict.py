"""Reading a file of ours that others may have written: bounded, parsed, every problem named in one line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_sr.errors import EdgeSRError

__all__ = ["joined", "one_line", "parse_json", "problems_of", "read_capped"]

MAX_PROBLEMS = 20  # of a damaged file; it may have a million
MAX_PROBLEM_LENGTH = 1000


def read_capped(path: Path, *, limit: int, error: type[EdgeSRError]) -> bytes:
    """The bytes of a plain file, which is read no further than its limit.

    Args:
        path: The file.
        limit: In bytes, whole MiB.
        error: What to raise.

    Raises:
        OSError: It cannot be read.
        EdgeSRError: `error`, where it is no plain file or too large.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise error(f"{path} is no plain file")  # a pipe or a device may never end
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise error(f"{path} is larger than {limit >> 20} MiB")
    return data


def parse_json(path: Path, data: bytes, *, error: type[EdgeSRError]) -> Any:
    """Parses JSON, hostile JSON included.

    Raises:
        EdgeSRError: `error`, where it is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is no JSON: {one_line(cause)}") from cause


def problems_of(error: ValidationError, *, whole: str) -> str:
    """Every problem in one line, each after the place where it is.

    Args:
        error: What pydantic found.
        whole: What to call the place of a problem of the whole.
    """
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return joined([f"{'.'.join(map(str, e['loc'])) or whole}: {e['msg']}" for e in found])


def joined(problems: list[str]) -> str:
    """Problems in one line, the first of them where there are very many."""
    shown = [one_line(problem) for problem in problems[:MAX_PROBLEMS]]
    more = len(problems) - len(shown)
    return "; ".join(shown + [f"and {more} more"] * bool(more))


def one_line(problem: object) -> str:
    """Text that may quote a file's content, made short and printable."""
    text = str(problem)[:MAX_PROBLEM_LENGTH]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
