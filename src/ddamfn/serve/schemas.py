"""The shapes of the answers, for OpenAPI; the answers themselves are `ImageResult.to_dict`, as on the command line."""

from typing import Any

from pydantic import BaseModel, Field

_FACE = {
    "bbox": [177.77, 56.78, 273.19, 177.23],
    "score": 0.9995,
    "landmarks": [[204.74, 100.76], [247.4, 103.41], [223.55, 129.17], [202.43, 138.14], [244.29, 140.55]],
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
_Share = Field(ge=0, le=1)


class FaceBody(BaseModel):
    """One face."""

    bbox: tuple[float, float, float, float] = Field(description="left, top, right, bottom edge in pixels")
    score: float = Field(ge=0, le=1, description="the detector's confidence that it is a face")
    landmarks: tuple[_Pair, _Pair, _Pair, _Pair, _Pair] = Field(
        description="(x, y) in pixels: viewer's left eye, right eye, nose, left and right corner of the mouth"
    )
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
        description="the highest share of right answers that abstaining can keep; null if the card has no curve for it"
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


class ProblemBody(BaseModel):
    """A refusal, as of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
