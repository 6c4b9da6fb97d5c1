"""What can go wrong in this room beside what `edge_sr.errors` has."""

from __future__ import annotations

from edge_sr.errors import EdgeSRError


class ExportError(EdgeSRError):
    """A model that cannot be exported, or a graph that does not compute what the module does."""
