"""From images to results: what a face's answer may depend on, and what many images may cost."""

import io
import itertools
import tracemalloc
import weakref
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.errors import DegenerateFace, ImageTooLarge, UnreadableImage, UsageError, WeightsError
from ddamfn.faces import Preprocessing, align, decode, normalize, preprocess
from ddamfn.faces.decode import Decoded, decode_scaled
from ddamfn.files import sha256_bytes
from ddamfn.labels import EXPRESSIONS
from ddamfn.recognizer import Recognizer
from ddamfn.weights import read_card, write_card

_PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def recognizer(stand_in_weights: Path) -> Recognizer:
    return Recognizer(stand_in_weights, num_threads=1)


@pytest.fixture(scope="module")
def classifier(stand_in_weights: Path) -> Classifier:
    return Classifier(stand_in_weights, num_threads=1)


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(_PORTRAIT)).convert("RGB"))


@pytest.fixture
def scenery(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw hills under a sky: (240, 320, 3) uint8, no face."""
    y, x = np.mgrid[:240, :320]
    hill = y > 150 + 30 * np.sin(x / 40)
    image = np.where(hill[..., None], (60, 120, 50), (140, 180, 230)) + rng.integers(-9, 9, size=(240, 320, 1))
    return image.astype(np.uint8)


def test_every_kind_of_input_gives_the_same_faces(
    recognizer: Recognizer, portrait: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "portrait é.png"
    Image.fromarray(portrait).save(path)
    content = path.read_bytes()
    binary = [content, bytearray(content), memoryview(content)]
    sources = [path, str(path), *binary, io.BytesIO(content), portrait, Image.fromarray(portrait)]
    plain = [recognizer(source).to_dict(attention=True) for source in sources]
    plain.append(recognizer(portrait[..., ::-1], channel_order="bgr").to_dict(attention=True))
    (many,) = recognizer.predict_many([portrait[..., ::-1]], channel_order="bgr")
    plain.append(many.to_dict(attention=True))
    names = [str(path), str(path), *["<bytes>"] * 3, "<file>", "<array>", "<image>", "<array>", "<array>"]
    assert [entry.pop("source") for entry in plain] == names
    assert all(entry == plain[0] for entry in plain)
    assert len(plain[0]["faces"]) == 1


@pytest.fixture
def decoded_smaller(portrait: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return the portrait at twice its size as a JPEG that is decoded at a half, as one of 200 megapixels would be."""
    stream = io.BytesIO()
    Image.fromarray(portrait).resize((1023, 1023), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
    monkeypatch.setattr(import_module("ddamfn.faces.decode"), "MAX_PIXELS", 512 * 512)
    return stream.getvalue()


def test_what_was_decoded_smaller_is_told_in_the_pixels_of_the_image(
    recognizer: Recognizer, decoded_smaller: bytes
) -> None:
    result = recognizer.predict(decoded_smaller)
    assert (result.width, result.height) == (1023, 1023)
    assert result.image is not None
    assert result.image.shape == (512, 512, 3)
    smaller = recognizer.predict(result.image)
    (face,), (small,) = result, smaller
    assert face.prediction == small.prediction
    np.testing.assert_array_equal(face.landmarks.to_numpy(), small.landmarks.to_numpy() * 2)
    np.testing.assert_array_equal(face.bbox.xyxy, np.array(small.bbox.xyxy) * 2)
    place = np.array([409.0, 201.0, 1.0])
    np.testing.assert_allclose(face.matrix @ place, small.matrix @ (place / (2, 2, 1)))
    np.testing.assert_array_equal(np.asarray(result.plot()), np.asarray(smaller.plot()))


def test_a_given_face_stays_as_it_was_given(recognizer: Recognizer, decoded_smaller: bytes) -> None:
    (found,) = recognizer.predict(decoded_smaller)
    points = found.landmarks.to_numpy()
    (face,) = recognizer.predict(decoded_smaller, boxes=[(-4, 8, 1000, 1040)], landmarks=[points])
    assert face.bbox.xyxy == (-4, 8, 1000, 1040)
    np.testing.assert_allclose(face.landmarks.to_numpy(), points, rtol=1e-12)
    np.testing.assert_allclose(face.matrix, found.matrix, atol=1e-4)
    assert face.prediction.probabilities == pytest.approx(found.prediction.probabilities, abs=1e-3)


def test_a_limit_of_the_caller_s_own_refuses(recognizer: Recognizer, decoded_smaller: bytes) -> None:
    with pytest.raises(ImageTooLarge):
        recognizer.find_faces(decoded_smaller, max_pixels=600_000)


@pytest.fixture
def decoded_scales(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The scales at which images are decoded from now on."""
    scales: list[float] = []

    def decode(*arguments: Any, **options: Any) -> Decoded:
        decoded = decode_scaled(*arguments, **options)
        scales.append(decoded.scale)
        return decoded

    monkeypatch.setattr("ddamfn.finder.decode_scaled", decode)
    return scales


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_a_large_jpeg_is_decoded_only_as_large_as_it_is_looked_at(
    stand_in_weights: Path, recognizer: Recognizer, portrait: NDArray[np.uint8], decoded_scales: list[float]
) -> None:
    content = _jpeg(Image.fromarray(portrait).resize((2000, 2000), Image.Resampling.BICUBIC))
    few = recognizer.find_faces(content, detection=960)
    whole = Recognizer(stand_in_weights, num_threads=1, shrink_on_load=False).find_faces(content, detection=960)
    assert decoded_scales == [0.5, 1]
    assert (few.result.width, few.result.height) == (2000, 2000)
    np.testing.assert_allclose(few.detections[0].landmarks, whole.detections[0].landmarks, atol=4)
    np.testing.assert_allclose(few.matrices[0], whole.matrices[0], atol=0.3)
    assert np.abs(few.crops[0].astype(int) - whole.crops[0]).mean() < 2


def test_a_face_with_more_detail_is_cut_out_of_the_whole_image(
    recognizer: Recognizer, portrait: NDArray[np.uint8], decoded_scales: list[float]
) -> None:
    canvas = Image.new("RGB", (2000, 1500), (120, 118, 116))
    canvas.paste(Image.fromarray(portrait).resize((400, 400), Image.Resampling.LANCZOS), (700, 500))
    content = _jpeg(canvas)
    found = recognizer.find_faces(content, detection=960)
    assert decoded_scales == [0.5, 1]
    (face,) = found.detections
    expected = align(decode(content), face.landmarks, alignment_of(recognizer.card))
    np.testing.assert_array_equal(found.crops[0], expected.pixels)
    np.testing.assert_array_equal(found.matrices[0], expected.matrix)


def test_keeping_the_image_changes_nothing_in_its_faces(
    recognizer: Recognizer, portrait: NDArray[np.uint8], decoded_scales: list[float]
) -> None:
    content = _jpeg(Image.fromarray(portrait).resize((4000, 4000), Image.Resampling.BICUBIC))
    kept, (streamed,) = recognizer.predict(content), recognizer.predict_many([io.BytesIO(content)])
    assert decoded_scales == [0.5, 1, 0.5]
    assert kept.image is not None
    assert kept.image.shape == (4000, 4000, 3)
    assert [face.to_dict() for face in kept] == [face.to_dict() for face in streamed]


def test_many_images_are_read_on_all_cores_in_their_order(
    stand_in_weights: Path, recognizer: Recognizer, portrait: NDArray[np.uint8]
) -> None:
    images = [portrait[:, 4 * number :] for number in range(6)]
    alone = [recognizer.predict(image) for image in images]
    together = list(Recognizer(stand_in_weights, num_threads=3).predict_many(images))
    assert [result.to_dict() for result in together] == [result.to_dict() for result in alone]


def test_the_networks_for_many_images_are_loaded_once(
    stand_in_weights: Path, portrait: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(stand_in_weights, num_threads=2)
    opened: list[int] = []
    load = Recognizer.with_num_threads
    monkeypatch.setattr(
        Recognizer, "with_num_threads", lambda self, number: opened.append(number) or load(self, number)
    )
    for _ in range(2):
        assert all(len(result) == 1 for result in recognizer.predict_many([portrait, portrait]))
    assert opened == [1]


def test_a_face_carries_all_that_was_promised(recognizer: Recognizer) -> None:
    result = recognizer.predict(_PORTRAIT)
    (face,) = result.faces
    assert (result.width, result.height) == (512, 512)
    assert 160 < face.bbox.x1 < face.bbox.x2 < 290
    assert 40 < face.bbox.y1 < face.bbox.y2 < 200
    assert list(face.probabilities) == list(EXPRESSIONS)
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert face.confidence == face.probabilities[face.expression] == max(face.probabilities.values())
    assert face.attention is not None
    assert face.attention.shape == (2, 7, 7)
    assert face.attention.dtype == np.float32
    # The matrix carries the image's eyes to where the template has them.
    eyes = np.array([face.landmarks.left_eye, face.landmarks.right_eye]) @ face.matrix[:, :2].T + face.matrix[:, 2]
    assert np.abs(eyes - [[38.3, 51.7], [73.5, 51.5]]).max() < 6


def test_the_temperature_on_the_card_softens_the_probabilities(classifier: Classifier) -> None:
    logits = np.array([[3.0, 0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
    expected = np.exp(3 / 1.5) / (np.exp(3 / 1.5) + 7)
    assert classifier.card.temperature == 1.5
    assert classifier.probabilities(logits)[0, 0] == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(classifier.probabilities(logits * 1e4)).all()


def test_the_card_decides_how_crops_look_to_the_network(
    classifier: Classifier, stand_in_weights: Path, rng: np.random.Generator
) -> None:
    crops = rng.integers(0, 256, size=(3, 112, 112, 3), dtype=np.uint8)
    pixels = normalize(preprocess(crops, Preprocessing("gray", 48)), (0.5,) * 3, (0.25,) * 3)
    session = onnxruntime.InferenceSession(stand_in_weights.read_bytes(), providers=["CPUExecutionProvider"])
    expected = session.run(("logits", "attention"), {"input": pixels})
    for value, reference in zip(classifier.classify(crops), expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-6)


def test_a_face_does_not_depend_on_its_batch(classifier: Classifier, rng: np.random.Generator) -> None:
    crops = rng.integers(0, 256, size=(37, 112, 112, 3), dtype=np.uint8)
    together = classifier.classify(crops)
    for size in (1, 5, 16):
        parts = [classifier.classify(crops[start : start + size]) for start in range(0, 37, size)]
        for value, pieces in zip(together, zip(*parts, strict=True), strict=True):
            assert np.abs(value - np.concatenate(pieces)).max() <= 1e-5


def test_no_crops_give_no_rows(classifier: Classifier) -> None:
    logits, attention = classifier.classify(np.zeros((0, 112, 112, 3), dtype=np.uint8))
    assert logits.shape == (0, 8)
    assert attention.shape == (0, 2, 7, 7)


@pytest.mark.parametrize("shape", [(112, 112, 3), (1, 96, 96, 3), (1, 3, 112, 112)])
def test_crops_of_another_shape_are_refused(classifier: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected crops"):
        classifier.classify(np.zeros(shape, dtype=np.uint8))


def test_a_face_does_not_depend_on_its_neighbors(
    recognizer: Recognizer, portrait: NDArray[np.uint8], scenery: NDArray[np.uint8]
) -> None:
    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    images = [portrait, scenery, mirrored, np.concatenate([portrait, mirrored], axis=1), portrait]
    alone = [recognizer.predict(image).to_dict(attention=True) for image in images]
    together = [result.to_dict(attention=True) for result in recognizer.predict_many(images)]
    assert together == alone
    assert [len(entry["faces"]) for entry in together] == [1, 0, 1, 2, 1]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_bad_images_become_results_in_their_place(
    stand_in_weights: Path, scenery: NDArray[np.uint8], batch_size: int, tmp_path: Path
) -> None:
    recognizer = Recognizer(stand_in_weights, batch_size=batch_size, num_threads=1)
    sources = [_PORTRAIT, b"", b"text", _PORTRAIT[:9000], scenery, tmp_path / "gone.jpg", _PORTRAIT]
    results = list(recognizer.predict_many(sources))
    assert [len(result.faces) for result in results] == [1, 0, 0, 0, 0, 0, 1]
    assert [result.error is not None for result in results] == [False, True, True, True, False, True, False]
    assert results[5].source == str(tmp_path / "gone.jpg")
    assert results[5].error == "no such file"
    with pytest.raises(UnreadableImage):
        recognizer.predict(b"text")


def test_running_out_of_memory_in_one_image_does_not_end_the_run(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(source: object, **_: object) -> Decoded:
        if source == b"huge":
            raise MemoryError
        return Decoded(np.zeros((20, 20, 3), dtype=np.uint8), 20, 20)

    monkeypatch.setattr("ddamfn.finder.decode_scaled", decode)
    errors = [result.error for result in recognizer.predict_many([b"huge", b"small"])]
    assert errors == ["not enough memory for this image", None]


# ---------------------------------------------------------------- faces of the caller's own


def test_landmarks_of_ones_own_are_aligned_as_they_are(recognizer: Recognizer, portrait: NDArray[np.uint8]) -> None:
    (found,) = recognizer.predict(portrait)
    points = found.landmarks.to_numpy()
    given = recognizer.predict(portrait, landmarks=[points, points + 3])
    assert len(given) == 2
    assert given[0].prediction == found.prediction
    assert given[0].matrix.tolist() == found.matrix.tolist()
    assert given[0].landmarks == found.landmarks
    assert given[1].matrix.tolist() != found.matrix.tolist()
    assert np.isnan(given[0].score)
    # Without a box of the caller's, it is what the classifier saw.
    x1, y1, x2, y2 = given[0].bbox
    assert x1 < points[:, 0].min() < points[:, 0].max() < x2
    assert y1 < points[:, 1].min() < points[:, 1].max() < y2
    boxed = recognizer.predict(portrait, landmarks=[points], boxes=[found.bbox.xyxy])
    assert (boxed[0].bbox, boxed[0].prediction) == (found.bbox, found.prediction)


def test_boxes_of_ones_own_get_landmarks(recognizer: Recognizer, portrait: NDArray[np.uint8]) -> None:
    (found,) = recognizer.predict(portrait)
    x1, y1, x2, y2 = found.bbox
    boxes = np.array([[10, 300, 90, 400], [x1 - 20, y1 - 20, x2 + 20, y2 + 10]])
    faceless, face = recognizer.predict(portrait, boxes=boxes)
    # The rows stay the caller's, also where no face is found: there the box alone is aligned.
    assert (faceless.bbox.xyxy, face.bbox.xyxy) == (tuple(boxes[0]), tuple(boxes[1]))
    assert np.isnan(faceless.score)
    assert faceless.landmarks.nose == (50, pytest.approx(300 + 0.58 * 100))
    assert face.score > 0.9
    assert np.abs(face.landmarks.to_numpy() - found.landmarks.to_numpy()).max() < 4
    assert face.expression == found.expression


def test_no_faces_of_ones_own_are_no_faces(recognizer: Recognizer, portrait: NDArray[np.uint8]) -> None:
    assert recognizer.predict(portrait, boxes=[]).faces == []
    assert recognizer.predict(portrait, landmarks=np.zeros((0, 5, 2))).faces == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": [1, 2, 3, 4]}, r"boxes.*\(N, 4\)"),
        ({"boxes": [[10, 10, 5, 20]]}, r"boxes\[0\]"),
        ({"boxes": [[1, 1, 9, 9], [1, 1, float("nan"), 9]]}, r"boxes\[1\]"),
        ({"boxes": [[600, 10, 700, 90]]}, r"boxes\[0\].*outside"),
        ({"boxes": "none"}, r"boxes"),
        ({"landmarks": np.zeros((1, 10))}, r"landmarks.*\(N, 5, 2\)"),
        ({"landmarks": np.full((1, 5, 2), np.inf)}, r"landmarks\[0\]"),
        ({"landmarks": [[[1, 2], [3, 4], [5, 6], [7, 8], [9, 9]]], "boxes": [[1, 1, 9, 9]] * 2}, "one box"),
    ],
)
def test_faces_of_ones_own_are_checked(
    recognizer: Recognizer, portrait: NDArray[np.uint8], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        recognizer.predict(portrait, **given)


def test_landmarks_that_make_no_face_are_named(recognizer: Recognizer, portrait: NDArray[np.uint8]) -> None:
    (found,) = recognizer.predict(portrait)
    with pytest.raises(DegenerateFace, match=r"landmarks\[1\].*one spot"):
        recognizer.predict(portrait, landmarks=[found.landmarks.to_numpy(), np.full((5, 2), 9.0)])


def test_aligned_crops_are_classified(calibrated_weights: Path) -> None:
    recognizer = Recognizer(calibrated_weights, num_threads=1, min_precision=0.9)
    (face,) = recognizer.predict(_PORTRAIT)
    assert face.aligned is not None
    predictions = recognizer.classify_aligned(np.stack([face.aligned, face.aligned[:, ::-1]]))
    assert predictions[0] == face.prediction
    assert len(predictions) == 2
    assert recognizer.classify_aligned(np.zeros((0, 112, 112, 3), np.uint8)) == []
    with pytest.raises(UsageError, match=r"\(N, 112, 112, 3\)"):
        recognizer.classify_aligned(face.aligned)
    with pytest.raises(UsageError, match="list"):
        recognizer.classify_aligned([face.aligned])  # type: ignore[arg-type]


# ---------------------------------------------------------------- sessions


def test_providers_and_options_reach_both_networks(stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Any, Any]] = []
    session = onnxruntime.InferenceSession

    def open_one(network: bytes, options: Any, providers: Any) -> Any:
        opened.append((options, providers))
        return session(network, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_one)
    options = onnxruntime.SessionOptions()
    Recognizer(stand_in_weights, providers=["cpu"], session_options=options)
    assert opened == [(options, ["CPUExecutionProvider"])] * 2
    with pytest.raises(UsageError, match=r"'tpu'.*cpu"):
        Recognizer(stand_in_weights, providers=["tpu"])


def test_another_number_of_threads_leaves_all_else(calibrated_weights: Path) -> None:
    recognizer = Recognizer(calibrated_weights, min_detection_score=0.25, max_faces=3, min_precision=0.9)
    one = recognizer.with_num_threads(1)
    assert one is not recognizer
    assert one.with_num_threads(1) is one
    assert (one.threshold, one.card) == (recognizer.threshold, recognizer.card)
    assert one.predict(_PORTRAIT).to_dict() == recognizer.predict(_PORTRAIT).to_dict()


# ---------------------------------------------------------------- limits


def test_detection_limits_are_kept(stand_in_weights: Path, portrait: NDArray[np.uint8]) -> None:
    pair = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    assert len(Recognizer(stand_in_weights, num_threads=1).predict(pair).faces) == 2
    assert len(Recognizer(stand_in_weights, max_faces=1, num_threads=1).predict(pair).faces) == 1
    assert Recognizer(stand_in_weights, min_detection_score=1.0, num_threads=1).predict(pair).faces == []


def test_many_images_are_read_lazily_and_let_go(recognizer: Recognizer, portrait: NDArray[np.uint8]) -> None:
    living = read = 0
    most = 0

    def forget() -> None:
        nonlocal living
        living -= 1

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal living, read, most
        for _ in range(36):
            image = portrait.copy()
            weakref.finalize(image, forget)
            living += 1
            read += 1
            most = max(most, living)
            yield image

    results = recognizer.predict_many(images())
    assert read == 0
    for count, result in enumerate(results, start=1):
        assert read - count < 16
        assert result.image is None
        assert result.faces[0].aligned is None
    assert read == 36
    # The one being read, and the one that its generator still holds.
    assert most <= 2


def test_scenery_does_not_wait_for_a_batch(recognizer: Recognizer, scenery: NDArray[np.uint8]) -> None:
    assert next(recognizer.predict_many(itertools.repeat(scenery))).faces == []


@pytest.mark.parametrize(
    "image",
    [
        "photo.jpg",
        Path("photo.jpg"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        io.BytesIO(b"bytes"),
        Image.new("RGB", (8, 8)),
        np.zeros((512, 512, 3), np.uint8),
        np.zeros((512, 512), np.uint8),
    ],
    ids=lambda image: type(image).__name__,
)
def test_one_image_is_not_taken_for_many(recognizer: Recognizer, image: Any) -> None:
    with pytest.raises(UsageError, match=r"predict\(\)"):
        recognizer.predict_many(image)


def test_an_array_of_frames_is_many_images(recognizer: Recognizer, scenery: NDArray[np.uint8]) -> None:
    assert len(list(recognizer.predict_many(np.stack([scenery, scenery])))) == 2


def test_what_is_no_image_ends_many_too(recognizer: Recognizer, scenery: NDArray[np.uint8]) -> None:
    for wrong in (None, scenery.astype(np.float32)):
        with pytest.raises(UsageError, match=r"NoneType|float32"):
            list(recognizer.predict_many([scenery, wrong]))  # type: ignore[list-item]


def test_memory_does_not_grow_with_the_number_of_images(stand_in_weights: Path, portrait: NDArray[np.uint8]) -> None:
    recognizer = Recognizer(stand_in_weights, num_threads=1, batch_size=4)

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in recognizer.predict_many((portrait for _ in range(count)), keep_images=True):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(6)
    assert peak(24) < 1.2 * peak(6)


def test_kept_images_are_bounded_by_bytes(
    recognizer: Recognizer, portrait: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddamfn.recognizer._MOST_WAITING_BYTES", 2 * portrait.nbytes)
    read = 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal read
        while True:
            read += 1
            yield portrait

    result = next(recognizer.predict_many(images(), keep_images=True))
    assert read == 3
    assert result.image is not None
    assert result.plot(attention=True).width > 512


@pytest.mark.parametrize(
    "argument", [{"min_detection_score": 0}, {"min_detection_score": 1.5}, {"max_faces": 0}, {"batch_size": 0}]
)
def test_arguments_out_of_range_are_named(stand_in_weights: Path, argument: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(argument))):
        Recognizer(stand_in_weights, **argument)  # type: ignore[arg-type]


def test_weights_that_do_not_fit_are_refused(stand_in_weights: Path, tmp_path: Path) -> None:
    card = read_card(stand_in_weights.with_suffix(".json"))
    path = tmp_path / "odd.json"
    network = tmp_path / card.file

    network.write_bytes(stand_in_weights.read_bytes()[:-1])
    write_card(card, path)
    with pytest.raises(WeightsError, match="damaged"):
        Classifier(path)

    network.write_bytes(b"no network")
    plain = card.to_dict()
    write_card(card.from_dict(plain | {"sha256": sha256_bytes(b"no network")}), path)
    with pytest.raises(WeightsError, match="no network that ONNX Runtime can run"):
        Classifier(path)

    network.write_bytes(stand_in_weights.read_bytes())
    fewer = {"labels": ["neutral", "fear"], "architecture": plain["architecture"] | {"num_classes": 2}}
    write_card(card.from_dict(plain | fewer), path)
    with pytest.raises(WeightsError, match="8 logits"):
        Classifier(path).classify(np.zeros((1, 112, 112, 3), dtype=np.uint8))


@pytest.mark.parametrize(("logit", "weight"), [(np.nan, 0.5), (0.5, np.inf)])
def test_numbers_that_are_not_finite_are_refused(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, logit: float, weight: float
) -> None:
    broken = (np.full((1, 8), logit, dtype=np.float32), np.full((1, 2, 7, 7), weight, dtype=np.float32))
    monkeypatch.setattr(classifier, "_run", lambda crops: broken)
    with pytest.raises(WeightsError, match="not finite"):
        classifier.classify(np.zeros((1, 112, 112, 3), dtype=np.uint8))


def test_a_network_that_cannot_be_run_is_refused(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("node 7:\nno such shape")

    monkeypatch.setattr(classifier, "_session", type("Session", (), {"run": fails})())
    with pytest.raises(WeightsError, match="cannot be run on its card's input: node 7: no such shape"):
        classifier.classify(np.zeros((1, 112, 112, 3), dtype=np.uint8))


def test_abstaining_changes_the_answer_and_nothing_else(calibrated_weights: Path) -> None:
    always, never, unsure = (Recognizer(calibrated_weights, num_threads=1, min_precision=p) for p in (None, 0.5, 0.9))
    assert (always.threshold, never.threshold, unsure.threshold) == (0.0, 0.0, 0.999)
    (answered,), (also,), (withheld,) = (entry.predict(_PORTRAIT).faces for entry in (always, never, unsure))
    assert answered.confidence < 0.999
    assert answered.expression == also.expression == answered.prediction.likeliest
    assert withheld.to_dict(attention=True) == answered.to_dict(attention=True) | {"expression": "uncertain"}
    assert withheld.prediction.likeliest == answered.expression


def test_abstaining_needs_a_curve_that_reaches_the_precision(stand_in_weights: Path, calibrated_weights: Path) -> None:
    with pytest.raises(UsageError, match=r"stand-in cannot abstain: .* export the weights again"):
        Recognizer(stand_in_weights, min_precision=0.9)
    with pytest.raises(UsageError, match=r"0\.95 is not reached .* at most 0\.9, "):
        Recognizer(calibrated_weights, min_precision=0.95)
    with pytest.raises(UsageError, match="above 0"):
        Recognizer(calibrated_weights, min_precision=0)


# ---------------------------------------------------------------- class prior


def test_the_training_mix_changes_no_bit(calibrated_weights: Path) -> None:
    plain, training = Recognizer(calibrated_weights), Recognizer(calibrated_weights, class_prior="training")
    (face,), (same,) = plain.predict(_PORTRAIT), training.predict(_PORTRAIT)
    assert list(face.probabilities.values()) == list(same.probabilities.values())
    found = Recognizer(calibrated_weights, class_prior="uniform").find_faces(_PORTRAIT, class_prior="training")
    ((again,),) = plain.classify([found])
    assert again.prediction == face.prediction


def test_another_mix_follows_bayes_rule_for_each_image_of_a_batch(calibrated_weights: Path) -> None:
    recognizer = Recognizer(calibrated_weights, num_threads=1)
    (face,) = recognizer.predict(_PORTRAIT)
    shares = {"neutral": 0.6, "contempt": 0.2}
    batch = [recognizer.find_faces(_PORTRAIT, class_prior=prior) for prior in ("uniform", None, shares)]
    (uniform,), (plain,), (named,) = recognizer.classify(batch)
    assert recognizer.card.class_prior is not None
    training = np.array(list(recognizer.card.class_prior["shares"].values()))
    expected = np.array(list(face.probabilities.values())) / training
    np.testing.assert_allclose(list(uniform.probabilities.values()), expected / expected.sum(), rtol=1e-12)
    assert plain.prediction == face.prediction
    assert named.probabilities["contempt"] > uniform.probabilities["contempt"]
    # The recognizer's own mix, the aligned crops, and more threads say the same.
    own = Recognizer(calibrated_weights, num_threads=2, class_prior=shares).with_num_threads(1)
    (read,) = own.predict(_PORTRAIT)
    assert read.prediction == named.prediction
    assert own.classify_aligned(batch[0].crops[0][None]) == [named.prediction]


def test_a_precision_promises_nothing_under_another_mix(calibrated_weights: Path) -> None:
    with pytest.raises(UsageError, match=r"min_precision .*class prior"):
        Recognizer(calibrated_weights, min_precision=0.9, class_prior="uniform")
    unsure = Recognizer(calibrated_weights, min_precision=0.9, class_prior="training")
    with pytest.raises(UsageError, match="min_precision"):
        unsure.find_faces(_PORTRAIT, class_prior={"neutral": 0.5})
    other = Recognizer(calibrated_weights, class_prior="uniform")
    with pytest.raises(UsageError, match="min_precision"):
        other.find_faces(_PORTRAIT, min_precision=0.9)
    assert other.find_faces(_PORTRAIT, min_precision=0.9, class_prior="training").threshold == unsure.threshold


def test_weights_without_training_shares_refuse_a_mix(stand_in_weights: Path) -> None:
    with pytest.raises(UsageError, match="stand-in cannot take a class prior"):
        Recognizer(stand_in_weights, class_prior="uniform")
