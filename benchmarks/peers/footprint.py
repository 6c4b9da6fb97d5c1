"""What a runtime asks of its user before it has done anything: bytes on disk, seconds to import, lines."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import TypeGuard

from packaging.requirements import Requirement

from edge_sr.errors import BackendError

__all__ = ["code_lines", "dependencies", "import_seconds", "installed_bytes", "snippet_path"]

OURS = "edge-sr"
EMPTY = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
SNIPPETS = Path(__file__).parent / "snippets"
ROOT = Path(__file__).parents[2]
TIMED = "import time; t = time.perf_counter(); exec({code!r}); print(time.perf_counter() - t)"


def snippet_path(name: str) -> Path:
    """A snippet's file."""
    return SNIPPETS / f"{name}.py"


def code_lines(path: Path) -> int:
    """Lines with code: no blank ones, no comments, no docstrings, no `from __future__`."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {n for t in tokens if t.type not in EMPTY for n in range(t.start[0], t.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if _is_words(node):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def _is_words(node: ast.AST) -> TypeGuard[ast.stmt]:
    """A docstring, or the import that only changes how annotations are read."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def import_seconds(path: Path, *, repeats: int) -> list[float]:
    """Seconds that the imports at the head of a file take, each time in a fresh process, files cached.

    Raises:
        BackendError: They fail.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    code = "\n".join(ast.unparse(node) for node in found if not _is_words(node))
    return [_import_once(code) for _ in range(repeats + 1)][1:]


def _import_once(code: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(code=code)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackendError(f"an import fails: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout)


def dependencies(roots: Iterable[str]) -> set[str]:
    """The distributions that are installed for some, themselves among them, by their normalised names.

    Args:
        roots: As they are given to pip: a name, with extras in brackets.
    """
    found: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = _normal(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        found.add(name)
        waiting += _required(name, wanted.extras)
    return found


def _required(name: str, extras: Iterable[str]) -> list[Requirement]:
    """What a distribution asks for here.

    Raises:
        BackendError: It is not installed.
    """
    if name == OURS:
        return _our_requirements(extras)
    environments = [{"extra": extra} for extra in ("", *extras)]
    asked = map(Requirement, _distribution(name).requires or [])
    return [r for r in asked if r.marker is None or any(map(r.marker.evaluate, environments))]


def _our_requirements(extras: Iterable[str]) -> list[Requirement]:
    """The checkout's own, which need not be installed."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = [line for extra in extras for line in project["optional-dependencies"][extra]]
    asked = map(Requirement, [*project["dependencies"], *more])
    return [r for r in asked if r.marker is None or r.marker.evaluate()]


def installed_bytes(names: Iterable[str]) -> dict[str, int]:
    """Distribution -> bytes of its files, as its RECORD lists them, compiled Python left out.

    Raises:
        BackendError: One is not installed.
    """
    return {name: _bytes_of(name) for name in sorted(names)}


def _bytes_of(name: str) -> int:
    if name == OURS:  # what the wheel holds
        paths: Iterable[Path] = (ROOT / "edge_sr").rglob("*")
    else:
        found = _distribution(name)
        paths = [Path(str(found.locate_file(file))) for file in found.files or []]
    return sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.is_file())


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise BackendError(f"{name} is not installed, its size is not known") from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
