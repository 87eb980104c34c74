"""A card for each face, beside the image: the aligned face, each attention head's map on it, the probabilities."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing.palette import (
    FAINT,
    INK,
    MUTED,
    PAPER,
    clip_rounded,
    draw_rounded,
    expression_color,
    overlay,
    write,
)

# Measures of a card at scale 1, in pixels.
_TILE, _GAP, _MARGIN = 148, 14, 24
_TITLE, _CAPTION, _ROW = 26, 15, 24
_MOST_CARDS = 6
_MOST_ROWS = 3
_LARGEST_ZOOM = 2.0
_PLEASANT_ASPECT = 16 / 9


@dataclass(frozen=True, slots=True)
class FaceCard:
    """Content of one card."""

    crop: NDArray[np.uint8]  # (S, S, 3) RGB, the aligned face
    attention: NDArray[np.floating] | None  # (A, h, w), one map per head over the whole crop
    name: str
    confidence: float | None  # 0 to 1; None to write the name alone
    probabilities: Mapping[str, float]  # in the order to show


def with_cards(image: Image.Image, cards: Sequence[FaceCard]) -> Image.Image:
    """Stand cards to the right of an image, as near to 16:9 as their number allows; beyond six they are counted."""
    if not cards:
        return image
    shown = cards[:_MOST_CARDS]
    rows, zoom, scale = _layout(image.size, shown)
    if zoom > 1:
        larger = (round(image.width * zoom), round(image.height * zoom))
        image = image.resize(larger, Image.Resampling.LANCZOS)
    drawn = [draw_card(card, scale) for card in shown]
    width, height = drawn[0].size
    columns = -(-len(drawn) // rows)
    canvas = Image.new("RGB", (image.width + columns * width, max(image.height, rows * height)), PAPER)
    canvas.paste(image, (0, (canvas.height - image.height) // 2))
    top = (canvas.height - rows * height) // 2
    for index, card in enumerate(drawn):
        canvas.paste(card, (image.width + index % columns * width, top + index // columns * height))
    more = len(cards) - len(shown)
    if more:
        place = (canvas.width - round(_MARGIN * scale), canvas.height - round(0.4 * _MARGIN * scale))
        write(canvas, place, f"and {more} more face{'s' if more > 1 else ''}", round(_CAPTION * scale), MUTED, "rm")
    return canvas


def draw_card(card: FaceCard, scale: float = 1.0) -> Image.Image:
    """Draw one card on white; scale 1 gives tiles of 148 pixels, and letters and gaps grow alike."""
    canvas = Image.new("RGB", _card_size(card, scale), PAPER)
    pen = _Pen(scale)
    y = _MARGIN + _TITLE // 2
    write(canvas, pen(_MARGIN, y), card.name, pen.px(_TITLE), INK)
    right = canvas.width - pen.px(_MARGIN)
    if card.confidence is not None:
        write(canvas, (right, pen.px(y)), f"{card.confidence:.1%}", pen.px(_TITLE), MUTED, "rm")
    y += _TITLE // 2 + _GAP
    side = pen.px(_TILE)
    for index, (tile, caption) in enumerate(_tiles(card, side)):
        left = _MARGIN + index * (_TILE + _GAP)
        canvas.paste(tile, (pen.px(left), pen.px(y)), clip_rounded(tile, pen.px(8)))
        write(canvas, pen(left + _TILE / 2, y + _TILE + _CAPTION), caption, pen.px(_CAPTION), MUTED, "mm")
    y += _TILE + 2 * _CAPTION + _GAP
    for row, (name, value) in enumerate(card.probabilities.items()):
        _draw_bar(canvas, pen, y + row * _ROW + _ROW // 2, name, value, strong=name == card.name)
    return canvas


class _Pen(NamedTuple):
    """Turns a card's measures into pixels."""

    scale: float

    def px(self, measure: float) -> int:
        return round(measure * self.scale)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return x * self.scale, y * self.scale


def _tiles(card: FaceCard, side_px: int) -> list[tuple[Image.Image, str]]:
    face = Image.fromarray(card.crop).resize((side_px, side_px), Image.Resampling.LANCZOS)
    tiles = [(face, "aligned face")]
    for index, attention in enumerate(() if card.attention is None else card.attention):
        tiles.append((overlay(card.crop, attention, side_px), f"attention head {index + 1}"))
    return tiles


def _draw_bar(canvas: Image.Image, pen: _Pen, y: float, name: str, value: float, *, strong: bool) -> None:
    """Draw a line of the table of probabilities: name, bar, per cent."""
    right = canvas.width / pen.scale - _MARGIN
    left = _MARGIN + 6.2 * _CAPTION
    end = right - 3.4 * _CAPTION
    half = _ROW * 0.21
    color = INK if strong else MUTED
    write(canvas, pen(_MARGIN, y), name, pen.px(_CAPTION), color)
    write(canvas, pen(right, y), f"{value:.1%}", pen.px(_CAPTION), color, "rm")
    track = (pen.px(left), pen.px(y - half), pen.px(end), pen.px(y + half))
    draw_rounded(canvas, track, half * pen.scale, FAINT)
    filled = left + value * (end - left)
    if pen.px(filled) > track[0]:
        bar = (track[0], track[1], max(pen.px(filled), track[0] + track[3] - track[1]), track[3])
        # Below the width of its own round ends a bar would look longer than it is; there it fades instead of growing.
        draw_rounded(canvas, bar, half * pen.scale, expression_color(name) if value >= 0.005 else FAINT)


def _card_size(card: FaceCard, scale: float) -> tuple[int, int]:
    tiles = max(3, 1 + (0 if card.attention is None else len(card.attention)))
    width = 2 * _MARGIN + tiles * _TILE + (tiles - 1) * _GAP
    height = 2 * _MARGIN + _TITLE + _GAP + _TILE + 2 * _CAPTION + _GAP + _ROW * len(card.probabilities)
    return round(width * scale), round(height * scale)


def _layout(size: tuple[int, int], cards: Sequence[FaceCard]) -> tuple[int, float, float]:
    """Choose rows of cards, the image's zoom and the cards' scale for the most pleasant shape of the whole."""
    width, height = size
    card_width, card_height = _card_size(cards[0], 1.0)

    def arrange(columns: int) -> tuple[float, int, float, float]:
        rows = -(-len(cards) // columns)
        # Both sides should be equally tall: beside a large image cards grow, or they would be unreadable once the
        # whole is shown small; beside tall columns a small image grows.
        ratio = height / (rows * card_height)
        zoom, scale = min(max(1 / ratio, 1.0), _LARGEST_ZOOM), max(ratio, 1.0)
        heights = sorted((height * zoom, rows * card_height * scale))
        aspect = (width * zoom + columns * card_width * scale) / heights[1]
        unevenness = math.log(heights[1] / heights[0])
        return abs(math.log(aspect / _PLEASANT_ASPECT)) + unevenness, rows, zoom, scale

    fewest = -(-len(cards) // _MOST_ROWS)
    _, rows, zoom, scale = min(arrange(columns) for columns in range(fewest, len(cards) + 1))
    return rows, zoom, scale
