"""`edge-sr serve` in a process of its own, as anybody would run it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sr.errors import DeviceError

__all__ = ["Served", "is_ready", "serving", "started"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
PAUSE_S = 0.05
FOLDERS = ("TMPDIR", "XDG_CACHE_HOME", "STATE_DIRECTORY", "HOME")
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Served:
    """A server that is ready.

    Attributes:
        process: It.
        port: On this machine.
        folder: All that it may write to is below: its temporary, cache, state and home folders, its log.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def files(self) -> list[str]:
        """What it has written, its log apart."""
        found = sorted((self.folder / "its").rglob("*"))
        return [str(path.relative_to(self.folder)) for path in found if path.is_file()]


@contextmanager
def started(command: Sequence[str], *, settings: Mapping[str, Any]) -> Iterator[Served]:
    """A server that is ready, in a process that knows no folder of the user's.

    Args:
        command: `edge-sr serve` or a stand-in, after the interpreter; where to listen is added.
        settings: Of its configuration file.

    Raises:
        DeviceError: It ended, or did not become ready; with the last lines that it said.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, log, environment = folder / "service.json", folder / "log", dict(os.environ)
        config.write_text(json.dumps({"port": 0, **settings}), encoding="utf-8")
        for variable in FOLDERS:
            (folder / "its" / variable).mkdir(parents=True)
            environment[variable] = str(folder / "its" / variable)
        with log.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, *command, "--config", str(config)],
                cwd=ROOT,
                env=environment,
                stdout=said,
                stderr=said,
            )
        try:
            yield Served(process, _await_ready(process, log), folder)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def serving(options: Sequence[str], *, queue_size: int) -> Iterator[int]:
    """A server that is ready, on a port of its own.

    Args:
        options: Of `edge-sr serve`.
        queue_size: Requests that may wait.

    Yields:
        Its port on this machine.

    Raises:
        DeviceError: It ended, or did not become ready; with the last lines that it said.
    """
    settings = {"queue_size": queue_size, "deadline_s": 600.0}
    with started(["-m", "edge_sr", "serve", *options], settings=settings) as served:
        yield served.port


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        found = LISTENING.search(log.read_text(encoding="utf-8"))
        if found and is_ready(int(found[1])):
            return int(found[1])
        time.sleep(PAUSE_S)
    said = " / ".join(log.read_text(encoding="utf-8").strip().splitlines()[-3:])
    raise DeviceError(f"edge-sr serve did not become ready; it said: {said or 'nothing'}")


def is_ready(port: int) -> bool:
    """Whether it says that it takes requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
