"""A real server on a real socket: signals, clients that go away, the command itself."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from edge_sr.bundle import Bundle

pytest.importorskip("tests.edge_sr.service.rig")

import uvicorn

from edge_sr.cli import run
from edge_sr.errors import BundleError, UsageError
from edge_sr.pipeline import Upscaler
from edge_sr.service.app import create_app, make_worker
from edge_sr.service.server import Server, listen, serve
from edge_sr.service.settings import ServiceSettings, load_settings
from edge_sr.service.worker import Worker
from tests.edge_sr.service.rig import PATIENCE_S, HeldUpscaler, eventually, picture
from tests.test_layering import IMPORT_EACH, ROOT, SERVICE


class Ticking(Server):
    """A server that tells how often it has asked itself whether to stop."""

    ticks = 0

    async def on_tick(self, counter: int) -> bool:
        try:
            return await super().on_tick(counter)
        finally:
            self.ticks += 1

    def await_ticks(self) -> None:
        """Waits until it has asked itself anew, and gone by the answer."""
        before = self.ticks
        eventually(lambda: self.ticks >= before + 2)


@dataclass
class Live:
    """A server in a thread, with its device in our hands."""

    server: Ticking
    worker: Worker
    upscaler: HeldUpscaler
    port: int
    thread: threading.Thread

    def connect(self, *, seed: int = 0) -> http.client.HTTPConnection:
        """A connection on which an image was sent, and nothing read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        path, headers = f"/v1/upscale?seed={seed}", {"Content-Type": "image/png"}
        connection.request("POST", path, body=picture(), headers=headers)
        return connection

    def status(self, *, seed: int = 0) -> int:
        return answered(self.connect(seed=seed))


def answered(connection: http.client.HTTPConnection) -> int:
    """The status of the answer on a connection, which is then closed."""
    try:
        with connection.getresponse() as response:
            response.read()
            return response.status
    finally:
        connection.close()


@pytest.fixture
def drain_s() -> float:
    return PATIENCE_S


@pytest.fixture
def live(opened: Bundle, drain_s: float) -> Iterator[Live]:
    settings = ServiceSettings(port=0)
    upscaler = HeldUpscaler(opened)
    worker = make_worker(lambda: upscaler, settings)
    config = uvicorn.Config(create_app(worker, settings), log_config=None, ws="none")
    server = Ticking(config, worker, drain_s=drain_s)
    with listen(settings) as sock:
        thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
        thread.start()
        try:
            eventually(lambda: worker.state == "ready")
            upscaler.await_entered()
            upscaler.seeds.clear()
            yield Live(server, worker, upscaler, sock.getsockname()[1], thread)
        finally:
            upscaler.go.set()
            server.handle_exit(signal.SIGTERM, None)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_a_request_whose_client_goes_away_while_it_waits_never_reaches_the_device(live: Live) -> None:
    live.upscaler.go.clear()
    first = live.connect(seed=1)
    live.upscaler.await_entered()
    second = live.connect(seed=2)
    eventually(lambda: live.worker.waiting == 1)
    second.close()
    eventually(lambda: live.worker.waiting == 0)
    live.upscaler.go.set()
    assert answered(first) == 200
    assert live.status(seed=3) == 200
    assert live.upscaler.seeds == [1, 3]


def test_a_client_that_goes_away_in_its_body_gives_its_slot_back(live: Live) -> None:
    named = b"Host: localhost\r\nContent-Type: image/png\r\nContent-Length: 999\r\n\r\n"
    head = b"POST /v1/upscale HTTP/1.1\r\n" + named
    with socket.create_connection(("127.0.0.1", live.port)) as client:
        client.sendall(head + picture()[:50])
        eventually(lambda: not live.worker.is_idle)
    eventually(lambda: live.worker.is_idle)
    assert live.status() == 200


def test_a_signal_ends_it_after_what_runs_and_new_requests_are_told_so(live: Live) -> None:
    live.upscaler.go.clear()
    first = live.connect(seed=1)
    live.upscaler.await_entered()
    live.server.handle_exit(signal.SIGTERM, None)
    live.server.await_ticks()
    assert live.status() == 503
    live.upscaler.go.set()
    assert answered(first) == 200
    live.thread.join(PATIENCE_S)
    assert not live.thread.is_alive()


@pytest.mark.parametrize("drain_s", [0.01])
def test_an_image_that_takes_longer_than_the_service_may_drain_is_told_so(live: Live) -> None:
    live.upscaler.go.clear()
    first = live.connect(seed=1)
    live.upscaler.await_entered()
    live.server.handle_exit(signal.SIGTERM, None)
    assert answered(first) == 503


def test_a_service_that_cannot_open_its_bundle_ends_with_the_reason() -> None:
    def broken() -> Upscaler:
        raise BundleError("there is no bundle")

    settings = ServiceSettings(port=0)
    caught: list[BaseException] = []

    def served_here() -> None:
        try:
            with listen(settings) as sock:
                serve(broken, settings, sock)
        except BundleError as error:
            caught.append(error)

    thread = threading.Thread(target=served_here)  # signals are for the main thread, and stay pytest's
    thread.start()
    thread.join(PATIENCE_S)
    assert [str(error) for error in caught] == ["there is no bundle"]


def test_a_port_that_is_taken_is_an_error_with_a_hint() -> None:
    with listen(load_settings(port=0)) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(UsageError, match=str(port)) as caught:
            listen(load_settings(port=port))
    assert "--port" in caught.value.hint


@contextmanager
def served(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`edge-sr serve` in a process of its own, ready; and its port."""
    command = [sys.executable, "-W", "error", "-m", "edge_sr", "serve", "--port", "0", *options]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    with subprocess.Popen(
        [*command, "--bundle", str(bundle)], stderr=subprocess.PIPE, text=True, preexec_fn=listen
    ) as process:
        assert process.stderr is not None
        try:
            told = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert told
            assert any(" on " in line for line in iter(process.stderr.readline, ""))  # the upscaler is open
            eventually(lambda: get(int(told[1]), "/readyz")[0] == 200)
            yield process, int(told[1])
        finally:
            process.kill()


@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_serves_until_it_is_told_to_end(bundle: Path, end: signal.Signals, code: int) -> None:
    with served(bundle, "--backend", "fake") as (process, port):
        assert json.loads(get(port, "/healthz")[1])["status"] == "alive"
        process.send_signal(end)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "Traceback" not in told
    assert "GET healthz 200" in told


def test_an_answer_is_the_file_that_the_command_line_writes(
    bundle: Path, image: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed (extra: cpu)")
    options = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", "1")
    with served(bundle, *options, "--engine-dir", str(tmp_path / "engines")) as (_, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        headers = {"Content-Type": "image/png"}
        connection.request("POST", "/v1/upscale?seed=4&steps=3", body=image.read_bytes(), headers=headers)
        answer = connection.getresponse().read()
        connection.close()
    out = tmp_path / "out.png"
    asked = [
        "--seed",
        "4",
        "--steps",
        "3",
        "--engine-dir",
        str(tmp_path / "engines"),
        "--bundle",
        str(bundle),
    ]
    assert run(["upscale", str(image), "-o", str(out), *options, *asked]) == 0
    assert answer == out.read_bytes()


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_command_line_needs_none_of_the_services_libraries() -> None:
    modules = ["edge_sr", "edge_sr.cli", "edge_sr.cli.serve", "edge_sr.service", "edge_sr.service.settings"]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH],
        input=json.dumps([SERVICE, modules]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout) == {}
