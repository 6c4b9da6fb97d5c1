"""The Storage SCU: hands a derived object to its peer, and says what that made of it."""

from __future__ import annotations

import logging
from typing import Any

from edge_sr.dicom.library import guarded, pydicom
from edge_sr.dicom.part10 import EXPLICIT_LITTLE
from edge_sr.errors import EdgeSRError, ImageError, NotYetError
from edge_sr.inbox import Claim
from edge_sr.node.library import closing_connections, entity
from edge_sr.node.settings import NodeSettings, client_tls

__all__ = ["Sending"]

LOG = logging.getLogger("edge_sr.node")
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
DUPLICATE = 0x0111
REFUSED = (0x0117, 0x0118, 0x0119, 0x0122, 0x0124)
"""Statuses for good, beside those that say that the object is wrong (PS3.7, annex C)."""


class Sending:
    """Sends claimed files, each on an association of its own."""

    def __init__(self, settings: NodeSettings) -> None:
        """Args: settings: checked."""
        self._settings = settings

    def __call__(self, claim: Claim) -> None:
        """Sends a file.

        Raises:
            NotYetError: The peer is not there, or cannot take it now.
            EdgeSRError: It does not take this object.
        """
        dataset = guarded("it cannot be read", lambda: pydicom().dcmread(claim.path))
        status = self._sent(dataset)
        if _is_taken(status):
            LOG.info("%s sent (%04X)", claim.mark, status)
        elif _is_final(status):
            raise EdgeSRError(f"the receiver refused it with status {status:04X}", hint="see its log")
        else:
            raise NotYetError(f"an object was not sent: the receiver answered {status:04X}")

    def _sent(self, dataset: Any) -> int:
        """The status of the answer."""
        peer, settings = self._settings.send, self._settings
        ae = entity(settings.title, timeout_s=settings.timeout_s)
        ae.add_requested_context(dataset.SOPClassUID, [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
        with closing_connections() as handlers:
            try:
                association = ae.associate(
                    peer.host,
                    peer.port,
                    ae_title=peer.title,
                    tls_args=client_tls(settings),
                    evt_handlers=handlers,
                )
            except (OSError, RuntimeError) as error:
                raise NotYetError("an object was not sent: the receiver cannot be called") from error
            try:
                return _answer(association, dataset)
            finally:
                if association.is_established:
                    association.release()


def _answer(association: Any, dataset: Any) -> int:
    if association.is_rejected:
        raise NotYetError(
            "an object was not sent: the receiver refused the association", hint="check both AE titles"
        )
    if association.rejected_contexts and not association.accepted_contexts:
        raise EdgeSRError("the receiver takes no objects of this SOP class", hint="have it accept them")
    if not association.is_established:
        raise NotYetError("an object was not sent: the receiver cannot be reached")
    try:
        answer = guarded("it cannot be encoded for the receiver", lambda: association.send_c_store(dataset))
    except ImageError:
        if association.is_established:
            raise
        raise NotYetError("an object was not sent: the receiver went away") from None
    if "Status" not in answer:
        raise NotYetError("an object was not sent: the receiver did not answer")
    return int(answer.Status)


def _is_taken(status: int) -> bool:
    """Success, a warning, or that it is there already."""
    return status in (0x0000, DUPLICATE) or status >> 12 == 0xB


def _is_final(status: int) -> bool:
    """Whether the same would be refused again: not out of resources, and not a failure of its own."""
    return status in REFUSED or status >> 8 in (0xA8, 0xA9) or status >> 12 == 0xC
