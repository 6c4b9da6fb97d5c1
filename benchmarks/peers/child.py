"""A handle on a peer's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.protocol import Case
from benchmarks.peers.worker import case_text
from edge_sr.errors import BackendError

__all__ = ["Child", "prepare"]

ROOT = Path(__file__).parents[2]


def prepare(key: str, case: Case) -> None:
    """Has a peer make its weights or graphs, in a process of its own.

    Raises:
        BackendError: It failed.
    """
    done = subprocess.run(
        _command("prepare", key, case),
        cwd=ROOT,
        env=_environment(case),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BackendError(f"{key} could not be prepared: {_last_line(done.stderr)}")


class Child:
    """A peer that is open and answers.

    Attributes:
        open_s: Seconds from the start of loading to the end of the first image, imports included.
    """

    def __init__(self, key: str, case: Case) -> None:
        """Starts it.

        Raises:
            BackendError: It does not come up.
        """
        self.key = key
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            _command("serve", key, case),
            cwd=ROOT,
            env=_environment(case),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.open_s = float(self._answer()["open_s"])
        except BaseException:
            self.close()
            raise

    def seconds(self, image: int) -> float:
        """Seconds that an image takes, after a run that is not counted."""
        return float(self._ask({"image": image})["seconds"])

    def save(self, path: Path) -> int:
        """Has every image enlarged and written, and says the process's peak of memory in bytes."""
        return int(self._ask({"save": str(path)})["peak_bytes"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise BackendError(f"{self.key} ended: {_last_line(self._errors.read())}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process, and waits for that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Child:
        """The child itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()


def _command(mode: str, key: str, case: Case) -> list[str]:
    return [sys.executable, "-m", "benchmarks.peers.worker", mode, key, case_text(case)]


def _environment(case: Case) -> dict[str, str]:
    """As many threads for everyone; what a compiler keeps goes into the case's folder, which is new."""
    own = {
        "OMP_NUM_THREADS": str(case.threads),
        "TORCHINDUCTOR_CACHE_DIR": str(case.work / "inductor"),
        "HF_HUB_OFFLINE": "1",
    }
    return {**os.environ, **own}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
