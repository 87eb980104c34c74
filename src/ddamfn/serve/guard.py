"""Checks of every request and answer: host and token, security headers, unread bodies, metrics."""

import asyncio
import hmac
import logging
import re
import time
import traceback
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ddamfn.serve.problems import Problem
from ddamfn.serve.settings import Settings

_LOGGER = logging.getLogger(__name__)

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Counted under their own names; a client that makes addresses and methods up must not make new counters.
_PATHS = ("/", "/v1/predict", "/v1/predict/batch", "/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json")
_METHODS = ("GET", "HEAD", "POST")
_WITH_TOKEN = ("/v1/", "/metrics", "/openapi.json")
_GONE = "gone"
# A client that is refused in the middle of its body reads the refusal only if the connection is not torn down at once.
_DRAIN_S, _DRAIN_BYTES = 2.0, 64 * 2**20

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Prometheus counters without images, names or results, in their own registry so that two servers do not mix."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("ddamfn_requests", "Answered requests", ("path", "method", "status"), registry=own)
        self.latency = Histogram(
            "ddamfn_request_seconds", "From a request's head to its answer", ("path",), buckets=_SECONDS, registry=own
        )
        self.images = Counter("ddamfn_images", "Images read", registry=own)
        self.faces = Counter("ddamfn_faces", "Faces found", registry=own)
        self.waiting = Gauge("ddamfn_queue_images", "Images inside, waiting or being read", registry=own)
        self.batch_faces = Histogram("ddamfn_batch_faces", "Faces classified together", buckets=_COUNTS, registry=own)
        self.body_bytes = Gauge("ddamfn_body_bytes", "Bytes of request bodies held", registry=own)
        self.ready = Gauge("ddamfn_ready", "1 once images are read, 0 while starting", registry=own)
        ProcessCollector(registry=own)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Guard:
    """Wraps the application with host and token checks and request metrics."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        began = time.perf_counter()
        try:
            refusal = self._refusal(scope)
            answer = self._app if refusal is None else refusal.response()
            # HEAD is GET without the body, which the server leaves out by itself.
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await answer(asked, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _GONE
        except Exception as error:
            # The client has its answer already. Its message may quote the image, so only its place is logged.
            _LOGGER.error("%s in %s", type(error).__name__, _place(error))
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(path, method, exchange.status).inc()
            self._metrics.latency.labels(path).observe(time.perf_counter() - began)

    def _refusal(self, scope: MutableMapping[str, Any]) -> Problem | None:
        """Return why a request is refused before it is read, or None."""
        headers = Headers(scope=scope)
        if self._settings.hosts is not None and _host(headers.get("host", "")) not in self._settings.hosts:
            named = " or ".join(self._settings.hosts)
            return Problem(HTTPStatus.MISDIRECTED_REQUEST, f"this server goes by the name {named} only")
        if scope["method"] == "POST" and _is_from_elsewhere(headers):
            return Problem(HTTPStatus.FORBIDDEN, "a page of another site asked for this: only this server's own may")
        if self._token is not None and scope["path"].startswith(_WITH_TOKEN):
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
                hint = "send the server's token: Authorization: Bearer TOKEN"
                return Problem(HTTPStatus.UNAUTHORIZED, hint, {"WWW-Authenticate": "Bearer"})
        return None


class _Exchange:
    """A request and its answer in transit; drains the body that a refusal left unread."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = "none"
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        self._unread = "content-length" in headers or "transfer-encoding" in headers
        # Such a client sends no body before it is told to go on.
        self._waits = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if self._unread and not self._waits:
                await self._drain()
            if self._unread:
                headers["Connection"] = "close"
        await self._send(message)

    async def _drain(self) -> None:
        """Read and discard the rest of the body, within limits."""
        taken = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._unread and taken < _DRAIN_BYTES:
                    taken += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


def _host(header: str) -> str:
    """Return the name in a Host header, lower case and without port."""
    return re.sub(r":\d*$", "", header.strip().lower())


def _is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin sends this; other clients say nothing.

    It could not read the answer, but reading images is work for the server.
    """
    told = headers.get("sec-fetch-site")
    if told is not None:
        return told in ("cross-site", "same-site")
    # Browsers tell this to servers of their own machine and over TLS alone.
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").strip().lower()


def _place(error: BaseException) -> str:
    """Return file, line and function of an error's last frames."""
    frames = traceback.extract_tb(error.__traceback__)
    return ", ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:])
