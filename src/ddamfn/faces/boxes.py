"""Boxes of faces: their areas, their overlap, and which of several found faces are one and the same."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MAX_OVERLAP = 0.4


class Found(NamedTuple):
    """Faces that were found, float32; sorted by falling score unless it says otherwise."""

    boxes: NDArray[np.float32]  # (N, 4): x1, y1, x2, y2 in pixels, also beyond the image
    landmarks: NDArray[np.float32]  # (N, 5, 2)
    scores: NDArray[np.float32]  # (N,)

    def take(self, rows: Any) -> "Found":
        """Return some of the faces: an index array, a mask or a slice."""
        return Found(*(column[rows] for column in self))

    def scaled(self, ratio: NDArray[np.floating[Any]], corner: tuple[int, int] = (0, 0)) -> "Found":
        """Return the faces in an image that is `ratio` (x, y) times as large, moved by `corner` (x, y) after that."""
        factor, shift = np.asarray(ratio, dtype=np.float32), np.asarray(corner, dtype=np.float32)
        return Found(self.boxes * np.tile(factor, 2) + np.tile(shift, 2), self.landmarks * factor + shift, self.scores)

    def mapped(self, matrix: NDArray[np.float64]) -> "Found":
        """Return the faces where an affine matrix (2, 3) takes them; a turned box becomes the one around it."""
        corners = self.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ matrix[:, :2].T + matrix[:, 2]
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
        landmarks = (self.landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return Found(boxes, landmarks, self.scores)

    def sorted(self) -> "Found":
        """Return the faces by falling score."""
        return self.take(np.argsort(-self.scores, kind="stable"))


def join(parts: "list[Found]") -> Found:
    """Return the faces of at least one look as one, in this order."""
    return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def longer_sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the longer side of boxes (N, 4), in pixels."""
    sides: NDArray[np.float32] = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    return sides


def areas(boxes: NDArray[Any]) -> NDArray[Any]:
    """Return the areas of boxes (..., 4)."""
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def shared_areas(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return the areas of the intersections of boxes (..., 4), broadcast against each other."""
    sides = np.minimum(some[..., 2:], others[..., 2:]) - np.maximum(some[..., :2], others[..., :2])
    return np.asarray(np.prod(np.clip(sides, 0, None), axis=-1))


def intersection_over_union(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return the intersections over union of boxes (..., 4), broadcast against each other."""
    shared = shared_areas(some, others)
    return np.asarray(shared / (areas(some) + areas(others) - shared))


def suppress(boxes: NDArray[np.float32], max_contained: float | None = None) -> list[int]:
    """Return the rows that remain after greedy non-maximum suppression; `boxes` (N, 4) come by falling score.

    With `max_contained`, a box also goes if more than this share of the smaller of the two is shared.
    """
    all_areas = areas(boxes)
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while len(remaining):
        best, remaining = int(remaining[0]), remaining[1:]
        kept.append(best)
        shared = shared_areas(boxes[best], boxes[remaining])
        stays = shared <= _MAX_OVERLAP * (all_areas[best] + all_areas[remaining] - shared)
        if max_contained is not None:
            stays &= shared <= max_contained * np.minimum(all_areas[best], all_areas[remaining])
        remaining = remaining[stays]
    return kept


def replace_large(fine: Found, coarse: Found, too_large: float) -> Found:
    """Take the coarse look's large faces, and the fine look's others that are neither too large nor part of one."""
    # A little below the limit, so that no face falls between the two because they measure it differently.
    large = longer_sides(coarse.boxes) > 0.75 * too_large
    if not large.any():
        return fine
    shared = shared_areas(fine.boxes[:, None], coarse.boxes[None, large]).max(axis=1)
    small = (longer_sides(fine.boxes) <= too_large) & (shared <= _MAX_OVERLAP * areas(fine.boxes))
    return join([coarse.take(large), fine.take(small)]).sorted()


def without_phantoms(found: Found) -> Found:
    """Leave out faces that share eyes, nose or mouth with a surer one: no two faces have the same.

    A large soft portrait is often seen twice: as a face, and as a lower one from its mouth to the chest.
    """
    kept: list[int] = []
    for row in range(len(found.scores)):
        if not _sharing(found, row, kept).any():
            kept.append(row)
    return found.take(kept)


def conflicts(found: Found) -> NDArray[np.bool_]:
    """Return (N,) whether a face shares landmarks with another one."""
    rows = np.arange(len(found.scores))
    return np.array([_sharing(found, row, rows[rows != row]).any() for row in rows.tolist()], dtype=np.bool_)


def _sharing(found: Found, row: int, others: "list[int] | NDArray[np.int64]") -> NDArray[np.bool_]:
    """Return which of the others has at least two landmarks in a face's box, or the face in theirs."""
    boxes, landmarks = found.boxes[others], found.landmarks[others]
    return (_inside(landmarks, found.boxes[row]) >= 2) | (_inside(found.landmarks[row], boxes[:, None]) >= 2)


def _inside(landmarks: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    inside = (landmarks > boxes[..., :2]) & (landmarks < boxes[..., 2:])
    return np.asarray(inside.all(axis=-1).sum(axis=-1))
