"""How a run was started, kept in its folder for the provenance of the bundle."""

from __future__ import annotations

import shlex
from pathlib import Path

from edge_sr.errors import OutputError

COMMAND = "command.txt"


def note_command(run: Path, arguments: list[str], *, after: Path | None) -> None:
    """Notes the command in the run's folder, behind that of the run that it comes `after`.

    Raises:
        OutputError: The folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        before = () if after is None else commands_of(after)
        (run / COMMAND).write_text("\n".join([*before, without_places(arguments)]) + "\n")
    except OSError as error:
        raise OutputError(f"{run} cannot be written: {error.strerror or error}") from error


def without_places(arguments: list[str]) -> str:
    """The command, with every path cut to its last part: a bundle does not say where it was made."""
    words = [f"FOLDER/{Path(word).name}" if "/" in word else word for word in arguments]
    return shlex.join(["python", "-m", "export", *words])


def commands_of(run: Path) -> tuple[str, ...]:
    """The command that started a run, behind that of its teacher where it had one."""
    path = run / COMMAND
    return tuple(path.read_text().splitlines()) if path.is_file() else (f"unknown ({run.name})",)
