"""Reads Dockerfiles, and the rules that those of this project keep. hadolint knows more, but not these."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

__all__ = ["Instruction", "broken_rules", "parse", "sent_to_the_builder"]

PINNED = re.compile(r".+:(?!latest$)[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?$")
PIPED = re.compile(r"\b(curl|wget)\b.*\|\s*(sudo\s+)?(ba|da|z)?sh\b")
ENGINES = re.compile(r"\bbuild-engine\b|\btrtexec\b|\.plan\b|\.engine\b|\bimport tensorrt\b")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its line, its word in capitals, and the rest with continued lines joined."""

    line: int
    word: str
    rest: str

    @property
    def flags(self) -> dict[str, str]:
        """Those before the arguments, as in `--from=wheel`."""
        found = re.match(r"(?:--\S+\s+)*", self.rest)
        words = shlex.split(found[0]) if found else []
        return dict(word.removeprefix("--").partition("=")[::2] for word in words)

    @property
    def arguments(self) -> list[str]:
        """What follows the flags, as words; the list itself in the form of JSON."""
        rest = re.sub(r"^(?:--\S+\s+)*", "", self.rest)
        if rest.startswith("["):
            words: list[str] = json.loads(rest)
            return words
        return shlex.split(rest)


def parse(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile in order, without comments."""
    found: list[Instruction] = []
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (line.strip() or joined):
            continue
        start = start if joined else number
        joined += " " + line.strip().removesuffix("\\").strip()
        if not line.rstrip().endswith("\\"):
            word, _, rest = joined.strip().partition(" ")
            found.append(Instruction(start, word.upper(), rest.strip()))
            joined = ""
    return found


def broken_rules(text: str, root: Path) -> list[str]:
    """What is wrong with a Dockerfile whose context is `root`: one sentence each."""
    instructions = parse(text)
    checks = (_bases, _user, _downloads, _privileges, _engines, _copies)
    return [sentence for check in checks for sentence in check(instructions, root)]


def _bases(instructions: list[Instruction], root: Path) -> Iterator[str]:
    """Every base is a stage of this file, or has a tag with a number in it."""
    known, stages = {}, set()
    for instruction in instructions:
        if instruction.word == "ARG":
            name, _, value = instruction.rest.partition("=")
            known[name] = value
        elif instruction.word == "FROM":
            image, *named = instruction.arguments
            image = re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], ""), image)
            if image not in stages and not PINNED.match(image):
                yield f"line {instruction.line}: the base {image!r} is not pinned"
            stages |= set(named[1:])


def _user(instructions: list[Instruction], root: Path) -> Iterator[str]:
    """The last stage ends as a user with a number that is not root's."""
    last = max((i.line for i in instructions if i.word == "FROM"), default=0)
    users = [i.rest for i in instructions if i.word == "USER" and i.line > last]
    if not users or not re.match(r"[1-9]\d*(:|$)", users[-1]):
        yield f"it ends as {users[-1] if users else 'root'}, and not as a user with a number above 0"


def _downloads(instructions: list[Instruction], root: Path) -> Iterator[str]:
    for instruction in instructions:
        if PIPED.search(instruction.rest):
            yield f"line {instruction.line}: what is downloaded is run unseen"
        if instruction.word == "ADD":
            yield f"line {instruction.line}: ADD fetches and unpacks; COPY says what it does"


def _privileges(instructions: list[Instruction], root: Path) -> Iterator[str]:
    for instruction in instructions:
        if re.search(r"--privileged|--security=insecure|\bsudo\b|chmod\s+(-R\s+)?0?777", instruction.rest):
            yield f"line {instruction.line}: more rights than it needs"


def _engines(instructions: list[Instruction], root: Path) -> Iterator[str]:
    """An engine belongs to a GPU, and TensorRT cannot even be imported where the board's driver is not."""
    for instruction in instructions:
        if instruction.word in ("RUN", "COPY") and ENGINES.search(instruction.rest):
            yield f"line {instruction.line}: an engine has no place in an image"


def _copies(instructions: list[Instruction], root: Path) -> Iterator[str]:
    """What is copied is in the repository, and is not held back by .dockerignore."""
    sent = sent_to_the_builder(root)
    for instruction in instructions:
        if instruction.word == "COPY" and "from" not in instruction.flags:
            for source in instruction.arguments[:-1]:
                path = source.removeprefix("./").rstrip("/")
                if not (root / path).exists():
                    yield f"line {instruction.line}: there is no {source}"
                elif not any(name == path or name.startswith(f"{path}/") for name in sent):
                    yield f"line {instruction.line}: .dockerignore holds {source} back"


@cache
def sent_to_the_builder(root: Path) -> set[str]:
    """The files under `root` that .dockerignore lets through, by its last pattern that matches.

    Of files and folders whose names start with a dot none is.
    """
    text = (root / ".dockerignore").read_text(encoding="utf-8")
    patterns = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    tops = [path for path in root.iterdir() if not path.name.startswith(".")]
    paths = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    names = (path.relative_to(root).as_posix() for path in paths)
    return {name for name in names if _is_sent(name, patterns)}


def _is_sent(name: str, patterns: list[str]) -> bool:
    parts = name.split("/")
    prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    is_sent = True
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        anywhere = glob.removeprefix("**/")
        hits = parts if anywhere != glob else [p for p in prefixes if p.count("/") == glob.count("/")]
        if any(fnmatch(hit, anywhere) for hit in hits):
            is_sent = pattern.startswith("!")
    return is_sent
