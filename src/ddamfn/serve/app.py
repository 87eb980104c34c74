"""The application: addresses, page and guard put together around one recognizer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response

from ddamfn import __version__
from ddamfn.serve.batching import Pipeline
from ddamfn.serve.guard import Guard
from ddamfn.serve.metrics import Metrics
from ddamfn.serve.problems import Problem, install
from ddamfn.serve.routes import api_router
from ddamfn.serve.schemas import ProblemBody
from ddamfn.serve.settings import Settings
from ddamfn.serve.static import page_routes
from ddamfn.weights import find_weights

_DESCRIPTION = """\
Finds the faces in photographs and reads their expressions. Nothing of an image is kept, written or logged.

It reads what a face shows, as annotators named it, and not what a person feels. In the EU, Article 5(1)(f) of the AI
Act forbids systems that infer emotions at work and in education, except for medical or safety reasons.
"""


def create_app(settings: Settings, on_failure: Callable[[Exception], None] | None = None) -> Guard:
    """Make the server's application; its networks are loaded once it runs.

    Args:
        settings: limits and choices.
        on_failure: told why the networks could not be loaded; without it, requests are refused with 503 for ever.

    Returns:
        An ASGI application.

    Raises:
        WeightsError: there are no such weights, or their card is not usable.
    """
    _, card = find_weights(settings.weights)
    metrics = Metrics()
    pipeline = Pipeline(settings, metrics)

    async def load() -> None:
        try:
            await asyncio.to_thread(pipeline.load)
        except Exception as error:
            if on_failure is not None:
                on_failure(error)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        yield
        await loading
        pipeline.close()

    app = FastAPI(
        title="ddamfn",
        version=__version__,
        description=_DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        # The framework's own pages fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the Host that the client sent.
        redirect_slashes=False,
    )
    install(app)
    app.add_exception_handler(Exception, _unexpected)
    app.include_router(api_router(settings, card, pipeline, metrics))
    app.router.routes.extend(page_routes())
    app.openapi = _openapi(app, app.openapi, with_token=settings.token is not None)  # type: ignore[method-assign]
    return Guard(app, settings, metrics)


async def _unexpected(_: Request, __: Exception) -> Response:
    told = "something in the server went wrong; its log says where"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, told).response()


def _openapi(
    app: FastAPI, described: Callable[[], dict[str, Any]], *, with_token: bool
) -> Callable[[], dict[str, Any]]:
    """Complete what the framework says of the interface: the shape of refusals, and the token."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = described()
            parts = schema.setdefault("components", {})
            parts.setdefault("schemas", {})["ProblemBody"] = ProblemBody.model_json_schema()
            if with_token:
                parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
                for path, operations in schema["paths"].items():
                    for operation in operations.values() if path not in ("/healthz", "/readyz") else ():
                        operation["security"] = [{"token": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi
