"""The line to the service manager: what is sent, what is heard of it, what is taken over from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from edge_sr.service.notify import Notifier, inherited_socket
from edge_sr.service.settings import ServiceSettings

pytest.importorskip("tests.edge_sr.service.rig")

from edge_sr.service.app import make_worker
from edge_sr.service.supervision import Supervision
from edge_sr.service.worker import Worker
from tests.edge_sr.service.manager import Manager, listening
from tests.edge_sr.service.rig import PATIENCE_S, HeldUpscaler, eventually

SETTINGS = ServiceSettings(deadline_s=10)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with listening(tmp_path) as found:
        yield found


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_message_reaches_a_path_and_an_abstract_name(tmp_path: Path, is_abstract: bool) -> None:
    address = f"@edge-sr-test-{os.getpid()}" if is_abstract else str(tmp_path / "socket")
    manager = Manager(address)
    with Notifier(address) as notifier:
        notifier.tell(READY=1, STATUS="warm")
    assert manager.next() == {"READY": "1", "STATUS": "warm"}
    manager.close()


def test_a_line_break_in_a_value_cannot_become_a_field(manager: Manager) -> None:
    with Notifier(manager.address) as notifier:
        notifier.tell(STATUS="warm\nSTOPPING=1")
    assert manager.next() == {"STATUS": "warm STOPPING=1"}


def test_nobody_is_told_where_nobody_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Notifier() as notifier:
        notifier.tell(READY=1)
    assert not caplog.records
    with Notifier(str(tmp_path / "gone")) as notifier:
        notifier.tell(READY=1)
    assert "READY" in caplog.text
    notifier.close()


def test_an_environment_is_read_once_and_no_child_inherits_it(manager: Manager) -> None:
    environ = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with Notifier.of(environ) as notifier:
        assert notifier.watchdog_s == 30
    assert environ == {}
    assert Notifier.of(environ).watchdog_s is None


def test_a_watchdog_that_is_meant_for_another_process_is_not_ours() -> None:
    assert Notifier.of({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog_s is None


@pytest.mark.parametrize("environ", [{"NOTIFY_SOCKET": "vsock:2:1"}, {"WATCHDOG_USEC": "soon"}])
def test_an_environment_that_is_not_understood_is_a_bad_configuration(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Notifier.of(environ)


# ---- what is taken over


TAKE_OVER = """
import os, socket, sys
from edge_sr.errors import ConfigError
from edge_sr.service.notify import inherited_socket
os.dup2(int(sys.argv[1]), 3)
environ = {"LISTEN_FDS": sys.argv[2], "LISTEN_PID": str(os.getpid())}
try:
    found = inherited_socket(environ)
    print(found.getsockname()[1], found.get_inheritable(), environ)
except ConfigError as error:
    print(error.message)
"""


def take_over(sock: socket.socket, count: str = "1") -> str:
    """What a process says that was started with a socket as systemd starts one."""
    command = [sys.executable, "-c", TAKE_OVER, str(sock.fileno()), count]
    told = subprocess.run(command, pass_fds=[sock.fileno()], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def test_a_socket_that_systemd_opened_is_taken_over_and_not_handed_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert take_over(sock) == f"{sock.getsockname()[1]} False {{}}"


def test_a_socket_of_another_kind_or_too_many_of_them_are_a_bad_configuration() -> None:
    with socket.socket() as unbound, socket.socket(socket.AF_UNIX) as local:
        assert "does not listen" in take_over(unbound)
        assert "does not listen" in take_over(local)
        assert "wanted one" in take_over(unbound, "2")


def test_a_socket_that_was_meant_for_another_process_is_left_alone() -> None:
    assert inherited_socket({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) is None
    assert inherited_socket({}) is None


# ---- what is said of the worker


class Clock:
    """Seconds of `time.monotonic` that a test may add to."""

    def __init__(self) -> None:
        self.added = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.added


class Watched:
    """A worker under supervision, its device in our hands."""

    def __init__(self, opened: Bundle, manager: Manager) -> None:
        self.upscaler = HeldUpscaler(opened)
        self.upscaler.go.clear()
        self.worker: Worker = make_worker(lambda: self.upscaler, SETTINGS)
        self.clock, self.manager = Clock(), manager
        self.notifier = Notifier(manager.address, watchdog_s=3)
        self.supervision = Supervision(self.notifier, self.worker, SETTINGS, clock=self.clock)

    def after(self, seconds: float) -> dict[str, str]:
        """All fields that a tick says so much later."""
        self.clock.added += seconds
        self.supervision.tick()
        return {name: value for fields in self.manager.pending() for name, value in fields.items()}

    def become_ready(self) -> None:
        self.upscaler.go.set()
        eventually(lambda: self.worker.state == "ready")


@pytest.fixture
def watched(opened: Bundle, manager: Manager) -> Iterator[Watched]:
    found = Watched(opened, manager)
    found.worker.start()
    try:
        yield found
    finally:
        found.upscaler.go.set()
        assert found.worker.close(PATIENCE_S)
        found.notifier.close()


def test_it_is_ready_after_the_warm_up_and_not_before(watched: Watched) -> None:
    watched.upscaler.await_entered()  # the warm-up runs
    assert "READY" not in watched.after(0) and "READY" not in watched.after(2)
    watched.become_ready()
    said = watched.after(2)
    assert (said["READY"], said["STATUS"]) == ("1", "ready")
    assert "READY" not in watched.after(2)


def test_more_time_is_asked_for_while_it_loads_but_not_for_ever(watched: Watched) -> None:
    assert watched.after(2)["EXTEND_TIMEOUT_USEC"] == "30000000"
    assert "EXTEND_TIMEOUT_USEC" in watched.after(SETTINGS.start_s - 10)
    assert watched.after(10) == {}


def test_no_ping_is_sent_before_it_is_ready(watched: Watched) -> None:
    assert "WATCHDOG" not in watched.after(5)


def test_an_idle_worker_is_alive_as_long_as_its_thread_wakes_up(watched: Watched) -> None:
    watched.become_ready()
    assert watched.after(5)["WATCHDOG"] == "1"
    assert "WATCHDOG" not in watched.after(0.1), "a third of what the manager waits has not passed"
    watched.clock.added = 0  # real time, in which the worker wakes up
    before = watched.worker.last_progress
    eventually(lambda: watched.worker.last_progress > before)


def test_a_job_that_somebody_may_wait_for_never_hangs_and_one_that_takes_much_longer_does(
    watched: Watched,
) -> None:
    watched.become_ready()
    entered, go = threading.Event(), threading.Event()

    def job(_: object) -> bool:
        entered.set()
        return go.wait(PATIENCE_S)

    done = watched.worker.submit(job)
    assert entered.wait(PATIENCE_S)
    assert watched.after(SETTINGS.deadline_s)["WATCHDOG"] == "1"
    said = watched.after(SETTINGS.silence_s)
    assert "WATCHDOG" not in said
    assert "has not moved" in said["STATUS"]
    go.set()
    assert done.result(PATIENCE_S)
    watched.clock.added = 0  # the job's end was a sign of life
    assert watched.supervision.is_moving(watched.clock())


def test_stopping_is_said_once_with_the_time_that_it_may_take(watched: Watched) -> None:
    watched.become_ready()
    watched.after(2)
    watched.supervision.stopping(50)
    watched.supervision.stopping(50)
    assert watched.manager.pending() == [
        {
            "STOPPING": "1",
            "EXTEND_TIMEOUT_USEC": "50000000",
            "STATUS": "stopping",
            "WATCHDOG_USEC": "50000000",
        }
    ]
    assert watched.after(2)["STATUS"] == "stopping: no request is left"
