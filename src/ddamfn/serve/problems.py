"""Every refusal as RFC 9457 problem details: one shape for clients, whatever went wrong and wherever."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
"""Media type of a refusal."""

RETRY = {"Retry-After": "1"}
"""Headers of a refusal worth retrying after a second."""


class ProblemBody(BaseModel):
    """A refusal, as of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class Problem(Exception):
    """A refusal sent to the client: HTTP status, one sentence on what to do, and headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        # "about:blank": the status says which problem it is; the title is the status's phrase (RFC 9457, 4.2.1).
        title = HTTPStatus(self.status).phrase
        content = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return Response(json.dumps(content), self.status, self.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make an application answer its own, the framework's and unexpected errors as problems."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


def describe(meanings: Mapping[Any, str]) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for OpenAPI by status; "default" stands for all others."""
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    described: dict[int | str, dict[str, Any]] = {}
    for status, description in meanings.items():
        key = int(status) if isinstance(status, HTTPStatus) else str(status)
        described[key] = {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
    return described


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
    """Name the first invalid argument without repeating its value."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return Problem(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}").response()


async def _unexpected(_: Request, __: Exception) -> Response:
    detail = "something in the server went wrong; its log says where"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail).response()
