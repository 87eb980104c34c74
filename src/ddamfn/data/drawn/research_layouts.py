"""Drawn data sets in the layouts of RAF-DB and CK+, which researchers get on request; arguments as in `layouts`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.data.drawn.face import drawn_face
from ddamfn.data.drawn.person import sample_person
from ddamfn.data.drawn.series import Drawing, drawings, face_box, grey, held_out, save

_RAFDB = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
_CKPLUS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def _aligned(drawing: Drawing, side_px: int = 100) -> NDArray[np.uint8]:
    """Crop a face by its eyes and the middle of its mouth, as RAF-DB's aligned pictures are."""
    source = np.vstack([drawing.landmarks[:2], drawing.landmarks[3:].mean(axis=0)]).astype(np.float64)
    target = np.array([[0.3, 0.37], [0.7, 0.37], [0.5, 0.8]]) * side_px
    # Least squares for x' = a x - b y + c, y' = b x + a y + d, from crop to picture as Pillow wants it.
    rows = [[x, -y, 1, 0] for x, y in target] + [[y, x, 0, 1] for x, y in target]
    a, b, c, d = np.linalg.lstsq(np.array(rows), source.T.ravel(), rcond=None)[0]
    picture = Image.fromarray(drawing.pixels)
    coefficients = (a, -b, c, b, a, d)
    crop = picture.transform((side_px, side_px), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(crop)


def write_drawn_rafdb(root: Path, per_class: int, generator: np.random.Generator) -> Path:
    """Write RAF-DB's basic layout: original and aligned JPEG, the label list, manual landmarks and a box a picture.

    Args:
        root: folder to make; `basic` goes into it.
        per_class: pictures a class in train; half as many in test.
        generator: source of all chance.

    Returns:
        The root.
    """
    basic = root / "basic"
    lines: list[str] = []
    for split, count in (("train", per_class), ("test", held_out(per_class))):
        for drawing in drawings(_RAFDB, count, generator, 200, head=0.6):
            name = f"{split}_{drawing.index + 1:05d}"
            lines.append(f"{name}.jpg {_RAFDB.index(drawing.label) + 1}\n")
            save(drawing.pixels, basic / "Image" / "original" / f"{name}.jpg")
            save(_aligned(drawing), basic / "Image" / "aligned" / f"{name}_aligned.jpg")
            points = "".join(f"{x:.6f}\t{y:.6f}\n" for x, y in drawing.landmarks)
            attributes = (
                f"{int(generator.integers(3))}\n{int(generator.integers(3))}\n{int(generator.integers(1, 5))}\n"
            )
            manual = basic / "Annotation" / "manual" / f"{name}_manu_attri.txt"
            manual.parent.mkdir(parents=True, exist_ok=True)
            manual.write_text(points + attributes, encoding="utf-8")
            box = basic / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt"
            box.parent.mkdir(parents=True, exist_ok=True)
            box.write_text(" ".join(f"{v:.3f}" for v in face_box(drawing.landmarks)) + "\n", encoding="utf-8")
    labels = basic / "EmoLabel" / "list_patition_label.txt"
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text("".join(lines), encoding="utf-8")
    return root


def write_drawn_ckplus(root: Path, per_class: int, generator: np.random.Generator, frames: int = 6) -> Path:
    """Write CK+'s layout: sequences of frames from rest to an expression, with the label of the last one.

    Args:
        root: folder to make; `cohn-kanade-images` and `Emotion` go into it.
        per_class: sequences a class; they are shared out among as many subjects, each of whom shows every expression.
        generator: source of all chance.
        frames: frames a sequence.

    Returns:
        The root.
    """
    for subject in range(per_class):
        person = sample_person(generator)
        who = f"S{subject + 5:03d}"
        for number, label in enumerate(_CKPLUS):
            take = f"{number + 1:03d}"
            seed = int(generator.integers(2**63))
            for frame in range(frames):
                # The same seed for all frames: only the expression grows, as in a sequence filmed at once.
                chance = np.random.default_rng(seed)
                pixels, _ = drawn_face(label, chance, 160, person=person, head=0.6, strength=frame / (frames - 1))
                name = f"{who}_{take}_{frame + 1:08d}"
                save(grey(pixels), root / "cohn-kanade-images" / who / take / f"{name}.png")
            emotion = root / "Emotion" / who / take / f"{who}_{take}_{frames:08d}_emotion.txt"
            emotion.parent.mkdir(parents=True, exist_ok=True)
            emotion.write_text(f"   {number + 1:.7e}\n", encoding="utf-8")
    return root
