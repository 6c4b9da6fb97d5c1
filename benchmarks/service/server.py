"""`edge-sr serve` in a process of its own, as anybody would run it."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_sr.errors import DeviceError

__all__ = ["serving"]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
PAUSE_S = 0.05
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


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
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "service.json", Path(folder) / "log"
        config.write_text(json.dumps({"queue_size": queue_size, "deadline_s": 600.0}), encoding="utf-8")
        command = [sys.executable, "-m", "edge_sr", "serve", "--port", "0", "--config", str(config), *options]
        with log.open("wb") as said:
            process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
        try:
            yield _await_ready(process, log)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        found = LISTENING.search(log.read_text(encoding="utf-8"))
        if found and _is_ready(int(found[1])):
            return int(found[1])
        time.sleep(PAUSE_S)
    said = " / ".join(log.read_text(encoding="utf-8").strip().splitlines()[-3:])
    raise DeviceError(f"edge-sr serve did not become ready; it said: {said or 'nothing'}")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
