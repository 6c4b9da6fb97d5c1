"""What is counted, for Prometheus: by endpoint and status, never by file, patient or client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edge_sr.result import Result
from edge_sr.service.worker import State, Worker

__all__ = ["CONTENT_TYPE", "Counters"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Counters:
    """The figures of one service, in a registry of their own."""

    def __init__(self, worker: Worker) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "edge_sr_requests", "Requests answered.", ["endpoint", "status"], registry=registry
        )
        self._latency = Histogram(
            "edge_sr_request_seconds",
            "From a request's head to the end of its answer.",
            ["endpoint"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._inference = Histogram(
            "edge_sr_inference_seconds",
            "Encode, loop and decode of one image.",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._alarms = Counter(
            "edge_sr_consistency_alarms",
            "Results less consistent with their inputs than true images are.",
            registry=registry,
        )
        depth = Gauge("edge_sr_queue_depth", "Jobs that wait for the device.", registry=registry)
        depth.set_function(lambda: worker.waiting)
        ready = Gauge("edge_sr_ready", "1 where requests are taken.", registry=registry)
        ready.set_function(lambda: worker.state is State.READY)

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """One more answer; `endpoint` is the name of the function that gave it."""
        self._requests.labels(endpoint, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def count_result(self, result: Result) -> None:
        """One more enlarged image."""
        self._inference.observe(sum(result.seconds.get(name, 0.0) for name in ("encode", "loop", "decode")))
        self._alarms.inc(result.is_alarming is True)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return bytes(generate_latest(self._registry))
