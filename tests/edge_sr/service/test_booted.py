"""The installed service under a systemd that really runs it, hardened as it is: `pytest -m slow` as root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.machine import Machine, booted
from tests.edge_sr.service.rig import eventually, picture
from tests.edge_sr.service.stuck import STUCK

pytestmark = pytest.mark.slow

ASK = "curl -sS -o /run/answer -w '%{http_code}' -H 'Content-Type: image/png' --data-binary @/run/a.png"
URL = "http://127.0.0.1:8080/v1/upscale"
STUCK_DROP_IN = f"""
[Service]
ExecStart=
ExecStart={Machine.python} -m tests.edge_sr.service.stuck serve --config /etc/edge-sr/service.toml
Environment=PYTHONPATH=/opt/source {STUCK}=/run/edge-sr/stuck
RuntimeDirectory=edge-sr
WatchdogSec=3
"""
STUCK_SETTINGS = 'backend = "stuck"\ndeadline_s = {0}\nhang_s = {0}\ndrain_s = 1.0\n'


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    image = tmp_path_factory.mktemp("image") / "a.png"
    image.write_bytes(picture(64, 64))
    with booted(folder) as found:
        found.shell(f"printf '{octal(image)}' > /run/a.png")
        yield found


def octal(path: Path) -> str:
    """A file as printf writes it."""
    return "".join(f"\\{byte:03o}" for byte in path.read_bytes())


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The service, installed and started with its defaults; gone at the end."""
    done = machine.edge_sr("install-service")
    assert done.returncode == 0, done.stdout + done.stderr + machine.log()
    yield machine
    machine.run("systemctl", "stop", "edge-sr", check=False)
    machine.edge_sr("install-service", "--uninstall")
    machine.shell(
        "rm -rf /etc/edge-sr /etc/systemd/system/edge-sr*; systemctl daemon-reload; systemctl reset-failed"
    )


@pytest.fixture
def limit_s() -> float:
    """How long a request, and then the device, may take."""
    return 1.0


@pytest.fixture
def stuck(service: Machine, limit_s: float) -> Machine:
    """The same, over a device that stands still while /run/edge-sr/stuck exists."""
    drop_in = "/etc/systemd/system/edge-sr.service.d/99-stuck.conf"
    service.shell(f"mkdir -p $(dirname {drop_in}); echo '{STUCK_DROP_IN}' > {drop_in}")
    service.shell(
        f"echo '{STUCK_SETTINGS.format(limit_s)}' > /etc/edge-sr/service.toml; systemctl daemon-reload"
    )
    service.shell("systemctl restart edge-sr")
    return service


def restarted(machine: Machine, pid: str) -> None:
    """Waits until another process than that one is ready."""
    eventually(lambda: machine.show("MainPID") not in (pid, "0") and machine.show("ActiveState") == "active")


def test_hardened_as_it_is_it_enlarges_an_image_of_the_shipped_bundle(service: Machine) -> None:
    assert service.show("ActiveState") == "active"
    assert service.show("StatusText") == "ready"
    assert "on onnxruntime" in service.log()
    assert service.shell(f"{ASK} {URL}") == "200"
    assert service.shell("head -c 4 /run/answer | tail -c 3") == "PNG"
    status = service.shell(f"cat /proc/{service.show('MainPID')}/status")
    assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status and f"CapEff:\t{0:016x}\n" in status


def test_killed_it_is_back(service: Machine) -> None:
    pid = service.show("MainPID")
    service.run("systemctl", "kill", "-s", "KILL", "edge-sr")
    restarted(service, pid)
    assert service.show("NRestarts") == "1"
    assert service.shell(f"{ASK} {URL}") == "200"


def test_a_device_that_hangs_is_noticed_and_the_service_is_back(stuck: Machine) -> None:
    pid = stuck.show("MainPID")
    stuck.shell("touch /run/edge-sr/stuck")
    assert stuck.shell(f"{ASK} {URL}") == "504"
    restarted(stuck, pid)  # the folder is made anew with the service, and nothing is stuck
    assert stuck.shell(f"{ASK} {URL}") == "200"
    log = stuck.log()
    assert "Watchdog timeout" in log
    assert "Fatal Python error: Aborted" in log and "in enqueue" in log


@pytest.mark.parametrize("limit_s", [60.0])
def test_stopped_it_drains_and_ends_with_success_even_where_the_device_hangs(stuck: Machine) -> None:
    stuck.shell("touch /run/edge-sr/stuck")
    busy = "until systemctl show -P StatusText edge-sr | grep -q busy; do sleep 0.1; done"
    stuck.shell(f"({ASK} {URL} > /run/status) & asked=$!; {busy}; systemctl stop edge-sr; wait $asked")
    assert stuck.shell("cat /run/status") == "503"
    assert stuck.show("Result") == "success", stuck.log()


def test_a_bad_configuration_is_not_tried_again(service: Machine) -> None:
    service.shell("echo 'prot = 1' > /etc/edge-sr/service.toml")
    assert service.run("systemctl", "restart", "edge-sr", check=False).returncode != 0
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("78", "0")


def test_with_a_token_others_may_ask_and_systemd_hands_it_over(machine: Machine, service: Machine) -> None:
    machine.shell("echo 'host = \"0.0.0.0\"' > /etc/edge-sr/service.toml")
    done = machine.edge_sr("install-service", "--token", "--allow-from", "10.9.0.0/16")
    assert done.returncode == 0, done.stdout + done.stderr + machine.log()
    assert machine.shell(f"{ASK} {URL}") == "401"
    assert machine.shell(f'{ASK} -H "Authorization: Bearer $(cat /etc/edge-sr/token)" {URL}') == "200"
    assert machine.shell("stat -c %a /etc/edge-sr/token") == "600"
    assert machine.shell("cat /etc/edge-sr/token") not in machine.log()


def test_a_socket_of_systemd_takes_connections_while_the_service_restarts(service: Machine) -> None:
    done = service.edge_sr("install-service", "--socket", "127.0.0.1:8080")
    assert done.returncode == 0, done.stdout + done.stderr + service.log()
    service.shell("systemctl restart edge-sr --no-block")
    assert service.shell("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/healthz") == "200"


def test_taken_away_it_leaves_what_belongs_to_the_operator(service: Machine) -> None:
    service.shell("echo '# mine' >> /etc/edge-sr/service.toml")
    told = service.edge_sr("install-service", "--uninstall").stdout
    assert "keep    /etc/edge-sr/service.toml" in told
    assert service.shell("ls /etc/systemd/system | grep edge-sr || true") == ""
    assert service.show("LoadState") == "not-found"
