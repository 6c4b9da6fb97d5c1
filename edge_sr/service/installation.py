"""What `edge-sr install-service` puts where: a plan first, which can be shown, and then done.

A file that was written here says so in its first line, with a digest of the rest. Such a file is updated, and
taken away again; one that somebody else wrote or changed is neither. Settings and the token belong to the
operator: they are written where there are none, and then left alone.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import ipaddress
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

import edge_sr
from edge_sr.errors import OutputError, UsageError

__all__ = [
    "Action",
    "Choices",
    "Deed",
    "check_python",
    "do",
    "plan_install",
    "plan_uninstall",
    "systemctl_lines",
]

UNITS = PurePosixPath("/etc/systemd/system")
SERVICE, SOCKET, NODE = (UNITS / f"edge-sr{name}" for name in (".service", ".socket", "-node.service"))
GPU, TOKEN_UNIT, NETWORK = "10-gpu.conf", UNITS / "edge-sr.service.d/20-token.conf", "30-network.conf"
TOKEN = PurePosixPath("/etc/edge-sr/token")
SETTINGS, NODE_SETTINGS = (PurePosixPath("/etc/edge-sr") / name for name in ("service.toml", "node.toml"))
DROP_INS = {unit: UNITS / f"{unit.name}.d" for unit in (SERVICE, SOCKET, NODE)}
OURS = (
    *(SERVICE, SOCKET, NODE, TOKEN_UNIT),
    *(DROP_INS[unit] / GPU for unit in (SERVICE, NODE)),
    *(DROP_INS[unit] / NETWORK for unit in (SERVICE, SOCKET, NODE)),
)
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What a service with ProtectHome and PrivateTmp does not see."""
NODES = (
    "nvidia[0-9]*",
    "nvidiactl",
    "nvidia-*",
    "nvidia-caps/*",
    "nvmap",
    "nvhost-*",
    "nvgpu/*/*",
    "nvsciipc",
)
MAIN_NODES = ("nvmap", "nvidiactl")
GROUPS = ("video", "render")
_STAMP = "# Written by edge-sr install-service; changes go into a drop-in of their own. sha256 "
_FIRST = re.compile(re.escape(_STAMP) + r"([0-9a-f]{64})\n")


class Action(str, Enum):
    """What becomes of a file."""

    WRITE = "write"
    UPDATE = "update"
    REPLACE = "replace"
    KEEP = "keep"
    REMOVE = "remove"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Deed:
    """One file, and what becomes of it.

    Attributes:
        path: As the service will see it, without the root.
        action: What is done.
        text: What it will hold, or holds.
        mode: Its permissions.
        why: For the operator, where it is not plain.
    """

    path: PurePosixPath
    action: Action
    text: str = ""
    mode: int = 0o644
    why: str = ""

    def __str__(self) -> str:
        """The deed in a line."""
        return f"{self.action.value:8}{self.path}" + (f"  ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Choices:
    """What may be chosen.

    Attributes:
        root: Folder in which all paths begin.
        python: The interpreter that runs the service.
        has_gpu: Whether it may use the GPU; None for whether there is one.
        listen: ADDRESS:PORT that systemd holds open; "" for none.
        has_token: Whether clients must show a token.
        has_node: Whether there is a DICOM network node too.
        allow_from: Networks beyond this machine from which it can be reached.
        replace: Whether files that somebody else wrote give way; they are kept under another name.
    """

    root: Path = Path("/")
    python: str = sys.executable
    has_gpu: bool | None = None
    listen: str = ""
    has_token: bool = False
    has_node: bool = False
    allow_from: tuple[str, ...] = ()
    replace: bool = False

    def at(self, path: PurePosixPath) -> Path:
        """Where a path lies now."""
        return self.root / path.relative_to("/")


def check_python(python: str) -> None:
    """Refuses an interpreter that the service could not start.

    Raises:
        UsageError: It, or what it needs, lies where the service does not see.
    """
    places = [python]
    if python == sys.executable:
        places += [str(Path(python).resolve()), sys.base_prefix, str(Path(edge_sr.__file__).resolve())]
    for place in places:
        folder = next((folder for folder in HIDDEN if PurePosixPath(place).is_relative_to(folder)), None)
        if folder or not place.startswith("/"):
            raise UsageError(
                f"the service sees nothing in {folder}, where {place} is"
                if folder
                else f"{place} is no full path",
                hint="install edge-sr under /opt, as the page 'As a service' shows, and run it from there",
            )


def plan_install(choices: Choices) -> list[Deed]:
    """What an installation does; nothing is done yet. What was chosen at an earlier one stays chosen.

    Raises:
        UsageError: A network or an address is none, or a GPU is asked for and there is none.
    """
    units = _units(choices)
    deeds = [_deed(choices, path, _stamped(text)) for path, text in units.items()]
    deeds.append(_once(choices, SETTINGS, _template(SETTINGS.name), mode=0o644))
    if NODE in units:
        deeds.append(_once(choices, NODE_SETTINGS, _template(NODE_SETTINGS.name), mode=0o644))
    if TOKEN_UNIT in units:
        deeds.append(_once(choices, TOKEN, secrets.token_hex(32) + "\n", mode=0o600))
    return deeds


def plan_uninstall(choices: Choices) -> list[Deed]:
    """What taking it away does; nothing is done yet."""
    there = [path for path in OURS if choices.at(path).exists()]
    deeds = [
        Deed(path, Action.REMOVE)
        if _is_ours(_read(choices.at(path)))
        else Deed(path, Action.KEEP, why="somebody else wrote or changed it")
        for path in there
    ]
    for path in (SETTINGS, NODE_SETTINGS):
        if choices.at(path).exists():
            is_unchanged = _read(choices.at(path)) == _template(path.name)
            settings = Deed(path, Action.KEEP, why="it was changed")
            deeds.append(Deed(path, Action.REMOVE) if is_unchanged else settings)
    if choices.at(TOKEN).exists():
        deeds.append(Deed(TOKEN, Action.KEEP, why="it is a secret that clients know"))
    return deeds


def do(deeds: Iterable[Deed], choices: Choices) -> None:
    """Does what was planned.

    Raises:
        OutputError: A file cannot be written or removed.
    """
    for deed in deeds:
        path = choices.at(deed.path)
        try:
            if deed.action is Action.REMOVE:
                path.unlink()
                _remove_empty(path.parent)
            elif deed.action in (Action.WRITE, Action.UPDATE, Action.REPLACE):
                if deed.action is Action.REPLACE:
                    path.replace(path.with_name(f"{path.name}.before-edge-sr"))
                _write(path, deed)
        except OSError as error:
            raise OutputError(
                f"{path}: cannot be written: {error.strerror}", hint="run it as root"
            ) from error


def systemctl_lines(deeds: Iterable[Deed], *, starts: bool, removes: bool = False) -> list[list[str]]:
    """The arguments of systemctl that make systemd notice, before or after the files change.

    Args:
        deeds: A whole plan.
        starts: Whether the service is to run afterwards.
        removes: Whether it is being taken away: then these come first, but for the reload.
    """
    texts = {deed.path: deed.text for deed in deeds}
    units = [path.name for path in (SOCKET, SERVICE, NODE) if path in texts]
    if removes:
        return [["disable", "--now", *units]] if units else []
    lines = [["daemon-reload"], ["enable", *units]]
    if starts and SOCKET in texts:  # a socket cannot begin to listen while its service does
        lines += [["stop", SERVICE.name], ["restart", SOCKET.name], ["start", SERVICE.name]]
    elif starts:
        lines.append(["restart", SERVICE.name])
    if starts and NODE in texts and texts[NODE_SETTINGS] != _template(NODE_SETTINGS.name):  # it says to whom
        lines.append(["restart", NODE.name])
    return lines


# ---- what is in the files


def _units(choices: Choices) -> dict[PurePosixPath, str]:
    """Every unit and drop-in of an installation."""
    command = f"{_quoted(choices.python)} -I -m edge_sr"
    hardening = _template("hardening.conf").rstrip()
    units = {
        path: _template(path.name, COMMAND=command, CONFIG=str(config), HARDENING=hardening)
        for path, config in ((SERVICE, SETTINGS), (NODE, NODE_SETTINGS))
        if path is SERVICE or choices.has_node or _was_written(choices, path)
    }
    units |= {DROP_INS[path] / GPU: text for path in units for text in _gpu(choices)}
    if choices.has_token or _was_written(choices, TOKEN_UNIT):
        units[TOKEN_UNIT] = _template(TOKEN_UNIT.name, TOKEN=str(TOKEN))
    if choices.listen:
        units[SOCKET] = _template(SOCKET.name, LISTEN=_listening(choices.listen))
    elif _was_written(choices, SOCKET):
        units[SOCKET] = _unstamped(choices, SOCKET)
    return units | _network(choices, [path for path in DROP_INS if path in units])


def _network(choices: Choices, units: Iterable[PurePosixPath]) -> dict[PurePosixPath, str]:
    wanted = {DROP_INS[unit] / NETWORK: unit.suffix[1:].capitalize() for unit in units}
    if not choices.allow_from:
        return {path: _unstamped(choices, path) for path in wanted if _was_written(choices, path)}
    allow = "\n".join(f"IPAddressAllow={_network_of(text)}" for text in choices.allow_from)
    return {path: _template(NETWORK, SECTION=name, ALLOW=allow) for path, name in wanted.items()}


def _gpu(choices: Choices) -> list[str]:
    """The drop-in for a GPU, where there is one to use."""
    dev = choices.root / "dev"
    nodes = sorted({node for pattern in NODES for node in dev.glob(pattern) if not node.is_dir()})
    main = [dev / name for name in MAIN_NODES if (dev / name).exists()]
    if choices.has_gpu and not main:
        raise UsageError(
            f"no GPU is here: {dev} has none of {', '.join(MAIN_NODES)}", hint="load its driver first"
        )
    if choices.has_gpu is False or not main:
        return []
    nodes += sorted(dev.glob("dri/renderD*"))
    lines = [f"DeviceAllow=/{node.relative_to(choices.root)} rw" for node in nodes]
    if any(node.name.startswith("nvidia") for node in nodes):
        lines.append("DeviceAllow=char-nvidia* rw")  # nodes of a desktop's driver that are made on use
    groups = [name for name in GROUPS if _has_group(choices.root, name)]
    return [
        _template(
            GPU,
            DEVICES="\n".join(lines),
            GROUPS=f"SupplementaryGroups={' '.join(groups)}",
            NODE=f"/{main[0].relative_to(choices.root)}",
        )
    ]


def _has_group(root: Path, name: str) -> bool:
    return re.search(rf"^{name}:", _read(root / "etc/group"), re.MULTILINE) is not None


def _network_of(text: str) -> str:
    if text in ("any", "link-local"):
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise UsageError(f"{text} is no network: {error}", hint="as in 10.1.2.0/24, or any") from error


def _listening(text: str) -> str:
    """ADDRESS:PORT, checked."""
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65536:
            raise ValueError(f"port {port}")
    except ValueError as error:
        raise UsageError(f"{text} is no address and port: {error}", hint="as in 127.0.0.1:8080") from error
    return text


def _quoted(path: str) -> str:
    """A path as one word of ExecStart (systemd.service(5), command lines)."""
    escaped = path.replace("%", "%%").replace("$", "$$")
    return (
        escaped
        if shlex.quote(path) == path
        else '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


def _template(name: str, **values: str) -> str:
    """A file of this package with its values filled in."""
    text = (importlib.resources.files("edge_sr.service") / "units" / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


# ---- whose the files are


def _stamped(text: str) -> str:
    return f"{_STAMP}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def _is_ours(text: str) -> bool:
    """Whether a file was written here and not changed since."""
    match = _FIRST.match(text)
    return match is not None and text == _stamped(text[match.end() :])


def _was_written(choices: Choices, path: PurePosixPath) -> bool:
    return choices.at(path).exists() and _FIRST.match(_read(choices.at(path))) is not None


def _unstamped(choices: Choices, path: PurePosixPath) -> str:
    return _FIRST.sub("", _read(choices.at(path)), count=1)


def _deed(choices: Choices, path: PurePosixPath, text: str) -> Deed:
    there = choices.at(path)
    if not there.exists():
        return Deed(path, Action.WRITE, text)
    found = _read(there)
    if found == text:
        return Deed(path, Action.KEEP, text, why="it is as it should be")
    if _is_ours(found):
        return Deed(path, Action.UPDATE, text)
    if choices.replace:
        return Deed(path, Action.REPLACE, text, why=f"the old one is kept as {path.name}.before-edge-sr")
    return Deed(path, Action.REFUSE, text, why="somebody else wrote or changed it")


def _once(choices: Choices, path: PurePosixPath, text: str, *, mode: int) -> Deed:
    if choices.at(path).exists():
        return Deed(path, Action.KEEP, _read(choices.at(path)), why="it is yours")
    return Deed(path, Action.WRITE, text, mode)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}", hint="run it as root") from error


def _write(path: Path, deed: Deed) -> None:
    """Whole or not at all, and never readable by more than it should be."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "x", encoding="utf-8", opener=_opener(deed.mode)) as file:
            file.write(deed.text)
            file.flush()
            os.fchmod(file.fileno(), deed.mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _opener(mode: int) -> Callable[[str, int], int]:
    return lambda name, flags: os.open(name, flags, mode)


def _remove_empty(folder: Path) -> None:
    """A folder that was made for what is gone."""
    ours = {"edge-sr", *(path.name for path in DROP_INS.values())}
    if folder.name in ours and not any(folder.iterdir()):
        folder.rmdir()
