"""From image files to enlarged image files: what the command line and the service do with the engine.

Host work overlaps the engine's: while one image is enlarged the next is decoded and the one before written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edge_sr import dicom
from edge_sr.errors import EdgeSRError, OutputError, UsageError
from edge_sr.image import LoadedImage, encode_png, read_image, refuse_overwrite, write_together
from edge_sr.pipeline import Upscaler
from edge_sr.result import Result, Settings, upscale_image

__all__ = ["Failure", "Result", "Settings", "plan_outputs", "stem_of", "upscale_files", "upscale_image"]

PNG, DICOM = ".png", ".dcm"
MAGIC_BYTES = 132  # of a DICOM file: a preamble, and four letters


@dataclass(frozen=True)
class Failure:
    """An input that gave no output; the rest of the batch goes on."""

    name: str
    error: EdgeSRError


def plan_outputs(inputs: Sequence[Path], out: Path, *, beside: Sequence[str] = ()) -> list[Path]:
    """Where each input's output goes: `out` itself for one input and a .png or .dcm, otherwise a folder.

    In a folder, what was DICOM stays DICOM, and everything else becomes PNG.

    Args:
        inputs: What is read.
        out: What was asked for.
        beside: Suffixes of the files that each output will have beside it, such as ".std.png".

    Raises:
        UsageError: Two inputs would share a file, several inputs are to go to one file, or an input that is
            not DICOM to a .dcm.
        OutputError: A file would overwrite an input.
    """
    if out.suffix.lower() in (PNG, DICOM) and not out.is_dir():
        if len(inputs) != 1:
            raise UsageError(f"{len(inputs)} inputs cannot go to one file {out}", hint="give -o a folder")
        if out.suffix.lower() == DICOM and inputs[0].exists() and not _is_dicom(inputs[0]):
            raise UsageError(
                f"{inputs[0]} is not DICOM, so there is no patient, study or geometry for {out}",
                hint="give -o a name that ends in .png",
            )
        outputs = [out]
    elif out.suffix and not out.is_dir() and len(inputs) == 1 and not str(out).endswith("/"):
        raise UsageError(
            f"cannot write {out.suffix} files", hint="give -o a folder, or a name that ends in .png or .dcm"
        )
    else:
        outputs = [out / f"{stem_of(path)}{DICOM if _is_dicom(path) else PNG}" for path in inputs]
    written = [file for output in outputs for file in (output, *(output.with_suffix(s) for s in beside))]
    twice = sorted({str(file) for file in written if written.count(file) > 1})
    if twice:
        raise UsageError(f"several inputs would be written to {', '.join(twice)}", hint="run them one by one")
    for file in written:
        refuse_overwrite(inputs, file)
    return outputs


def stem_of(path: Path) -> str:
    """A file's name without its suffix; that of a file named by a UID has none, though it has dots."""
    return path.name if path.suffix[1:].isdigit() else path.stem


def upscale_files(
    upscaler: Upscaler, inputs: Sequence[Path], outputs: Sequence[Path], settings: Settings
) -> Iterator[tuple[Path, Result | Failure]]:
    """Enlarges files in order and writes each whole or not at all, with the evidence beside it.

    A file that fails is reported and the batch goes on. Yields each input's path and what became of it, once
    its output is on disk.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        scale = settings.scale or upscaler.bundle.manifest.scale
        ahead = [reader.submit(_timed_read, path, settings, scale) for path in inputs[:1]]
        pending: list[tuple[Path, Result, Future[float]]] = []
        for index, path in enumerate(inputs):
            decoded = ahead.pop()
            if index + 1 < len(inputs):
                ahead.append(reader.submit(_timed_read, inputs[index + 1], settings, scale))
            outcome = _enlarge(upscaler, path, decoded, settings)
            if pending:
                yield _written(*pending.pop())
            if isinstance(outcome, Failure):
                yield path, outcome
            else:
                result, source = outcome
                writing = writer.submit(
                    _timed_write, outputs[index], result, source, has_evidence=settings.has_evidence
                )
                pending.append((path, result, writing))
        if pending:
            yield _written(*pending.pop())


def _enlarge(
    upscaler: Upscaler, path: Path, decoded: Future[_Read], settings: Settings
) -> tuple[Result, dicom.Source | None] | Failure:
    try:
        read = decoded.result()
        result = upscale_image(upscaler, read.image, settings)
    except EdgeSRError as error:
        return Failure(str(path), error)
    except MemoryError:
        return Failure(str(path), _too_large(path))
    result.seconds["read"] = read.seconds
    return result, read.source


def _written(path: Path, result: Result, writing: Future[float]) -> tuple[Path, Result | Failure]:
    try:
        result.seconds["write"] = writing.result()
    except EdgeSRError as error:
        return path, Failure(str(path), error)
    except MemoryError:
        return path, Failure(str(path), _too_large(path))
    return path, result


def _too_large(path: Path) -> OutputError:
    return OutputError(f"{path}: not enough memory", hint="give smaller images")


@dataclass(frozen=True)
class _Read:
    """A decoded input; `source` is what a derived object is made from, where it was DICOM."""

    image: LoadedImage
    source: dicom.Source | None
    seconds: float


def _timed_read(path: Path, settings: Settings, scale: int) -> _Read:
    started = time.perf_counter()
    source = dicom.read_dicom(path, scale=scale, limits=settings.limits) if _is_dicom(path) else None
    image = source.image if source else read_image(path, limits=settings.limits)
    return _Read(image, source, time.perf_counter() - started)


def _is_dicom(path: Path) -> bool:
    """By content, not by name; False where it cannot be read, which reading it then tells."""
    try:
        with path.open("rb") as file:
            return dicom.is_dicom(file.read(MAGIC_BYTES))
    except OSError:
        return False


def _timed_write(path: Path, result: Result, source: dicom.Source | None, *, has_evidence: bool) -> float:
    """Writes the output last: where it is, the evidence is."""
    started = time.perf_counter()
    files = {path.with_suffix(s): data for s, data in result.evidence().items()} if has_evidence else {}
    write_together({**files, path: _encoded(path, result, source)})
    return time.perf_counter() - started


def _encoded(path: Path, result: Result, source: dicom.Source | None) -> bytes:
    if source is None or path.suffix.lower() != DICOM:
        return encode_png(result.pixels, text=result.provenance)
    return dicom.derive(source, result.pixels, dicom.Record.of(json.loads(result.provenance["edge-sr"])))
