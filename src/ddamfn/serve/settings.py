"""Limits and choices of a server."""

import os
from dataclasses import dataclass, field

from ddamfn.errors import UsageError
from ddamfn.faces.sessions import Providers
from ddamfn.threads import num_cores
from ddamfn.weights import ClassPrior
from ddamfn.weights.prior import TRAINING

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a browser on this machine may ask for a server that is bound to loopback."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and choices of one server.

    Attributes:
        weights: name of bundled weights, or path of an `.onnx` network or its `.json` card; the default weights when
            None.
        workers: threads that decode images and find faces; one per core by default.
        max_upload_bytes: of a request's body; more is refused.
        max_pixels: of one image; more is refused before its pixels are decoded.
        max_faces: of one image. At very low detection scores noise has thousands of faces, and one request must not
            occupy the server with them.
        queue: images that may wait or be read at once; more are refused until some are done. A batch request may hold
            this many.
        batch_size: approximate number of faces that are classified together.
        batch_wait_s: longest time that a detected face waits for others of its batch; no wait if no other image is
            being read.
        buffered_bytes: bodies of all requests together; more are refused until some are done.
        body_idle_s: how long a client may send nothing in the middle of a body, or of a request's head.
        body_total_s: how long a whole body may take.
        class_prior: the mix of expressions of requests that name none, as for `Recognizer`.
        providers: as for `Recognizer`.
        token: the bearer token that clients must send; None allows every client.
        hosts: the only `Host` names that are answered, lower case and without port; None for any. This stops a web page
            that points its own name at this machine (DNS rebinding).

    Raises:
        UsageError: a number is out of range, or the token is empty.
    """

    weights: str | os.PathLike[str] | None = None
    workers: int = field(default_factory=num_cores)
    max_upload_bytes: int = 20 * 2**20
    max_pixels: int = 64_000_000
    max_faces: int = 128
    queue: int = 64
    batch_size: int = 16
    batch_wait_s: float = 0.005
    buffered_bytes: int = 256 * 2**20
    body_idle_s: float = 10.0
    body_total_s: float = 120.0
    class_prior: ClassPrior = TRAINING
    providers: Providers | None = None
    token: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] | None = LOOPBACK_HOSTS

    def __post_init__(self) -> None:
        """Refuse what no server can work with."""
        for name in ("workers", "max_upload_bytes", "max_pixels", "max_faces", "queue", "batch_size", "buffered_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_wait_s < 0 or self.body_idle_s <= 0 or self.body_total_s <= 0:
            raise UsageError("the server's times must be above 0 s")
        if self.token is not None and not self.token:
            raise UsageError("the token must not be empty")
