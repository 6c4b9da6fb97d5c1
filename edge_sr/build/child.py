"""Runs jobs in a worker process, and says in plain words what happened to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import edge_sr
from edge_sr import errors
from edge_sr.errors import EdgeSRError, EngineError

__all__ = ["MEMORY_ADVICE", "WORKER", "run_job"]

WORKER = (sys.executable, "-m", "edge_sr.build.worker")
MEMORY_ADVICE = (
    "stop the desktop (sudo systemctl isolate multi-user) and other programs; add swap on NVMe and turn zram "
    "off (sudo systemctl disable nvzramconfig); or build one graph at a time with --component"
)
OnProgress = Callable[[str, int, int], None]
"""(phase, steps done, steps in all)."""


def run_job(
    job: dict[str, Any],
    on_progress: OnProgress | None = None,
    *,
    worker: tuple[str, ...] = WORKER,
    what: str = "the build",
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Does a job in a process of its own.

    Args:
        job: See `edge_sr.build.worker.JOBS`.
        on_progress: Called for every progress report.
        worker: The command, to which the number of a file descriptor is added.
        what: What an error calls the job.
        root: Where `proc/vmstat` is read.

    Returns:
        The job's result.

    Raises:
        EdgeSRError: What the worker raised.
        EngineError: The worker was killed, for want of memory in particular, or ended without a word.
    """
    kills = _memory_kills(root)
    with tempfile.TemporaryFile() as log:
        answers: list[dict[str, Any]] = []
        with _started(worker, job, log) as (process, channel):
            for message in channel:
                _take(message, answers, on_progress)
            code = process.wait()
        log.seek(0)
        last_words = log.read().decode(errors="replace").strip().rpartition("\n")[2]
    for answer in answers:
        if "error" in answer:
            raise _same_error(answer["error"])
        if code == 0:
            result: dict[str, Any] = answer["result"]
            return result
    raise _ended(what, code, last_words, was_memory=_memory_kills(root) > kills)


@contextmanager
def _started(
    worker: tuple[str, ...], job: dict[str, Any], log: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """The worker, and the channel it speaks through; killed if it is still there when the block ends."""
    reading, writing = os.pipe()
    environment = os.environ | {"PYTHONPATH": _python_path()}
    try:
        process = subprocess.Popen(
            [*worker, str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=[writing],
            env=environment,
        )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with process, os.fdopen(reading, encoding="utf-8") as channel:
        try:
            _hand_over(process, job)
            yield process, channel
        finally:
            if process.poll() is None:
                process.kill()


def _hand_over(process: subprocess.Popen[bytes], job: dict[str, Any]) -> None:
    """Writes the job; a worker that is gone already is told of by how it ended."""
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass


def _python_path() -> str:
    """Where the worker finds this very package."""
    here = str(Path(edge_sr.__file__).parents[1])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _take(line: str, answers: list[dict[str, Any]], on_progress: OnProgress | None) -> None:
    message = json.loads(line)
    if "progress" not in message:
        answers.append(message)
    elif on_progress is not None:
        step = message["progress"]
        on_progress(step["phase"], step["done"], step["total"])


def _same_error(record: dict[str, str]) -> EdgeSRError:
    """The error that the worker raised, as the class it had there."""
    kind = getattr(errors, record["kind"], EngineError)
    error: EdgeSRError = kind(record["message"], hint=record["hint"])
    return error


def _ended(what: str, code: int, last_words: str, *, was_memory: bool) -> EngineError:
    """The error for a worker that gave no answer."""
    if code == -signal.SIGKILL:
        why = "out of memory" if was_memory else "most likely out of memory"
        return EngineError(f"{what} was killed by the system, {why}", hint=MEMORY_ADVICE)
    if code < 0:
        name = signal.Signals(-code).name
        return EngineError(f"the library crashed during {what} ({name}): {last_words or 'without a word'}")
    return EngineError(f"{what} ended without an answer (exit code {code}): {last_words}")


def _memory_kills(root: Path) -> int:
    """How many processes the kernel has killed for want of memory so far; 0 where it does not say."""
    try:
        text = (root / "proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0
