"""Results in other packages' shapes."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ddamfn.adapters import DEEPFACE_NAMES, to_arrow, to_deepface, to_pandas, to_supervision
from ddamfn.errors import MissingExtra
from ddamfn.labels import EXPRESSIONS
from ddamfn.results import UNCERTAIN, BBox, Face, ImageResult, Landmarks, Prediction, row_columns
from ddamfn.video import FrameResult, frame_columns


def face(answer: str, left: float = 10.4) -> Face:
    share = {name: 0.3 if name == answer else 0.1 for name in EXPRESSIONS}
    return Face(
        bbox=BBox(left, 20.6, 50.5, 70.2),
        score=0.987,
        landmarks=Landmarks((20.2, 40.1), (40.4, 40.6), (30, 50), (22, 60), (38, 60)),
        prediction=Prediction(answer, 0.3, share),
        matrix=np.eye(2, 3),
    )


def image(*faces: Face) -> ImageResult:
    return ImageResult("a.jpg", 64, 60, list(faces), classes=EXPRESSIONS)


UNREADABLE = ImageResult("b.jpg", None, None, error="b.jpg: no image", classes=EXPRESSIONS)


def test_pandas_has_a_row_a_face_and_loses_no_image() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    table = to_pandas(iter([image(face("fear"), face("anger")), UNREADABLE]))
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == row_columns(EXPRESSIONS)
    assert list(table["expression"])[:2] == ["fear", "anger"]
    assert table["p_fear"][0] == 0.3
    assert table["error"][2] == "b.jpg: no image"
    assert pandas.isna(table["x1"][2])
    assert len(to_pandas(image())) == 1


def test_pandas_takes_the_frames_of_a_video() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frames = [FrameResult(image(face("fear")), 3, 0.25, (7,)), FrameResult(image(), 4, 0.5)]
    table = to_pandas(iter(frames))
    assert list(table.columns) == frame_columns(EXPRESSIONS)
    assert list(table["frame"]) == [3, 4]
    assert table["track"][0] == 7
    assert pandas.isna(table["x1"][1])
    assert len(to_pandas(frames[0])) == 1


def test_arrow_numbers_frames_and_tracks() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    table = to_arrow(FrameResult(image(), 4, 0.5))
    assert [table.schema.field(name).type for name in ("frame", "track")] == [pyarrow.int64(), pyarrow.int32()]
    assert table.column("track").to_pylist() == [None]


def test_columns_of_several_weights_are_joined() -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    other = replace(image(), classes=("awe",))
    assert list(to_pandas([image(face("fear")), other]).columns) == row_columns((*EXPRESSIONS, "awe"))


def test_arrow_has_types_even_without_a_face() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    full, empty = to_arrow([image(face("fear")), UNREADABLE]), to_arrow(UNREADABLE)
    assert full.schema == empty.schema
    assert full.schema.field("face").type == pyarrow.int32()
    assert full.schema.field("p_contempt").type == pyarrow.float64()
    assert full.column("expression").to_pylist() == ["fear", None]
    assert to_arrow([]).num_rows == 0


def test_deepface_names_eyes_and_percent() -> None:
    (plain,) = to_deepface(image(face("happiness", left=-3.0)))
    assert set(plain) == {"emotion", "dominant_emotion", "region", "face_confidence"}
    assert plain["dominant_emotion"] == "happy"
    assert plain["emotion"]["happy"] == pytest.approx(30)
    assert plain["emotion"]["contempt"] == pytest.approx(10)
    assert sum(plain["emotion"].values()) == pytest.approx(100)
    # The person's left eye is on the viewer's right.
    assert plain["region"] == {"x": 0, "y": 21, "w": 50, "h": 39, "left_eye": (40, 41), "right_eye": (20, 40)}
    assert plain["face_confidence"] == 0.987
    assert to_deepface(image()) == []
    with pytest.raises(ValueError, match=r"b\.jpg could not be read"):
        to_deepface(UNREADABLE)
    assert set(DEEPFACE_NAMES) == set(EXPRESSIONS) - {"contempt"}


def test_an_abstained_answer_stays_one() -> None:
    one = face("fear")
    unsure = replace(one, prediction=replace(one.prediction, expression=UNCERTAIN))
    assert to_deepface(image(unsure))[0]["dominant_emotion"] == UNCERTAIN
    arrays = to_supervision(image(unsure))
    assert arrays["data"]["class_name"].tolist() == [UNCERTAIN]
    assert EXPRESSIONS[arrays["class_id"][0]] == "fear"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_supervision_arrays_have_a_row_a_face(count: int) -> None:
    arrays = to_supervision(image(*[face("sadness")] * count))
    assert set(arrays) == {"xyxy", "confidence", "class_id", "data"}
    assert (arrays["xyxy"].shape, arrays["xyxy"].dtype) == ((count, 4), np.float32)
    assert arrays["confidence"].shape == arrays["class_id"].shape == (count,)
    assert arrays["data"]["probabilities"].shape == (count, len(EXPRESSIONS))
    assert all(len(column) == count for column in arrays["data"].values())
    if count:
        np.testing.assert_allclose(arrays["xyxy"][0], [10.4, 20.6, 50.5, 70.2], rtol=1e-6)
        assert EXPRESSIONS[arrays["class_id"][0]] == "sadness"


def test_nothing_is_imported_unasked() -> None:
    code = "import sys, ddamfn.adapters as a; print(sorted({'pandas', 'pyarrow', 'supervision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("package", "extra"), [("pandas", "pandas"), ("pyarrow", "parquet")])
def test_missing_packages_name_the_extra(package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf'pip install "ddamfn\[{extra}\]"'):
        (to_pandas if package == "pandas" else to_arrow)(image())
