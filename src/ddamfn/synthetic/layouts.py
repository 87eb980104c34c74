"""Synthetic faces, saved in the layouts of the supported data sets."""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddamfn.labels import EXPRESSIONS, canonical
from ddamfn.synthetic.face import synthetic_face
from ddamfn.synthetic.person import Person, sample_person


@dataclass(frozen=True, slots=True)
class Drawing:
    """One synthetic image and its annotations."""

    label: str  # in the caller's spelling
    index: int
    person: int
    pixels: NDArray[np.uint8]  # (S, S, 3) RGB
    landmarks: NDArray[np.float32]  # (5, 2) as (x, y) pixels, viewer's left eye first


def drawings(
    classes: Sequence[str],
    per_class: int,
    generator: np.random.Generator,
    side_px: int,
    head: float | None = None,
    people: Sequence[Person] | None = None,
) -> Iterator[Drawing]:
    """Draw `per_class` images of every class in turn; `people` take turns too if given."""
    for row in range(per_class):
        for column, label in enumerate(classes):
            index = row * len(classes) + column
            # Each row shifts the people, so that each shows several expressions.
            who = (row + 3 * column) % len(people) if people else index
            person = people[who] if people else None
            pixels, landmarks = synthetic_face(label, generator, side_px, head=head, person=person)
            yield Drawing(label, index, who, pixels, landmarks)


def held_out(per_class: int) -> int:
    """Return the images per class in a split other than train."""
    return max(1, per_class // 2)


def save(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write an image, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92) if path.suffix == ".jpg" else Image.fromarray(pixels).save(path)


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) gray of (H, W, 3) RGB."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write rows as csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def face_box(landmarks: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return (x1, y1, x2, y2) pixels of the head around five landmarks."""
    x, y = landmarks[:2].mean(axis=0)
    unit = float(np.linalg.norm(landmarks[1] - landmarks[0])) / 0.9
    return float(x) - unit, float(y) - 1.2 * unit, float(x) + unit, float(y) + 1.65 * unit


_FER2013 = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")
_AFFECTNET = ("Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
_RAFDB = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
_CKPLUS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")

_CIRCUMPLEX = ((0.0, 0.0), (0.8, 0.3), (-0.7, -0.3), (0.2, 0.8), (-0.5, 0.7), (-0.7, 0.4), (-0.5, 0.6), (-0.6, 0.4))
"""Approximate valence and arousal of AffectNet's classes."""

# FERPlus numbers its images consecutively; Valid and Test begin where the official ones do.
_FERPLUS_SPLITS = (
    ("FER2013Train", "Training", 0),
    ("FER2013Valid", "PublicTest", 28638),
    ("FER2013Test", "PrivateTest", 32220),
)


def _ballot(label: str, generator: np.random.Generator) -> list[int]:
    """Return ten votes, of which seven to ten go to the label, so that it wins under every rule."""
    votes = [0] * 10
    winner = int(generator.integers(7, 11))
    votes[EXPRESSIONS.index(label)] = winner
    for other in generator.choice([i for i, name in enumerate(EXPRESSIONS) if name != label], 10 - winner):
        votes[int(other)] += 1
    return votes


def write_synthetic_ferplus(root: Path, per_class: int, generator: np.random.Generator, zipped: bool = False) -> Path:
    """Write FERPlus's layout: grayscale 48x48 PNG (in archives if zipped), `label.csv` per split, `fer2013new.csv`."""
    root.mkdir(parents=True, exist_ok=True)
    table: list[list[object]] = [["Usage", "Image name", *EXPRESSIONS, "unknown", "NF"]]
    for folder, usage, first in _FERPLUS_SPLITS:
        count = per_class if usage == "Training" else held_out(per_class)
        files: dict[str, bytes] = {}
        labels = io.StringIO()
        for drawing in drawings(EXPRESSIONS, count, generator, 48):
            name = f"fer{first + drawing.index:07d}.png"
            votes = _ballot(drawing.label, generator)
            image = io.BytesIO()
            Image.fromarray(gray(drawing.pixels)).save(image, format="PNG")
            files[name] = image.getvalue()
            csv.writer(labels, lineterminator="\n").writerow([name, "(0, 0, 48, 48)", *votes])
            table.append([usage, name, *votes])
        # The official table has rows without an image, so row numbers and names do not correspond.
        table.append([usage, "", *[0] * 9, 10])
        files["label.csv"] = labels.getvalue().encode()
        _write_files(root, folder, files, zipped)
    write_rows(root / "fer2013new.csv", table)
    return root


def _write_files(root: Path, folder: str, files: dict[str, bytes], zipped: bool) -> None:
    """Write files into a folder, or into an archive of that folder."""
    if zipped:
        with zipfile.ZipFile(root / f"{folder}.zip", "w") as archive:
            for name, content in files.items():
                # A fixed date, so that the same seed writes the same archive.
                archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", (2016, 1, 1, 0, 0, 0)), content)
        return
    (root / folder).mkdir(exist_ok=True)
    for name, content in files.items():
        (root / folder / name).write_bytes(content)


def write_synthetic_fer2013(root: Path, per_class: int, generator: np.random.Generator) -> Path:
    """Write `fer2013.csv` as in the contest: class number, 48x48 gray values as text, Usage."""
    rows: list[list[object]] = [["emotion", "pixels", "Usage"]]
    for usage in ("Training", "PublicTest", "PrivateTest"):
        count = per_class if usage == "Training" else held_out(per_class)
        for drawing in drawings(_FER2013, count, generator, 48):
            text = " ".join(str(int(v)) for v in gray(drawing.pixels).ravel())
            rows.append([_FER2013.index(drawing.label), text, usage])
    write_rows(root / "fer2013.csv", rows)
    return root


def write_synthetic_folder(
    root: Path,
    per_class: int,
    generator: np.random.Generator,
    side_px: int = 112,
    classes: Sequence[str] = EXPRESSIONS,
) -> Path:
    """Write class folders such as `train/happiness/00001.png`, with train, val and test, named by `classes`."""
    for split in ("train", "val", "test"):
        count = per_class if split == "train" else held_out(per_class)
        for drawing in drawings(classes, count, generator, side_px):
            save(drawing.pixels, root / split / drawing.label / f"{drawing.index:05d}.png")
    return root


def write_synthetic_table(root: Path, per_class: int, generator: np.random.Generator, side_px: int = 112) -> Path:
    """Write `table.csv` and its images; a subject is in one split only, and the group is the subject's hair."""
    rows: list[list[object]] = [["path", "label", "split", "subject", "group"]]
    for split in ("train", "val", "test"):
        count = per_class if split == "train" else held_out(per_class)
        people = [sample_person(generator) for _ in range(max(2, count))]
        for drawing in drawings(EXPRESSIONS, count, generator, side_px, people=people):
            path = f"images/{split}{drawing.index:05d}.png"
            save(drawing.pixels, root / path)
            style = people[drawing.person].style
            group = "long hair" if style in ("long", "curly") else "short hair"
            rows.append([path, canonical(drawing.label), split, f"{split}{drawing.person:03d}", group])
    write_rows(root / "table.csv", rows)
    return root


def _sixty_eight(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (68, 2) points in the iBUG order with the eyes, nose tip and mouth corners of five landmarks."""
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


def write_synthetic_affectnet(root: Path, per_class: int, generator: np.random.Generator, layout: str = "2021") -> Path:
    """Write AffectNet's layout `2021` (NumPy annotations) or `manual` (`training.csv` and `validation.csv`)."""
    if layout not in ("2021", "manual"):
        raise ValueError(f"AffectNet has the layouts 2021 and manual, not {layout!r}")
    for split, count in (("train", per_class), ("val", held_out(per_class))):
        series = drawings(_AFFECTNET, count, generator, 160, head=0.78)
        if layout == "2021":
            _write_affectnet_arrays(root / f"{split}_set", series)
        else:
            _write_affectnet_table(root, "training" if split == "train" else "validation", series)
    return root


def _write_affectnet_arrays(folder: Path, series: Iterator[Drawing]) -> None:
    """Write `images/N.jpg` and `annotations/N_{exp,val,aro,lnd}.npy`; numbers are text, as in the release."""
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
    """Write `name.csv` and its images, with a row for each class that is not an expression."""
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
    rows: list[list[object]] = [list(head.split(","))]
    for drawing in series:
        number = _AFFECTNET.index(drawing.label)
        path = f"{drawing.index % 3 + 1}/{name}{drawing.index:06d}.jpg"
        save(drawing.pixels, root / "Manually_Annotated_Images" / path)
        x1, y1, x2, y2 = (round(v) for v in face_box(drawing.landmarks))
        points = ";".join(f"{v:.2f}" for v in _sixty_eight(drawing.landmarks).ravel())
        rows.append([path, max(x1, 0), max(y1, 0), x2 - x1, y2 - y1, points, number, *_CIRCUMPLEX[number]])
    # 8 none, 9 uncertain, 10 no face: listed in the release, but not expressions.
    rows += [[*row[:6], other, -2, -2] for other, row in zip((8, 9, 10), rows[1:4], strict=False)]
    write_rows(root / f"{name}.csv", rows)


def _aligned(drawing: Drawing, side_px: int = 100) -> NDArray[np.uint8]:
    """Crop a face by its eyes and the center of its mouth, like RAF-DB's aligned images."""
    source = np.vstack([drawing.landmarks[:2], drawing.landmarks[3:].mean(axis=0)]).astype(np.float64)
    target = np.array([[0.3, 0.37], [0.7, 0.37], [0.5, 0.8]]) * side_px
    # Least squares for x' = a x - b y + c, y' = b x + a y + d, from crop to image, as Pillow expects.
    rows = [[x, -y, 1, 0] for x, y in target] + [[y, x, 0, 1] for x, y in target]
    a, b, c, d = np.linalg.lstsq(np.array(rows), source.T.ravel(), rcond=None)[0]
    image = Image.fromarray(drawing.pixels)
    coefficients = (a, -b, c, b, a, d)
    crop = image.transform((side_px, side_px), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(crop)


def write_synthetic_rafdb(root: Path, per_class: int, generator: np.random.Generator) -> Path:
    """Write RAF-DB's basic layout below `basic`: original and aligned JPEG, label list, manual landmarks and boxes."""
    basic = root / "basic"
    lines: list[str] = []
    for split, count in (("train", per_class), ("test", held_out(per_class))):
        for drawing in drawings(_RAFDB, count, generator, 200, head=0.6):
            name = f"{split}_{drawing.index + 1:05d}"
            lines.append(f"{name}.jpg {_RAFDB.index(drawing.label) + 1}\n")
            save(drawing.pixels, basic / "Image" / "original" / f"{name}.jpg")
            save(_aligned(drawing), basic / "Image" / "aligned" / f"{name}_aligned.jpg")
            points = "".join(f"{x:.6f}\t{y:.6f}\n" for x, y in drawing.landmarks)
            gender, race, age = (int(generator.integers(low, high)) for low, high in ((0, 3), (0, 3), (1, 5)))
            attributes = f"{gender}\n{race}\n{age}\n"
            _write_text(basic / "Annotation" / "manual" / f"{name}_manu_attri.txt", points + attributes)
            box = " ".join(f"{v:.3f}" for v in face_box(drawing.landmarks)) + "\n"
            _write_text(basic / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt", box)
    _write_text(basic / "EmoLabel" / "list_patition_label.txt", "".join(lines))
    return root


def write_synthetic_ckplus(root: Path, per_class: int, generator: np.random.Generator, frames: int = 6) -> Path:
    """Write CK+'s layout: `per_class` subjects, each with a sequence of `frames` frames to every expression."""
    for subject in range(per_class):
        person = sample_person(generator)
        who = f"S{subject + 5:03d}"
        for number, label in enumerate(_CKPLUS):
            take = f"{number + 1:03d}"
            seed = int(generator.integers(2**63))
            for frame in range(frames):
                # The same seed for all frames: only the strength of the expression changes, as in a real sequence.
                same = np.random.default_rng(seed)
                pixels, _ = synthetic_face(label, same, 160, person=person, head=0.6, strength=frame / (frames - 1))
                name = f"{who}_{take}_{frame + 1:08d}"
                save(gray(pixels), root / "cohn-kanade-images" / who / take / f"{name}.png")
            emotion = root / "Emotion" / who / take / f"{who}_{take}_{frames:08d}_emotion.txt"
            _write_text(emotion, f"   {number + 1:.7e}\n")
    return root


def _write_text(path: Path, text: str) -> None:
    """Write a text file, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
