"""The command as systemd runs it: a process of its own, with a real manager's socket at the other end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("tests.edge_sr.service.rig")

from tests.edge_sr.service.manager import Manager, listening
from tests.edge_sr.service.rig import PATIENCE_S, picture
from tests.edge_sr.service.stuck import STUCK

WATCHDOG_USEC = 600_000
EXIT_CONFIG = 78
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Starts a command as systemd does, with a socket; its number comes first."""


@dataclass
class Supervised:
    """A service that runs, and the manager to whom it reports.

    Attributes:
        stuck: While this file exists, the device stands still.
    """

    process: subprocess.Popen[str]
    manager: Manager
    stuck: Path
    threads: ThreadPoolExecutor
    port: int = 0
    log: list[str] = field(default_factory=list)

    def await_port(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if told := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(told[1])
                return
        pytest.fail(f"it does not listen: {self.log}")

    def post(self) -> int:
        """The status of an image."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", "/v1/upscale", picture(), {"Content-Type": "image/png"})
            return connection.getresponse().status
        finally:
            connection.close()

    def end(self) -> int:
        """Its exit code, once it ends; its log is whole then."""
        _, told = self.process.communicate(timeout=PATIENCE_S)
        self.log.append(told)
        return self.process.returncode


Start = Callable[..., "Supervised"]


@pytest.fixture
def start(bundle: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts services; they are gone at the end."""
    with listening(tmp_path) as manager, ThreadPoolExecutor(2) as threads:
        begun: list[Supervised] = []

        def started(config: str = "", *, sock: socket.socket | None = None, **more: str) -> Supervised:
            file = tmp_path / "service.toml"
            file.write_text(f'backend = "stuck"\nbundle = "{bundle}"\nport = 0\n{config}', encoding="utf-8")
            told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(WATCHDOG_USEC)}
            environ = {**os.environ, **told, STUCK: str(tmp_path / "stuck"), **more}
            command = [sys.executable, "-m", "tests.edge_sr.service.stuck", "serve", "--config", str(file)]
            fds = [sock.fileno()] if sock else []
            process = subprocess.Popen(
                [*([sys.executable, "-c", HAND_OVER] if sock else []), *map(str, fds), *command],
                env=environ,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=fds,
            )
            begun.append(Supervised(process, manager, tmp_path / "stuck", threads))
            return begun[-1]

        yield started
        (tmp_path / "stuck").unlink(missing_ok=True)
        for service in begun:
            service.process.kill()
            service.process.communicate()


def test_it_is_ready_after_the_warm_up_and_not_while_the_device_stands_still(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "stuck").touch()
    service = start()
    service.await_port()
    for _ in range(2):
        service.manager.await_field("EXTEND_TIMEOUT_USEC", "30000000")
    assert not [fields for fields in service.manager.heard if "READY" in fields or "WATCHDOG" in fields]
    service.stuck.unlink()
    service.manager.await_field("READY")
    assert service.manager.heard[-1]["STATUS"] == "ready"
    service.manager.await_field("WATCHDOG")
    assert service.post() == 200


def test_the_pings_stop_when_the_device_hangs_and_come_back_when_it_moves(start: Start) -> None:
    service = start("deadline_s = 0.3\nhang_s = 0.5\n")
    service.await_port()
    service.manager.await_field("WATCHDOG")
    service.stuck.touch()
    assert service.post() == 504
    service.manager.await_field("STATUS", "the device has not moved for 0.5 s")
    service.manager.pending()
    threading.Event().wait(3 * WATCHDOG_USEC / 1e6)  # in which nine pings would have come
    assert not [fields for fields in service.manager.pending() if "WATCHDOG" in fields]
    service.stuck.unlink()
    service.manager.await_field("WATCHDOG")
    assert service.post() == 200


def test_what_aborts_a_hanging_service_leaves_in_the_log_where_it_hung_and_nothing_else(start: Start) -> None:
    service = start("deadline_s = 0.3\n")
    service.await_port()
    service.manager.await_field("READY")
    service.stuck.touch()
    assert service.post() == 504
    service.process.send_signal(signal.SIGABRT)
    assert service.end() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in service.log[-1]
    assert "in enqueue" in service.log[-1]


def test_a_term_signal_is_answered_with_stopping_and_ends_after_what_runs(start: Start) -> None:
    service = start()
    service.await_port()
    service.manager.await_field("READY")
    service.stuck.touch()
    answer = service.threads.submit(service.post)
    service.manager.await_field("STATUS", "ready: busy, 0 waiting")
    service.process.send_signal(signal.SIGTERM)
    service.manager.await_field("STOPPING")
    assert service.manager.heard[-1]["EXTEND_TIMEOUT_USEC"] == "50000000"
    service.manager.await_field("STATUS", "stopping: requests go on")
    service.stuck.unlink()
    assert answer.result(PATIENCE_S) == 200
    assert service.end() == 0


def test_a_device_that_hangs_does_not_keep_it_from_ending_in_bounded_time(start: Start) -> None:
    service = start("drain_s = 0.5\n")
    service.await_port()
    service.manager.await_field("READY")
    service.stuck.touch()
    answer = service.threads.submit(service.post)
    service.manager.await_field("STATUS", "ready: busy, 0 waiting")
    service.process.send_signal(signal.SIGTERM)
    assert answer.result(PATIENCE_S) == 503
    assert service.end() == 0


@pytest.mark.parametrize(
    ("config", "environ"),
    [
        ("prot = 1\n", {}),
        ('host = "0.0.0.0"\n', {}),
        ("hang_s = 1\n", {}),
        ('token_file = "/nonexistent"\n', {}),
        ('tls_cert = "/nonexistent"\ntls_key = "/nonexistent"\n', {}),
        ("", {"NOTIFY_SOCKET": "vsock:1:1"}),
    ],
)
def test_a_bad_configuration_exits_78_and_is_never_ready(
    start: Start, config: str, environ: dict[str, str]
) -> None:
    service = start(config, **environ)
    assert service.end() == EXIT_CONFIG
    assert "error: " in service.log[-1] and "Traceback" not in service.log[-1]
    assert not [fields for fields in service.manager.pending() if "READY" in fields]


def test_in_a_journal_lines_begin_with_their_level(start: Start) -> None:
    service = start(JOURNAL_STREAM="8:1234")
    service.await_port()
    service.manager.await_field("READY")
    service.process.terminate()
    assert service.end() == 0
    assert "<6>edge_sr.service: " in "".join(service.log)


def test_a_socket_that_systemd_opened_is_served(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        service = start(sock=sock)
        service.await_port()
        service.manager.await_field("READY")
        assert service.port == sock.getsockname()[1]
        assert service.post() == 200


def test_a_socket_that_others_reach_needs_a_token_as_an_address_does(start: Start) -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:
        service = start(sock=sock)
        assert service.end() == EXIT_CONFIG
        assert "0.0.0.0 is not this machine alone" in service.log[-1]
