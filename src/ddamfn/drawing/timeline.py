"""Probabilities over time, one strip per face: areas stacked from 0 to 100 %, in the expressions' colors."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    text_width,
    write,
)

_WIDTH, _MARGIN, _GAP = 1600, 40, 30
_PLOT_LEFT, _PLOT_HEIGHT = 228, 132
_TITLE, _CAPTION = 22, 15
# Drawn this many times larger and shrunk, so that slanted edges are smooth.
_SMOOTHING = 2
_TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS = 12


@dataclass(frozen=True, slots=True)
class Strip:
    """One face's probabilities over the whole time."""

    title: str
    note: str  # in gray beside the title
    values: NDArray[np.floating]  # (N, K) in N equal spans of time; NaN where the face was not seen
    crop: NDArray[np.uint8] | None  # (S, S, 3) RGB


def draw_timeline(
    strips: Sequence[Strip], names: Sequence[str], start_s: float, end_s: float, title: str, note: str = ""
) -> Image.Image:
    """Draw strips over a common axis of time, 1600 pixels wide; the first name is the lowest area."""
    head = _MARGIN + 2 * _TITLE + _GAP + 2 * _CAPTION
    row = _TITLE + _CAPTION + _PLOT_HEIGHT + _GAP
    height = head + max(1, len(strips)) * row + _MARGIN // 2 + (2 * _CAPTION if note else 0)
    canvas = Image.new("RGB", (_WIDTH, height), PAPER)
    write(canvas, (_MARGIN, _MARGIN + _TITLE // 2), _shortened(title), _TITLE + 4, INK)
    _draw_legend(canvas, names, _MARGIN + 2 * _TITLE + _CAPTION)
    if not strips:
        write(canvas, (_WIDTH / 2, head + row / 2), "no face found", _TITLE, MUTED, "mm")
    colors = np.array([*map(expression_color, names), FAINT], np.uint8)
    top = head
    for strip in strips:
        plot_top = top + _TITLE + _CAPTION
        write(canvas, (_PLOT_LEFT, top + _TITLE // 2), strip.title, _TITLE, INK)
        left = _PLOT_LEFT + text_width(strip.title, _TITLE) + _TITLE
        write(canvas, (left, top + _TITLE // 2 + 1), strip.note, _CAPTION, MUTED)
        _draw_face(canvas, strip.crop, plot_top)
        canvas.paste(_areas(strip.values, colors), (_PLOT_LEFT, plot_top))
        for share in (0, 0.5, 1):
            y = plot_top + (1 - share) * _PLOT_HEIGHT
            write(canvas, (_PLOT_LEFT - 8, y), f"{share:.0%}", _CAPTION - 2, MUTED, "rm")
        top += row
    _draw_axis(canvas, head + _TITLE + _CAPTION, top - _GAP, start_s, end_s)
    if note:
        write(canvas, (_PLOT_LEFT, height - _MARGIN // 2 - _CAPTION // 2), note, _CAPTION, MUTED)
    return canvas


def clock(seconds: float, step_s: float = 1.0) -> str:
    """Return a time as m:ss or h:mm:ss, with tenths if the step between two times is below a second."""
    tenths = round(seconds * 10) if step_s < 1 else round(seconds) * 10
    minutes, rest = divmod(tenths, 600)
    second = f"{rest // 10:02d}" + (f".{rest % 10}" if step_s < 1 else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{second}" if hours else f"{minutes}:{second}"


def _areas(values: NDArray[np.floating], colors: NDArray[np.uint8]) -> Image.Image:
    """Stack the probabilities; `colors` (K + 1, 3) ends with that of unseen spans."""
    size = (_WIDTH - _PLOT_LEFT - _MARGIN, _PLOT_HEIGHT)
    columns = np.arange(size[0] * _SMOOTHING) * len(values) // (size[0] * _SMOOTHING)
    shown = values[columns]
    unseen = np.isnan(shown).any(axis=1)
    upper = np.cumsum(np.nan_to_num(shown), axis=1)
    # The middle of each pixel row, from the top down; rounding must not leave the last area below 100 %.
    levels = 1 - (np.arange(size[1] * _SMOOTHING) + 0.5) / (size[1] * _SMOOTHING)
    index = (levels[:, None, None] > upper[None, :, :-1]).sum(axis=2)
    index[:, unseen] = len(colors) - 1
    drawn = Image.fromarray(colors[index])
    return drawn.resize(size, Image.Resampling.BOX)


def _draw_face(canvas: Image.Image, crop: NDArray[np.uint8] | None, top: int) -> None:
    if crop is not None:
        side = _PLOT_HEIGHT
        face = Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(face, (_MARGIN, top), clip_rounded(face, 8))


def _draw_legend(canvas: Image.Image, names: Sequence[str], middle: int) -> None:
    left = _PLOT_LEFT
    for name in names:
        chip = (left, middle - _CAPTION // 2, left + _CAPTION, middle - _CAPTION // 2 + _CAPTION)
        draw_rounded(canvas, chip, 4, expression_color(name))
        write(canvas, (left + 1.5 * _CAPTION, middle), name, _CAPTION, INK)
        left += text_width(name, _CAPTION) + 3 * _CAPTION


def _draw_axis(canvas: Image.Image, top: int, bottom: int, start_s: float, end_s: float) -> None:
    length_s = max(end_s - start_s, 1e-6)
    step_s = next((step for step in _TICK_STEPS_S if length_s / step <= _MOST_TICKS), _TICK_STEPS_S[-1])
    width = _WIDTH - _PLOT_LEFT - _MARGIN
    for number in range(int(np.ceil(start_s / step_s - 1e-6)), int(end_s / step_s + 1e-6) + 1):
        x = _PLOT_LEFT + round((number * step_s - start_s) / length_s * width)
        draw_rounded(canvas, (x, bottom, x + 1, bottom + 7), 0, MUTED)
        write(canvas, (x, bottom + 8 + _CAPTION // 2), clock(number * step_s, step_s), _CAPTION - 2, MUTED, "mm")


def _shortened(text: str) -> str:
    """Cut a long title in the middle: both ends of a path matter."""
    room = _WIDTH - 2 * _MARGIN
    if text_width(text, _TITLE + 4) <= room:
        return text
    half = len(text) // 2
    while half > 1 and text_width(f"{text[:half]}...{text[-half:]}", _TITLE + 4) > room:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"
