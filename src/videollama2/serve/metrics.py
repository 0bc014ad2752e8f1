"""Figures about a server, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_PREFIX = "videollama2_"


class ServerMetrics:
    """All of one server. Counting costs microseconds and is safe from every thread."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(_PREFIX + name, text, labels, buckets=_SECONDS, registry=registry)

        self.requests = counter("http_requests", "Requests by route and status", "method", "route", "status")
        self.request_seconds = seconds("http_request_seconds", "From a request to the end of its response", "route")
        self.refused = counter("refused", "Questions that were not taken", "reason")
        self.ended = counter("answers", "Questions that were taken, by how they ended", "end")
        self.first_token = seconds("first_token_seconds", "From a question to its first token")
        self.waited = seconds("waited_seconds", "From a question until its media are looked at")
        self.stage = seconds("stage_seconds", "Work on one question", "stage")
        self.tokens = counter("tokens", "Positions of prompts by modality, and generated tokens", "kind")
        self.cache = counter("media_cache", "Media of questions, by whether they were encoded before", "found")
        self.rows = Histogram(
            _PREFIX + "step_rows", "Answers computed together, per step", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )  # fmt: skip

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A figure that is read when somebody asks."""
        Gauge(_PREFIX + name, text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
