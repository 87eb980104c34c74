"""Robustness to corruptions: the same faces blurred, dark, rotated or half covered, compared with the clean ones."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.data.dataset import Dataset
from ddamfn.errors import DataError, DegenerateFace, UnreadableImage
from ddamfn.evaluate.logit_table import to_classes
from ddamfn.evaluate.metrics import Ints, mean_drop, wilson_interval
from ddamfn.evaluate.perturbations import (
    CROP_SIDE_PX,
    GRAY,
    JITTER,
    LEVELS,
    PERTURBATIONS,
    Perturbation,
    generator_for,
)
from ddamfn.evaluate.robustness_report import FlipRate, LevelResult, Robustness
from ddamfn.evaluate.scores import Scores, resolve_targets, score
from ddamfn.faces import Alignment, RetinaFace, align, decode, plain_resize
from ddamfn.preparation import Prepared
from ddamfn.preparation.image import Hints, find_landmarks

log = logging.getLogger(__name__)

_CHUNK = 32
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """One face; image, landmarks and matrix are None where only the crop is available."""

    key: str  # image name inside its data set
    crop: NDArray[np.uint8]  # (S, S, 3) uint8 RGB, aligned
    image: NDArray[np.uint8] | None = None  # (H, W, 3) uint8 RGB
    landmarks: NDArray[np.float64] | None = None  # (5, 2) float64, image pixels
    matrix: NDArray[np.float64] | None = None  # (2, 3) float64, image to crop


@dataclass(frozen=True, slots=True, eq=False)
class FaceSource:
    """The chosen images of a split, whose faces are read on demand."""

    title: str  # the data set's full name
    note: str  # which copy of it
    split: str
    rule: str | None  # None for sets with one label per image
    classes: tuple[str, ...]  # canonical names of the K columns
    targets: NDArray[np.float32]  # (N, K) float32; rows sum to 1
    total: int  # images that the rule keeps; N were chosen
    images: bool  # whether faces have their image and can be realigned
    read: Callable[[int], FaceView | None]  # None without a face; may raise UnreadableImage

    def __len__(self) -> int:
        return len(self.targets)


def faces_of_dataset(
    dataset: Dataset, split: str, rule: str, alignment: Alignment, *, limit: int | None = None, seed: int = 0
) -> FaceSource:
    """Take faces from images (decode, detect, align), at most `limit` of them, drawn by the seed."""
    part = dataset.select(split)
    keep, targets = part.targets(rule)
    kept = np.flatnonzero(keep)
    rows = _choose(kept, limit, seed)
    detector = RetinaFace()

    def read(index: int) -> FaceView | None:
        sample = part.samples[int(rows[index])]
        image = decode(part.read(sample))
        found = find_landmarks(image, Hints(sample.landmarks, sample.bbox), detector)
        if found is None:
            return None
        landmarks = found[0].astype(np.float64)
        try:
            crop = align(image, landmarks, alignment)
        except DegenerateFace:
            return None
        return FaceView(sample.key, crop.pixels, image, landmarks, crop.matrix)

    rule_name = rule if dataset.card.votes else None
    return FaceSource(
        dataset.card.title, dataset.note, split, rule_name, dataset.classes, targets[rows], len(kept), True, read
    )


def faces_of_prepared(
    prepared: Prepared, split: str, rule: str, *, limit: int | None = None, seed: int = 0
) -> FaceSource:
    """Take faces from a prepared set: crops alone, which cannot be realigned, at most `limit`, drawn by the seed."""
    part = prepared.split(split, rule)
    rows = _choose(np.arange(len(part)), limit, seed)

    def read(index: int) -> FaceView | None:
        row = int(rows[index])
        return FaceView(part.keys[row], part.crops[row]) if part.found[row] else None

    rule_name = rule if prepared.votes else None
    title, targets = prepared.dataset, part.targets[rows]
    return FaceSource(title, prepared.note, split, rule_name, part.classes, targets, len(part), False, read)


def _choose(rows: NDArray[np.intp], limit: int | None, seed: int) -> NDArray[np.intp]:
    """Return `limit` random rows in ascending order, or all if there are no more."""
    if len(rows) == 0:
        raise DataError("no image to measure on: check the split and the labeling rule")
    if limit is None or limit >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))


@dataclass(frozen=True, slots=True)
class _Condition:
    """One pass over the faces: a perturbation at a strength, or none."""

    perturbation: Perturbation | None = None
    level: int = 0
    draw: int = 0


_CLEAN = _Condition()


def measure_robustness(
    classifier: Classifier,
    source: FaceSource,
    *,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    draws: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Classify the same faces clean and under every perturbation, with `draws` per face for mild random ones.

    Landmark perturbations are skipped for faces without their image. Faces are perturbed as crops of `CROP_SIDE_PX`
    and then resized to the network's side, so that a strength is the same for all networks.
    """
    skipped = {
        entry.name: "a prepared set has no images to cut faces from: give the data set itself"
        for entry in perturbations
        if entry.landmarks is not None and not source.images
    }
    conditions = _conditions([entry for entry in perturbations if entry.name not in skipped], draws)
    faces = _classify(classifier, source, conditions, seed, progress)
    if not faces.rows:
        raise DataError(f"no face was found in {len(source):,} images of {source.title} {source.split}")
    if not faces.has_color and any(condition.perturbation is GRAY for condition in conditions):
        skipped[GRAY.name] = "all images are gray already"
    tables = {
        condition: to_classes(np.concatenate(parts), classifier.card.labels, source.classes)
        for condition, parts in faces.logits.items()
        if condition.perturbation is None or condition.perturbation.name not in skipped
    }
    comparison = _Comparison(tables, source.targets[faces.rows], source)
    return Robustness(
        weights=classifier.card.name,
        sha256=classifier.card.sha256,
        preprocessing=dict(classifier.card.preprocessing),
        title=source.title,
        note=source.note,
        split=source.split,
        rule=source.rule,
        total=source.total,
        chosen=len(source),
        seed=seed,
        clean=comparison.scores(_CLEAN),
        levels=comparison.levels(),
        flips=comparison.flips(draws),
        skipped=skipped,
        faceless=faces.faceless,
        unreadable=faces.unreadable,
    )


def _conditions(perturbations: Sequence[Perturbation], draws: int) -> list[_Condition]:
    conditions = [_CLEAN]
    conditions += [_Condition(entry, level) for entry in perturbations for level in range(len(entry.strengths))]
    # Only mild levels have a limit to hold, which one random draw should not decide.
    conditions += [_Condition(entry, 0, draw) for entry in perturbations if entry.is_random for draw in range(1, draws)]
    return conditions


@dataclass(slots=True)
class _Faces:
    """The faces of a source that were found: their rows, and their logits under each condition."""

    logits: dict[_Condition, list[NDArray[np.float32]]]
    rows: list[int] = field(default_factory=list)
    faceless: int = 0
    unreadable: int = 0
    has_color: bool = False


def _classify(
    classifier: Classifier,
    source: FaceSource,
    conditions: Sequence[_Condition],
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> _Faces:
    """Classify every face under every condition, chunk by chunk."""
    found = _Faces({condition: [] for condition in conditions})
    alignment = alignment_of(classifier.card)
    changing = replace(alignment, side_px=CROP_SIDE_PX)
    for start in range(0, len(source), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(source)))
        faces = [_at_changing_side(face, changing) for face in _read(source, rows, found)]
        found.has_color = found.has_color or any(np.ptp(face.crop, axis=2).any() for face in faces)
        for condition in conditions if faces else ():
            crops = [_fitted(_changed(face, condition, changing, seed), alignment) for face in faces]
            found.logits[condition].append(classifier.classify(np.stack(crops))[0])
        if progress is not None:
            progress(rows.stop, len(source))
    return found


def _read(source: FaceSource, rows: range, found: _Faces) -> Iterator[FaceView]:
    """Yield the faces of some rows, and count images without one."""
    for row in rows:
        try:
            face = source.read(row)
        except UnreadableImage as error:
            log.warning("an image cannot be read and is left out: %s", error)
            found.unreadable += 1
            continue
        if face is None:
            found.faceless += 1
        else:
            found.rows.append(row)
            yield face


def _at_changing_side(face: FaceView, changing: Alignment) -> FaceView:
    """Return the face with a crop of the side that strengths refer to."""
    if face.crop.shape[0] == changing.side_px:
        return face
    if face.image is None or face.landmarks is None:
        return replace(face, crop=_fitted(face.crop, changing))
    cut = align(face.image, face.landmarks, changing)
    return replace(face, crop=cut.pixels, matrix=cut.matrix)


def _fitted(crop: NDArray[np.uint8], alignment: Alignment) -> NDArray[np.uint8]:
    return crop if crop.shape[0] == alignment.side_px else plain_resize(crop, alignment).pixels


def _changed(face: FaceView, condition: _Condition, alignment: Alignment, seed: int) -> NDArray[np.uint8]:
    """Return the face's crop under a condition."""
    change = condition.perturbation
    if change is None:
        return face.crop
    generator = generator_for(seed, change.name, face.key, condition.draw)
    strength = change.strengths[condition.level]
    if change.pixels is not None:
        return change.pixels(face.crop, strength, generator)
    if change.landmarks is None or face.image is None or face.landmarks is None or face.matrix is None:
        raise ValueError(f"{change.name} changes neither pixels nor landmarks, or {face.key} has no image")
    try:
        moved = change.landmarks(face.landmarks, face.matrix, strength, generator)
        return align(face.image, moved, alignment).pixels
    except DegenerateFace:
        # Points jittered onto one line; the crop that stood before is the only one there is.
        return face.crop


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """The logits of all conditions for the same faces; `_CLEAN` is the unperturbed one."""

    tables: Mapping[_Condition, NDArray[np.float32]]
    targets: NDArray[np.float32]
    source: FaceSource

    @property
    def rule(self) -> str:
        return self.source.rule or "majority"

    def predictions(self, condition: _Condition = _CLEAN) -> Ints:
        predictions: Ints = self.tables[condition].argmax(axis=1).astype(np.int64)
        return predictions

    def correct(self, condition: _Condition = _CLEAN) -> NDArray[np.bool_]:
        predictions = self.predictions(condition)
        return np.asarray(predictions == resolve_targets(self.targets, predictions, self.rule))

    def scores(self, *conditions: _Condition) -> Scores:
        tables = np.concatenate([self.tables[condition] for condition in conditions])
        return score(tables, np.tile(self.targets, (len(conditions), 1)), self.source.classes, rule=self.rule)

    def levels(self) -> tuple[LevelResult, ...]:
        """Compare every perturbation at every strength with the clean faces."""
        firsts = (condition for condition in self.tables if not condition.draw)
        return tuple(self.level(first.perturbation, first.level) for first in firsts if first.perturbation is not None)

    def level(self, change: Perturbation, level: int) -> LevelResult:
        """Compare all draws of one perturbation at one strength with the clean faces."""
        draws = [condition for condition in self.tables if (condition.perturbation, condition.level) == (change, level)]
        drop, interval = mean_drop(self.correct() - np.mean([self.correct(draw) for draw in draws], axis=0))
        return LevelResult(
            perturbation=change.name,
            level=LEVELS[level],
            strength=change.describe(change.strengths[level]),
            scores=self.scores(*draws),
            drop=drop,
            drop_ci95=interval,
            agreeing=sum(int((self.predictions(draw) == self.predictions()).sum()) for draw in draws),
            draws=len(draws),
        )

    def flips(self, draws: int) -> FlipRate | None:
        """Count changed predictions under the mild jitter; None if it was not measured."""
        if _Condition(JITTER) not in self.tables:
            return None
        clean = self.predictions()
        changed = np.stack([self.predictions(_Condition(JITTER, 0, draw)) != clean for draw in range(draws)])
        per_face = changed.mean(axis=0)
        rate, n = float(per_face.mean()), len(clean)
        half = _Z95 * float(per_face.std()) / np.sqrt(n)
        # Where all faces are alike, the spread is 0; each face then counts as one answer.
        interval = (max(0.0, rate - half), min(1.0, rate + half)) if half else wilson_interval(round(rate * n), n)
        ever = int(changed.any(axis=0).sum())
        return FlipRate(JITTER.describe(JITTER.strengths[0]), draws, n, int(changed.sum()), rate, interval, ever)
