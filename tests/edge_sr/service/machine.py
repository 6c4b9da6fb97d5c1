"""A machine with a systemd of its own, booted over a copy-on-write view of this one's root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.edge_sr.service.rig import PATIENCE_S, eventually
from tests.test_layering import ROOT

SCRIPT = Path(__file__).with_name("machine.sh")
TOOLS = ("unshare", "nsenter", "systemctl", "curl")
PYTHON = Path("/usr/bin/python3")
ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb")


class Machine:
    """A booted machine.

    Attributes:
        python: Its interpreter that has edge-sr.
    """

    python = "/opt/edge-sr/bin/python"

    def __init__(self, pid: int) -> None:
        """Args: pid: of its systemd, as seen from here."""
        self.pid = pid

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in it as root."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", *ENVIRONMENT]
        done = subprocess.run([*enter, *command], capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def shell(self, line: str) -> str:
        """What a line of shell prints."""
        return self.run("bash", "-ec", line).stdout.strip()

    def edge_sr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `edge-sr` in it."""
        return self.run(self.python, "-I", "-m", "edge_sr", *arguments, check=False)

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.run("systemctl", "show", "-P", name, "edge-sr").stdout.strip()

    def log(self) -> str:
        """What the service wrote."""
        return self.run("journalctl", "-u", "edge-sr", "--no-pager", "-o", "cat").stdout


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A machine, from its boot until it is gone; the test skips where none can be booted."""
    _check_tools()
    cgroup = _cgroup()
    places = [str(folder), sysconfig.get_path("purelib"), str(ROOT)]
    with subprocess.Popen([str(SCRIPT), *places, str(cgroup)], stderr=subprocess.PIPE, text=True) as script:
        machine = None
        try:
            eventually(lambda: script.poll() is not None or _init_of(script.pid) is not None)
            machine = Machine(_init_of(script.pid) or 0)
            eventually(lambda: script.poll() is not None or _is_up(machine))
            if script.poll() is not None:
                assert script.stderr
                pytest.skip(f"no systemd can be booted here: {script.stderr.read().strip()}")
            _install(machine)
            yield machine
        finally:
            if machine is not None and machine.pid and script.poll() is None:
                os.kill(machine.pid, 9)
            script.wait(PATIENCE_S)
            _remove(cgroup / f"edge-sr-test-{script.pid}")


def _check_tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing or not Path("/lib/systemd/systemd").exists():
        pytest.skip(f"booting a systemd needs root and {', '.join(missing) or 'systemd'}")
    told = subprocess.run([PYTHON, "-V"], capture_output=True, text=True) if PYTHON.exists() else None
    version = "{}.{}".format(*sys.version_info)
    if told is None or not told.stdout.startswith(f"Python {version}."):
        pytest.skip(f"{PYTHON} is not {version}, for which the packages of these tests are")


def _cgroup() -> Path:
    """A mounted cgroup2 in which a group can be made."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    pytest.skip("no writable cgroup2 is mounted")


def _init_of(pid: int) -> int | None:
    """The child of a process that runs systemd."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
            return int(child)
    return None


def _is_up(machine: Machine) -> bool:
    state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
    return state in ("running", "degraded")


def _install(machine: Machine) -> None:
    """What `pip install` would do under /opt, with the packages and the checkout of these tests."""
    machine.run(str(PYTHON), "-m", "venv", "--without-pip", "/opt/edge-sr")
    packages = machine.shell("ls -d /opt/edge-sr/lib/python3*/site-packages")
    machine.shell(rf"printf '/opt/source\n/opt/site\n' > {packages}/edge-sr.pth")
    assert re.fullmatch(
        r"/opt/source/\S+", machine.shell(f"{machine.python} -Ic 'import edge_sr as e; print(e.__file__)'")
    )


def _remove(group: Path) -> None:
    """A control group and all in it, once their processes are gone."""
    if not group.exists():
        return
    eventually(lambda: "populated 0" in (group / "cgroup.events").read_text())
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
