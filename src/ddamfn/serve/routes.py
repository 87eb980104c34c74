"""The server's endpoints, each of which only receives, reads and answers."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import ClientDisconnect

from ddamfn.errors import ImageTooLarge, UnreadableImage, UsageError
from ddamfn.faces.search import MIN_SIDE_PX
from ddamfn.results import ImageResult
from ddamfn.serve import problems
from ddamfn.serve.batching import Batcher, Options
from ddamfn.serve.body import FIELD, BodyReader, Upload
from ddamfn.serve.guard import Metrics
from ddamfn.serve.problems import Problem
from ddamfn.serve.schemas import (
    BATCH_EXAMPLE,
    IMAGE_EXAMPLE,
    ImageBody,
    ModelsBody,
    StateBody,
    highest_precision,
    models_body,
)
from ddamfn.serve.settings import Settings
from ddamfn.weights import Card
from ddamfn.weights.prior import TRAINING, parse_class_prior

_T = TypeVar("_T")
_BINARY = {"type": "string", "format": "binary"}
_Attention = Annotated[bool, Query(description="add each face's attention maps")]
_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_STARTING = {HTTPStatus.SERVICE_UNAVAILABLE: "the server is starting"}
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "not an image, or an argument out of range",
    HTTPStatus.REQUEST_TIMEOUT: "the body came too slowly",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too many bytes, pixels or files",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "neither an image nor a form",
    HTTPStatus.TOO_MANY_REQUESTS: "the queue is full; Retry-After says when to ask again",
    **_STARTING,
}
_GENERAL = {
    "401": "a token is needed, or it is the wrong one",
    "403": "a page of another site sends it",
    "421": "the server does not go by this Host name",
    "default": "any other refusal",
}


def api_router(settings: Settings, card: Card, batcher: Batcher, metrics: Metrics) -> APIRouter:
    """Return the routes below `/v1`, health checks and metrics."""
    router = APIRouter(responses=problems.describe(_GENERAL))
    bodies = BodyReader(settings)
    _add_predictions(router, batcher, bodies, _options_for(card, settings))
    _add_state(router, batcher, bodies, metrics, models_body(card, settings))
    return router


def _add_predictions(
    router: APIRouter, batcher: Batcher, bodies: BodyReader, options_of: Callable[..., Options]
) -> None:
    @router.post(
        "/v1/predict",
        summary="Read one image",
        response_class=JSONResponse,
        responses=problems.describe(_REFUSALS) | _answered(ImageBody, IMAGE_EXAMPLE),
        openapi_extra=_body(_BINARY, raw=True),
    )
    async def predict(
        request: Request, options: Annotated[Options, Depends(options_of)], attention: _Attention = False
    ) -> Response:
        """Finds the faces in an image and reads their expressions. The answer is that of `ddamfn predict`."""
        batcher.check_ready()
        async with bodies.uploads(request) as uploads:
            if len(uploads) > 1:
                raise Problem(HTTPStatus.BAD_REQUEST, "several images at once are for /v1/predict/batch")
            with batcher.admit(1):
                result = await _unless_gone(request, _read(batcher, uploads[0], options))
        return JSONResponse(result.to_dict(attention=attention))

    @router.post(
        "/v1/predict/batch",
        summary="Read several images",
        response_class=JSONResponse,
        responses=problems.describe(_REFUSALS) | _answered(list[ImageBody], BATCH_EXAMPLE),
        openapi_extra=_body({"type": "array", "items": _BINARY, "minItems": 1}, raw=False),
    )
    async def predict_batch(
        request: Request, options: Annotated[Options, Depends(options_of)], attention: _Attention = False
    ) -> Response:
        """Reads each part named `file`. Answers come in order; a file that cannot be read has an `error`."""
        batcher.check_ready()
        async with bodies.uploads(request, raw=False) as uploads:
            with batcher.admit(len(uploads)):
                results = await _unless_gone(request, _read_all(batcher, uploads, options))
        return JSONResponse([result.to_dict(attention=attention) for result in results])


def _add_state(
    router: APIRouter, batcher: Batcher, bodies: BodyReader, metrics: Metrics, models: Mapping[str, Any]
) -> None:
    @router.get("/v1/models", summary="The weights that answer, and the limits", response_model=ModelsBody)
    async def list_models() -> Response:
        """Says what stands on the weights' card, and how much a request may hold."""
        return JSONResponse(models)

    @router.get("/healthz", summary="Whether the server lives", response_model=StateBody)
    async def healthz() -> Response:
        """Answers as long as the server does anything at all."""
        return JSONResponse({"status": "alive"})

    @router.get(
        "/readyz",
        summary="Whether images are read",
        response_model=StateBody,
        responses=problems.describe(_STARTING),
    )
    async def readyz() -> Response:
        """Refuses with 503 until the networks are loaded."""
        batcher.check_ready()
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Counters for Prometheus", response_class=Response, responses=_METRICS)
    async def show_metrics() -> Response:
        """Numbers of requests, seconds, faces, the queue and the batches; nothing of any image."""
        metrics.body_bytes.set(bodies.buffered_bytes)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


_MOST_PRIOR_LETTERS = 400
_MAX_DETECTION_PX = 4096
"""Of one look, which takes memory in proportion to its area; "full" looks at tiles."""


def _options_for(card: Card, settings: Settings) -> Callable[..., Options]:
    """Return the parser of a request's options; its description names the highest precision that can be kept."""
    # Only described: asked for more, the recognizer says best what is wrong.
    highest = highest_precision(card, settings)
    kept = {} if highest is None else {"maximum": highest}
    count = Annotated[int, Query(ge=1, le=settings.max_faces, description="only this many of each image, the surest")]
    precision = Annotated[float, Field(gt=0, le=1, json_schema_extra=kept)]
    # Described with one share only: no pattern can say of several that their sum is at most 1.
    one_share = rf"({'|'.join(card.labels)})=(0|1|0?\.[0-9]{{1,4}})"
    prior_text = Annotated[str, Field(json_schema_extra={"pattern": f"^(training|uniform|{one_share})$"})]

    def options(
        min_detection_score: Annotated[
            float, Query(gt=0, le=1, description="leave out faces detected with less")
        ] = 0.5,
        max_faces: count = settings.max_faces,
        detection: Annotated[
            Literal["auto", "full"] | Annotated[int, Field(ge=MIN_SIDE_PX, le=_MAX_DETECTION_PX)],
            Query(
                description="look again where no face was found, or a small or turned one (auto); at every pixel "
                "(full); or once, with the longer side shrunk to so many pixels"
            ),
        ] = "auto",
        min_precision: Annotated[
            precision | SkipJsonSchema[None],
            Query(description='answer "uncertain" where fewer than this share of the answers would be right'),
        ] = None,
        class_prior: Annotated[
            prior_text | SkipJsonSchema[None],
            Query(
                max_length=_MOST_PRIOR_LETTERS,
                description="how common the expressions are: training (as in the training images), uniform, or shares "
                "with a sum of at most 1, such as neutral=.3,happiness=.4, where the others divide the rest; not "
                "together with min_precision",
            ),
        ] = None,
    ) -> Options:
        if min_precision is not None and class_prior is None and settings.class_prior != TRAINING:
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "this server expects another mix of expressions than that of the training images, under which "
                "min_precision promises nothing: add class_prior=training",
            )
        try:
            prior = None if class_prior is None else parse_class_prior(class_prior)
        except UsageError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
        return Options(min_detection_score, max_faces, detection, min_precision, prior)

    return options


async def _read(batcher: Batcher, upload: Upload, options: Options) -> ImageResult:
    """Read one upload, and turn expected errors into a refusal."""
    if not upload.is_supported:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the file's type must be image/*, not {upload.media_type}")
    try:
        result = await batcher.read(upload.content, options)
    except ImageTooLarge as error:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _without_name(error)) from None
    except (UnreadableImage, UsageError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, _without_name(error)) from None
    return replace(result, source=upload.name)


async def _read_or_say_why(batcher: Batcher, upload: Upload, options: Options) -> ImageResult:
    try:
        return await _read(batcher, upload, options)
    except Problem as problem:
        return ImageResult(upload.name, None, None, error=problem.detail)


async def _read_all(batcher: Batcher, uploads: Sequence[Upload], options: Options) -> list[ImageResult]:
    return await asyncio.gather(*(_read_or_say_why(batcher, upload, options) for upload in uploads))


def _without_name(error: Exception) -> str:
    return str(error).removeprefix("<bytes>: ")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Await work, but cancel it and raise ClientDisconnect as soon as the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    done, watching = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((done, watching), return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            return done.result()
        raise ClientDisconnect
    finally:
        done.cancel()
        watching.cancel()


def _body(field: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """Describe a request's body, which the server parses itself."""
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: field}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if raw:
        content |= {name: {"schema": _BINARY} for name in ("application/octet-stream", "image/*")}
    return {"requestBody": {"required": True, "content": content}}


def _answered(model: Any, example: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": {"application/json": {"example": example}}}}
