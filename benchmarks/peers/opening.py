"""How a snippet is opened that is given a folder and noise."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.laid import draw_start
from benchmarks.peers.protocol import Case, Float, Peer, Upscale, snippet_module

__all__ = ["open_snippet"]


def open_snippet(peer: Peer, case: Case) -> Upscale:
    """Loads what was laid out for a peer; the run that is not counted draws the noise of a seed."""
    snippet = snippet_module(peer)
    model = snippet.load(case.folder(peer.key), case.threads)
    bundle = case.opened()
    preset = case.preset(bundle)
    drawn: dict[int, Float] = {}

    def upscale(image: Float, seed: int) -> Float:
        if seed not in drawn:
            drawn[seed] = draw_start(bundle, preset, seed=seed)
        made: Float = snippet.upscale(model, np.ascontiguousarray(image[None]), drawn[seed])
        return made[0]

    return upscale
