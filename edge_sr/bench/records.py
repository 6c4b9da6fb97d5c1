"""What a measurement is, as data: raw samples, the machine, the model; never a path, a host or a user.

Nothing that can be computed from the samples is kept beside them, so that nothing can contradict them. All
times are in seconds.

History of the format:
    1  first version
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_sr.card import Count, Record, Sha256
from edge_sr.manifest import Preset
from edge_sr.spec import Precision

__all__ = [
    "KIND",
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "STAGES",
    "Batch",
    "BenchResult",
    "BundleFacts",
    "Case",
    "Energy",
    "Environment",
    "Load",
    "Processors",
    "Row",
    "Settings",
    "Stages",
    "Start",
    "State",
    "WarmUp",
]

KIND: Literal["edge-sr/bench"] = "edge-sr/bench"
SCHEMA_VERSION = 1
"""The version that is written."""

READABLE_VERSIONS = (1,)
"""The versions that are read."""

Seconds = Annotated[float, Field(ge=0, le=1e6)]
Samples = Annotated[tuple[Seconds, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0)]


class Environment(Record):
    """Where it was measured: what two results must have in common to be compared.

    Attributes:
        device: The board's or the card's name; the processor's where there is neither.
        cpu, cores, memory_mib, system: The machine; `cores` are those this process may use.
        kernel: The release of the operating system's kernel.
        container: What kind this ran in; None on the machine itself.
        jetpack, cuda, driver, tensorrt: NVIDIA's software, as the machine's files say.
        backend, backend_version, provider: What ran the graphs.
        power_mode: Of nvpmodel, by name.
        edge_sr, python, numpy: Versions.
    """

    device: str
    cpu: str
    cores: Count
    memory_mib: Count | None
    system: str
    kernel: str
    container: str | None
    jetpack: str | None
    cuda: str | None
    driver: str | None
    tensorrt: str | None
    backend: str
    backend_version: str
    provider: str
    power_mode: str | None
    edge_sr: str
    python: str
    numpy: str


class BundleFacts(Record):
    """Which model."""

    name: str
    version: str
    digest: Sha256


class Case(Record):
    """What one row measures.

    Attributes:
        precision: Of the graphs.
        preset: How the loop runs; None where there is none.
        size: Side of the square LR image, in pixels.
        batch: Most tiles at once.
        threads: CPU threads of the backend.
    """

    precision: Precision
    preset: Preset | None
    size: Count
    batch: Count
    threads: Count


class Settings(Record):
    """How it was measured.

    Attributes:
        duration_s: Time for the runs that count, warm-up, start and energy not among them.
        seed: Of the images' noise and the arrivals.
        window, tolerance: When a warm-up ends: see `edge_sr.statistics.is_settled`.
        parts: What was measured beside images, one after the other.
    """

    duration_s: Annotated[float, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)]
    window: Count
    tolerance: Annotated[float, Field(gt=0)]
    parts: tuple[Literal["start", "batches", "load", "energy"], ...]


class State(Record):
    """The machine before or after; see `edge_sr.telemetry.snapshot`. Empty where nothing could be read.

    Attributes:
        clocks_mhz: By clock, what it ran at.
        locked: The clocks whose limits are the same, as jetson_clocks sets them.
        load: Processes that ran or wanted to, over the last minute.
    """

    power_mode: str | None
    clocks_mhz: dict[str, float]
    locked: tuple[str, ...]
    temperatures_c: dict[str, float]
    rails_w: dict[str, float]
    throttle_counters: dict[str, int]
    active_throttles: tuple[str, ...]
    load: float | None


class Processors(Record):
    """Who had the processors while images were timed, in processors; see `edge_sr.telemetry.CpuShares`."""

    seconds: Seconds
    own: Share
    others: Share
    stolen: Share


class Start(Record):
    """A first image in a fresh process, and its memory.

    Attributes:
        imported: From the start of the process until edge_sr was imported.
        bundle: Opening the bundle.
        backend: Importing the backend's library, and opening the device.
        engines: Loading each graph, which hashes its file too.
        first: Preparing the loop, and the first image.
        base_bytes: The most resident memory before the bundle was opened.
        peak_bytes: The most resident memory in all.
        device_bytes: Device memory that engines and loop took; None where the backend has no GPU.
    """

    imported: Seconds
    bundle: Seconds
    backend: Seconds
    engines: dict[str, Seconds]
    first: Seconds
    base_bytes: Count
    peak_bytes: Count
    device_bytes: Annotated[int, Field(ge=0)] | None

    @property
    def total(self) -> float:
        """Until the first image was there."""
        return self.imported + self.bundle + self.backend + sum(self.engines.values()) + self.first


class WarmUp(Record):
    """Runs that do not count.

    Attributes:
        seconds: Raw.
        is_stable: Whether they settled before the limit.
    """

    seconds: Samples
    is_stable: bool


STAGES = ("read", "encode", "loop", "decode", "latency", "write")


class Stages(Record):
    """Every image that was timed, stage by stage, in order.

    Attributes:
        read: Reading and decoding the file.
        encode, loop, decode: The graphs, on the device, summed over tiles and samples; where several tiles
            are under way at once, the sum may be more than the time that passed.
        latency: From pixels to pixels.
        write: Encoding and writing the file, until it is on disk.
        step: One step of the loop, run alone after the image.
    """

    read: Samples
    encode: Samples
    loop: Samples
    decode: Samples
    latency: Samples
    write: Samples
    step: Samples

    @model_validator(mode="after")
    def _are_of_one_length(self) -> Stages:
        counts = {name: len(getattr(self, name)) for name in (*STAGES, "step")}
        if len(set(counts.values())) > 1:
            raise ValueError(f"stages of the same images, but {counts}")
        if not all(value > 0 for value in self.latency):
            raise ValueError("an image that took no time")
        return self

    @property
    def compute(self) -> tuple[float, ...]:
        """Time in the graphs."""
        return _sums(self.encode, self.loop, self.decode)

    @property
    def host(self) -> tuple[float, ...]:
        """What the graphs leave of the latency: noise, tiles, copies, the consistency of the result."""
        return tuple(max(0.0, a - b) for a, b in zip(self.latency, self.compute, strict=True))

    @property
    def whole(self) -> tuple[float, ...]:
        """From file to file."""
        return _sums(self.read, self.latency, self.write)


def _sums(*series: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*series, strict=True)))


class Batch(Record):
    """A batch of tiles through the graphs, from upload to download.

    Attributes:
        size: Tiles at once.
        latency: Of the whole batch.
        enqueue: Until the host had handed it over; on a CPU that is all of it.
        compute: In the graphs, on the device.
    """

    size: Count
    latency: Samples
    enqueue: Samples
    compute: Samples

    @model_validator(mode="after")
    def _are_of_one_length(self) -> Batch:
        if not len(self.latency) == len(self.enqueue) == len(self.compute):
            raise ValueError("latency, enqueue and compute are of the same runs, and differ in number")
        if not all(value > 0 for value in self.latency):
            raise ValueError("a batch that took no time")
        return self

    @property
    def per_second(self) -> float:
        """Tiles a second, over all runs."""
        return self.size * len(self.latency) / sum(self.latency)


class Load(Record):
    """Requests that come when they come, and wait for those before them; one image runs at a time.

    Attributes:
        share: Of the throughput that was measured before.
        per_second: Requests that were offered a second, on average.
        arrived, started, finished: Moments of each request, from the start.
    """

    share: Annotated[float, Field(gt=0)]
    per_second: Annotated[float, Field(gt=0)]
    arrived: Samples
    started: Samples
    finished: Samples

    @model_validator(mode="after")
    def _is_in_order(self) -> Load:
        if not len(self.arrived) == len(self.started) == len(self.finished):
            raise ValueError("arrived, started and finished are of the same requests, and differ in number")
        if not all(a <= s <= f for a, s, f in zip(self.arrived, self.started, self.finished, strict=True)):
            raise ValueError("a request that was started before it came, or finished before it was started")
        return self

    @property
    def latency(self) -> tuple[float, ...]:
        """From the moment that a request came, not that it was taken."""
        return tuple(done - came for came, done in zip(self.arrived, self.finished, strict=True))

    @property
    def achieved(self) -> float:
        """Requests that were finished a second."""
        return len(self.finished) / max(self.finished[-1], 1e-9)


class Energy(Record):
    """See `edge_sr.measure.EnergyPerImage`."""

    rail: str
    images: Count
    gross_j: float
    above_idle_j: float
    mean_w: float
    idle_w: float


class Row(Record):
    """One case."""

    case: Case
    start: Start | None
    warm_up: WarmUp
    stages: Stages
    batches: tuple[Batch, ...]
    loads: tuple[Load, ...]
    energy: Energy | None


class BenchResult(Record):
    """The whole of a result.

    Attributes:
        created: When it was begun, UTC, "2026-01-31T12:00:00Z".
        rows: In each round every row ran once, so that samples of one index belong together.
        notices: What makes it doubtful, and what its figures do not mean.
    """

    kind: Literal["edge-sr/bench"] = KIND
    schema_version: Literal[1] = 1
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    environment: Environment
    bundle: BundleFacts
    settings: Settings
    before: State
    after: State
    processors: Processors | None
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    notices: tuple[str, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> BenchResult:
        counts = {len(row.stages.latency) for row in self.rows}
        if len(counts) > 1:
            raise ValueError(f"rows of the same rounds, but of {sorted(counts)} images")
        if len({row.case.model_dump_json() for row in self.rows}) < len(self.rows):
            raise ValueError("two rows measure the same case")
        return self
