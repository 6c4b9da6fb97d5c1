"""Clients that send or take nothing are cut off, over TCP and TLS; so are those without a certificate."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError

pytest.importorskip("tests.edge_sr.service.rig")

from edge_sr.service.app import make_worker
from edge_sr.service.server import Server, configure, listen
from edge_sr.service.settings import ServiceSettings
from tests.edge_sr.service.rig import PATIENCE_S, HeldUpscaler, eventually, picture

SOON_S = 0.2
HEAD = b"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
Serve = Callable[..., int]


@contextmanager
def serving(opened: Bundle, **changes: Any) -> Iterator[int]:
    """The port of a whole server, from start to end."""
    settings = ServiceSettings(port=0, **changes)
    upscaler = HeldUpscaler(opened)
    worker = make_worker(lambda: upscaler, settings)
    server = Server(configure(worker, settings), worker, drain_s=PATIENCE_S)
    with listen(settings) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that an answer does not fit in it
        thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
        thread.start()
        try:
            eventually(lambda: worker.state == "ready" and server.started)
            yield sock.getsockname()[1]
        finally:
            server.handle_exit(signal.SIGTERM, None)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.fixture
def serve(opened: Bundle) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(serving(opened, **changes))


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def rest(client: socket.socket) -> bytes:
    """All that still comes, up to the end of the connection, which must come."""
    data = bytearray()
    try:
        while piece := client.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return bytes(data)


# ---- slow clients


@pytest.mark.parametrize("sent", [b"", b"P", HEAD])
def test_a_client_whose_head_never_ends_is_cut_off(serve: Serve, sent: bytes) -> None:
    with connected(serve(head_s=SOON_S)) as client:
        client.sendall(sent)
        assert rest(client) == b""


def test_a_head_that_drips_in_is_cut_off_all_the_same(serve: Serve) -> None:
    with connected(serve(head_s=SOON_S)) as client:
        pause = threading.Event()
        with pytest.raises(OSError):
            for byte in HEAD * 100:
                client.sendall(bytes([byte]))
                pause.wait(SOON_S / 10)


def test_the_second_request_of_a_connection_has_no_longer_than_the_first(serve: Serve) -> None:
    with connected(serve(head_s=SOON_S)) as client:
        assert is_answered(client)
        client.sendall(b"GET /healthz HT")
        assert rest(client) == b""


def test_a_body_that_drips_in_is_told_so(serve: Serve) -> None:
    with connected(serve(upload_s=SOON_S, head_s=PATIENCE_S)) as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + picture()[:40])
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_slow_image_is_no_slow_client(serve: Serve, opened: Bundle) -> None:
    port = serve(head_s=SOON_S, send_s=SOON_S)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    client.request("POST", "/v1/upscale?samples=16&steps=20", picture(60, 60), {"Content-Type": "image/png"})
    response = client.getresponse()
    assert (response.status, len(response.read()) > 1000) == (200, True)
    client.close()


def test_a_client_that_takes_no_answer_is_cut_off(serve: Serve) -> None:
    image = picture(512, 512)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", serve(send_s=SOON_S, max_connections=1)))
        ask = HEAD + b"Content-Length: %d\r\n\r\n" % len(image)
        client.sendall(ask + image)
        client.recv(1)  # the answer has begun
        port = client.getpeername()[1]
        # with one connection at most, another is let in only once this one is gone
        eventually(lambda: is_let_in(port))
        assert len(rest(client)) < 4 * len(image)


def is_let_in(port: int) -> bool:
    with connected(port) as client:
        try:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client.recv(1) == b"H"
        except ConnectionError:
            return False


def test_connections_are_bounded_and_those_that_are_there_go_on(serve: Serve) -> None:
    port = serve(max_connections=2)
    with connected(port) as first, connected(port) as second:
        assert is_answered(first) and is_answered(second)
        assert not is_let_in(port)
        assert is_answered(first)
    eventually(lambda: is_let_in(port))


def is_answered(client: socket.socket) -> bool:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    told = b""
    while not told.endswith(b"}") and (piece := client.recv(65536)):
        told += piece
    return told.startswith(b"HTTP/1.1 200")


# ---- connections that go on after a refusal

OTHER = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSED_EARLY = {
    "type": ("/v1/upscale", {"Content-Type": "text/plain"}, 415),
    "length": ("/v1/upscale", {"Content-Type": "image/png"}, 413),
    "parameter": ("/v1/upscale?steps=0", {"Content-Type": "image/png"}, 422),
    "origin": ("/v1/upscale", {"Content-Type": "image/png", "Origin": "http://example.org"}, 403),
    "path": ("/v1/other", {"Content-Type": "image/png"}, 404),
}


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("why", REFUSED_EARLY)
def test_a_body_that_was_refused_unread_is_not_taken_for_the_next_request(
    serve: Serve, why: str, *, is_chunked: bool
) -> None:
    target, headers, status = REFUSED_EARLY[why]
    client = http.client.HTTPConnection("127.0.0.1", serve(max_bytes=2**16), timeout=PATIENCE_S)
    with closing(client):
        body = iter([OTHER * 1000] * 5) if is_chunked else OTHER * 5000
        chunked = {"Transfer-Encoding": "chunked"} if is_chunked else {}
        client.request("POST", target, body, headers | chunked, encode_chunked=is_chunked)
        with client.getresponse() as refused:
            assert (refused.status, refused.read()[:1]) == (status, b"{")
        client.request("POST", "/v1/upscale", picture(), {"Content-Type": "image/png"})
        with client.getresponse() as answer:
            assert (answer.status, answer.headers["content-type"]) == (200, "image/png")


def test_a_client_that_was_refused_and_sends_on_for_ever_is_cut_off(serve: Serve) -> None:
    with connected(serve(head_s=SOON_S)) as client:
        client.sendall(HEAD.replace(b"png", b"gif") + b"Transfer-Encoding: chunked\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 415 ")
        with pytest.raises(OSError):
            while True:
                client.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")


# ---- TLS


def ask_health(port: int, context: ssl.SSLContext) -> int:
    client = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=context)
    try:
        client.request("GET", "/healthz")
        return client.getresponse().status
    finally:
        client.close()


def test_with_an_authority_only_its_clients_are_let_in(serve: Serve, certificates: Path) -> None:
    files = {"tls_cert": certificates / "server.pem", "tls_key": certificates / "server.key"}
    port = serve(**files, tls_client_ca=certificates / "ca.pem")
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask_health(port, context)
    context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    assert ask_health(port, context) == 200


def test_without_one_https_is_open_to_all_who_have_the_token(serve: Serve, certificates: Path) -> None:
    port = serve(tls_cert=certificates / "server.pem", tls_key=certificates / "server.key")
    assert ask_health(port, ssl.create_default_context(cafile=str(certificates / "ca.pem"))) == 200


@pytest.mark.parametrize("wrong", ["missing", "garbage"])
def test_files_that_are_no_certificates_are_a_bad_configuration(
    opened: Bundle, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "garbage").write_text("no PEM", encoding="ascii")
    settings = ServiceSettings(tls_cert=tmp_path / wrong, tls_key=tmp_path / wrong)
    worker = make_worker(lambda: HeldUpscaler(opened), settings)
    with pytest.raises(ConfigError, match="TLS"):
        configure(worker, settings)
