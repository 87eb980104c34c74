"""The application: interface, page and guard around one recognizer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from ddamfn import __version__
from ddamfn.serve import problems
from ddamfn.serve.batching import Batcher
from ddamfn.serve.guard import Guard, Metrics
from ddamfn.serve.routes import api_router
from ddamfn.serve.settings import Settings
from ddamfn.weights import find_weights
from ddamfn.weights.prior import prior_factors

_DESCRIPTION = """\
Finds the faces in photographs and reads their expressions. Nothing of an image is kept, written or logged.

It reads what a face shows, as annotators named it, and not what a person feels. In the EU, Article 5(1)(f) of the AI
Act forbids systems that infer emotions at work and in education, except for medical or safety reasons.
"""
_PAGE = files("ddamfn").joinpath("serve", "page")
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


class _Api(FastAPI):
    """FastAPI whose description also covers the shape of refusals, and the token where one is needed."""

    needs_token = False

    def openapi(self) -> dict[str, Any]:
        """Return the description, made once."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        schema = super().openapi()
        parts = schema.setdefault("components", {})
        body = problems.ProblemBody
        parts.setdefault("schemas", {})[body.__name__] = body.model_json_schema()
        if self.needs_token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, operations in schema["paths"].items():
                for operation in operations.values() if path not in ("/healthz", "/readyz") else ():
                    operation["security"] = [{"token": []}]
        return schema


def create_app(settings: Settings, on_failure: Callable[[Exception], None] | None = None) -> Guard:
    """Make the server's application; its networks are loaded once it runs.

    Args:
        settings: limits and choices.
        on_failure: told why the networks could not be loaded; without it, requests are refused with 503 for ever.

    Returns:
        An ASGI application.

    Raises:
        WeightsError: there are no such weights, or their card is not usable.
        UsageError: the weights cannot take the class prior.
    """
    _, card = find_weights(settings.weights)
    prior_factors(card, settings.class_prior)  # refused here, and not by the thread that loads the networks
    metrics = Metrics()
    batcher = Batcher(settings, metrics)

    async def load() -> None:
        try:
            await asyncio.to_thread(batcher.load)
        except Exception as error:
            if on_failure is not None:
                on_failure(error)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        yield
        await loading
        batcher.close()

    app = _Api(
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
    app.needs_token = settings.token is not None
    problems.install(app)
    app.include_router(api_router(settings, card, batcher, metrics))
    app.router.routes.extend(Route(path, _page_file, methods=["GET"]) for path in ("/", "/{name}"))
    return Guard(app, settings, metrics)


def _page_file(request: Request) -> Response:
    """Serve a file of the folder `page` under its plain name, and nothing else."""
    name = request.path_params.get("name", "index.html")
    # The name is compared with those in the folder and never joined to a path, so no name leads out of it.
    for entry in _PAGE.iterdir():
        media_type = _MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        if entry.name == name and media_type is not None:
            return Response(entry.read_bytes(), headers={"Cache-Control": "no-cache"}, media_type=media_type)
    raise HTTPException(HTTPStatus.NOT_FOUND)
