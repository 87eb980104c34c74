"""A socket and a server on it, until a signal stops them; connections without a request are closed."""

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ddamfn.errors import DdamfnError, UsageError
from ddamfn.serve.app import create_app
from ddamfn.serve.problems import MEDIA_TYPE, Problem
from ddamfn.serve.settings import Settings

_LOGGER = logging.getLogger(__name__)

_BACKLOG = 512
_KEEP_ALIVE_S = 15
# What is being read when a signal comes takes a second or two; a client that never ends its body must not keep it.
_LAST_REQUESTS_S = 30
_HEAD_S = 10.0


def is_loopback(host: str) -> bool:
    """Whether a server bound to this name or address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """Open the socket to listen on; port 0 takes any free one."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError, OverflowError):
        raise UsageError(f"there is no host {host!r} to listen on") from None
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol. With it, the second part of a
    # response waits until the client has acknowledged the first, about 40 ms on a connection that is kept open.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = "; choose another with --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        raise DdamfnError(f"cannot listen on {host}, port {port}: {error.strerror or error}{hint}") from None
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL of the server on a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(
    settings: Settings,
    on_failure: Callable[[Exception], None] | None = None,
    *,
    last_requests_s: int = _LAST_REQUESTS_S,
) -> uvicorn.Server:
    """Make a server to run on a socket; after it is told to stop, requests have `last_requests_s` seconds left."""
    config = uvicorn.Config(
        create_app(settings, on_failure),
        loop="asyncio",
        http=_Http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=last_requests_s,
    )
    return uvicorn.Server(config)


def run(settings: Settings, host: str, port: int, announce: Callable[[str], None] = _LOGGER.info) -> None:
    """Serve until SIGTERM or Ctrl-C (KeyboardInterrupt) and answer the requests that have begun; announce the URL."""
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    server = make_server(settings, fail)
    with bind(host, port) as listener:
        announce(address(listener))
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


class _Http(H11Protocol):
    """One HTTP/1.1 connection; uvicorn limits the time between requests, this class that for a request's head."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Stop the timer when a head is complete, and start it when one has begun."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not an HTTP request, and close the connection."""
        problem = Problem(400, "this is no HTTP request").response()
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(problem.body))), ("connection", "close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(problem.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _time_head(self) -> None:
        self._timer = self.loop.call_later(_HEAD_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
