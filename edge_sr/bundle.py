"""Bundles on disk: opened, checked, hashed, written whole.

A bundle is a folder with `bundle.json` (see `edge_sr.manifest`), ONNX graphs and small numpy files. Paths
stay inside the folder, nothing is unpickled, and a file is hashed before it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edge_sr.errors import BundleError, OutputError
from edge_sr.manifest import (
    READABLE_VERSIONS,
    ArrayFile,
    Diffusion,
    GraphFile,
    Latent,
    Manifest,
    TensorEntry,
)
from edge_sr.spec import Component, Graph, Precision
from edge_sr.strict import joined, one_line, parse_json, problems_of, read_capped

__all__ = [
    "MANIFEST",
    "Bundle",
    "array_file",
    "default_bundle",
    "digest_of",
    "find_bundle",
    "graph_file",
    "manifest_text",
    "new_copy",
    "new_folder",
    "write_manifest",
]

MANIFEST = "bundle.json"
SHIPPED = Path(__file__).parent / "bundles"
MAX_MANIFEST_BYTES = 4 << 20
_CHUNK = 1 << 20
T = TypeVar("T")


class Bundle:
    """An opened bundle: its manifest, and its files as they are asked for.

    Attributes:
        folder: Where it lies.
        manifest: What it says.
        digest: SHA-256 of what `bundle.json` says of the model, with the digest of every other file, but not
            of `quality`: figures that were measured of a bundle are told in it without making it another.
    """

    def __init__(self, folder: Path, manifest: Manifest, digest: str) -> None:
        self.folder, self.manifest, self.digest = folder, manifest, digest

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Reads and validates a bundle; files are hashed when they are first used.

        Raises:
            BundleError: The folder or its manifest is missing or damaged; every problem is named at once.
        """
        path = folder / MANIFEST
        data = _read_manifest(path)
        bundle = cls(folder, _parse(path, data), digest_of(data))
        if problems := [p for f in bundle._files() for p in [bundle._problem(f.file, f.bytes)] if p]:
            raise BundleError(f"{folder}: {joined(problems)}", hint="copy or export the bundle again")
        return bundle

    def graph(self, component: Component, precision: Precision) -> Graph:
        """One graph, hashed.

        Raises:
            BundleError: The bundle has none, or not of that precision, or the file was changed.
        """
        graphs = self.manifest.graphs.get(component)
        if graphs is None:
            raise BundleError(
                f"bundle {self.manifest.name} has no {component}",
                hint=f"it has {', '.join(self.manifest.components)}",
            )
        if precision not in graphs:
            raise BundleError(
                f"bundle {self.manifest.name} has no {precision} {component}",
                hint=f"it has {', '.join(map(str, graphs))}; make others with: python -m calibration",
            )
        entry = graphs[precision]
        path = self._verified(entry.file, entry.sha256)
        inputs, outputs = (tuple(t.spec() for t in side) for side in (entry.inputs, entry.outputs))
        return Graph(path, component, precision, entry.sha256, inputs, outputs)

    def time_embedding(self) -> npt.NDArray[np.float32]:
        """The time embedding of every training timestep: (T, D) float32; (0, 0) where there is no loop.

        Raises:
            BundleError: The file was changed, or holds something else.
        """
        return self._array(self.manifest.time_embedding)

    def class_embedding(self) -> npt.NDArray[np.float32]:
        """The embedding of every class, the null class among them: (K, D) float32; (0, 0) without classes.

        Raises:
            BundleError: The file was changed, or holds something else.
        """
        classes = self.manifest.classes
        return self._array(None if classes is None else classes.embedding)

    def _array(self, entry: ArrayFile | None) -> npt.NDArray[np.float32]:
        """A table in float32; (0, 0) for none."""
        if entry is None:
            return np.zeros((0, 0), np.float32)
        array = _load_npy(self._verified(entry.file, entry.sha256))
        wanted, found = f"{entry.dtype} {entry.shape}", f"{array.dtype.name} {array.shape}"
        if wanted != found:
            raise BundleError(f"{entry.file}: wanted {wanted}, got {found}")
        return np.ascontiguousarray(array, dtype=np.float32)

    def golden(self) -> dict[str, npt.NDArray[Any]]:
        """The stored inputs and outputs for the self-test, by name.

        Raises:
            BundleError: The file was changed, or is no numpy archive.
        """
        path = self._verified(self.manifest.golden.file, self.manifest.golden.sha256)
        try:
            # Opened here, since numpy leaves a damaged archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # numpy, zipfile and zlib have a dozen for damaged files
            raise BundleError(f"{path} is no numpy archive: {one_line(error)}") from error

    @property
    def diffusion(self) -> Diffusion:
        """How the loop was trained and runs, for what makes no sense without one.

        Raises:
            BundleError: There is no loop.
        """
        return self._of_loop(self.manifest.diffusion)

    @property
    def latent(self) -> Latent:
        """What the loop runs on.

        Raises:
            BundleError: There is no loop.
        """
        return self._of_loop(self.manifest.latent)

    def _of_loop(self, part: T | None) -> T:
        if part is None:
            raise BundleError(
                f"bundle {self.manifest.name} has no loop", hint="give the bundle of a diffusion model"
            )
        return part

    def verify(self) -> None:
        """Hashes every file.

        Raises:
            BundleError: Naming every file that was changed.
        """
        problems = []
        for entry in self._files():
            try:
                self._verified(entry.file, entry.sha256)
            except BundleError as error:
                problems.append(error.message)
        if problems:
            raise BundleError(joined(problems), hint="copy or export the bundle again")

    def precisions(self) -> list[Precision]:
        """The precisions that every graph has."""
        return [p for p in Precision if all(p in graphs for graphs in self.manifest.graphs.values())]

    def _files(self) -> Iterator[Any]:
        for graphs in self.manifest.graphs.values():
            yield from graphs.values()
        if self.manifest.time_embedding is not None:
            yield self.manifest.time_embedding
        if self.manifest.classes is not None:
            yield self.manifest.classes.embedding
        yield self.manifest.golden

    def _problem(self, name: str, size: int) -> str:
        """What is wrong with a file's place or size, or nothing."""
        path = self.folder / name
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                return f"{name} leads outside the bundle"
            if not path.is_file():
                return f"{name} is missing"
            found = path.stat().st_size
        except (OSError, RuntimeError) as error:  # a name too long; until Python 3.13, a circle of symlinks
            return f"{name} cannot be looked at: {error}"
        return "" if found == size else f"{name} has {found} bytes, wanted {size}"

    def _verified(self, name: str, sha256: str) -> Path:
        path = self.folder / name
        found = hash_file(path)
        if found != sha256:
            raise BundleError(
                f"{name} was changed: sha256 {found[:12]}..., wanted {sha256[:12]}...",
                hint="copy or export the bundle again",
            )
        return path


def default_bundle() -> Path:
    """The folder of the default bundle, which is shipped inside this package: cxr-x4."""
    return SHIPPED / "cxr-x4"


def find_bundle(named: Path | None) -> Path:
    """The folder that is meant: the default bundle's for None, and a shipped one's for its bare name.

    A folder of that name that lies here comes first.
    """
    if named is None:
        return default_bundle()
    is_shipped = len(named.parts) == 1 and not named.exists() and (SHIPPED / named / MANIFEST).is_file()
    return SHIPPED / named if is_shipped else named


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        BundleError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def graph_file(folder: Path, name: str, inputs: list[TensorEntry], outputs: list[TensorEntry]) -> GraphFile:
    """The manifest's entry for an ONNX file that lies in `folder`."""
    path = folder / name
    return GraphFile(
        file=name,
        sha256=hash_file(path),
        bytes=path.stat().st_size,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def array_file(folder: Path, name: str, array: npt.NDArray[Any]) -> ArrayFile:
    """Writes a float16 or float32 array into `folder` and returns the manifest's entry for it."""
    path = folder / name
    np.save(path, array, allow_pickle=False)
    size, dtype = path.stat().st_size, array.dtype.name
    entry = {"file": name, "sha256": hash_file(path), "bytes": size, "dtype": dtype, "shape": array.shape}
    return ArrayFile.model_validate(entry)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `bundle.json` into a folder that holds the files already."""
    (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")


def manifest_text(manifest: Manifest) -> str:
    """What `bundle.json` holds for a manifest."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def digest_of(text: str | bytes) -> str:
    """A bundle's digest from its manifest's JSON: SHA-256 of one spelling of it, without `quality`."""
    fields = {name: value for name, value in json.loads(text).items() if name != "quality"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place if the block ends well, and vanishes otherwise.

    Raises:
        OutputError: The folder cannot be written, or `target` is something other than a bundle.
    """
    _check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target.parent} cannot be written: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_copy(bundle: Bundle, target: Path) -> Iterator[Path]:
    """A temporary copy of a bundle, to be changed; it takes the place of `target` if the block ends well.

    `target` may be the bundle's own folder: what lies there stays as it is until then.

    Raises:
        OutputError: The folder cannot be written, or `target` is something other than a bundle.
    """
    with new_folder(target) as folder:
        shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
        yield folder


def _check_replaceable(target: Path) -> None:
    """Replacing a folder removes what was in it, so only a bundle or an empty folder is replaced.

    Raises:
        OutputError: `target` is a file, a link, or a folder with something else in it.
    """
    try:
        is_replaceable = not target.is_symlink() and (
            not target.exists() or (target / MANIFEST).is_file() or not any(target.iterdir())
        )
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    if not is_replaceable:
        raise OutputError(
            f"{target} exists and is no bundle's folder", hint="name a new folder, or remove this one"
        )


def _replace(temporary: Path, target: Path) -> None:
    """Puts a finished folder in place; an older one is moved aside first: a folder cannot be overwritten."""
    old = temporary.with_name(temporary.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_manifest(path: Path) -> bytes:
    """The bytes of `bundle.json`, which is read no further than its limit.

    Raises:
        BundleError: It is missing, no plain file, or too large.
    """
    try:
        return read_capped(path, limit=MAX_MANIFEST_BYTES, error=BundleError)
    except OSError as error:
        raise BundleError(
            f"no bundle at {path.parent}: {error.strerror or error}",
            hint=f"a bundle is a folder with a {MANIFEST}",
        ) from error


def _parse(path: Path, data: bytes) -> Manifest:
    """The manifest, or every problem it has."""
    content = parse_json(path, data, error=BundleError)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE_VERSIONS:
        readable = ", ".join(map(str, READABLE_VERSIONS))
        raise BundleError(
            f"{path} has schema version {one_line(repr(version))}, this edge-sr reads {readable}",
            hint="use the edge-sr that wrote it, or export the bundle again",
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problems = problems_of(error, whole="bundle")
        raise BundleError(f"{path}: {problems}", hint="export the bundle again") from error


def _load_npy(path: Path) -> npt.NDArray[Any]:
    """An array of a .npy file; not of an archive, which `np.load` would open too."""
    try:
        with path.open("rb") as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged header may even ask for more memory than there is
        raise BundleError(f"{path} is no numpy file: {one_line(error)}") from error
    return array
