"""A server's metrics, in Prometheus text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_PREFIX = "videollama2_"


class ServerMetrics:
    """All metrics of one server. Thread-safe; counting takes microseconds."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(_PREFIX + name, text, labels, buckets=_SECONDS, registry=registry)

        self.requests = counter("http_requests", "Requests by route and status", "method", "route", "status")
        self.request_seconds = seconds(
            "http_request_seconds", "Seconds from a request to the end of its response", "route"
        )
        self.refused = counter("refused", "Requests rejected before they were queued", "reason")
        self.ended = counter("answers", "Accepted requests by outcome", "end")
        self.first_token = seconds("first_token_seconds", "Seconds from a request to its first token")
        self.waited = seconds("waited_seconds", "Seconds from a request until its media are prepared")
        self.stage = seconds("stage_seconds", "Seconds of work per request and stage", "stage")
        self.tokens = counter("tokens", "Prompt tokens by modality, and generated tokens", "kind")
        self.cache = counter("media_cache", "Media items by whether they were cached", "found")
        self.rows = Histogram(
            _PREFIX + "step_rows", "Sequences per decoding step", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )  # fmt: skip

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a metric whose value is read at each scrape."""
        Gauge(_PREFIX + name, text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """All metrics as text."""
        return generate_latest(self._registry)
