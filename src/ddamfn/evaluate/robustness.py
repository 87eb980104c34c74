"""How well answers hold when the same faces come worse: blurred, dark, turned, half covered."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ddamfn.classifier import Classifier, alignment_of
from ddamfn.errors import DataError, DegenerateFace, UnreadableImage
from ddamfn.evaluate.face_source import FaceSource, FaceView
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
from ddamfn.faces import Alignment, align, plain_resize

log = logging.getLogger(__name__)

_CHUNK = 32
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class _Condition:
    """One pass over the faces: a change at a strength, or none."""

    perturbation: Perturbation | None = None
    level: int = 0
    draw: int = 0


def measure_robustness(
    classifier: Classifier,
    source: FaceSource,
    *,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    draws: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Classify the same faces clean and under every change.

    Faces that come without their image are not cut out anew: what changes landmarks is skipped then. Whatever side a
    network takes, its faces are changed as crops of `CROP_SIDE_PX` and then brought to that side, so that a strength is
    the same for all networks.

    Args:
        classifier: the weights.
        source: the faces, aligned as the weights' card says.
        perturbations: what to do to them.
        draws: how often each face meets the mild level of a change that chance has a part in, at least 1.
        seed: of everything left to chance.
        progress: called with the images done and those in all.

    Raises:
        DataError: if no face is left to measure on.
        UsageError: if the network knows none of the set's classes.
    """
    skipped = {
        entry.name: "a prepared set has no images to cut faces from: give the data set itself"
        for entry in perturbations
        if entry.landmarks is not None and not source.images
    }
    conditions = _conditions([entry for entry in perturbations if entry.name not in skipped], draws)
    alignment = alignment_of(classifier.card)
    changing = replace(alignment, side_px=CROP_SIDE_PX)
    logits: dict[_Condition, list[NDArray[np.float32]]] = {condition: [] for condition in conditions}
    rows: list[int] = []
    missing = {"faceless": 0, "unreadable": 0}
    colorful = False
    for chunk in _chunks(source, missing, progress):
        faces = [_at_changing_side(face, changing) for _, face in chunk]
        rows += [row for row, _ in chunk]
        colorful = colorful or any(np.ptp(face.crop, axis=2).any() for face in faces)
        for condition in conditions:
            crops = [_changed(face, condition, changing, seed) for face in faces]
            logits[condition].append(classifier.classify(np.stack([_fitted(crop, alignment) for crop in crops]))[0])
    if not rows:
        raise DataError(f"no face was found in {len(source):,} images of {source.title} {source.split}")
    tables = {
        condition: to_classes(np.concatenate(parts), classifier.card.labels, source.classes)
        for condition, parts in logits.items()
    }
    if not colorful and any(condition.perturbation is GRAY for condition in conditions):
        skipped[GRAY.name] = "all images are gray already"
        tables = {condition: table for condition, table in tables.items() if condition.perturbation is not GRAY}
    outcome = _Outcome(tables, source.targets[rows], source)
    return Robustness(
        weights=classifier.card.name,
        sha256=classifier.card.sha256,
        title=source.title,
        note=source.note,
        split=source.split,
        rule=source.rule,
        total=source.total,
        chosen=len(source),
        seed=seed,
        clean=outcome.scores(_Condition()),
        levels=tuple(
            outcome.level(entry.perturbation, entry.level)
            for entry in tables
            if entry.perturbation is not None and not entry.draw
        ),
        flips=outcome.flips(draws),
        skipped=skipped,
        **missing,
    )


def _conditions(perturbations: Sequence[Perturbation], draws: int) -> list[_Condition]:
    conditions = [_Condition()]
    conditions += [_Condition(entry, level) for entry in perturbations for level in range(len(entry.strengths))]
    # Only mild levels have a limit to hold, which the luck of one draw should not decide.
    conditions += [_Condition(entry, 0, draw) for entry in perturbations if entry.chance for draw in range(1, draws)]
    return conditions


def _chunks(
    source: FaceSource, missing: dict[str, int], progress: Callable[[int, int], None] | None
) -> Iterator[list[tuple[int, FaceView]]]:
    """Yield rows and faces by the chunk, and count images without a face."""
    for start in range(0, len(source), _CHUNK):
        chunk = []
        for row in range(start, min(start + _CHUNK, len(source))):
            try:
                face = source.read(row)
            except UnreadableImage as error:
                log.warning("an image cannot be read and is left out: %s", error)
                missing["unreadable"] += 1
                continue
            if face is None:
                missing["faceless"] += 1
            else:
                chunk.append((row, face))
        if chunk:
            yield chunk
        if progress is not None:
            progress(min(start + _CHUNK, len(source)), len(source))


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
class _Outcome:
    """The logits of all conditions for the same faces; `_Condition()` is the clean one."""

    tables: Mapping[_Condition, NDArray[np.float32]]
    targets: NDArray[np.float32]
    source: FaceSource

    @property
    def rule(self) -> str:
        return self.source.rule or "majority"

    def said(self, condition: _Condition) -> Ints:
        said: Ints = self.tables[condition].argmax(axis=1).astype(np.int64)
        return said

    def right(self, condition: _Condition) -> NDArray[np.bool_]:
        said = self.said(condition)
        return np.asarray(said == resolve_targets(self.targets, said, self.rule))

    def scores(self, *conditions: _Condition) -> Scores:
        tables = np.concatenate([self.tables[condition] for condition in conditions])
        return score(tables, np.tile(self.targets, (len(conditions), 1)), self.source.classes, rule=self.rule)

    def level(self, change: Perturbation, level: int) -> LevelResult:
        """Compare one change at one strength, all its draws together, with the clean faces."""
        draws = [condition for condition in self.tables if (condition.perturbation, condition.level) == (change, level)]
        right = np.mean([self.right(condition) for condition in draws], axis=0)
        drop, interval = mean_drop(self.right(_Condition()) - right)
        return LevelResult(
            perturbation=change.name,
            level=LEVELS[level],
            strength=change.describe(change.strengths[level]),
            scores=self.scores(*draws),
            drop=drop,
            drop_ci95=interval,
            agreeing=sum(int((self.said(condition) == self.said(_Condition())).sum()) for condition in draws),
            draws=len(draws),
        )

    def flips(self, draws: int) -> FlipRate | None:
        """Count changed answers under the mild jitter; None if it was not measured."""
        if _Condition(JITTER) not in self.tables:
            return None
        clean = self.said(_Condition())
        changed = np.stack([self.said(_Condition(JITTER, 0, draw)) != clean for draw in range(draws)])
        per_face = changed.mean(axis=0)
        rate, n = float(per_face.mean()), len(clean)
        half = _Z95 * float(per_face.std()) / np.sqrt(n)
        # Without any difference between faces the spread says nothing; each face then counts as one answer.
        interval = (max(0.0, rate - half), min(1.0, rate + half)) if half else wilson_interval(round(rate * n), n)
        ever = int(changed.any(axis=0).sum())
        return FlipRate(JITTER.describe(JITTER.strengths[0]), draws, n, int(changed.sum()), rate, interval, ever)
