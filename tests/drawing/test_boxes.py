"""Marked images: labels stay inside, keep clear of each other, and can be read at any size."""

import numpy as np
import pytest

from ddamfn.drawing import Mark, annotate
from ddamfn.drawing.boxes import _overlap, _place_labels, _whole
from ddamfn.drawing.palette import expression_color, text_color
from ddamfn.labels import EXPRESSIONS

_GRAY = 128


def _canvas(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), _GRAY, dtype=np.uint8)


def _crowd(count: int, width: int, height: int, side: int, rng: np.random.Generator) -> list[Mark]:
    corners = rng.uniform(0, (width - side, height - side), size=(count, 2))
    return [
        Mark((x, y, x + side, y + side), EXPRESSIONS[i % 8], float(rng.uniform(0.2, 1)))
        for i, (x, y) in enumerate(corners)
    ]


@pytest.mark.parametrize(("width", "height"), [(512, 512), (4000, 3000), (300, 900), (900, 60), (48, 48), (24, 24)])
def test_a_mark_changes_the_image_and_not_its_proportions(width: int, height: int) -> None:
    marks = [Mark((0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height), "happiness", 0.9)]
    image = _canvas(width, height)
    drawn = annotate(image, marks)
    assert drawn.mode == "RGB"
    assert drawn.width % width == 0
    assert drawn.height * width == drawn.width * height
    assert np.any(np.asarray(drawn) != _GRAY)
    assert (image == _GRAY).all(), "the caller's image must stay as it was"


def test_a_small_image_is_enlarged_and_a_large_one_is_not() -> None:
    mark = Mark((10, 10, 40, 40), "fear", 0.5)
    assert annotate(_canvas(48, 48), [mark]).width == 48 * 8
    assert annotate(_canvas(200, 100), [mark]).size == (600, 300)
    assert annotate(_canvas(800, 600), [mark]).size == (800, 600)


@pytest.mark.parametrize("count", [2, 12, 80])
def test_labels_stay_inside_and_keep_clear_of_each_other(count: int, rng: np.random.Generator) -> None:
    size = (1280, 720)
    marks = _crowd(count, *size, 70, rng)
    boxes = [_whole(mark.box, 1, size) for mark in marks]
    placed = [label for label in _place_labels(marks, boxes, size) if label is not None]
    assert placed
    for index, label in enumerate(placed):
        left, top, right, bottom = label.place
        assert left >= 0
        assert top >= 0
        assert right <= size[0]
        assert bottom <= size[1]
        assert label.size_px >= 13
        assert all(_overlap(label.place, other.place) == 0 for other in placed[index + 1 :])
        assert all(_overlap(label.place, box) <= 0.5 * (box[2] - box[0]) * (box[3] - box[1]) for box in boxes)


def test_a_box_that_leaves_no_room_above_gets_its_label_elsewhere() -> None:
    size = (640, 480)
    for box in [(0.0, 0.0, 640.0, 480.0), (0.0, 0.0, 100.0, 100.0), (560.0, 400.0, 640.0, 480.0)]:
        mark = Mark(box, "happiness", 0.5)
        (label,) = _place_labels([mark], [_whole(box, 1, size)], size)
        assert label is not None
        assert label.text == "happiness  50%"


def test_faces_without_room_for_a_label_bring_a_legend(rng: np.random.Generator) -> None:
    image = _canvas(640, 480)
    assert annotate(image, _crowd(3, 640, 480, 60, rng)).height == 480
    assert annotate(image, _crowd(200, 640, 480, 40, rng)).height > 480


def test_without_faces_a_note_stands_in_the_corner() -> None:
    drawn = np.asarray(annotate(_canvas(640, 480), []))
    changed = np.argwhere((drawn != _GRAY).any(axis=-1))
    assert changed.size
    assert changed[:, 0].min() > 400
    assert changed[:, 1].max() < 240


def test_boxes_outside_the_image_are_drawn_at_its_edge() -> None:
    drawn = annotate(
        _canvas(640, 480), [Mark((-50, -50, 1000, 1000), "anger", 1.0), Mark((700, 500, 800, 600), "fear", 0)]
    )
    assert drawn.size == (640, 480)


def test_each_expression_has_its_color_and_readable_letters() -> None:
    colors = {expression_color(name) for name in EXPRESSIONS}
    assert len(colors) == len(EXPRESSIONS)
    for color in colors | {expression_color("something else")}:
        # Source of the formula: WCAG 2.2, relative luminance; 3 is its contrast for large letters.
        assert _contrast(color, text_color(color)) >= 3


def _contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    light = []
    for color in (one, other):
        linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in color]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)
