"""The addresses of the server's interface, each no more than: receive, read, answer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.requests import ClientDisconnect

from ddamfn.classifier import alignment_of
from ddamfn.errors import ImageTooLarge, UnreadableImage, UsageError
from ddamfn.results import ImageResult
from ddamfn.serve.batching import Options, Pipeline
from ddamfn.serve.body import FIELD, BodyReader, Upload
from ddamfn.serve.metrics import MEDIA_TYPE, Metrics
from ddamfn.serve.problems import MEDIA_TYPE as PROBLEM
from ddamfn.serve.problems import Problem
from ddamfn.serve.schemas import BATCH_EXAMPLE, IMAGE_EXAMPLE, ImageBody, ModelsBody, StateBody
from ddamfn.serve.settings import Settings
from ddamfn.weights import Card

_T = TypeVar("_T")
_BINARY = {"type": "string", "format": "binary"}
_Attention = Annotated[bool, Query(description="add each face's attention maps")]
_METRICS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: "not an image, or an argument out of range",
    HTTPStatus.REQUEST_TIMEOUT: "the body came too slowly",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too many bytes, pixels or files",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "neither an image nor a form",
    HTTPStatus.TOO_MANY_REQUESTS: "the queue is full; Retry-After says when to ask again",
    HTTPStatus.SERVICE_UNAVAILABLE: "the server is starting",
}
_GENERAL = {
    "401": "a token is needed, or it is the wrong one",
    "421": "the server does not go by this Host name",
    "default": "any other refusal",
}


def api_router(settings: Settings, card: Card, pipeline: Pipeline, metrics: Metrics) -> APIRouter:
    """Return everything below `/v1`, and what tells how the server is.

    Args:
        settings: the server's limits.
        card: of the weights that answer.
        pipeline: reads the images.
        metrics: what `/metrics` shows.
    """
    router = APIRouter(responses=refusals(_GENERAL))
    bodies = BodyReader(settings)
    models, options_of = _models(card, settings), _options_for(card, settings)

    @router.post(
        "/v1/predict",
        summary="Read one image",
        response_class=JSONResponse,
        responses=refusals(_REFUSALS) | _answered(ImageBody, IMAGE_EXAMPLE),
        openapi_extra=_body(_BINARY, raw=True),
    )
    async def predict(
        request: Request, options: Annotated[Options, Depends(options_of)], attention: _Attention = False
    ) -> Response:
        """Finds the faces in an image and reads their expressions. The answer is that of `ddamfn predict`."""
        pipeline.check_ready()
        async with bodies.uploads(request) as uploads:
            if len(uploads) > 1:
                raise Problem(HTTPStatus.BAD_REQUEST, "several images at once are for /v1/predict/batch")
            with pipeline.admit(1):
                result = await _unless_gone(request, _read(pipeline, uploads[0], options))
        return JSONResponse(result.to_dict(attention=attention))

    @router.post(
        "/v1/predict/batch",
        summary="Read several images",
        response_class=JSONResponse,
        responses=refusals(_REFUSALS) | _answered(list[ImageBody], BATCH_EXAMPLE),
        openapi_extra=_body({"type": "array", "items": _BINARY, "minItems": 1}, raw=False),
    )
    async def predict_batch(
        request: Request, options: Annotated[Options, Depends(options_of)], attention: _Attention = False
    ) -> Response:
        """Reads each part named `file`. Answers come in order; a file that cannot be read has an `error`."""
        pipeline.check_ready()
        async with bodies.uploads(request, raw=False) as uploads:
            with pipeline.admit(len(uploads)):
                results = await _unless_gone(request, _read_all(pipeline, uploads, options))
        return JSONResponse([result.to_dict(attention=attention) for result in results])

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
        responses=refusals({HTTPStatus.SERVICE_UNAVAILABLE: _REFUSALS[HTTPStatus.SERVICE_UNAVAILABLE]}),
    )
    async def readyz() -> Response:
        """Refuses with 503 until the networks are loaded."""
        pipeline.check_ready()
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", summary="Counters for Prometheus", response_class=Response, responses=_METRICS)
    async def show_metrics() -> Response:
        """Numbers of requests, seconds, faces, the queue and the batches; nothing of any image."""
        metrics.body_bytes.set(bodies.buffered_bytes)
        return Response(metrics.text(), media_type=MEDIA_TYPE)

    return router


def _options_for(card: Card, settings: Settings) -> Callable[..., Options]:
    """Return what reads a request's options; its description names the highest precision that the weights can keep."""
    # Only described: asked for more, the recognizer says best what is wrong.
    kept = {} if card.calibration is None else {"maximum": max(card.calibration["precision_low"])}
    count = Annotated[int, Query(ge=1, le=settings.max_faces, description="only this many of each image, the surest")]
    precision = Annotated[float, Field(gt=0, le=1, json_schema_extra=kept)]

    def options(
        min_score: Annotated[float, Query(gt=0, le=1, description="leave out faces detected with less")] = 0.5,
        max_faces: count = settings.max_faces,
        abstain: Annotated[
            precision | SkipJsonSchema[None],
            Query(description='answer "uncertain" where fewer than this share of the answers would be right'),
        ] = None,
    ) -> Options:
        return Options(min_score, max_faces, abstain)

    return options


async def _read(pipeline: Pipeline, upload: Upload, options: Options) -> ImageResult:
    """Read one upload, and turn what can be wrong with it into a refusal."""
    if not upload.is_supported:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the file's type must be image/*, not {upload.media_type}")
    try:
        result = await pipeline.read(upload.content, options)
    except ImageTooLarge as error:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _without_name(error)) from None
    except (UnreadableImage, UsageError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, _without_name(error)) from None
    return replace(result, source=upload.name)


async def _read_or_say_why(pipeline: Pipeline, upload: Upload, options: Options) -> ImageResult:
    try:
        return await _read(pipeline, upload, options)
    except Problem as problem:
        return ImageResult(upload.name, None, None, error=problem.detail)


async def _read_all(pipeline: Pipeline, uploads: Sequence[Upload], options: Options) -> list[ImageResult]:
    return await asyncio.gather(*(_read_or_say_why(pipeline, upload, options) for upload in uploads))


def _without_name(error: Exception) -> str:
    return str(error).removeprefix("<bytes>: ")


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for work, but drop it as soon as nobody waits for the answer any more.

    Raises:
        ClientDisconnect: the client went away.
    """

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


def _models(card: Card, settings: Settings) -> dict[str, Any]:
    alignment = card.alignment
    points = alignment_of(card).points()
    told = ("dataset", "split", "rule", "n", "correct", "accuracy", "ci95", "macro_f1", "per_class_recall")
    model = {
        "name": card.name,
        "labels": card.labels,
        "architecture": card.architecture,
        "input_side_px": card.input_side_px,
        "alignment": {**alignment, "points": points.round(3).tolist()},
        "can_abstain": card.calibration is not None,
        "highest_precision": None if card.calibration is None else max(card.calibration["precision_low"]),
        "scores": [{key: score[key] for key in told if key in score} for score in card.scores],
        "license": card.license,
        "rights": card.rights,
        "sha256": card.sha256,
    }
    limits = {
        "max_upload_bytes": settings.max_upload_bytes,
        "max_pixels": settings.max_pixels,
        "max_images": settings.queue,
        "max_faces": settings.max_faces,
    }
    return {"models": [model], "limits": limits}


def _body(field: Mapping[str, Any], *, raw: bool) -> dict[str, Any]:
    """Describe a request's body, which the server reads by itself."""
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: field}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if raw:
        content |= {name: {"schema": _BINARY} for name in ("application/octet-stream", "image/*")}
    return {"requestBody": {"required": True, "content": content}}


def _answered(model: Any, example: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": model, "content": {"application/json": {"example": example}}}}


def refusals(told: Mapping[Any, str]) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for OpenAPI.

    Args:
        told: what each status means.
    """
    described: dict[int | str, dict[str, Any]] = {}
    for status, description in told.items():
        key = int(status) if isinstance(status, HTTPStatus) else str(status)
        schema = {"$ref": "#/components/schemas/ProblemBody"}
        described[key] = {"description": description, "content": {PROBLEM: {"schema": schema}}}
    return described
