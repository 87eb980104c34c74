"""The same faces under every change: cut from the image where landmarks move, counted by hand, whatever the order."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ddamfn.classifier import Classifier
from ddamfn.data import open_dataset
from ddamfn.errors import DataError, UnreadableImage
from ddamfn.evaluate.metrics import mean_drop, wilson_interval
from ddamfn.evaluate.perturbations import GRAY, JITTER, PERTURBATIONS, Perturbation, generator_for, jitter, rotate
from ddamfn.evaluate.predict import predict_split
from ddamfn.evaluate.robustness import (
    FaceSource,
    FaceView,
    faces_of_dataset,
    faces_of_prepared,
    measure_robustness,
)
from ddamfn.faces import Alignment, align, plain_resize
from ddamfn.labels import EXPRESSIONS
from ddamfn.preparation import prepare
from ddamfn.synthetic import synthetic_face
from ddamfn.weights import Card, read_card

ALIGNMENT = Alignment("arcface")
DARKNESS = next(entry for entry in PERTURBATIONS if entry.name == "darkness")
ROTATION = next(entry for entry in PERTURBATIONS if entry.name == "rotation")


@dataclass
class Recorder:
    """Stands in for a classifier: keeps the crops, and answers "happiness" for bright ones and else "neutral"."""

    card: Card
    limit: float = 128.0
    seen: list[np.ndarray] = field(default_factory=list)

    def classify(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.seen.extend(crops)
        bright = crops.reshape(len(crops), -1).mean(axis=1) > self.limit
        logits = np.zeros((len(crops), 8), dtype=np.float32)
        logits[:, EXPRESSIONS.index("neutral")] = 1
        logits[bright, EXPRESSIONS.index("happiness")] = 2
        return logits, np.zeros((len(crops), 2, 7, 7), dtype=np.float32)


@pytest.fixture
def recorder(stand_in_weights: Path) -> Recorder:
    return Recorder(read_card(stand_in_weights.with_suffix(".json")))


def run(recorder: Recorder, source: FaceSource, *perturbations: Perturbation, **options: Any) -> Any:
    return measure_robustness(cast(Classifier, recorder), source, perturbations=perturbations, **options)


def source_of(views: list[FaceView | None], labels: list[str], **changes: Any) -> FaceSource:
    targets = np.eye(8, dtype=np.float32)[[EXPRESSIONS.index(label) for label in labels]]
    plain = FaceSource("drawn", "", "test", None, EXPRESSIONS, targets, len(labels), True, views.__getitem__)
    return replace(plain, **changes)


def even(level: int, key: str) -> FaceView:
    return FaceView(key, np.full((112, 112, 3), level, dtype=np.uint8))


@pytest.fixture(scope="module")
def views() -> list[FaceView]:
    generator, faces = np.random.default_rng(3), []
    for number in range(6):
        image, landmarks = synthetic_face(EXPRESSIONS[number], generator, 160)
        points = landmarks.astype(np.float64)
        crop = align(image, points, ALIGNMENT)
        faces.append(FaceView(f"{number}.png", crop.pixels, image, points, crop.matrix))
    return faces


def test_moved_landmarks_are_aligned_anew_from_the_image(recorder: Recorder, views: list[FaceView]) -> None:
    run(recorder, source_of(list(views), ["anger"] * 6), ROTATION, JITTER, draws=3, seed=9)
    wanted = [view.crop for view in views]
    for change, move in ((ROTATION, rotate), (JITTER, jitter)):
        for strength in change.strengths:
            wanted += [_cut(view, move, strength, generator_for(9, change.name, view.key)) for view in views]
    for change, move, mild in ((ROTATION, rotate, 5.0), (JITTER, jitter, 2.0)):
        for draw in (1, 2):
            wanted += [_cut(view, move, mild, generator_for(9, change.name, view.key, draw)) for view in views]
    assert np.array_equal(np.stack(recorder.seen), np.stack(wanted))
    # A crop that was turned itself would have lost its corners; here they come from the image.
    assert not np.array_equal(wanted[6], views[0].crop)


def _cut(view: FaceView, move: Any, strength: float, generator: np.random.Generator) -> np.ndarray:
    assert view.image is not None
    return align(view.image, move(view.landmarks, view.matrix, strength, generator), ALIGNMENT).pixels


def test_a_face_meets_the_same_chance_whichever_others_there_are(recorder: Recorder, views: list[FaceView]) -> None:
    run(recorder, source_of([views[4]], ["anger"]), *PERTURBATIONS, draws=2)
    alone, recorder.seen = recorder.seen, []
    run(recorder, source_of(list(views), ["anger"] * 6), *PERTURBATIONS, draws=2)
    assert np.array_equal(np.stack(alone), np.stack(recorder.seen[4::6]))
    recorder.seen = []
    run(recorder, source_of([views[4]], ["anger"]), *PERTURBATIONS, draws=2, seed=1)
    assert not np.array_equal(np.stack(alone), np.stack(recorder.seen))


@pytest.mark.parametrize("images", [True, False])
def test_a_network_of_another_side_meets_the_same_changes(
    recorder: Recorder, views: list[FaceView], images: bool
) -> None:
    """Blurred at 112 px and then brought to 48 px: at 48 px the same deviation would be a far stronger blur."""
    blur = next(entry for entry in PERTURBATIONS if entry.name == "blur")
    own = Alignment("arcface", side_px=48)
    recorder.card = replace(recorder.card, input_side_px=48, alignment={**recorder.card.alignment, "side_px": 48})
    small: list[FaceView | None] = []
    wanted = []
    for view in views:
        assert view.image is not None
        assert view.landmarks is not None
        cut = align(view.image, view.landmarks, own)
        small.append(FaceView(view.key, cut.pixels, view.image, view.landmarks, cut.matrix))
        if not images:
            small[-1] = FaceView(view.key, cut.pixels)
        large = view.crop if images else plain_resize(cut.pixels, ALIGNMENT).pixels
        assert blur.pixels is not None
        changed = blur.pixels(large, 1.0, np.random.default_rng(0))
        wanted.append([plain_resize(crop, own).pixels for crop in (large, changed)])
    run(recorder, source_of(small, ["anger"] * 6, images=images), replace(blur, strengths=(1.0,)))
    assert np.array_equal(np.stack(recorder.seen), np.concatenate([np.stack(row) for row in zip(*wanted, strict=True)]))
    strong = [blur.pixels(view.crop, 1.0, np.random.default_rng(0)) for view in small if view is not None]
    unchanged, changed_crops = (np.stack(recorder.seen[i : i + 6]).astype(float) for i in (0, 6))
    assert np.abs(changed_crops - unchanged).mean() < np.abs(np.stack(strong) - unchanged).mean()


def test_moved_landmarks_move_by_pixels_of_the_large_crop(recorder: Recorder, views: list[FaceView]) -> None:
    own = Alignment("arcface", side_px=48)
    recorder.card = replace(recorder.card, input_side_px=48, alignment={**recorder.card.alignment, "side_px": 48})
    small: list[FaceView | None] = []
    for view in views:
        assert view.image is not None
        assert view.landmarks is not None
        cut = align(view.image, view.landmarks, own)
        small.append(FaceView(view.key, cut.pixels, view.image, view.landmarks, cut.matrix))
    run(recorder, source_of(small, ["anger"] * 6), replace(JITTER, strengths=(4.0,)), draws=1, seed=2)
    moved = [_cut(view, jitter, 4.0, generator_for(2, JITTER.name, view.key)) for view in views]
    assert np.array_equal(np.stack(recorder.seen[6:]), np.stack([plain_resize(crop, own).pixels for crop in moved]))


def test_accuracy_drop_and_agreement_are_counted_by_hand(recorder: Recorder) -> None:
    # x .6 leaves 240 bright and darkens 200 and 150; the others darken all.
    levels, labels = [240, 200, 150, 50], ["happiness", "happiness", "neutral", "neutral"]
    faces: list[FaceView | None] = [even(level, str(level)) for level in levels]
    found = run(recorder, source_of(faces, labels), DARKNESS)
    assert (found.clean.correct, found.clean.n) == (3, 4)
    mild, medium, *_ = found.levels
    assert (mild.perturbation, mild.level, mild.strength) == ("darkness", "mild", "brightness × 0.6")
    # 200 is lost and 150 is won.
    assert (mild.scores.correct, mild.drop, mild.agreeing, mild.agreement) == (3, 0.0, 2, 0.5)
    assert (medium.scores.correct, medium.drop, medium.agreeing) == (2, 0.25, 1)
    assert medium.drop_ci95[0] < 0.25 < medium.drop_ci95[1]
    assert mild.scores.mean_class_accuracy == 0.75
    plain = medium.to_dict()
    assert plain["agreement_ci95"] == list(wilson_interval(1, 4))
    assert (plain["n"], plain["correct"], plain["accuracy"]) == (4, 2, 0.5)


def test_what_chance_has_a_part_in_differs_from_draw_to_draw_and_nothing_else(views: list[FaceView]) -> None:
    for change in PERTURBATIONS:
        moved: list[Any] = []
        for draw in range(20):  # a coin may fall on the same side a few times
            generator = generator_for(0, change.name, "a", draw)
            if change.pixels is not None:
                moved.append(change.pixels(_colored(views[0].crop), change.strengths[0], generator))
            else:
                assert change.landmarks is not None
                moved.append(change.landmarks(views[0].landmarks, views[0].matrix, change.strengths[0], generator))
        assert any((other != moved[0]).any() for other in moved) == change.is_random, change.name


def _colored(crop: np.ndarray) -> np.ndarray:
    return np.stack([crop[..., 0], crop[..., 1] // 2, crop[..., 2] // 3], axis=-1)


def test_a_mild_cover_is_drawn_several_times_and_the_mean_counts(recorder: Recorder, views: list[FaceView]) -> None:
    cover = replace(next(entry for entry in PERTURBATIONS if entry.name == "occlusion"), strengths=(0.4, 0.5))
    recorder.limit = float(np.mean([view.crop.mean() for view in views]))
    found = run(recorder, source_of(list(views), ["neutral"] * 4 + ["happiness"] * 2), cover, draws=3)
    bright = np.array([crop.mean() > recorder.limit for crop in recorder.seen]).reshape(-1, 6)
    right = np.where([False] * 4 + [True] * 2, bright, ~bright)
    # Passes: clean, mild, medium, and two more draws of mild.
    clean, drawn = right[0], right[[1, 3, 4]]
    assert (drawn != drawn[0]).sum() > 0  # the draws differ, or this would show nothing
    mild, medium = found.levels
    assert (mild.draws, mild.scores.n, mild.scores.correct) == (3, 18, drawn.sum())
    assert mild.drop == pytest.approx(clean.mean() - drawn.mean())
    assert mild.drop_ci95 == mean_drop(clean - drawn.mean(axis=0))[1]
    assert mild.agreeing == (bright[[1, 3, 4]] == bright[0]).sum()
    assert mild.ci95 == wilson_interval(round(drawn.sum() / 3), 6)
    assert mild.to_dict()["ci95"] == list(mild.ci95)
    assert mild.wording == "40% covered, 3 draws"
    assert (medium.draws, medium.scores.n, medium.scores.correct) == (1, 6, right[2].sum())
    assert medium.ci95 == medium.scores.ci95
    assert medium.wording == "50% covered"


def test_flips_are_counted_over_draws_and_faces(recorder: Recorder, views: list[FaceView]) -> None:
    # The limit lies between the brightness of the clean crops and that of some jittered ones.
    recorder.limit = float(np.mean([view.crop.mean() for view in views]))
    found = run(recorder, source_of(list(views), ["neutral"] * 6), JITTER, draws=4)
    bright = np.array([crop.mean() > recorder.limit for crop in recorder.seen]).reshape(-1, 6)
    # Passes: clean, mild, medium, severe, and three more draws of mild.
    changed = bright[[1, 4, 5, 6]] != bright[0]
    flips = found.flips
    assert (flips.draws, flips.n, flips.strength) == (4, 6, "2 px per point")
    assert (flips.flips, flips.ever) == (changed.sum(), changed.any(axis=0).sum())
    assert flips.rate == pytest.approx(changed.mean())
    assert flips.ci95[0] <= flips.rate <= flips.ci95[1]
    assert [entry.level for entry in found.levels] == ["mild", "medium", "severe"]


def test_no_flip_still_has_an_interval(recorder: Recorder, views: list[FaceView]) -> None:
    recorder.limit = 256.0
    flips = run(recorder, source_of(list(views), ["neutral"] * 6), JITTER).flips
    assert (flips.flips, flips.rate, flips.ci95) == (0, 0.0, wilson_interval(0, 6))


def test_what_cannot_be_measured_is_said(recorder: Recorder, views: list[FaceView]) -> None:
    crops: list[FaceView | None] = [FaceView(view.key, view.crop) for view in views]
    found = run(recorder, source_of(crops, ["anger"] * 6, images=False), *PERTURBATIONS)
    assert set(found.skipped) == {"rotation", "landmark jitter"}
    assert found.flips is None
    assert {entry.perturbation for entry in found.levels} == {p.name for p in PERTURBATIONS if p.pixels is not None}
    gray: list[FaceView | None] = [even(level, str(level)) for level in (10, 200)]
    found = run(recorder, source_of(gray, ["anger"] * 2, images=False), GRAY, DARKNESS)
    assert found.skipped == {"gray": "all images are gray already"}
    assert {entry.perturbation for entry in found.levels} == {"darkness"}


def test_images_without_a_face_and_unreadable_ones_are_counted(recorder: Recorder) -> None:
    def read(row: int) -> FaceView | None:
        if row == 1:
            raise UnreadableImage("b.png: truncated")
        return None if row == 2 else even(200, str(row))

    labels, done = ["happiness", "anger", "anger", "neutral"], []
    found = run(
        recorder, source_of([], labels, read=read), DARKNESS, progress=lambda count, total: done.append((count, total))
    )
    assert (found.chosen, found.clean.n, found.clean.correct, found.faceless, found.unreadable) == (4, 2, 1, 1, 1)
    assert done == [(4, 4)]
    with pytest.raises(DataError, match="no face was found in 1 images"):
        run(recorder, source_of([None], ["anger"]), DARKNESS)


def test_clean_faces_are_those_of_an_evaluation(classifier: Classifier, drawn_ferplus: Path) -> None:
    dataset = open_dataset(drawn_ferplus)
    table = predict_split(classifier, dataset, "val", workers=1)
    source = faces_of_dataset(dataset, "val", "majority", ALIGNMENT)
    found = measure_robustness(classifier, source, perturbations=[DARKNESS])
    said, true = table.logits.argmax(axis=1)[table.found], table.targets.argmax(axis=1)[table.found]
    assert (found.clean.n, found.clean.correct) == (len(said), int((said == true).sum()))
    assert (found.chosen, found.faceless) == (len(table), len(table) - len(said))
    assert found.rule == "majority"


def test_a_prepared_set_gives_the_same_crops(drawn_ferplus: Path, tmp_path: Path) -> None:
    dataset = open_dataset(drawn_ferplus)
    images = faces_of_dataset(dataset, "val", "majority", ALIGNMENT)
    crops = faces_of_prepared(prepare(dataset, tmp_path / "p", ALIGNMENT, workers=1), "val", "majority")
    assert len(crops) == len(images) == crops.total > 0
    assert (crops.images, images.images) == (False, True)
    for row in range(len(crops)):
        one, other = crops.read(row), images.read(row)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.key == other.key
            assert np.array_equal(one.crop, other.crop)
    assert np.array_equal(crops.targets, images.targets)


def test_a_limit_chooses_by_chance_and_always_the_same(drawn_ferplus: Path) -> None:
    dataset = open_dataset(drawn_ferplus)

    def chosen(**options: Any) -> np.ndarray:
        return faces_of_dataset(dataset, "train", "majority", ALIGNMENT, **options).targets

    whole = faces_of_dataset(dataset, "train", "majority", ALIGNMENT)
    some = faces_of_dataset(dataset, "train", "majority", ALIGNMENT, limit=9)
    assert (len(some), some.total) == (9, len(whole))
    assert np.array_equal(chosen(limit=9), chosen(limit=9))
    assert not np.array_equal(chosen(limit=9), chosen(limit=9, seed=1))
    assert np.array_equal(chosen(limit=10_000), whole.targets)
    with pytest.raises(DataError, match="no split"):
        faces_of_dataset(dataset, "elsewhere", "majority", ALIGNMENT)
