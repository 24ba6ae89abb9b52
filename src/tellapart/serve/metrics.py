"""Prometheus metrics at /metrics. No label has values from clients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8)


class Metrics:
    """The server's own registry, so that two servers in one process stay apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("tellapart_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.request_seconds = Histogram(
            "tellapart_request_seconds",
            "Time from a request's headers to its complete response.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = Counter("tellapart_images", "Images by outcome.", ("run", "outcome"), registry=self.registry)
        self.feedback = Counter(
            "tellapart_feedback",
            "Images kept with what people said of the answer.",
            ("run", "said"),
            registry=self.registry,
        )
        self.waiting = Gauge("tellapart_images_waiting", "Images waiting or in progress.", registry=self.registry)
        self.decode_seconds = Histogram(
            "tellapart_decode_seconds", "Time to decode an image.", buckets=_SECONDS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "tellapart_batch_seconds",
            "Time of the network on a batch.",
            ("run",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "tellapart_batch_images", "Images per batch.", ("run",), buckets=_BATCHES, registry=self.registry
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
