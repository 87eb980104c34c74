"""Where and how closely a detector looks at an image: scales, tiles, turns, and a second look at doubtful faces.

One look at 960 px finds what is upright and not too small. "auto" looks again where that is not enough:

- at twice the size where nothing or a small face was found, in tiles if the image is longer than twice its height or
  width;
- from close by at faces that are small, faint, turned, or share their landmarks with another;
- in other turns, at such faces and, if there is none, at the whole image.

"full" looks at every pixel besides. Both brighten dark and flat images. A number of pixels is one look at that scale,
as training sets are prepared.

Of 58 faces of photographs the network finds 58 at 40 px, 50 at 24 px and 10 at 16 px with a score of 0.5; it
proposes 57 at 24 px and 49 at 16 px with one of 0.05, which are then enlarged and looked at from close by
(EXPERIMENTS.md).
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.errors import UsageError
from ddamfn.faces.align import similarity, warp
from ddamfn.faces.boxes import (
    Found,
    areas,
    conflicts,
    intersection_over_union,
    join,
    longer_sides,
    replace_large,
    shared_areas,
    suppress,
    without_phantoms,
)
from ddamfn.faces.light import lightings
from ddamfn.results import roll_deg

DetectionMode = Literal["auto", "full"] | int
"""How closely to look: "auto", "full", or the side in pixels that the image's longer side is shrunk to."""

Look = Callable[[NDArray[np.uint8], float], Found]
"""Detects at the given image's own scale; the number is the lowest score."""

FIRST_SIDE_PX = 960
_FINE_SIDE_PX = 2 * FIRST_SIDE_PX
# The side at which faces above the largest anchor (512 px) are searched for again; no face can exceed the anchor there.
_COARSE_SIDE_PX, _LARGEST_ANCHOR_PX = 480, 512
# Below this side the smallest anchors (16 px) do not fit the face; 48-px images enlarged to it are found as well as
# large ones.
MIN_SIDE_PX = 144
_MAX_ENLARGEMENT = 2
# An image that is shrunk to less than a half is first brought near to its new side by means of whole pixels, which
# costs a fifteenth. That moves landmarks less than cutting one column off the image does (EXPERIMENTS.md).
_REDUCING_GAP = 1.0

# Faces shorter than this at the scale of a look are small: their landmarks are off by 12 % of the distance between the
# eyes at 48 px, and by 9 % where a face is enlarged to 84 px.
_SMALL_PX = 56
# A whole image is looked at more finely if it has a face below this.
_FINER_BELOW_PX = 40
_SURE = 0.95
_PROPOSAL, _CLOSE_PROPOSAL = 0.05, 0.1
_MAX_PROPOSALS = 64
_UPRIGHT_DEG = 40
_STRAIGHT_DEG = 20

# The close look: a square of three times the face's longer side.
_CLOSE_SIDE_PX, _SURROUNDINGS = 320, 3.0
# A face does not grow or shrink by more than this within a few frames.
_MOST_GROWTH = 1.5
_TURNS = (0.0, 90.0, -90.0, 180.0)
_FAINT = 0.5
_MAX_TURNED = 8  # faint faces that are looked at in other turns
_CLOSE_MIN_SCORE = 0.75
_MAX_CONTAINED = 0.7
_TURNED_SIDE_PX = 640
# A turned view that is looked at in vain, of scenery or cloth, is sometimes taken for a face; a face is surer in it.
_TURNED_MIN_SCORE = 0.9

_LONG_SHAPE, _SHORTEST_TILE_PX, _MOST_TILES = 2.0, 480, 48
_TILE_PX, _TILE_OVERLAP_PX = 1280, 192


def check_detection(detection: DetectionMode) -> None:
    """Raise UsageError for anything but "auto", "full" and a number of pixels."""
    is_number = isinstance(detection, int) and not isinstance(detection, bool) and detection >= MIN_SIDE_PX
    if not is_number and detection not in ("auto", "full"):
        raise UsageError(f'detection must be "auto", "full" or at least {MIN_SIDE_PX} pixels, not {detection!r}')


def shrinking(width: int, height: int, detection: DetectionMode) -> int:
    """Return by how much an image may be decoded smaller, 1, 2, 4 or 8, so that every look has the pixels it takes."""
    if detection == "full":
        return 1
    longer, shorter = max(width, height), min(width, height)
    # Of a long shape the tiles are looked at, whose sides are its shorter one.
    side, needed = (longer, detection) if isinstance(detection, int) else (longer, _FINE_SIDE_PX)
    if detection == "auto" and longer > _LONG_SHAPE * shorter:
        side = shorter
    return next((divisor for divisor in (8, 4, 2) if side // divisor >= needed), 1)


def search(image: NDArray[np.uint8], look: Look, detection: DetectionMode, min_score: float) -> Found:
    """Return the faces of an image (H, W, 3) with at least this score, by falling score; boxes are not clipped."""
    if isinstance(detection, int):
        return without_phantoms(_first_look(image, look, min_score, detection))
    found = None
    for lit in lightings(image):
        found = _Search(look, min_score, full=detection == "full").any_turn(lit)
        if len(found.scores):
            break
    assert found is not None  # there is at least the image as it is
    return found


def _first_look(image: NDArray[np.uint8], look: Look, min_score: float, side_px: int) -> Found:
    """Detect at one scale, and faces that are too large for it at a coarser one."""
    found = _look_at_scale(image, look, min_score, side_px)
    # A face larger than the largest anchor is seen as several parts of one; in a smaller image it is seen whole.
    too_large = _LARGEST_ANCHOR_PX * max(1.0, max(image.shape[:2]) / side_px)
    if (longer_sides(found.boxes) > too_large).any():
        found = replace_large(found, _look_at_scale(image, look, min_score, _COARSE_SIDE_PX), too_large)
    return found


def _look_at_scale(image: NDArray[np.uint8], look: Look, min_score: float, side_px: int, enlarge: int = 1) -> Found:
    """Detect with the image's longer side shrunk, or enlarged so many times, to `side_px`; in the image's pixels."""
    height, width = image.shape[:2]
    longer = max(height, width)
    target = min(max(longer * enlarge, MIN_SIDE_PX), side_px)
    if target == longer:
        return look(image, min_score)
    columns, rows = (max(1, round(length * target / longer)) for length in (width, height))
    scaled = Image.fromarray(np.ascontiguousarray(image)).resize(
        (columns, rows), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP
    )
    return look(np.asarray(scaled), min_score).scaled(np.array([width / columns, height / rows], dtype=np.float32))


def look_around(image: NDArray[np.uint8], look: Look, boxes: NDArray[np.float32], min_score: float) -> Found | None:
    """Return the faces near where they were a moment before, by falling score; None if one is not found again.

    It costs a fifth of a look at 960 px for each face.
    """
    height, width = image.shape[:2]
    again = []
    for box, side in zip(boxes, longer_sides(boxes), strict=True):
        center, reach = (box[:2] + box[2:]) / 2, side * _SURROUNDINGS / 2
        left, top = np.clip(np.floor(center - reach), 0, (width - 1, height - 1)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(center + reach), (left + 1, top + 1), (width, height)).astype(int).tolist()
        near = _look_at_scale(image[top:bottom, left:right], look, min_score, _CLOSE_SIDE_PX)
        near = near.scaled(np.ones(2), (left, top))
        ratio = longer_sides(near.boxes) / side
        away = np.linalg.norm((near.boxes[:, :2] + near.boxes[:, 2:]) / 2 - center, axis=1) / side
        away[(ratio < 1 / _MOST_GROWTH) | (ratio > _MOST_GROWTH)] = np.inf
        if not np.isfinite(away).any():
            return None
        again.append(near.take([away.argmin()]))
    found = join(again).sorted()
    # Two faces that are found as one: only a whole look can tell where the other has gone.
    return found if len(suppress(found.boxes)) == len(boxes) else None


class _Search:
    """One search with scores and a way of looking; the image is an argument, since it may be turned."""

    def __init__(self, look: Look, min_score: float, *, full: bool) -> None:
        self._look, self._min_score, self._full = look, min_score, full

    def any_turn(self, image: NDArray[np.uint8]) -> Found:
        """Return the faces of an image that may lie on its side or head."""
        found = self.upright(image)
        turn = _main_turn(found) if len(found.scores) else self.likely_turn(image)
        if turn:
            turned = self.upright(np.ascontiguousarray(np.rot90(image, turn)))
            # Faces that lie on their sides are seen worse than upright ones, and some are not seen at all.
            if turned.scores.sum() > 0.95 * found.scores.sum():
                found = turned.mapped(_turn_back(turn, *image.shape[:2]))
        return found

    def upright(self, image: NDArray[np.uint8]) -> Found:
        """Return the faces of an image that most likely stands upright."""
        found = _first_look(image, self._look, min(_PROPOSAL, self._min_score), FIRST_SIDE_PX)
        longer = max(image.shape[:2])
        sides = longer_sides(found.boxes) * min(max(longer, MIN_SIDE_PX), FIRST_SIDE_PX) / longer
        sure = found.scores >= self._min_score
        cut = np.zeros(len(sides), dtype=np.bool_)
        if self._full or not sure.any() or (sides[sure] < _FINER_BELOW_PX).any():
            looks = [(found, sides, cut), *self._finer_looks(image)]
            found = join([part for part, _, _ in looks])
            sides, cut = (np.concatenate(column) for column in ([s for _, s, _ in looks], [c for _, _, c in looks]))
            # Of a face that several looks are sure of, the closest look has the best landmarks.
            order = np.lexsort((-sides, -np.minimum(found.scores, _SURE)))
            order = order[suppress(found.boxes[order])]
            below = np.flatnonzero(found.scores[order] < self._min_score)[_MAX_PROPOSALS:]
            order = np.delete(order, below)
            found, sides, cut = found.take(order), sides[order], cut[order]
        else:
            found, sides, cut = found.take(sure), sides[sure], cut[sure]
        return self._inspected(image, found, self._doubtful(image, found, sides) | cut)

    def likely_turn(self, image: NDArray[np.uint8]) -> int:
        """Return the quarter turn after which an image has the surest faces; 0 if it has none in any."""
        scores, least = {}, max(self._min_score, _TURNED_MIN_SCORE)
        for turn in (1, 3, 2):
            found = _look_at_scale(np.ascontiguousarray(np.rot90(image, turn)), self._look, least, _TURNED_SIDE_PX)
            scores[turn] = found.scores[np.abs(roll_deg(found.landmarks)) <= _UPRIGHT_DEG].sum()
        best = max(scores, key=scores.__getitem__)
        return best if scores[best] > 0 else 0

    def _finer_looks(self, image: NDArray[np.uint8]) -> Iterator[tuple[Found, NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield the looks after the first: the faces, their sides at the look's scale, and which a tile may cut."""
        height, width = image.shape[:2]
        long_shape = max(height, width) > _LONG_SHAPE * min(height, width)
        if self._full:
            grid = _tiles(height, width, _TILE_PX, _TILE_OVERLAP_PX)
            yield from (self._tile(image, tile, _TILE_PX * _MAX_ENLARGEMENT) for tile in grid)
            return
        if not long_shape:
            yield self._tile(image, (0, 0, height, width), _FINE_SIDE_PX)
            return
        short = max(min(height, width), _SHORTEST_TILE_PX, max(height, width) // _MOST_TILES)
        coarse = [self._tile(image, t, FIRST_SIDE_PX) for t in _tiles(height, width, short, short // 2)]
        yield from coarse
        sides = np.concatenate([sides[found.scores >= self._min_score] for found, sides, _ in coarse])
        if not len(sides) or (sides < _FINER_BELOW_PX).any():
            grid = _tiles(height, width, short, short // 4)
            yield from (self._tile(image, tile, _FINE_SIDE_PX) for tile in grid)

    def _tile(
        self, image: NDArray[np.uint8], tile: tuple[int, int, int, int], side_px: int
    ) -> tuple[Found, NDArray[np.float32], NDArray[np.bool_]]:
        """Look at one part of the image: top, left, bottom, right."""
        top, left, bottom, right = tile
        enlarge = _MAX_ENLARGEMENT if max(image.shape[:2]) <= FIRST_SIDE_PX or not self._full else 1
        part = image[top:bottom, left:right]
        found = _look_at_scale(part, self._look, _PROPOSAL, side_px, enlarge)
        longer = max(part.shape[:2])
        scale = min(max(longer * enlarge, MIN_SIDE_PX), side_px) / longer
        margin = 4 / scale
        low, high = np.array([left, top]), np.array([right, bottom])
        found = found.scaled(np.ones(2), (left, top))
        inner_low, inner_high = low > 0, high < image.shape[1::-1]
        cut = ((found.boxes[:, :2] < low + margin) & inner_low).any(axis=1)
        cut |= ((found.boxes[:, 2:] > high - margin) & inner_high).any(axis=1)
        return found, longer_sides(found.boxes) * np.float32(scale), cut

    def _doubtful(self, image: NDArray[np.uint8], found: Found, sides: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return (N,) which faces need a look from close by; `sides` are at the scale that they were found at."""
        # Of a face that fills the image there is nothing more to see from close by.
        fills = longer_sides(found.boxes) > 0.5 * min(image.shape[:2])
        faint = (found.scores < self._min_score) | ((found.scores < _SURE) & ~fills)
        turned = np.abs(roll_deg(found.landmarks)) > _UPRIGHT_DEG
        return np.asarray(faint | turned | (sides < _SMALL_PX) | conflicts(found))

    def _inspected(self, image: NDArray[np.uint8], found: Found, doubtful: NDArray[np.bool_]) -> Found:
        """Replace every doubtful face by what is found from close by, or drop it; `found` is by falling score."""
        # Where lower scores are asked for, an empty image has hundreds of faces; they stay as they are.
        doubtful &= found.scores >= _PROPOSAL
        faint = np.flatnonzero(doubtful & (found.scores < _FAINT))
        doubtful[faint[_MAX_PROPOSALS:]] = False
        unturned = set(faint[_MAX_TURNED:].tolist())
        close = [
            self._look_closely(image, found.take([row]), turns=row not in unturned)
            for row in np.flatnonzero(doubtful).tolist()
        ]
        every = join([found.take(~doubtful), *close]).sorted()
        return without_phantoms(every.take(suppress(every.boxes, max_contained=_MAX_CONTAINED)))

    def _look_closely(self, image: NDArray[np.uint8], face: Found, *, turns: bool) -> Found:
        """Return the one face (or none) that is found around a doubtful one, in the view that shows it upright."""
        roll = float(roll_deg(face.landmarks[0]))
        first = roll if abs(roll) > _UPRIGHT_DEG else 0.0
        seen = self._close_look(image, face, first)
        views = {first: _upright(seen, first)}
        best = views[first]
        if not (self._is_sure(best) and abs(_residual(best, first)) <= _STRAIGHT_DEG):
            # Where nothing at all is seen from close by, a turned face is not expected either.
            if turns and len(seen.scores):
                others = [angle for angle in _TURNS if angle not in views]
                views |= {angle: _upright(self._close_look(image, face, angle), angle) for angle in others}
            best = self._straightened(image, face, views)
        turned = len(best.scores) and abs(float(roll_deg(best.landmarks[0]))) > _UPRIGHT_DEG
        # From close by a face is as sure as any, so more is asked of it than at first.
        least = _TURNED_MIN_SCORE if turned else min(_CLOSE_MIN_SCORE, 1.5 * self._min_score)
        return best.take(best.scores >= max(self._min_score, least))

    def _straightened(self, image: NDArray[np.uint8], face: Found, views: dict[float, Found]) -> Found:
        """Look again at the two surest views, turned by what is left of the face's roll; return the surest of all."""
        by_score = sorted(
            ((angle, view) for angle, view in views.items() if len(view.scores)), key=lambda entry: -entry[1].scores[0]
        )
        candidates = [face.take([])]
        for angle, view in by_score[:2]:
            straight = view
            if abs(_residual(view, angle)) > _STRAIGHT_DEG:
                turn_deg = float(roll_deg(view.landmarks[0]))
                straight = _upright(self._close_look(image, view, turn_deg), turn_deg)
            candidates.append(straight)
        return join(candidates).sorted().take(slice(0, 1))

    def _is_sure(self, face: Found) -> bool:
        return bool(len(face.scores)) and bool(face.scores[0] >= max(_SURE, self._min_score))

    def _close_look(self, image: NDArray[np.uint8], face: Found, turn_deg: float) -> Found:
        """Return the faces that overlap a given one, seen enlarged and turned counterclockwise."""
        box = face.boxes[0].astype(np.float64)
        center, half = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max()) * _SURROUNDINGS / 2
        turn = math.radians(turn_deg)
        across = half * np.array([math.cos(turn), math.sin(turn)])
        down = half * np.array([-math.sin(turn), math.cos(turn)])
        side = _CLOSE_SIDE_PX
        matrix = similarity(
            [center - across - down, center + across - down, center + across + down, center - across + down],
            [(0, 0), (side, 0), (side, side), (0, side)],
        )
        seen = self._look(warp(image, matrix, side), _CLOSE_PROPOSAL)
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        seen = seen.mapped(back)
        shared = shared_areas(seen.boxes, face.boxes) >= 0.5 * areas(face.boxes)
        same = (intersection_over_union(seen.boxes, face.boxes) >= 0.3) | shared
        return seen.take(same)


def _residual(face: Found, angle: float) -> float:
    """Return by how much a face is turned clockwise in a view that is turned by an angle, both in degrees."""
    return float(_residuals(face, angle)[0])


def _residuals(faces: Found, angle: float) -> NDArray[np.float64]:
    return np.asarray((roll_deg(faces.landmarks) - angle + 180) % 360 - 180)


def _upright(faces: Found, angle: float) -> Found:
    """Return the surest face that stands about upright in a view that is turned by an angle; or none."""
    return faces.take(np.abs(_residuals(faces, angle)) <= _UPRIGHT_DEG + 10).take(slice(0, 1))


def _main_turn(found: Found) -> int:
    """Return the quarter turns counterclockwise that most faces need to be upright, weighed by their scores."""
    turns = np.round(roll_deg(found.landmarks) / 90).astype(np.int64) % 4
    return int(np.bincount(turns, weights=found.scores, minlength=4).argmax())


def _tiles(height: int, width: int, side_px: int, overlap_px: int) -> list[tuple[int, int, int, int]]:
    """Return squares of a side that cover an image, each overlapping the next by at least so much."""
    return [
        (top, left, min(top + side_px, height), min(left + side_px, width))
        for top in _starts(height, side_px, overlap_px)
        for left in _starts(width, side_px, overlap_px)
    ]


def _starts(length: int, side_px: int, overlap_px: int) -> list[int]:
    if length <= side_px:
        return [0]
    count = math.ceil((length - overlap_px) / (side_px - overlap_px))
    return [round(i * (length - side_px) / (count - 1)) for i in range(count)]


def _turn_back(turn: int, height: int, width: int) -> NDArray[np.float64]:
    """Return the matrix (2, 3) that takes points of `np.rot90(image, turn)` to the image of this size."""
    matrices = {1: [[0, -1, width], [1, 0, 0]], 2: [[-1, 0, width], [0, -1, height]], 3: [[0, 1, 0], [-1, 0, height]]}
    return np.array(matrices[turn], dtype=np.float64)
