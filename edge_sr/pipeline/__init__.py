"""The engine: encode, the reverse-diffusion loop, decode, over buffers that are made once.

    LR tile ─► encoder ─► condition, ... ─► step x N (two latents ping-pong) ─► decoder ─► HR tile

Graphs are joined by the names of their tensors: what a graph reads is either one of the loop's own tensors or
an output of a graph before it. A loop (`TileEngine`) is prepared once for a schedule and a batch size: every
step has its own binding, so that running it is one call a step, and nothing is allocated, copied or waited
for inside. `Upscaler` cuts images of any size into batches for it.

A model that was told classes is guided by one: `guidance` says which rows a sample then takes.

A service has `InFlight` for it: images of several threads share the steps of one batch, whose samples come
and go between steps (`roster` says who sits where, `rows` has the buffers, `place` is an image's side of it).
"""

from edge_sr.pipeline.guidance import Guide, make_guide
from edge_sr.pipeline.inflight import InFlight
from edge_sr.pipeline.loop import StageSeconds, TileEngine, make_schedule, schedule_for
from edge_sr.pipeline.upscaler import Enlarges, Output, Upscaler

__all__ = [
    "Enlarges",
    "Guide",
    "InFlight",
    "Output",
    "StageSeconds",
    "TileEngine",
    "Upscaler",
    "make_guide",
    "make_schedule",
    "schedule_for",
]
