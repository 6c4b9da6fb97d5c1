"""Engines on disk: what an engine was built from and for, its sidecar, and the folder that keeps them.

An engine is a file that belongs to one graph, one library version and one device, and it is code. So beside
each lies a JSON sidecar that is compared, part by part, before the engine is opened, and both are published
by renaming: the sidecar last, so that an engine without one is an engine that was never finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_sr.errors import EngineError, OutputError
from edge_sr.spec import Component, Graph, Precision

__all__ = [
    "ONNX_RUNTIME",
    "PORTABLE",
    "SIDECAR_VERSION",
    "BuildFlags",
    "EngineKey",
    "EngineStore",
    "Kind",
    "Sidecar",
    "Target",
    "build_command",
    "default_engine_dir",
    "graph_precision",
    "make_sidecar",
    "write_atomically",
]

SIDECAR_VERSION = 1
Kind = Literal["device", "rtx-portable", "optimised-onnx"]


@dataclass(frozen=True)
class BuildFlags:
    """What may be chosen when an engine is built, and changes the engine.

    Attributes:
        level: TensorRT's builder optimisation level, 0 to 5; higher takes longer to build.
        batch: Smallest, usual and largest batch size.
    """

    level: int = 3
    batch: tuple[int, int, int] = (1, 1, 8)

    def __str__(self) -> str:
        """The flags with those that are always the same, as they stand in a key."""
        return (
            f"level={self.level} batch={'-'.join(map(str, self.batch))} strongly-typed tf32=off aux-streams=0"
        )


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on; another value of any part makes it another engine.

    Attributes:
        component, precision, graph_sha256: What it was built from.
        library, version: What built it, as in "tensorrt" and "10.3.0".
        compute_capability: As in "8.7"; several joined by "+" for a portable engine; "cpu" for ONNX Runtime.
        device: As the driver names it; "portable" for a portable engine; the CPU's features for ONNX Runtime.
        flags: `str(BuildFlags)`; in a key that is looked for, None where any will do.
    """

    component: Component
    precision: Precision
    graph_sha256: str
    library: str
    version: str
    compute_capability: str
    device: str
    flags: str | None = None

    @classmethod
    def of(cls, graph: Graph, target: Target, flags: str | None = None) -> EngineKey:
        """The key of a graph on a target."""
        return cls(graph.component, graph.precision, graph.sha256, **asdict(target), flags=flags)

    @property
    def stem(self) -> str:
        """The name of its files, without the ending."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.component}-{self.precision}-{digest[:16]}"

    def differences(self, engine: EngineKey) -> list[str]:
        """What is wrong with an engine for this key: one sentence a part, none where it fits."""
        names = [f.name for f in fields(self) if not self._fits(f.name, engine)]
        return [
            f"{PARTS[name]}: the engine has {getattr(engine, name)}, wanted {getattr(self, name)}"
            for name in names
        ]

    def _fits(self, name: str, engine: EngineKey) -> bool:
        wanted, found = getattr(self, name), getattr(engine, name)
        if wanted == found or (name == "flags" and wanted is None):
            return True
        if engine.device == PORTABLE:
            return name == "device" or (name == "compute_capability" and wanted in found.split("+"))
        return False


@dataclass(frozen=True)
class Target:
    """What an engine runs on: the parts of a key that have nothing to do with the graph."""

    library: str
    version: str
    compute_capability: str
    device: str

    @property
    def digest(self) -> str:
        """A short name for it, for what is kept per target."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


PORTABLE, ONNX_RUNTIME = "portable", "onnxruntime"
PARTS = {
    "component": "component",
    "precision": "precision",
    "graph_sha256": "graph sha256",
    "library": "library",
    "version": "library version",
    "compute_capability": "compute capability",
    "device": "device name",
    "flags": "build flags",
}


class KeyRecord(BaseModel):
    """An `EngineKey` as it stands in a sidecar."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: Component
    precision: Precision
    graph_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    library: str
    version: str
    compute_capability: str
    device: str
    flags: str


class Sidecar(BaseModel):
    """What stands beside an engine.

    Attributes:
        file, bytes, sha256: The engine's file.
        kind: "device" for an engine of this device, "rtx-portable" for one that TensorRT-RTX built without a
            GPU, "optimised-onnx" for ONNX Runtime's.
        created: When, in UTC, ISO 8601.
        tool: The version of edge-sr that built it.
        build_seconds: How long that took.
        workspace_bytes: The cap on the builder's scratch memory; it does not make another engine.
        layers: Layers of the parsed network by type.
        checked: What is known of its outputs, or why nothing is.
        notes: What else a reader should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1]
    key: KeyRecord
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: Kind
    created: str
    tool: str
    build_seconds: float
    workspace_bytes: int = 0
    layers: dict[str, int] = {}
    checked: str
    notes: tuple[str, ...] = ()

    def engine_key(self) -> EngineKey:
        """The key that the engine was built for."""
        return EngineKey(**self.key.model_dump())


@dataclass(frozen=True)
class EngineStore:
    """A folder of engines.

    Attributes:
        folder: Where; made when the first engine is published.
    """

    folder: Path
    _endings: tuple[str, ...] = field(default=(".plan", ".onnx"), repr=False)

    def find(self, wanted: EngineKey) -> Sidecar:
        """The newest engine that fits.

        Raises:
            EngineError: There is none; what differs in the nearest one is named, and the command to build it.
        """
        damaged: list[str] = []
        sidecars = sorted(self._sidecars(damaged), key=lambda s: s.created, reverse=True)
        found = [(wanted.differences(s.engine_key()), s) for s in sidecars if _is_about(wanted, s)]
        if fitting := [sidecar for differences, sidecar in found if not differences]:
            return fitting[0]
        hint = f"build it with: {build_command(wanted, self.folder)}"
        what = f"{wanted.precision} {wanted.component}"
        if not found:
            seen = f"; {'; '.join(damaged)}" if damaged else ""
            raise EngineError(f"no engine for the {what} in {self.folder}{seen}", hint=hint)
        differences, nearest = min(found, key=lambda pair: len(pair[0]))
        raise EngineError(f"{nearest.file} is not for this {what}: {'; '.join(differences)}", hint=hint)

    def read(self, sidecar: Sidecar) -> bytes:
        """The engine itself, once its sidecar has been found to fit.

        Raises:
            EngineError: It is missing, was changed, or could have been changed by anyone.
        """
        path = self.folder / sidecar.file
        hint = "delete it and its sidecar, and build it again"
        try:
            mode, data = path.stat(), path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
        if mode.st_mode & stat.S_IWOTH:
            raise EngineError(
                f"{path} may be written by anyone, and an engine is code",
                hint=f"chmod o-w {path}, if you trust it",
            )
        if len(data) != sidecar.bytes or hashlib.sha256(data).hexdigest() != sidecar.sha256:
            raise EngineError(f"{path} is not the file that its sidecar describes", hint=hint)
        return data

    def publish(self, built: Path, sidecar: Sidecar) -> Path:
        """Moves a built engine here under its key's name, then writes its sidecar; an older one is replaced.

        Args:
            built: The engine, on the same file system.
            sidecar: What describes it; its `file` is where it goes.

        Raises:
            OutputError: The folder cannot be written.
        """
        target = self.folder / sidecar.file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            target.with_suffix(".json").unlink(missing_ok=True)  # never an old sidecar beside a new engine
            with built.open("rb+") as file:
                os.fsync(file.fileno())
            built.replace(target)
        except OSError as error:
            raise OutputError(f"{target} cannot be written: {error.strerror}") from error
        write_atomically(target.with_suffix(".json"), sidecar.model_dump_json(indent=1).encode() + b"\n")
        return target

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder on the same file system, which vanishes at the end with whatever is left in it.

        Raises:
            OutputError: It cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = Path(mkdtemp(prefix=".building-", dir=self.folder))
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be written: {error.strerror}", hint="choose another with --engine-dir"
            ) from error
        try:
            yield folder
        finally:
            rmtree(folder, ignore_errors=True)

    def _sidecars(self, damaged: list[str]) -> Iterator[Sidecar]:
        """Every sidecar that can be read; the others are named in `damaged`."""
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            if any(path.with_suffix(ending).exists() for ending in self._endings):
                try:
                    yield Sidecar.model_validate_json(path.read_bytes())
                except (OSError, ValidationError, ValueError):
                    damaged.append(f"the sidecar {path.name} is damaged")


def make_sidecar(key: EngineKey, built: Path, *, kind: Kind, **facts: object) -> Sidecar:
    """The sidecar of an engine that was just built.

    Args:
        key: With its flags.
        built: The file.
        kind: As in `Sidecar`.
        facts: The other fields of `Sidecar`.
    """
    data = built.read_bytes()
    prefix = "rtx-portable-" if kind == "rtx-portable" else ""
    record = {
        "schema_version": SIDECAR_VERSION,
        "key": asdict(key),
        "file": f"{prefix}{key.stem}{built.suffix}",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "kind": kind,
    }
    return Sidecar.model_validate(record | facts)


def build_command(key: EngineKey, folder: Path) -> str:
    """The command that builds the engine of a key."""
    backend = " --backend onnxruntime" if key.library == ONNX_RUNTIME else ""
    precision = Precision.INT8 if key.precision is Precision.INT8_FP16 else key.precision
    what = f"--precision {precision} --component {key.component}"
    return f"edge-sr build-engine {what}{backend} --engine-dir {folder}"


def graph_precision(backend: str, precision: Precision) -> Precision:
    """The graph that a backend runs for a precision: TensorRT takes INT8 with the rest in FP16."""
    if backend == "tensorrt" and precision is Precision.INT8:
        return Precision.INT8_FP16
    return precision


def default_engine_dir() -> Path:
    """Where engines are kept: systemd's state directory under a service, the user's cache otherwise."""
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.partition(":")[0]) / "engines"
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "edge-sr" / "engines"


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file under another name, and renames it when it is on disk.

    Raises:
        OutputError: It cannot be written; an older file is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _is_about(wanted: EngineKey, sidecar: Sidecar) -> bool:
    """Whether an engine is for the same component and precision, and by the same kind of library."""
    key = sidecar.engine_key()
    same_kind = (wanted.library == ONNX_RUNTIME) == (key.library == ONNX_RUNTIME)
    return same_kind and (key.component, key.precision) == (wanted.component, wanted.precision)
