"""Drawn data sets in AffectNet's two layouts: arrays beside the pictures (2021), and two tables (before)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddamfn.data.drawn.series import Drawing, drawings, face_box, held_out, save, write_rows

_AFFECTNET = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")


def _sixty_eight(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (68, 2) points in the iBUG order whose eyes, nose tip and mouth corners are the five given ones."""
    left, right, nose, mouth_left, mouth_right = landmarks.astype(np.float64)
    unit = float(np.linalg.norm(right - left))
    ring = np.stack([np.cos(np.arange(6) * np.pi / 3 + np.pi), np.sin(np.arange(6) * np.pi / 3 + np.pi) * 0.4], axis=1)
    jaw = np.linspace(np.pi, 0.0, 17)
    middle = 0.5 * (left + right)
    points = np.empty((68, 2))
    points[:17] = middle + unit * 1.1 * np.stack([np.cos(jaw), 1.6 * np.sin(jaw)], axis=1)
    points[17:22] = left + unit * np.stack([np.linspace(-0.35, 0.25, 5), np.full(5, -0.35)], axis=1)
    points[22:27] = right + unit * np.stack([np.linspace(-0.25, 0.35, 5), np.full(5, -0.35)], axis=1)
    points[27:31] = middle + (nose - middle) * np.linspace(0.25, 1.0, 4)[:, None]
    points[31:36] = nose + unit * np.stack([np.linspace(-0.18, 0.18, 5), np.full(5, 0.15)], axis=1)
    points[36:42], points[42:48] = left + 0.2 * unit * ring, right + 0.2 * unit * ring
    across = np.linspace(0.0, 1.0, 7)[:, None]
    points[48:55] = mouth_left + (mouth_right - mouth_left) * across
    points[55:60] = points[53:48:-1] + np.array([0.0, 0.12 * unit])
    points[60:65] = mouth_left + (mouth_right - mouth_left) * np.linspace(0.1, 0.9, 5)[:, None]
    points[65:68] = points[63:60:-1] + np.array([0.0, 0.06 * unit])
    return points


def write_drawn_affectnet(root: Path, per_class: int, generator: np.random.Generator, layout: str = "2021") -> Path:
    """Write one of AffectNet's layouts.

    Args:
        root: folder to make.
        per_class: pictures a class in train; half as many in val.
        generator: source of all chance.
        layout: `2021` for `train_set` and `val_set` with NumPy annotations, `manual` for `Manually_Annotated_Images`
            with `training.csv` and `validation.csv`.

    Returns:
        The root.

    Raises:
        ValueError: if the layout is neither.
    """
    if layout not in ("2021", "manual"):
        raise ValueError(f"AffectNet has the layouts 2021 and manual, not {layout!r}")
    for split, count in (("train", per_class), ("val", held_out(per_class))):
        series = drawings(_AFFECTNET, count, generator, 160, head=0.78)
        if layout == "2021":
            _write_affectnet_arrays(root / f"{split}_set", series)
        else:
            _write_affectnet_table(root, "training" if split == "train" else "validation", series)
    return root


_CIRCUMPLEX = ((0.0, 0.0), (0.8, 0.3), (-0.7, -0.3), (0.2, 0.8), (-0.5, 0.7), (-0.7, 0.4), (-0.5, 0.6), (-0.6, 0.4))
"""Valence and arousal that go with AffectNet's classes, roughly."""


def _write_affectnet_arrays(folder: Path, series: Iterator[Drawing]) -> None:
    """Write `images/N.jpg` and `annotations/N_{exp,val,aro,lnd}.npy`; numbers are kept as text, as in the release."""
    notes = folder / "annotations"
    notes.mkdir(parents=True, exist_ok=True)
    for drawing in series:
        number = _AFFECTNET.index(drawing.label)
        save(drawing.pixels, folder / "images" / f"{drawing.index}.jpg")
        np.save(notes / f"{drawing.index}_exp.npy", np.array(str(number)))
        np.save(notes / f"{drawing.index}_val.npy", np.array(str(_CIRCUMPLEX[number][0])))
        np.save(notes / f"{drawing.index}_aro.npy", np.array(str(_CIRCUMPLEX[number][1])))
        np.save(notes / f"{drawing.index}_lnd.npy", _sixty_eight(drawing.landmarks).ravel())


def _write_affectnet_table(root: Path, name: str, series: Iterator[Drawing]) -> None:
    """Write `name.csv` and its pictures, and a row of each class that is no expression."""
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    rows: list[list[object]] = [list(head.split(","))]
    for drawing in series:
        number = _AFFECTNET.index(drawing.label)
        path = f"{drawing.index % 3 + 1}/{name}{drawing.index:06d}.jpg"
        save(drawing.pixels, root / "Manually_Annotated_Images" / path)
        x1, y1, x2, y2 = (round(v) for v in face_box(drawing.landmarks))
        points = ";".join(f"{v:.2f}" for v in _sixty_eight(drawing.landmarks).ravel())
        rows.append([path, max(x1, 0), max(y1, 0), x2 - x1, y2 - y1, points, number, *_CIRCUMPLEX[number]])
    # 8 none, 9 uncertain, 10 no face: listed in the release, and no expression to learn.
    rows += [[*row[:6], other, -2, -2] for other, row in zip((8, 9, 10), rows[1:4], strict=False)]
    write_rows(root / f"{name}.csv", rows)
