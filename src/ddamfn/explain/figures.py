"""Figures of an explanation."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.drawing import overlay
from ddamfn.drawing.palette import (
    FAINT,
    INK,
    MUTED,
    PAPER,
    clip_rounded,
    font,
    heat_colors,
    stretch,
    text_width,
    tint,
    write,
)
from ddamfn.explain.explaining import Baselines, FaceExplanation, ScoredMap, mean_score
from ddamfn.explain.maps import FaceMap

_COLUMNS, _TILE, _GAP, _MARGIN = 3, 260, 28, 32
_CAPTION = 120
_TITLE_PX, _TEXT_PX, _SMALL_PX = 30, 17, 15
_HEADER, _FOOTER = 96, 150
_LARGEST_SIDE = 1600
"""Of an image that maps are carried back to; larger ones are downscaled."""


def panel(explained: FaceExplanation) -> Image.Image:
    """Draw every map on the aligned face with its scores, above those of the random and center maps, in RGB."""
    face = explained.face
    assert face.aligned is not None  # an explanation keeps the crops
    rows = -(-(1 + len(explained.maps)) // _COLUMNS)
    width = 2 * _MARGIN + _COLUMNS * _TILE + (_COLUMNS - 1) * _GAP
    canvas = Image.new("RGB", (width, _HEADER + rows * (_TILE + _CAPTION) + _FOOTER), PAPER)
    _title(canvas, explained)
    aligned = Image.fromarray(face.aligned).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    _tile(canvas, 0, aligned, ["aligned face", "what the network sees, before its", "weights' own color and sharpness"])
    for index, scored in enumerate(explained.maps, start=1):
        drawn = overlay(face.aligned, scored.map.values, _TILE)
        _tile(canvas, index, drawn, _caption(scored, explained.baselines[scored.map.expression]))
    _legend(canvas, (_MARGIN, canvas.height - _FOOTER + 8))
    _baseline_lines(canvas, explained)
    return canvas


def on_image(
    image: NDArray[np.uint8],
    explained: FaceExplanation,
    entry: FaceMap,
    image_size: tuple[int, int] | None = None,
) -> Image.Image:
    """Draw one map's heat inside the aligned square of the image (H, W, 3) uint8, its longer side at most 1,600 px.

    `image_size` (height, width) is that of the image itself, where it was decoded smaller.
    """
    face = explained.face
    assert face.aligned is not None  # an explanation keeps the crops
    shrink = min(1.0, _LARGEST_SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
    scaled = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    heat, inside = carry_back(entry.values, face.matrix, image_size or image.shape[:2], size, face.aligned.shape[0])
    plain, share = np.asarray(scaled), inside[..., None]
    drawn = Image.fromarray(np.round(plain * (1 - share) + tint(plain, heat) * share).astype(np.uint8))
    return _with_title(drawn, explained, entry)


def carry_back(
    values: NDArray[np.floating],
    matrix: NDArray[np.float64],
    image_size: tuple[int, int],
    drawn_size: tuple[int, int],
    side_px: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Warp a map (h, w) over the image; return heat (H, W) float32, 0..1, and the crop's soft-edged mask (H, W).

    `matrix` takes pixels of an image of `image_size` (height, width) to the crop; `drawn_size` is (width, height)
    of the result.
    """
    # The drawn image may be smaller than the one that the matrix belongs to.
    scale = np.diag([image_size[1] / drawn_size[0], image_size[0] / drawn_size[1], 1.0])
    coefficients = (np.asarray(matrix, dtype=np.float64) @ scale).ravel()
    fine = stretch(values, side_px)

    def laid(array: NDArray[np.float32]) -> NDArray[np.float32]:
        turned = Image.fromarray(array).transform(
            drawn_size,
            Image.Transform.AFFINE,
            tuple(float(value) for value in coefficients),
            Image.Resampling.BILINEAR,
        )
        return np.clip(np.asarray(turned, dtype=np.float32), 0.0, 1.0)

    return laid(fine), laid(np.ones_like(fine))


def _title(canvas: Image.Image, explained: FaceExplanation) -> None:
    face, second = explained.face, explained.second
    answer = face.prediction.likeliest
    write(canvas, (_MARGIN, 36), f"{answer} {face.confidence:.1%}", _TITLE_PX, INK)
    write(canvas, (_MARGIN, 70), f"second: {second} {face.probabilities[second]:.1%}", _TEXT_PX, MUTED)


def _tile(canvas: Image.Image, index: int, image: Image.Image, lines: list[str]) -> None:
    left = _MARGIN + index % _COLUMNS * (_TILE + _GAP)
    top = _HEADER + index // _COLUMNS * (_TILE + _CAPTION)
    canvas.paste(image, (left, top), clip_rounded(image, 10))
    for number, line in enumerate(lines):
        size, color = (_TEXT_PX, INK) if number == 0 else (_SMALL_PX, MUTED)
        write(canvas, (left, top + _TILE + 18 + 22 * number), line, size, color)


def _caption(scored: ScoredMap, baselines: Baselines) -> list[str]:
    low, high = float(scored.map.values.min()), float(scored.map.values.max())
    better = f"better than {scored.beats_random} of {len(baselines.random)} random maps"
    return [
        scored.map.title,
        f"deletion {scored.score.deletion:.2f}, insertion {scored.score.insertion:.2f}",
        "flat: no place stands out" if scored.map.flat else better,
        f"values {low:.3f} to {high:.3f}",
    ][: 3 if scored.map.flat else 4]


def _legend(canvas: Image.Image, place: tuple[int, int], width: int = 180) -> None:
    """Draw the color scale with its ends named."""
    left, top = place
    scale = np.repeat(heat_colors(np.linspace(0, 1, width))[None], 12, axis=0)
    write(canvas, (left, top + 6), "least", _SMALL_PX, MUTED)
    start = left + text_width("least", _SMALL_PX) + 10
    bar = Image.fromarray(scale)
    canvas.paste(bar, (start, top), clip_rounded(bar, 6))
    write(canvas, (start + width + 10, top + 6), "most important, each map by its own range", _SMALL_PX, MUTED)


def _baseline_lines(canvas: Image.Image, explained: FaceExplanation) -> None:
    top = canvas.height - _FOOTER + 46
    lines = ["Deletion: small is good. Insertion: large is good. A map means something where it beats these:"]
    for name, entry in explained.baselines.items():
        chance = mean_score(entry.random)
        lines.append(
            f"{name}: random maps {chance.deletion:.2f} and {chance.insertion:.2f} (mean of {len(entry.random)}), "
            f"center {entry.center.deletion:.2f} and {entry.center.insertion:.2f}"
        )
    for number, line in enumerate(lines):
        write(canvas, (_MARGIN, top + 26 * number), line, _SMALL_PX, INK if number == 0 else MUTED)


def _with_title(drawn: Image.Image, explained: FaceExplanation, entry: FaceMap) -> Image.Image:
    """Draw a title above the image and the color scale below it."""
    width, bar = max(drawn.width, 520), 44
    canvas = Image.new("RGB", (width, drawn.height + 2 * bar), PAPER)
    canvas.paste(FAINT, (0, bar, width, bar + drawn.height))
    canvas.paste(drawn, ((width - drawn.width) // 2, bar))
    face = explained.face
    words = f"{face.prediction.likeliest} {face.confidence:.1%}: {entry.title}"
    size = _TEXT_PX if font(_TEXT_PX).getlength(words) < width - 28 else _SMALL_PX
    write(canvas, (14, bar / 2), words, size, INK)
    _legend(canvas, (14, canvas.height - bar // 2 - 6), width=120)
    return canvas
