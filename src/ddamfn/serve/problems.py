"""Every refusal as RFC 9457 problem details: one shape for clients, whatever went wrong and wherever."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
"""Media type of a refusal."""

RETRY = {"Retry-After": "1"}
"""Headers of a refusal that will not be one in a second's time."""


class Problem(Exception):
    """A refusal that a client is told.

    Args:
        status: HTTP status, 400 or above.
        detail: one sentence that says what to do.
        headers: to send with it.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def content(self) -> dict[str, Any]:
        """Return the problem's members."""
        # "about:blank": the status says which problem it is; the title is the status's phrase (RFC 9457, 4.2.1).
        title = HTTPStatus(self.status).phrase
        return {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}

    def response(self) -> Response:
        """Return the answer."""
        return Response(json.dumps(self.content()), self.status, self.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let an application answer its own and the framework's refusals as problems."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this address; /openapi.json lists what there is"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "other methods")
        detail = f"{request.method} is not for this address: use {allowed}"
    else:
        detail = str(error.detail)
    return Problem(error.status_code, detail, error.headers).response()


async def _invalid(_: Request, error: Exception) -> Response:
    """Name the first argument that is wrong, without repeating its value."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return Problem(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}").response()
