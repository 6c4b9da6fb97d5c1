"""`edge-sr install-service`: what it shows, writes, leaves alone, takes away; what systemd says of it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sr.cli import run
from edge_sr.cli.install_service import install_service
from edge_sr.errors import ConfigError, UsageError
from edge_sr.node.settings import load_node_settings
from edge_sr.service.installation import check_python
from edge_sr.service.settings import load_settings

PYTHON = "/usr/bin/env"
"""Stands for the interpreter: systemd-analyze wants one that exists."""
UNITS = Path("etc/systemd/system")
SERVICE, SETTINGS, TOKEN = (
    UNITS / "edge-sr.service",
    Path("etc/edge-sr/service.toml"),
    Path("etc/edge-sr/token"),
)
MOST_EXPOSED = 2.5
JETSON = ("dev/nvmap", "dev/nvhost-ctrl-gpu", "dev/nvgpu/igpu0/ctrl", "dev/dri/renderD128", "dev/dri/card0")
DESKTOP = ("dev/nvidiactl", "dev/nvidia0", "dev/nvidia-uvm", "dev/nvidia-caps/nvidia-cap1")

Install = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The image of a system without a GPU."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\nvideo:x:44:\nrender:x:104:\n", encoding="ascii")
    return tmp_path


@pytest.fixture
def install(root: Path, capfd: pytest.CaptureFixture[str]) -> Install:
    """Runs the command on that system; gives exit code, stdout and stderr."""

    def installed(*options: str) -> tuple[int, str, str]:
        code = run(["install-service", "--root", str(root), "--python", PYTHON, *options])
        return code, *capfd.readouterr()

    return installed


def add_nodes(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def files(root: Path) -> dict[str, str]:
    """Every file of a system by its path, without those in /dev."""
    found = [path for path in root.rglob("*") if path.is_file() and "dev" not in path.relative_to(root).parts]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in found}


# ---- what is written


def test_it_writes_a_unit_and_settings_and_says_so(root: Path, install: Install) -> None:
    code, out, err = install()
    assert code == 0
    assert set(files(root)) == {"etc/group", str(SERVICE), str(SETTINGS)}
    assert "write   /etc/systemd/system/edge-sr.service\n" in out
    assert "run     systemctl restart edge-sr.service\n" in out
    assert "for you to run" in err
    assert (
        f"ExecStart={PYTHON} -I -m edge_sr serve --config /etc/edge-sr/service.toml"
        in files(root)[str(SERVICE)]
    )


def test_a_dry_run_says_the_same_and_writes_nothing(root: Path, install: Install) -> None:
    before = files(root)
    shown = install("--dry-run", "--token")
    assert files(root) == before
    done = install("--token")
    assert (shown[0], shown[1]) == (done[0], done[1])


def test_run_again_it_changes_nothing(root: Path, install: Install) -> None:
    install("--token", "--allow-from", "10.1.0.0/16", "--socket", "0.0.0.0:80")
    before = files(root)
    code, out, _ = install()
    assert code == 0
    assert files(root) == before, "what was chosen before stays chosen"
    assert {line.split()[0] for line in out.splitlines()} == {"keep", "run"}


def test_the_settings_that_it_writes_are_the_defaults(root: Path, install: Install) -> None:
    install()
    assert load_settings(root / SETTINGS) == load_settings()
    said = re.findall(r"^# (\w+) = (.+)$", files(root)[str(SETTINGS)], re.MULTILINE)
    toml = root / "said.toml"
    toml.write_text(
        "\n".join(f"{name} = {value}" for name, value in said if "tls" not in name), encoding="utf-8"
    )
    load_settings(toml)


def test_a_token_is_long_and_only_its_owner_can_read_it(root: Path, install: Install) -> None:
    install("--token")
    assert stat.S_IMODE((root / TOKEN).stat().st_mode) == 0o600
    assert load_settings(token_file=root / TOKEN, host="0.0.0.0").asks_who
    assert (
        "LoadCredential=token:/etc/edge-sr/token"
        in files(root)[str(UNITS / "edge-sr.service.d/20-token.conf")]
    )


@pytest.mark.parametrize(
    ("given", "written"), [("10.1.2.3", "10.1.2.3/32"), ("any", "any"), ("fd00::/8", "fd00::/8")]
)
def test_networks_that_may_come_in_are_added_to_this_machine(
    root: Path, install: Install, given: str, written: str
) -> None:
    assert install("--allow-from", given)[0] == 0
    network = files(root)[str(UNITS / "edge-sr.service.d/30-network.conf")]
    assert f"[Service]\nIPAddressAllow={written}\n" in network


@pytest.mark.parametrize(
    "options",
    [("--allow-from", "clinic"), ("--socket", "8080"), ("--socket", "a:80"), ("--socket", "127.0.0.1:0")],
)
def test_what_is_no_network_or_address_is_refused(
    root: Path, install: Install, options: tuple[str, str]
) -> None:
    before = files(root)
    code, _, err = install(*options)
    assert code == 1
    assert options[1] in err and "as in" in err
    assert files(root) == before


# ---- GPUs


@pytest.mark.parametrize("nodes", [JETSON, DESKTOP])
def test_a_gpu_gets_a_drop_in_with_its_nodes_and_the_groups_that_exist(
    root: Path, install: Install, nodes: tuple[str, ...]
) -> None:
    add_nodes(root, *nodes, "dev/sda", "dev/nvme0n1", "dev/nvram")
    (root / "etc/group").write_text("video:x:44:\n", encoding="ascii")
    install()
    gpu = files(root)[str(UNITS / "edge-sr.service.d/10-gpu.conf")]
    allowed = set(re.findall(r"^DeviceAllow=/(\S+) rw$", gpu, re.MULTILINE))
    assert allowed == set(nodes) - {"dev/dri/card0"}
    assert "\nSupplementaryGroups=video\n" in gpu
    assert f"\nExecStartPre=/usr/bin/test -e /{nodes[0]}\n" in gpu
    assert ("DeviceAllow=char-nvidia*" in gpu) == (nodes is DESKTOP)


def test_no_gpu_no_drop_in_and_one_that_is_asked_for_is_an_error(root: Path, install: Install) -> None:
    code, _, err = install("--gpu")
    assert code == 1
    assert "nvmap" in err
    add_nodes(root, *JETSON)
    install("--no-gpu")
    assert not (root / UNITS / "edge-sr.service.d").exists()


# ---- what belongs to somebody else


def test_a_unit_that_somebody_else_wrote_is_refused_and_nothing_is_done(root: Path, install: Install) -> None:
    (root / UNITS).mkdir(parents=True)
    (root / SERVICE).write_text("[Service]\n", encoding="utf-8")
    before = files(root)
    code, out, err = install()
    assert code == 1
    assert "refuse  /etc/systemd/system/edge-sr.service" in out and "nothing was done" in err
    assert files(root) == before


def test_a_unit_that_was_changed_by_hand_is_put_aside_where_that_is_asked_for(
    root: Path, install: Install
) -> None:
    install()
    mine = files(root)[str(SERVICE)] + "Nice=5\n"
    (root / SERVICE).write_text(mine, encoding="utf-8")
    assert install()[0] == 1
    assert install("--replace")[0] == 0
    assert files(root)[f"{SERVICE}.before-edge-sr"] == mine
    assert "Nice=5" not in files(root)[str(SERVICE)]


def test_a_unit_of_an_older_version_is_updated(root: Path, install: Install) -> None:
    install()
    code, out, _ = install("--python", "/usr/bin/python3")
    assert code == 0
    assert "update  /etc/systemd/system/edge-sr.service" in out
    assert "ExecStart=/usr/bin/python3 -I" in files(root)[str(SERVICE)]


def test_settings_and_tokens_that_exist_are_never_touched(root: Path, install: Install) -> None:
    (root / "etc/edge-sr").mkdir()
    (root / SETTINGS).write_text("port = 9000\n", encoding="utf-8")
    (root / TOKEN).write_text("mine", encoding="utf-8")
    assert install("--token", "--replace")[0] == 0
    assert (files(root)[str(SETTINGS)], files(root)[str(TOKEN)]) == ("port = 9000\n", "mine")


# ---- taking away


def test_uninstalling_leaves_nothing_but_what_is_the_operators(root: Path, install: Install) -> None:
    before = set(files(root))
    install("--socket", "127.0.0.1:80", "--allow-from", "any")
    code, out, _ = install("--uninstall")
    assert code == 0
    assert "run     systemctl disable --now edge-sr.socket edge-sr.service" in out
    assert set(files(root)) == before
    assert not (root / "etc/edge-sr").exists() and not (root / UNITS / "edge-sr.service.d").exists()


def test_uninstalling_keeps_what_was_changed_and_names_it(root: Path, install: Install) -> None:
    install("--token")
    for path in (SERVICE, SETTINGS):
        (root / path).write_text(files(root)[str(path)] + "# mine\n", encoding="utf-8")
    code, out, _ = install("--uninstall")
    assert code == 0
    for path in (SERVICE, SETTINGS, TOKEN):
        assert f"keep    /{path}  (" in out
        assert (root / path).exists()
    assert not (root / UNITS / "edge-sr.service.d").exists()


def test_uninstalling_what_is_not_installed_says_so(install: Install) -> None:
    code, out, _ = install("--uninstall")
    assert (code, out) == (0, "edge-sr is not installed as a service\n")


# ---- who runs it, and from where


AS_NOBODY = """
import os, sys
from edge_sr.cli import run
run([*sys.argv[1:], "--dry-run"])  # so that all is imported: nobody may not see this interpreter's files
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("option", [(), ("--uninstall",)])
def test_without_root_it_says_so_and_does_nothing(option: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", AS_NOBODY, "install-service", "--python", PYTHON, *option]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs root; nothing was done" in done.stderr and "sudo" in done.stderr


@pytest.mark.parametrize("place", ["/home/ann/venv/bin/python", "/root/x", "/tmp/x", "venv/bin/python"])
def test_an_interpreter_that_the_service_cannot_see_is_refused(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_python(place)
    assert "/opt" in caught.value.hint


@pytest.mark.parametrize(
    ("python", "word"),
    [
        ("/opt/a b/python", '"/opt/a b/python"'),
        ("/opt/50%/python", "/opt/50%%/python"),
        ("/opt/$x", '"/opt/$$x"'),
    ],
)
def test_a_path_is_one_word_to_systemd_whatever_is_in_it(root: Path, python: str, word: str) -> None:
    assert run(["install-service", "--root", str(root), "--python", python]) == 0
    assert f"ExecStart={word} -I -m edge_sr" in files(root)[str(SERVICE)]


# ---- what systemd says


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze over the units of a system, and this machine's own beside them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": f"{root / UNITS}:"}
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, env=environ)


ALL = ("--token", "--allow-from", "10.0.0.0/8", "--socket", "0.0.0.0:8080")


@pytest.mark.parametrize("options", [(), ALL])
@pytest.mark.parametrize("nodes", [(), JETSON, DESKTOP])
def test_systemd_finds_nothing_wrong_with_the_units(
    root: Path, install: Install, nodes: tuple[str, ...], options: tuple[str, ...]
) -> None:
    add_nodes(root, *nodes)
    install(*options)
    units = [str(path) for path in (root / UNITS).glob("edge-sr.*") if path.is_file()]
    assert len(units) == (2 if options else 1)
    done = analyze(root, "verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_find_it(root: Path, install: Install) -> None:
    install()
    with (root / SERVICE).open("a", encoding="utf-8") as file:
        file.write("[Service]\nNoNewPriviliges=yes\n")
    assert "NoNewPriviliges" in analyze(root, "verify", str(root / SERVICE)).stderr


def exposure(root: Path, unit: str) -> float:
    """What systemd makes of a unit, from 0 to 10; it must be at most that which is allowed."""
    threshold = f"--threshold={10 * MOST_EXPOSED:.0f}"
    done = analyze(root, "security", "--offline=true", threshold, "--no-pager", f"--root={root}", unit)
    told = re.search(rf"Overall exposure level for {unit}: ([0-9.]+)", done.stdout)
    assert told and done.returncode == 0, done.stdout + done.stderr
    return float(told[1])


def test_the_unit_on_the_page_for_a_watched_folder_is_one_that_systemd_takes(root: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/service.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```ini\n(.+?)```", page, re.DOTALL)
    (root / UNITS).mkdir(parents=True)
    path = root / UNITS / "edge-sr-watch.service"
    path.write_text(text.replace("/opt/edge-sr/bin/edge-sr", PYTHON), encoding="utf-8")
    done = analyze(root, "verify", str(path))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert exposure(root, path.name) <= MOST_EXPOSED


@pytest.mark.parametrize("options", [(), ALL])
@pytest.mark.parametrize("nodes", [(), JETSON, DESKTOP])
def test_its_exposure_is_small(
    root: Path, install: Install, nodes: tuple[str, ...], options: tuple[str, ...]
) -> None:
    add_nodes(root, *nodes)
    install(*options)
    assert exposure(root, "edge-sr.service") <= MOST_EXPOSED


# ---- the network node

NODE, NODE_SETTINGS = UNITS / "edge-sr-node.service", Path("etc/edge-sr/node.toml")


def test_the_node_is_installed_where_it_is_asked_for_and_starts_once_it_knows_to_whom_it_sends(
    root: Path, install: Install
) -> None:
    assert not install()[0] and not (root / NODE).exists()
    code, out, _ = install("--node")
    assert code == 0
    assert "run     systemctl enable edge-sr.service edge-sr-node.service\n" in out
    assert "restart edge-sr-node" not in out and "restart edge-sr-node" not in install()[1]
    with pytest.raises(ConfigError, match="send"):
        load_node_settings(root / NODE_SETTINGS)
    filled = files(root)[str(NODE_SETTINGS)].replace("# [", "[").replace("\n# ", "\n")
    (root / NODE_SETTINGS).write_text(filled.partition("\n\n")[2].partition("\n")[2], encoding="utf-8")
    assert load_node_settings(root / NODE_SETTINGS).send.title == "PACS"
    assert "run     systemctl restart edge-sr-node.service\n" in install()[1]


@pytest.mark.parametrize("nodes", [(), JETSON, DESKTOP])
def test_the_nodes_unit_is_as_guarded_as_the_services(
    root: Path, install: Install, nodes: tuple[str, ...]
) -> None:
    add_nodes(root, *nodes)
    install("--node", "--allow-from", "10.0.0.0/8")
    assert "IPAddressAllow=10.0.0.0/8" in files(root)[f"{NODE}.d/30-network.conf"]
    assert (f"{NODE}.d/10-gpu.conf" in files(root)) == bool(nodes)
    done = analyze(root, "verify", str(root / NODE))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert exposure(root, NODE.name) <= MOST_EXPOSED


def test_uninstalling_takes_the_node_away_too(root: Path, install: Install) -> None:
    before = set(files(root))
    install("--node", "--allow-from", "any")
    code, out, err = install("--uninstall")
    assert code == 0 and set(files(root)) == before
    assert "disable --now edge-sr.service edge-sr-node.service" in out
    assert "/var/lib/edge-sr-node" in err


def test_every_choice_has_help() -> None:
    assert all(getattr(option, "help", "") for option in install_service.params)
