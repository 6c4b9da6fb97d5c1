"""The network node between a modality and a receiver: what goes in, what comes out, what it survives."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tests.edge_sr.node.rig")

from edge_sr.errors import UsageError
from tests.edge_sr.node.rig import (
    MODALITY,
    NODE,
    PACS,
    VERIFICATION,
    Node,
    Receiver,
    associated,
    net,
    objects,
    pacs,
    running,
    scan,
    send,
)
from tests.edge_sr.waiting import PATIENCE_S, eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with pacs() as found:
        yield found


@pytest.fixture
def node(bundle: Path, tmp_path: Path, receiver: Receiver) -> Iterator[Node]:
    with running(bundle, tmp_path / "spool", receiver.port) as found:
        yield found


# ---- what goes in comes out


def test_an_object_goes_in_and_its_derived_object_comes_out(node: Node, receiver: Receiver) -> None:
    assert send(node.port, scan()).Status == 0x0000
    made = receiver.next()
    assert (made.Rows, made.Columns) == (4 * objects.ROWS, 4 * objects.COLUMNS)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.6.7"
    assert made.file_meta.TransferSyntaxUID == objects.EXPLICIT
    eventually(node.is_settled)
    assert node.files() == {f"out/done/{made.SOPInstanceUID}.dcm": b""}


@pytest.mark.parametrize(
    "syntax",
    [*("EXPLICIT", "IMPLICIT", "BIG", "DEFLATED", "RLE", "J2K", "J2K_LOSSLESS")],
)
def test_every_syntax_that_is_read_from_a_file_is_taken_from_the_network(
    node: Node, receiver: Receiver, syntax: str
) -> None:
    assert send(node.port, scan(syntax=getattr(objects, syntax))).Status == 0x0000
    assert receiver.next().Rows == 4 * objects.ROWS


def test_it_answers_an_echo(node: Node) -> None:
    with associated(node.port) as association:
        assert association.send_c_echo().Status == 0x0000


def test_no_context_is_accepted_that_could_not_be_decoded(node: Node) -> None:
    contexts = (
        (objects.dx().SOPClassUID, "1.2.840.10008.1.2.4.50"),
        ("1.2.840.10008.5.1.4.1.1.88.11", objects.EXPLICIT),
        (VERIFICATION, objects.IMPLICIT),
    )
    with associated(node.port, *contexts) as association:
        assert [context.abstract_syntax for context in association.accepted_contexts] == [VERIFICATION]


def test_several_images_come_out_whatever_association_they_came_on(node: Node, receiver: Receiver) -> None:
    node.upscaler.go.clear()
    dataset = [objects.pydicom.dcmread(objects.io.BytesIO(scan(number))) for number in (1, 2)]
    with associated(node.port, (dataset[0].SOPClassUID, objects.EXPLICIT)) as association:
        assert [association.send_c_store(each).Status for each in dataset] == [0, 0]
        assert send(node.port, scan(3)).Status == 0x0000
    node.upscaler.go.set()
    sources = {receiver.next().SourceImageSequence[0].ReferencedSOPInstanceUID for _ in range(3)}
    assert sources == {f"1.2.3.4.5.6.{number}" for number in (1, 2, 3)}


# ---- once


def test_the_same_object_twice_is_one_derived_object_sent_once(node: Node, receiver: Receiver) -> None:
    assert send(node.port, scan()).Status == 0x0000
    receiver.next()
    assert send(node.port, scan()).Status == 0x0000
    eventually(lambda: node.upscaler.count == 3)
    assert send(node.port, scan(8)).Status == 0x0000
    assert receiver.next().SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.6.8"
    eventually(node.is_settled)
    assert receiver.got.empty() and len(node.files()) == 2


def test_the_same_object_while_the_first_is_worked_on_is_sent_once(node: Node, receiver: Receiver) -> None:
    node.upscaler.go.clear()
    for _ in range(3):
        assert send(node.port, scan()).Status == 0x0000
    node.upscaler.go.set()
    receiver.next()
    eventually(node.is_settled)
    assert receiver.got.empty() and len(node.files()) == 1


def test_a_node_that_is_started_again_still_knows_what_it_has_sent(
    bundle: Path, tmp_path: Path, receiver: Receiver
) -> None:
    uids = []
    for seed in (0, 0, 1):
        with running(bundle, tmp_path / "spool", receiver.port, seed=seed) as node:
            send(node.port, scan())
            eventually(lambda node=node: node.is_settled() and node.upscaler.count == 2)  # type: ignore[misc]
        uids += [receiver.got.get_nowait().SOPInstanceUID] if not receiver.got.empty() else []
    assert len(uids) == len(set(uids)) == 2, "once for each of two settings"


# ---- refused


def test_only_those_who_are_named_may_call_and_only_by_its_name(node: Node) -> None:
    for calling, called, is_let_in in (
        (MODALITY, NODE, True),
        ("OTHER", NODE, False),
        (MODALITY, "X", False),
    ):
        with associated(node.port, calling=calling, called=called) as association:
            assert association.is_established == is_let_in
            assert association.is_rejected != is_let_in


def test_one_association_too_many_is_refused(bundle: Path, tmp_path: Path, receiver: Receiver) -> None:
    with (
        running(bundle, tmp_path / "spool", receiver.port, max_associations=1) as node,
        associated(node.port) as first,
    ):
        assert first.is_established
        with associated(node.port) as second:
            assert second.is_rejected
        assert first.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("changes", "status", "comment"),
    [
        ({"SamplesPerPixel": 3}, 0xC000, ""),
        ({"NumberOfFrames": "2"}, 0xC000, ""),
        ({"Rows": 4000}, 0xC000, "truncated"),
        ({"BitsAllocated": 32}, 0xC000, ""),
        ({"ImageComments": "x" * 9000}, 0xA700, "larger than 9000 bytes"),
    ],
)
def test_what_cannot_be_enlarged_is_refused_while_its_sender_hears_of_it(
    bundle: Path, tmp_path: Path, receiver: Receiver, changes: dict[str, Any], status: int, comment: str
) -> None:
    with running(bundle, tmp_path / "spool", receiver.port, max_bytes=9000) as node:
        answer = send(node.port, scan(**changes))
        assert answer.Status == status
        assert comment in answer.ErrorComment and 0 < len(answer.ErrorComment) <= 64
        assert node.files() == {}
        assert send(node.port, scan()).Status == 0x0000


def test_an_object_that_is_not_what_its_request_says_is_refused(node: Node) -> None:
    dataset = objects.pydicom.dcmread(objects.io.BytesIO(scan()))
    with associated(node.port, (dataset.SOPClassUID, objects.EXPLICIT)) as association:
        request = net.dimse_primitives.C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = dataset.SOPClassUID, "1.2.3.99"
        request.DataSet = objects.io.BytesIO(net.dsutils.encode(dataset, False, True))
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert answer.Status == 0xA900
    assert node.files() == {}


# ---- hostile peers


def test_an_object_far_too_large_ends_its_association_before_it_is_there(
    bundle: Path, tmp_path: Path, receiver: Receiver
) -> None:
    with running(bundle, tmp_path / "spool", receiver.port, max_bytes=20_000) as node:
        answer = send(node.port, scan(side=500))
        assert "Status" not in answer
        assert node.files() == {}
        assert send(node.port, scan()).Status == 0x0000


def test_a_pdu_that_says_it_is_huge_is_not_waited_for(
    bundle: Path, tmp_path: Path, receiver: Receiver
) -> None:
    with (
        running(bundle, tmp_path / "spool", receiver.port, max_bytes=20_000) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as client,
    ):
        client.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1) + b"x" * 60_000)
        assert _is_closed(client)


def test_a_connection_that_says_nothing_is_closed_and_keeps_nobody_out(
    bundle: Path, tmp_path: Path, receiver: Receiver
) -> None:
    with (
        running(bundle, tmp_path / "spool", receiver.port, timeout_s=1) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE_S) as client,
    ):
        assert send(node.port, scan()).Status == 0x0000
        assert _is_closed(client)


def test_a_sender_that_drips_is_cut_off(bundle: Path, tmp_path: Path, receiver: Receiver) -> None:
    with (
        running(bundle, tmp_path / "spool", receiver.port, receive_s=0.5) as node,
        socket.create_connection(("127.0.0.1", node.port), timeout=0.02) as client,
    ):
        client.sendall(struct.pack(">BBL", 1, 0, 10_000))
        eventually(lambda: _drips_in_vain(client))


def _drips_in_vain(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _is_closed(client: socket.socket) -> bool:
    """Whether the other end closes it, which it must in the end."""
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


# ---- sending on


def test_a_receiver_that_is_down_gets_it_when_it_is_up(bundle: Path, tmp_path: Path) -> None:
    with pacs() as before:
        port = before.port
    with running(bundle, tmp_path / "spool", port) as node:
        assert send(node.port, scan()).Status == 0x0000
        eventually(lambda: any(name.startswith("out/working/0/") for name in node.files()))
        with pacs(port=port) as receiver:
            assert receiver.next().Rows == 4 * objects.ROWS
            eventually(node.is_settled)


@pytest.mark.parametrize("status", [0xA700, 0x0110, 0x0213])
def test_a_receiver_that_cannot_now_is_asked_again(node: Node, receiver: Receiver, status: int) -> None:
    receiver.statuses.put(status)
    send(node.port, scan())
    assert receiver.next().SOPInstanceUID == receiver.next().SOPInstanceUID
    eventually(node.is_settled)
    assert all(name.startswith("out/done/") for name in node.files())


@pytest.mark.parametrize("status", [0xB000, 0xB007, 0x0111])
def test_a_warning_is_no_failure(node: Node, receiver: Receiver, status: int) -> None:
    receiver.statuses.put(status)
    send(node.port, scan())
    receiver.next()
    eventually(node.is_settled)
    assert all(name.startswith("out/done/") for name in node.files())


@pytest.mark.parametrize("status", [0xA900, 0xC001, 0x0122])
def test_what_is_refused_for_good_is_moved_aside_and_sent_if_it_comes_again(
    node: Node, receiver: Receiver, status: int
) -> None:
    receiver.statuses.put(status)
    send(node.port, scan())
    uid = receiver.next().SOPInstanceUID
    eventually(lambda: f"out/failed/{uid}.dcm" in node.files())
    assert f"{status:04X}".encode() in node.files()[f"out/failed/{uid}.dcm.reason.txt"]
    send(node.port, scan())
    assert receiver.next().SOPInstanceUID == uid
    eventually(lambda: set(node.files()) == {f"out/done/{uid}.dcm"})


def test_a_receiver_that_takes_implicit_alone_gets_that(bundle: Path, tmp_path: Path) -> None:
    with (
        pacs(syntaxes=(objects.IMPLICIT,)) as receiver,
        running(bundle, tmp_path / "spool", receiver.port) as node,
    ):
        send(node.port, scan())
        made = receiver.next()
        assert made.file_meta.TransferSyntaxUID == objects.IMPLICIT
        assert len(made.PixelData) == 2 * made.Rows * made.Columns


def test_a_receiver_without_that_class_is_a_failure_with_a_reason(bundle: Path, tmp_path: Path) -> None:
    with pacs(classes=()) as receiver, running(bundle, tmp_path / "spool", receiver.port) as node:
        send(node.port, scan())
        eventually(lambda: any(name.startswith("out/failed/") for name in node.files()))
        assert b"takes no objects" in b"".join(node.files().values())


def test_one_spool_has_one_node(node: Node, bundle: Path, receiver: Receiver) -> None:
    with (
        pytest.raises(UsageError, match="another edge-sr"),
        running(bundle, node.spool, receiver.port),
    ):
        pass


def test_told_to_stop_it_finishes_the_image_at_hand_and_keeps_the_rest(
    bundle: Path, tmp_path: Path, receiver: Receiver
) -> None:
    with running(bundle, tmp_path / "spool", receiver.port) as node:
        node.upscaler.go.clear()
        send(node.port, scan(1))
        eventually(lambda: any(name.startswith("in/working/1/") for name in node.files()))
        send(node.port, scan(2))
        node.stop.set()
        node.upscaler.go.set()
        node.running.result(PATIENCE_S)
        assert node.upscaler.count == 2
    with running(bundle, tmp_path / "spool", receiver.port) as node:
        got = {receiver.next().SourceImageSequence[0].ReferencedSOPInstanceUID for _ in range(2)}
        assert got == {"1.2.3.4.5.6.1", "1.2.3.4.5.6.2"}
        eventually(node.is_settled)


def test_the_receiver_is_called_by_its_name(node: Node, receiver: Receiver) -> None:
    assert PACS != NODE
    send(node.port, scan())
    assert receiver.next(), "it would have refused another"
