"""What the server counts, for Prometheus: numbers only, never an image, a name or a result."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MEDIA_TYPE = CONTENT_TYPE_LATEST
"""Media type of the text that `Metrics.text` returns."""

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one server, in a registry of their own, so that two servers in a program do not mix.

    Attributes:
        requests: answered requests by path, method and status.
        latency: seconds from a request's head to its answer by path.
        images: images read.
        faces: faces found.
        waiting: images inside, waiting or being read.
        batch_faces: faces classified together.
        body_bytes: bytes of bodies held.
        ready: 1 once images are read, 0 while starting.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "ddamfn_requests", "Answered requests", ("path", "method", "status"), registry=self._registry
        )
        self.latency = Histogram(
            "ddamfn_request_seconds",
            "From a request's head to its answer",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.images = Counter("ddamfn_images", "Images read", registry=self._registry)
        self.faces = Counter("ddamfn_faces", "Faces found", registry=self._registry)
        self.waiting = Gauge("ddamfn_queue_images", "Images inside, waiting or being read", registry=self._registry)
        self.batch_faces = Histogram(
            "ddamfn_batch_faces", "Faces classified together", buckets=_COUNTS, registry=self._registry
        )
        self.body_bytes = Gauge("ddamfn_body_bytes", "Bytes of request bodies held", registry=self._registry)
        self.ready = Gauge("ddamfn_ready", "1 once images are read, 0 while starting", registry=self._registry)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)
