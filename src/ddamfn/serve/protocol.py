"""uvicorn's HTTP/1.1, that also ends connections on which no request comes, and answers nonsense with a problem."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ddamfn.serve.problems import MEDIA_TYPE, Problem

_HEAD_S = 10.0


class Http(H11Protocol):
    """One connection. uvicorn limits the time between requests; this limits the time that a request's head may take."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: the first head must come."""
        super().connection_made(transport)
        self._time_head()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a head is complete, start it when one has begun."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, and hang up."""
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
