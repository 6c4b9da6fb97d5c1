"""The node behind TLS, on both sides."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

pytest.importorskip("tests.edge_sr.node.rig")

from edge_sr.node.settings import Peer
from tests.edge_sr.node.rig import PACS, associated, objects, pacs, running, scan, send
from tests.edge_sr.waiting import PATIENCE_S, eventually


def client(certificates: Path, *, is_known: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if is_known:
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    return context


def named(certificates: Path, name: str) -> dict[str, Path]:
    return {"tls_cert": certificates / f"{name}.pem", "tls_key": certificates / f"{name}.key"}


def test_a_modality_with_a_certificate_gets_in_and_others_do_not(
    bundle: Path, tmp_path: Path, certificates: Path
) -> None:
    files = {**named(certificates, "server"), "tls_client_ca": certificates / "ca.pem"}
    with pacs() as receiver, running(bundle, tmp_path / "spool", receiver.port, **files) as node:
        with associated(node.port, tls=client(certificates, is_known=False)) as association:
            assert not association.is_established
        with associated(node.port) as association:
            assert not association.is_established
        large = scan(side=250)  # many PDUs, and more of TLS's own records
        assert send(node.port, large, tls=client(certificates)).Status == 0x0000
        assert receiver.next().Rows == 1000


def test_who_never_shakes_hands_keeps_nobody_out(bundle: Path, tmp_path: Path, certificates: Path) -> None:
    with (
        pacs() as receiver,
        running(bundle, tmp_path / "spool", receiver.port, **named(certificates, "server")) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S),
    ):
        assert send(node.port, scan(), tls=client(certificates)).Status == 0x0000


def test_a_receiver_behind_tls_is_called_with_a_certificate_and_must_have_the_right_one(
    bundle: Path, tmp_path: Path, certificates: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with pacs(tls=context) as receiver:
        peer = Peer(host="127.0.0.1", port=receiver.port, title=PACS, tls=True)
        ours = named(certificates, "server")
        with running(bundle, tmp_path / "spool", 0, send=peer, **ours) as node:
            send(node.port, scan(), tls=client(certificates))
            eventually(lambda: any(name.startswith("out/working/0/") for name in node.files()))
            assert receiver.got.empty(), "its authority is unknown"
        peer = peer.model_copy(update={"tls_ca": certificates / "ca.pem"})
        with running(bundle, tmp_path / "spool", 0, send=peer, **ours) as node:
            assert receiver.next().Rows == 4 * objects.ROWS
            eventually(node.is_settled)
