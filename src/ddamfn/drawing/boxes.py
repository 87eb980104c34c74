"""Faces marked in an image: a box, an expression and a confidence, readable whatever the image's size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing.palette import INK, MUTED, PAPER, draw_rounded, expression_color, text_color, text_width, write

# A label may hide this share of another face at most.
_MOST_HIDDEN = 0.15

# Images smaller than this are enlarged before drawing: no letter is readable on a face of 40 pixels.
_SMALLEST_SIDE_PX = 480
_LARGEST_FACTOR = 8

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """One face to mark: a box, an expression, and a tag before it, which stays when the label shrinks."""

    box: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the image
    name: str
    confidence: float | None  # 0 to 1; None to write the name alone
    tag: str = ""

    @property
    def title(self) -> str:
        """Tag and name."""
        return f"{self.tag}  {self.name}" if self.tag else self.name


class _Label(NamedTuple):
    """A label: `text` in letters of `size_px` on the rectangle `place`."""

    text: str
    size_px: int
    place: Rectangle


def annotate(image: NDArray[np.uint8], marks: Sequence[Mark], *, keep_size: bool = False) -> Image.Image:
    """Draw marks into a copy of an image (H, W, 3), enlarged by a whole factor if it is below 480 pixels.

    Crowded labels shrink to the expression, or move to a legend below; `keep_size` (video) has neither legend nor note.
    """
    canvas = Image.fromarray(image).convert("RGB")
    factor = min(_LARGEST_FACTOR, -(-_SMALLEST_SIDE_PX // max(canvas.size)))
    if factor > 1:
        canvas = canvas.resize((canvas.width * factor, canvas.height * factor), Image.Resampling.BICUBIC)
    if not marks:
        if not keep_size:
            _note(canvas, "no face found")
        return canvas
    boxes = [_whole(mark.box, factor, canvas.size) for mark in marks]
    for mark, box in zip(marks, boxes, strict=True):
        _draw_box(canvas, box, mark.name)
    labels = _place_labels(marks, boxes, canvas.size)
    for mark, label in zip(marks, labels, strict=True):
        if label is not None:
            _draw_label(canvas, label, mark.name)
    if keep_size or None not in labels:
        return canvas
    return _with_legend(canvas, sorted({mark.name for mark in marks}))


def _line_px(size: tuple[int, int], box_side_px: int) -> int:
    """Return a box's line width, by the image's size and the box's shorter side."""
    return max(2, min(round(max(size) / 320), round(box_side_px / 18)))


def _whole(box: tuple[float, float, float, float], factor: int, size: tuple[int, int]) -> Rectangle:
    """Scale a box, round it to whole pixels and keep it inside the image."""
    width, height = size
    left, top, right, bottom = (round(value * factor) for value in box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height)


def _draw_box(canvas: Image.Image, box: Rectangle, name: str) -> None:
    shorter = min(box[2] - box[0], box[3] - box[1])
    line = _line_px(canvas.size, shorter)
    radius = 0.06 * shorter + line
    # A dark hair-line around the color keeps the box visible on a background of the same color.
    hair = max(1, line // 3)
    outer = (box[0] - hair, box[1] - hair, box[2] + hair, box[3] + hair)
    draw_rounded(canvas, outer, radius + hair, INK, line + 2 * hair)
    draw_rounded(canvas, box, radius, expression_color(name), line)


def _draw_label(canvas: Image.Image, label: _Label, name: str) -> None:
    color = expression_color(name)
    left, top, right, bottom = label.place
    draw_rounded(canvas, label.place, 0.28 * label.size_px, color)
    write(canvas, ((left + right) / 2, (top + bottom) / 2), label.text, label.size_px, text_color(color), "mm")


def _place_labels(marks: Sequence[Mark], boxes: list[Rectangle], size: tuple[int, int]) -> list[_Label | None]:
    """Find a free place for each label, the largest faces first; None where there is no room."""
    labels: list[_Label | None] = [None] * len(marks)
    taken: list[Rectangle] = []
    for index in sorted(range(len(marks)), key=lambda i: -_area(boxes[i])):
        others = boxes[:index] + boxes[index + 1 :]
        labels[index] = _find_label(marks[index], boxes[index], others, taken, size)
        label = labels[index]
        if label is not None:
            taken.append(label.place)
    return labels


def _find_label(
    mark: Mark, box: Rectangle, others: list[Rectangle], taken: list[Rectangle], size: tuple[int, int]
) -> _Label | None:
    largest = max(17, round(max(size) * 0.032))
    smallest = max(13, round(max(size) * 0.012))
    letters = min(max(round((box[2] - box[0]) * 0.17), smallest), largest)
    full = mark.title if mark.confidence is None else f"{mark.title}  {mark.confidence:.0%}"
    texts = ((full, letters), (mark.title, letters), (mark.title, smallest))
    for text, size_px in texts:
        extent = (text_width(text, size_px) + round(0.9 * size_px), round(1.55 * size_px))
        places = list(_places(box, extent, size))
        free = (place for place in places if not any(_overlap(place, other) for other in taken))
        hidden = [(max((_overlap(place, face) / _area(face) for face in others), default=0.0), place) for place in free]
        # min() keeps the first of equals, so the order of the places is the order of preference.
        least, place = min(hidden, key=lambda pair: pair[0], default=(1.0, box))
        if least <= _MOST_HIDDEN:
            return _Label(text, size_px, place)
    return None


def _places(box: Rectangle, extent: tuple[int, int], size: tuple[int, int]) -> Iterator[Rectangle]:
    """Yield a label's possible places, best first: above the box, below, beside it, and last inside."""
    width, height = extent
    if width > size[0] or height > size[1]:
        return
    left, top, right, bottom = box
    gap = _line_px(size, min(right - left, bottom - top)) + 1
    middle = (left + right - width) // 2
    corners = [(x, y) for y in (top - height - gap, bottom + gap) for x in (left, middle, right - width)]
    corners += [(x, y) for x in (right + gap, left - width - gap) for y in (top, bottom - height)]
    # Inside only where it leaves most of the face to be seen.
    inside = [(middle, y) for y in (top + gap, bottom - height - gap)] if 3 * height <= bottom - top else []
    for wished, y in corners:
        x = min(max(wished, 0), size[0] - width)
        if 0 <= y <= size[1] - height and not _overlap((x, y, x + width, y + height), box):
            yield x, y, x + width, y + height
    for wished_x, wished_y in inside:
        x, y = min(max(wished_x, 0), size[0] - width), min(max(wished_y, 0), size[1] - height)
        yield x, y, x + width, y + height


def _overlap(one: Rectangle, other: Rectangle) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _area(box: Rectangle) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _note(canvas: Image.Image, text: str) -> None:
    """Write a quiet note into the lower left corner, if it fits."""
    size_px = max(14, round(max(canvas.size) * 0.026))
    width, height = text_width(text, size_px) + round(1.2 * size_px), round(1.7 * size_px)
    margin = size_px // 2
    if width + margin > canvas.width or height + margin > canvas.height:
        return
    top = canvas.height - margin - height
    draw_rounded(canvas, (margin, top, margin + width, top + height), 0.3 * size_px, INK)
    write(canvas, (margin + width / 2, top + height / 2), text, size_px, PAPER, "mm")


def _with_legend(canvas: Image.Image, names: list[str]) -> Image.Image:
    """Add a strip below the image that explains the colors, as many lines as needed."""
    size_px = max(14, round(max(canvas.size) * 0.016))
    lines, x = [[]], size_px  # type: list[list[tuple[int, str]]], int
    for name in names:
        width = text_width(name, size_px) + 3 * size_px
        if x + width > canvas.width and lines[-1]:
            lines.append([])
            x = size_px
        lines[-1].append((x, name))
        x += width
    grown = Image.new("RGB", (canvas.width, canvas.height + size_px + 2 * size_px * len(lines)), PAPER)
    grown.paste(canvas, (0, 0))
    for row, line in enumerate(lines):
        middle = canvas.height + round(1.5 * size_px) + 2 * size_px * row
        for left, name in line:
            chip = (left, middle - size_px // 2, left + size_px, middle - size_px // 2 + size_px)
            draw_rounded(grown, chip, 0.25 * size_px, expression_color(name))
            write(grown, (left + 1.5 * size_px, middle), name, size_px, MUTED)
    return grown
