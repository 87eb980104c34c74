"""The shapes of the answers, for OpenAPI; the answers themselves are `ImageResult.to_dict`, as on the command line."""

from typing import Any

from pydantic import BaseModel, Field

from ddamfn.classifier import alignment_of
from ddamfn.serve.settings import Settings
from ddamfn.weights import Card
from ddamfn.weights.prior import TRAINING, describe_class_prior

_FACE = {
    "bbox": [177.77, 56.78, 273.19, 177.23],
    "score": 0.9995,
    "landmarks": [[204.74, 100.76], [247.4, 103.41], [223.55, 129.17], [202.43, 138.14], [244.29, 140.55]],
    "roll_deg": 1.9,
    "expression": "happiness",
    "confidence": 0.97,
    "probabilities": {"neutral": 0.03, "happiness": 0.97},
}
IMAGE_EXAMPLE: dict[str, Any] = {"source": "photo.jpg", "width": 512, "height": 512, "faces": [_FACE]}
"""An image's answer; its numbers only show the form."""
BATCH_EXAMPLE: list[dict[str, Any]] = [
    IMAGE_EXAMPLE,
    {"source": "notes.txt", "width": None, "height": None, "faces": [], "error": "not an image"},
]
"""A batch's answer."""

_Pair = tuple[float, float]
_Row = tuple[float, float, float]


class FaceBody(BaseModel):
    """One face."""

    bbox: tuple[float, float, float, float] = Field(description="left, top, right, bottom edge in pixels")
    score: float = Field(ge=0, le=1, description="the detector's confidence that it is a face")
    landmarks: tuple[_Pair, _Pair, _Pair, _Pair, _Pair] = Field(
        description="(x, y) in pixels: viewer's left eye, right eye, nose, left and right corner of the mouth"
    )
    roll_deg: float = Field(ge=-180, le=180, description="degrees by which the face is turned clockwise")
    expression: str = Field(description='the likeliest expression, or "uncertain" where abstaining was asked for')
    confidence: float = Field(ge=0, le=1, description="the likeliest expression's probability")
    probabilities: dict[str, float] = Field(description="every expression's probability")
    attention: list[list[list[float]]] | None = Field(
        default=None, description="one 7 x 7 map a head, 0 to 1, on the aligned face; only if asked for"
    )
    matrix: tuple[_Row, _Row] | None = Field(
        default=None, description="takes (x, y, 1) of the image to the aligned face; only if attention is asked for"
    )


class ImageBody(BaseModel):
    """What was read from one image."""

    source: str = Field(description='the uploaded file\'s name, or "upload"')
    width: int | None = Field(description="of the upright image in pixels; null if it could not be read")
    height: int | None = Field(description="of the upright image in pixels; null if it could not be read")
    faces: list[FaceBody] = Field(description="surest detection first; empty if there is none")
    error: str | None = Field(default=None, description="only in a batch: why the image could not be read")


class ModelBody(BaseModel):
    """What the weights' card says, in short."""

    name: str
    labels: list[str] = Field(description="the expressions, in the order of the probabilities")
    architecture: dict[str, Any]
    input_side_px: int
    alignment: dict[str, Any] = Field(
        description="how faces are laid into crops; `points` are the template's five (x, y) in the crop, for each pose"
    )
    can_abstain: bool
    highest_precision: float | None = Field(
        description="the highest share of right answers that abstaining can keep; null if the card has no "
        "curve for it, or the server has another class prior"
    )
    scores: list[dict[str, Any]] = Field(
        description="accuracy on test splits: data set, split, rule, n, interval, recalls"
    )
    license: str
    rights: str
    sha256: str


class LimitsBody(BaseModel):
    """What a request may hold."""

    max_upload_bytes: int
    max_pixels: int
    max_images: int
    max_faces: int


class ModelsBody(BaseModel):
    """The weights that answer, and the server's limits."""

    models: list[ModelBody]
    limits: LimitsBody


class StateBody(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


def models_body(card: Card, settings: Settings) -> dict[str, Any]:
    """Return the body of `/v1/models`, a `ModelsBody`."""
    public = ("dataset", "split", "rule", "n", "correct", "accuracy", "ci95", "macro_f1", "per_class_recall")
    model = {
        "name": card.name,
        "labels": card.labels,
        "architecture": card.architecture,
        "input_side_px": card.input_side_px,
        "alignment": {**card.alignment, "points": alignment_of(card).points().round(3).tolist()},
        "can_abstain": highest_precision(card, settings) is not None,
        "highest_precision": highest_precision(card, settings),
        "class_prior": None if card.class_prior is None else describe_class_prior(settings.class_prior),
        "scores": [{key: score[key] for key in public if key in score} for score in card.scores],
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


def highest_precision(card: Card, settings: Settings) -> float | None:
    """Return the highest precision that abstaining can keep, None if the card has no curve for the server's prior."""
    if card.calibration is None or settings.class_prior != TRAINING:
        return None
    return max(card.calibration["precision_low"])
