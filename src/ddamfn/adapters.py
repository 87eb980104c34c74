"""Results in the shapes of other packages, none of which is imported before it is asked for."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ddamfn.errors import MissingExtra
from ddamfn.files import utf8
from ddamfn.results import TEXT_COLUMNS, UNCERTAIN, Face, ImageResult, row_columns

if TYPE_CHECKING:
    import pandas
    import pyarrow

DEEPFACE_NAMES = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}
"""Our names of expressions -> those of DeepFace. It has no contempt, which keeps its name."""


@runtime_checkable
class HasRows(Protocol):
    """Anything that turns into rows: an `ImageResult`, or a video's `FrameResult`."""

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per face; a single row without face columns where there is no face."""


Results = HasRows | Iterable[HasRows]
"""A result of an image or a frame, or any number of them, such as `predict_many` and `read_video` yield."""


def to_pandas(results: Results) -> "pandas.DataFrame":
    """Return one row per face, with the columns of `row_columns` or `frame_columns`; faceless images have a row too.

    Args:
        results: of images or of a video's frames.

    Raises:
        MissingExtra: if pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingExtra("pandas", "pandas", "A pandas table") from error
    columns, rows = _table(results)
    return pandas.DataFrame(rows, columns=columns)


def to_arrow(results: Results) -> "pyarrow.Table":
    """Return the same rows as an Arrow table, for Parquet, Polars and DuckDB.

    Strings are `source`, `expression` and `error`; `face` and `track` are int32, `frame` int64, all else float64. Where
    there is no face its columns are null, and where there is no error that one is.

    Args:
        results: of images or of a video's frames.

    Raises:
        MissingExtra: if pyarrow is not installed.
    """
    columns, rows = _table(results)
    return arrow_table(rows, arrow_schema(columns, "An Arrow table"))


def arrow_schema(columns: Sequence[str], feature: str | None = None) -> "pyarrow.Schema":
    """Return the types of a table of results.

    Args:
        columns: such as those of `row_columns` and `frame_columns`.
        feature: what needs pyarrow, for the error.

    Raises:
        MissingExtra: if pyarrow is not installed.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtra("parquet", "pyarrow", feature) from error
    kinds = dict.fromkeys(TEXT_COLUMNS, pyarrow.string())
    kinds |= {"face": pyarrow.int32(), "frame": pyarrow.int64(), "track": pyarrow.int32()}
    return pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in columns])


def arrow_table(rows: Iterable[dict[str, Any]], schema: "pyarrow.Schema") -> "pyarrow.Table":
    """Return rows of results as a table; names of files that are not UTF-8 are written as JSON writes them.

    Args:
        rows: of `to_rows`.
        schema: of `arrow_schema`.
    """
    import pyarrow

    return pyarrow.Table.from_pylist([row | {"source": utf8(row["source"]).decode()} for row in rows], schema=schema)


def to_deepface(result: ImageResult) -> list[dict[str, Any]]:
    """Return the faces of one image as `DeepFace.analyze(..., actions=["emotion"])` returns them.

    "emotion" is that package's key; its values are probabilities of expressions shown, in per cent, under
    DeepFace's names (`DEEPFACE_NAMES`). Its eyes are left and right for the person, ours for the viewer, so they are
    exchanged. An image without a face gives an empty list, where DeepFace raises an error.

    Returns:
        A dictionary per face: `emotion` (name -> 0 to 100), `dominant_emotion`, `region` (`x`, `y`, `w`, `h`,
        `left_eye`, `right_eye` in whole pixels inside the image), `face_confidence` (the detector's, 0 to 1).

    Raises:
        ValueError: if the image could not be read.
    """
    if result.width is None or result.height is None:
        raise ValueError(f"{result.source} could not be read: {result.error}")
    return [_deepface(face, result.width, result.height) for face in result.faces]


def to_supervision(result: ImageResult) -> dict[str, Any]:
    """Return the faces of one image as fields of `supervision.Detections`: `sv.Detections(**to_supervision(result))`.

    Returns:
        `xyxy` float32 (N, 4) pixels, `confidence` float32 (N,) of the expression, `class_id` int64 (N,) in the weights'
        own order, and `data` with N entries each: `class_name` (the expression or "uncertain"), `face_score` of the
        detector, `probabilities` float32 (N, K).
    """
    faces, classes = result.faces, result.classes
    boxes = [face.bbox.xyxy for face in faces]
    table = [[face.probabilities[name] for name in classes] for face in faces]
    return {
        "xyxy": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "confidence": np.array([face.confidence for face in faces], dtype=np.float32),
        "class_id": np.array([classes.index(face.prediction.likeliest) for face in faces], dtype=np.int64),
        "data": {
            "class_name": np.array([face.expression for face in faces], dtype=np.str_),
            "face_score": np.array([face.score for face in faces], dtype=np.float32),
            "probabilities": np.array(table, dtype=np.float32).reshape(-1, len(classes)),
        },
    }


def _table(results: Results) -> tuple[list[str], list[dict[str, Any]]]:
    """Return columns and rows of all results; expressions in the order in which the results name them."""
    each = [results] if isinstance(results, HasRows) else results
    rows = [row for result in each for row in result.to_rows()]
    names = list(dict.fromkeys(name for row in rows for name in row)) or row_columns(())
    # Another network's expressions come late, and belong beside the first one's.
    return sorted(names, key=lambda name: (name == "error", name.startswith("p_"))), rows


def _deepface(face: Face, width: int, height: int) -> dict[str, Any]:
    x1, y1, x2, y2 = face.bbox
    left, right = round(max(x1, 0)), round(min(x2, width))
    top, bottom = round(max(y1, 0)), round(min(y2, height))
    named = {DEEPFACE_NAMES.get(name, name): 100 * value for name, value in face.probabilities.items()}
    answer = face.expression
    return {
        "emotion": named,
        "dominant_emotion": answer if answer == UNCERTAIN else DEEPFACE_NAMES.get(answer, answer),
        "region": {
            "x": left,
            "y": top,
            "w": right - left,
            "h": bottom - top,
            "left_eye": _whole(face.landmarks.right_eye),
            "right_eye": _whole(face.landmarks.left_eye),
        },
        "face_confidence": face.score,
    }


def _whole(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])
