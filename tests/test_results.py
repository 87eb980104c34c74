"""Results as dictionaries, rows and images: the names and shapes that programs rely on."""

import io
import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.errors import UsageError
from ddamfn.results import UNCERTAIN, BBox, Face, ImageResult, Landmarks, Prediction, row_columns

_CLASSES = ("neutral", "happiness")
_POINTS = np.array([[10, 20], [30, 20], [20, 30], [12, 40], [28, 40.126]], dtype=np.float32)


@pytest.fixture
def face(rng: np.random.Generator) -> Face:
    return Face(
        bbox=BBox(1.004, 2, 50.5, 60),
        score=0.99956,
        landmarks=Landmarks.from_points(_POINTS),
        prediction=Prediction("happiness", 0.7, {"neutral": 0.3, "happiness": 0.7}),
        matrix=np.eye(2, 3),
        attention=rng.uniform(size=(2, 7, 7)).astype(np.float32),
        aligned=np.zeros((112, 112, 3), dtype=np.uint8),
    )


@pytest.fixture
def result(face: Face) -> ImageResult:
    return ImageResult("a.jpg", 80, 70, [face], classes=_CLASSES, image=np.zeros((70, 80, 3), dtype=np.uint8))


def test_the_dictionary_has_the_promised_keys(result: ImageResult) -> None:
    assert json.loads(json.dumps(result.to_dict())) == {
        "source": "a.jpg",
        "width": 80,
        "height": 70,
        "faces": [
            {
                "bbox": [1.0, 2.0, 50.5, 60.0],
                "score": 0.9996,
                "landmarks": [[10.0, 20.0], [30.0, 20.0], [20.0, 30.0], [12.0, 40.0], [28.0, 40.13]],
                "roll_deg": 0.1,
                "expression": "happiness",
                "confidence": 0.7,
                "probabilities": {"neutral": 0.3, "happiness": 0.7},
            }
        ],
    }


def test_attention_is_added_on_request(result: ImageResult, face: Face) -> None:
    plain = result.to_dict(attention=True)["faces"][0]["attention"]
    assert np.allclose(plain, face.attention, atol=1e-4)
    assert replace(face, attention=None).to_dict(attention=True)["attention"] is None


def test_the_matrix_beside_the_attention_carries_a_map_back_to_the_image(face: Face) -> None:
    aligned = replace(face, matrix=np.array([[0.98, 0.1234567891, -40.5], [-0.1234567891, 0.98, 2000.25]]))
    plain = np.array(json.loads(json.dumps(aligned.to_dict(attention=True)["matrix"])))
    far = np.array([12_000.0, 9_000.0, 1.0])
    assert np.allclose(plain @ far, aligned.matrix @ far, atol=1e-3)
    assert "matrix" not in aligned.to_dict()


def test_an_unreadable_image_says_why(result: ImageResult) -> None:
    failed = ImageResult("b.jpg", None, None, error="empty, 0 bytes", classes=_CLASSES)
    assert failed.to_dict() == {
        "source": "b.jpg", "width": None, "height": None, "faces": [], "error": "empty, 0 bytes"
    }  # fmt: skip
    (row,) = failed.to_rows()
    assert row["source"] == "b.jpg"
    assert row["error"] == "empty, 0 bytes"
    assert row["face"] is row["p_neutral"] is None


def test_rows_have_the_same_columns_with_and_without_faces(result: ImageResult, face: Face) -> None:
    rows = replace(result, faces=[face, face]).to_rows() + replace(result, faces=[]).to_rows()
    assert [row["face"] for row in rows] == [0, 1, None]
    assert all(list(row) == row_columns(_CLASSES) for row in rows)
    assert rows[0]["p_happiness"] == rows[0]["confidence"] == 0.7
    assert (rows[0]["x1"], rows[0]["right_mouth_y"]) == (1.0, 40.13)
    columns = row_columns(_CLASSES)
    assert columns[:7] == ["source", "face", "x1", "y1", "x2", "y2", "score"]
    assert columns[-5:] == ["expression", "confidence", "p_neutral", "p_happiness", "error"]


def test_results_are_frozen_and_landmarks_keep_their_order(result: ImageResult, face: Face) -> None:
    with pytest.raises(FrozenInstanceError):
        result.source = "b.jpg"  # type: ignore[misc]
    assert face.expression == "happiness"
    assert (face.landmarks.to_numpy() == _POINTS).all()
    assert face.landmarks.nose == (20, 30)
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        Landmarks.from_points(_POINTS[:4])


def test_plots_need_the_image_and_the_crops(result: ImageResult, face: Face) -> None:
    plain, cards = result.plot(), result.plot(attention=True)
    assert plain.mode == "RGB"
    assert cards.width > plain.width
    assert np.array_equal(np.asarray(plain), np.asarray(replace(result, image=None).plot(image=result.image)))
    with pytest.raises(ValueError, match="keep_images"):
        replace(result, image=None).plot()
    with pytest.raises(ValueError, match="keep_images"):
        replace(result, faces=[replace(face, aligned=None)]).plot(attention=True)


def test_an_uncertain_face_keeps_its_probabilities_and_shows_no_per_cent(result: ImageResult, face: Face) -> None:
    shares = {"neutral": 0.45, "happiness": 0.55}
    unsure = replace(face, prediction=Prediction(UNCERTAIN, 0.55, shares))
    plain = unsure.to_dict()
    assert (plain["expression"], plain["confidence"], plain["probabilities"]) == ("uncertain", 0.55, shares)
    assert list(plain) == list(face.to_dict())
    assert (unsure.expression, unsure.prediction.likeliest) == ("uncertain", "happiness")
    assert face.prediction.likeliest == face.expression
    (row,) = replace(result, faces=[unsure]).to_rows()
    assert (row["expression"], row["confidence"], row["p_happiness"]) == ("uncertain", 0.55, 0.55)

    def drawn(share: float) -> bytes:
        entry = replace(unsure, prediction=Prediction(UNCERTAIN, share, shares))
        return replace(result, faces=[entry]).plot(attention=True).tobytes()

    # The confidence stands nowhere in the image, so another one draws the same.
    assert drawn(0.55) == drawn(0.99)


def test_a_box_unpacks_and_is_never_rounded() -> None:
    box = BBox(1.004, 2, 50.5, 60.0625)
    x1, y1, x2, y2 = box
    assert (x1, y1, x2, y2) == box.xyxy == (1.004, 2, 50.5, 60.0625)
    assert box.xywh == (1.004, 2, 50.5 - 1.004, 58.0625)
    array = box.to_numpy()
    assert (array.dtype, array.tolist()) == (np.float64, [1.004, 2, 50.5, 60.0625])


def test_landmarks_are_never_rounded() -> None:
    landmarks = Landmarks((1.004, 2), (3, 4), (5, 6), (7, 8), (9, 10.0625))
    array = landmarks.to_numpy()
    assert (array.dtype, array.shape) == (np.float64, (5, 2))
    assert (array[0, 0], array[4, 1]) == (1.004, 10.0625)


def test_a_result_is_a_sequence_of_its_faces(result: ImageResult, face: Face) -> None:
    other = replace(face, score=0.5)
    two = replace(result, faces=[face, other])
    assert list(two) == [face, other]
    assert (len(two), two[0], two[-1]) == (2, face, other)
    assert two[1:] == [other]
    with pytest.raises(IndexError):
        two[2]


def test_a_result_without_a_face_is_false_as_any_empty_sequence(result: ImageResult) -> None:
    assert result
    assert not replace(result, faces=[])
    assert not ImageResult("b.jpg", None, None, error="empty, 0 bytes")


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")])
def test_saving_draws_in_the_format_of_the_suffix(result: ImageResult, tmp_path: Path, name: str, kind: str) -> None:
    result.save(tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / name) as image:
        assert (image.format, image.size) == (kind, result.plot().size)
    result.save(str(tmp_path / name), attention=True)
    with Image.open(tmp_path / name) as image:
        assert image.size == result.plot(attention=True).size
    assert {path.name for path in tmp_path.iterdir()} == {"new", name}


def test_saving_under_an_unknown_suffix_is_refused(result: ImageResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xyz"):
        result.save(tmp_path / "a.xyz")
    assert list(tmp_path.iterdir()) == []


def test_showing_is_pillows(result: ImageResult, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
    result.show()
    result.show(attention=True)
    assert shown == [result.plot().size, result.plot(attention=True).size]


def test_notebooks_show_the_image_where_it_is_kept(result: ImageResult) -> None:
    content = result._repr_png_()
    assert content is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(result.plot()))
    assert replace(result, image=None)._repr_png_() is None


def test_a_score_that_no_detector_gave_is_null(result: ImageResult, face: Face) -> None:
    given = replace(result, faces=[replace(face, score=float("nan"))])
    assert given.to_dict()["faces"][0]["score"] is None
    assert given.to_rows()[0]["score"] is None
