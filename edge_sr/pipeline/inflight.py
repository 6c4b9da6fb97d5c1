"""In-flight batching: the tiles of several images, each at a step of its own, share one call a step.

    threads with an image each ──Place.upscale──► tiles ──► Roster ──► BatchRows ──► tiles ──► the image

One thread, the owner, calls `advance` again and again; each call lets go who is not wanted any more, seats
who waits, makes one step of everybody, and hands out who is done. So an image joins at the next step where a
row is free, a lone one never waits for a batch to fill, and a device with work is never idle.

What it may cost: a graph may choose other kernels for another batch, so that results agree with those of an
`Upscaler` to rounding, and to the bit where a tile has had the batch to itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial

import numpy as np
import numpy.typing as npt

from edge_sr.backends import Resource
from edge_sr.errors import BackendError, EdgeSRError
from edge_sr.pipeline.loop import StageSeconds
from edge_sr.pipeline.place import ImageInFlight, Place, TileInFlight, Way
from edge_sr.pipeline.roster import Roster, spans
from edge_sr.pipeline.rows import BatchRows
from edge_sr.pipeline.upscaler import Upscaler

__all__ = ["InFlight"]

Float = npt.NDArray[np.float32]


class InFlight(Resource):
    """An upscaler whose batch several threads share.

    One thread, its owner, makes it, advances it and closes it; a `place` is for any thread.

    Attributes:
        upscaler: What is shared; its `batch` is how many tiles are at once. It stays open.
        notes: What the user should know of how steps are run.
    """

    def __init__(self, upscaler: Upscaler, *, wake: Callable[[], None] = lambda: None) -> None:
        """Makes all buffers.

        Args:
            upscaler: What is shared.
            wake: Called by any thread that hands in a tile, after it did.

        Raises:
            BackendError: The backend cannot run batches of that size.
        """
        self.upscaler, self._wake = upscaler, wake
        self._rows = BatchRows(upscaler.backend, upscaler.engines, capacity=upscaler.batch)
        self._roster: Roster[ImageInFlight, TileInFlight] = Roster(upscaler.batch)
        self._arrived: deque[tuple[ImageInFlight, TileInFlight]] = deque()
        self._noise = np.empty(self._rows.latent_shape, np.float32)
        self._lock, self._is_open = threading.Lock(), True  # of what arrived, and of who may still come
        self.notes = self._rows.notes

    @property
    def has_work(self) -> bool:
        """Whether `advance` would do something."""
        return bool(self._arrived or self._roster.owners)

    @property
    def seated(self) -> int:
        """Tiles in the batch."""
        return len(self._roster.seats)

    def place(self, is_awaited: Callable[[], bool]) -> Place:
        """What enlarges images in another thread.

        Args:
            is_awaited: Asked by the owner before every step; where nobody awaits an image any more, its tiles
                leave the batch.
        """
        return Place(self.upscaler, queue=self.hand_in, wait=Future.result, is_awaited=is_awaited)

    def own_place(self) -> Place:
        """What enlarges images in the owner's thread, which advances while it waits."""

        def wait(tile: Future[Float]) -> Float:
            while not tile.done():
                self.advance()
            return tile.result()

        return Place(self.upscaler, queue=self.hand_in, wait=wait, is_awaited=lambda: True)

    def advance(self) -> bool:
        """Makes one step of all that sit in the batch; whether there was anybody.

        What fails fails the images in the batch, each with a `BackendError`; those that wait go on.
        """
        with self._lock:
            while self._arrived:
                image, tile = self._arrived.popleft()
                self._roster.add(image, tile, steps=len(tile.way.schedule.steps))
        try:
            self._let_go({image for image in self._roster.owners if not image.is_wanted}, CancelledError)
            self._seat(self._roster.admit())
            if not self._roster.seats:
                return False
            self._step()
            self._hand_out(self._roster.advance())
        except Exception as error:  # noqa: BLE001  whatever a batch dies of, the next one runs
            self._fail(partial(_failure, error), {seat.owner for seat in self._roster.seats})
        return True

    def hand_in(self, image: ImageInFlight, tile: TileInFlight) -> None:
        """Takes a tile, from any thread.

        Raises:
            BackendError: This was closed.
        """
        with self._lock:
            if not self._is_open:
                raise _closed()
            self._arrived.append((image, tile))
        self._wake()

    def _seat(self, rows: range) -> None:
        if rows:
            tiles = [self._roster.seats[row].sample for row in rows]
            pixels, noise = [tile.pixels for tile in tiles], [tile.first_noise for tile in tiles]
            self._share(rows, StageSeconds(encode=self._rows.join(rows.start, pixels, noise)))

    def _step(self) -> None:
        count, guided = len(self._roster.seats), list[int]()
        for row, seat in enumerate(self._roster.seats):
            way, draw = seat.sample.way, seat.sample.draw
            if draw is None:
                continue
            self._tell(row, way, seat.step, evaluation=0)
            if way.embedding.shape[1] > 1:
                self._tell(count + len(guided), way, seat.step, evaluation=1)
                guided.append(row)
            if way.schedule.steps[seat.step].c != 0:
                draw(self._noise, seat.step + 1)
                self._rows.put_noise(row, self._noise)
        self._share(range(count), StageSeconds(loop=self._rows.step(count, guided)))

    def _tell(self, row: int, way: Way, step: int, *, evaluation: int) -> None:
        """What a row's next evaluation is told."""
        self._rows.coefficients[row] = way.coefficients[step]
        self._rows.embedding[row] = way.embedding[step, evaluation]
        if len(way.weights):
            self._rows.weights[row] = way.weights[evaluation]

    def _hand_out(self, rows: list[int]) -> None:
        """Decodes finished rows, and frees them."""
        manifest = self.upscaler.bundle.manifest
        side, done = manifest.tile * manifest.scale, list[tuple[TileInFlight, Float]]()
        for start, stop in spans(rows):
            out = np.empty((stop - start, manifest.channels, side, side), np.float32)
            self._share(range(start, stop), StageSeconds(decode=self._rows.decode(start, out)))
            done += [(self._roster.seats[start + index].sample, part) for index, part in enumerate(out)]
        try:
            self._leave(rows)
        finally:  # they are whole, whatever becomes of the others
            for tile, enlarged in done:
                tile.enlarged.set_result(enlarged)

    def _leave(self, rows: list[int]) -> None:
        for row, to in self._roster.leave(rows):
            self._rows.move(row, to)

    def _let_go(self, images: set[ImageInFlight], reason: Callable[[], Exception]) -> None:
        """Takes images out, wherever their tiles are."""
        if images:
            waited, rows = self._roster.dismiss(images)
            left = waited + [self._roster.seats[row].sample for row in rows]
            try:
                self._leave(rows)
            finally:
                _refuse(left, reason)

    def _fail(self, reason: Callable[[], Exception], images: set[ImageInFlight]) -> None:
        """Takes images out, and everybody from the batch: nobody is left who would have to be moved."""
        waited, _ = self._roster.dismiss(images)
        left = waited + [seat.sample for seat in self._roster.seats]
        self._roster.seats.clear()
        _refuse(left, reason)

    def _share(self, rows: range, spent: StageSeconds) -> None:
        """Puts a call down to the images that were in it, by their rows."""
        part = StageSeconds(*(seconds / len(rows) for seconds in (spent.encode, spent.loop, spent.decode)))
        for row in rows:
            image = self._roster.seats[row].owner
            image.seconds = image.seconds + part

    def close(self) -> None:
        """Fails what is under way, and frees the buffers; may be called twice.

        Raises:
            BackendError: Something could not be freed; all the rest was.
        """
        with self._lock:
            self._is_open = False
            arrived, self._arrived = self._arrived, deque()
        _refuse([tile for _, tile in arrived], _closed)
        self._fail(_closed, self._roster.owners)
        self._rows.close()


def _refuse(tiles: list[TileInFlight], reason: Callable[[], Exception]) -> None:
    for tile in tiles:
        tile.enlarged.set_exception(reason())


def _closed() -> BackendError:
    return BackendError("the batch that this image was in is closed")


def _failure(error: Exception) -> BackendError:
    """What an image of a batch that failed is told; each gets an error of its own."""
    is_known = isinstance(error, EdgeSRError)
    told = BackendError(f"its batch failed: {error if is_known else f'{type(error).__name__}: {error}'}")
    told.__cause__ = error
    return told
