"""The compose file: what it names exists, and the device's container has what a Jetson wants and no more."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker/compose.yaml"

SERVICE_KEYS = {
    *("build", "cap_drop", "command", "group_add", "image", "network_mode"),
    *("profiles", "runtime", "security_opt", "user", "volumes"),
}
"""Of the Compose specification, as far as they are used here."""


def filled(text: str, **given: str) -> str:
    """The text with `${NAME:-default}` replaced, as compose does it."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: given.get(match[1], match[2]), text)


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(filled(FILE.read_text(encoding="utf-8")))
    return loaded


@pytest.fixture
def device(compose: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = compose["services"]["device"]
    return service


def test_it_has_the_keys_of_the_specification_and_every_variable_a_default(compose: dict[str, Any]) -> None:
    assert set(compose) == {"services", "volumes"}
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS
    assert "$" not in filled(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("board", ["jetson", "jetson7"])
def test_what_is_built_is_there(board: str) -> None:
    compose = yaml.safe_load(filled(FILE.read_text(encoding="utf-8"), EDGE_SR_JETSON=board))
    for name, service in compose["services"].items():
        context = (FILE.parent / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
        assert re.fullmatch(r"edge-sr:(jetson7?|host)", service["image"]), name


def test_the_device_has_the_runtime_and_both_groups_by_number_and_no_other_rights(
    device: dict[str, Any],
) -> None:
    assert device["runtime"] == "nvidia"
    assert len(device["group_add"]) == 2 and all(group.isdigit() for group in device["group_add"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", device["user"])
    assert device["cap_drop"] == ["ALL"] and "no-new-privileges:true" in device["security_opt"]
    assert device["network_mode"] == "none"


def test_engines_are_kept_in_a_volume_where_the_image_has_its_own(
    compose: dict[str, Any], device: dict[str, Any]
) -> None:
    dockerfile = (ROOT / "docker/Dockerfile.jetson").read_text(encoding="utf-8")
    state = re.search(r"STATE_DIRECTORY=(\S+)", dockerfile)
    assert state and f"engines:{state[1]}" in device["volumes"]
    assert "engines" in compose["volumes"]


def test_nothing_of_the_board_can_be_written(device: dict[str, Any]) -> None:
    system = [volume for volume in device["volumes"] if volume.startswith("/")]
    assert system and all(volume.endswith(":ro") for volume in system)


def test_nothing_runs_privileged_or_with_the_host_s_devices() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert not re.search(r"privileged: *true|network_mode: *host|/var/run/docker.sock|pid: *host", text)


def test_compose_itself_reads_it() -> None:
    """Version 1, as Debian and Ubuntu 22.04 have it, or 2; neither needs a daemon for that."""
    tools = [["docker", "compose"], ["docker-compose"]]
    found = [tool for tool in tools if shutil.which(tool[0]) and _answers([*tool, "version"])]
    if not found:
        pytest.skip("no docker compose here")
    run = subprocess.run(
        [*found[0], "-f", str(FILE), "--profile", "device", "--profile", "host", "config", "--quiet"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def _answers(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
