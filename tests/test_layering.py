"""The walls between the rooms and the floors inside edge_sr, read from the source and tried out."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Which rooms each room may import besides itself.
ROOMS = {
    "edge_sr": set[str](),
    "export": {"edge_sr"},
    "calibration": {"edge_sr"},
    "benchmarks": {"edge_sr", "export"},
}

# From the ground up: a module imports from its own floor and from those below it, never from one above.
# A folder (backends, service, cli) has one entry and stands on one floor.
FLOORS = (
    {"errors"},
    {"spec", "strict", "statistics"},
    {
        "schedule",
        "noise",
        "tiling",
        "image",
        "metrics",
        "telemetry",
        "card",
        "entries",
        "classes",
        "manifest",
        "cuda",
    },
    {"bundle", "device", "dicom", "evidence", "figure", "roofline"},
    {"doctor"},
    {"backends"},
    {"build"},
    {"pipeline"},
    {"cascade", "result", "jobs", "inbox", "watch", "report", "measure", "selftest", "bench"},
    {"service", "node"},
    {"cli", "__main__"},
)

WALLED_OFF = (
    *("torch", "tensorrt", "tensorrt_rtx", "cuda", "pycuda"),
    *("pydicom", "pynetdicom", "openjpeg"),
    *("export", "calibration", "benchmarks"),
)

# What comes with the extra `service`; its modules are imported by the command alone, on use.
SERVICE = ("starlette", "uvicorn", "prometheus_client", "python_multipart")

IMPORT_EACH = """
import importlib, importlib.abc, json, sys

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is walled off", name=name)

BLOCKED, modules = json.load(sys.stdin)
sys.meta_path.insert(0, Wall())
errors = {}
for module in modules:
    for seen in [name for name in sys.modules if name.partition(".")[0] == "edge_sr"]:
        del sys.modules[seen]
    try:
        importlib.import_module(module)
    except BaseException as error:
        errors[module] = f"{type(error).__name__}: {error}"
print(json.dumps(errors))
"""


def sources(room: str) -> list[Path]:
    """Every Python file of a room, in order."""
    return sorted((ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    """Return the dotted name that a file of this checkout is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for all that a file imports, at any depth, relative imports made absolute."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def floor_of(module: str) -> int:
    """Return the floor of a dotted edge_sr name; the package itself (its version) lies under all of them."""
    name = module.partition(".")[2].partition(".")[0]
    if not name or name.startswith("__version"):
        return -1
    for floor, names in enumerate(FLOORS):
        if name in names:
            return floor
    pytest.fail(f"{module} has no floor: give edge_sr/{name} one in FLOORS, in tests/test_layering.py")


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


every_edge_sr_file = pytest.mark.parametrize("path", sources("edge_sr"), ids=module_name)
every_file = pytest.mark.parametrize("path", [p for room in ROOMS for p in sources(room)], ids=module_name)


@pytest.fixture(scope="module")
def import_errors() -> dict[str, str]:
    """What went wrong with each edge_sr module, imported where none of the walled-off names can be."""
    modules = [module_name(path) for path in sources("edge_sr") if path.stem != "__main__"]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH],
        input=json.dumps([WALLED_OFF, modules]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    errors: dict[str, str] = json.loads(run.stdout)
    return errors


@every_edge_sr_file
def test_imports_without_torch_tensorrt_cuda_and_the_other_rooms(
    path: Path, import_errors: dict[str, str]
) -> None:
    error = import_errors.get(module_name(path), "")
    missing = [name for name in SERVICE if f"No module named '{name}'" in error]
    if missing and module_name(path).startswith("edge_sr.service."):
        pytest.skip(f"{missing[0]} is not installed (extra: service)")
    assert not error


@every_file
def test_a_room_imports_only_the_rooms_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    forbidden = (set(ROOMS) | {"tests"}) - ROOMS[room] - {room}
    crossings = [
        f"{at(path, line)} imports {name}"
        for line, name in imported_names(path)
        if name.partition(".")[0] in forbidden
    ]
    assert not crossings


@every_edge_sr_file
def test_a_lower_floor_never_imports_a_higher_one(path: Path) -> None:
    here = floor_of(module_name(path))
    climbs = [
        f"{at(path, line)} imports {name}, floor {floor_of(name)}, from floor {here}"
        for line, name in imported_names(path)
        if name.partition(".")[0] == "edge_sr" and floor_of(name) > here
    ]
    assert not climbs


@every_edge_sr_file
def test_nothing_below_the_command_line_prints_or_exits(path: Path) -> None:
    if floor_of(module_name(path)) == len(FLOORS) - 1:
        return
    loud = re.compile(r"print|exit|quit|SystemExit|sys\.exit|os\._exit|click\.\w+|sys\.std(out|err)\.\w+")
    calls = [
        f"{at(path, node.lineno)} calls {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and loud.fullmatch(ast.unparse(node.func))
    ]
    assert not calls


@every_edge_sr_file
def test_edge_sr_never_names_torch(path: Path) -> None:
    mentions = [
        at(path, getattr(node, "lineno", 0))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _names(node)
        if name == "torch" or name.startswith("torch.")
    ]
    assert not mentions


def _names(node: ast.AST) -> list[str]:
    """Return what a node says by name: identifiers, imports, and strings such as importlib would take."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    values = (getattr(node, field, None) for field in ("id", "attr", "name", "arg"))
    return [value for value in values if isinstance(value, str)]
