"""Recall of the face detector against the size and the turn of faces, and what each way of looking costs.

    python benchmarks/detection.py [--images 640x480 4000x3000 ...] [--faces 16 24 ...] [--photos FOLDER] [--turns]
    python benchmarks/detection.py --data FERPLUS [--limit N]

The bundled portrait, mirrored, tilted, lit and blurred in several ways, is pasted into large images; with --photos the
faces are those of a folder, which need some surroundings. A face is found if the mean distance of its landmarks is
below half the distance between its eyes. With --data, validation images of a data set are pasted into larger images,
which are turned, and correct expressions are counted. Writes a page into docs/benchmarks: <date>-<commit>-detection.md,
-detection-turns.md or -detection-labels.md.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from machine import ROOT, heading, load, write_result
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from ddamfn import Recognizer
from ddamfn.data import open_dataset
from ddamfn.faces import Detection, DetectionMode, RetinaFace, decode

SETTINGS: tuple[DetectionMode, ...] = (960, "auto", "full")
IMAGES = ("640x480", "1920x1280", "4000x3000", "5472x3648", "8660x5773", "12000x2000", "1080x20000")
FACES_PX = (12, 16, 20, 24, 32, 48, 64, 100, 200, 400)
TURNS = (0, 30, 60, 90, 120, 180)
_MOST_FACES = 12
_FOUND_WITHIN = 0.5


@dataclass(frozen=True, eq=False)
class Source:
    """A face with its surroundings: `points` (5, 2) and `height_px` are as detected at full size."""

    image: Image.Image
    points: NDArray[np.float64]
    height_px: float

    def scaled(self, face_px: float) -> tuple[Image.Image, NDArray[np.float64]]:
        """Return the image and its points with the face so many pixels high."""
        factor = face_px / self.height_px
        size = tuple(max(1, round(length * factor)) for length in self.image.size)
        return self.image.resize(size, Image.Resampling.LANCZOS), self.points * factor


@dataclass
class Tally:
    """What one way of looking found."""

    wanted: int = 0
    found: int = 0
    extra: int = 0
    core_s: float = 0.0
    errors: list[float] | None = None  # of landmarks, in distances between the eyes

    def add(self, faces: Sequence[Detection], points: Sequence[NDArray[np.float64]], core_s: float) -> None:
        """Count one image."""
        self.errors = self.errors or []
        near = [min((_error(face, wanted) for face in faces), default=np.inf) for wanted in points]
        self.errors += [error for error in near if error < _FOUND_WITHIN]
        self.wanted += len(points)
        self.found += sum(error < _FOUND_WITHIN for error in near)
        self.extra += sum(all(_error(face, wanted) > 1 for wanted in points) for face in faces)
        self.core_s += core_s

    def cells(self) -> list[str]:
        """Return recall, landmark error, extra faces and core time."""
        error = f"{100 * float(np.median(self.errors)):.0f} %" if self.errors else ""
        return [f"{self.found}/{self.wanted}", error, str(self.extra), f"{self.core_s:.2f}"]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", nargs="+", default=IMAGES, metavar="WxH", help="sizes of the images")
    parser.add_argument("--faces", nargs="+", type=int, default=FACES_PX, metavar="PX", help="heights of the faces")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="take the faces of these photographs")
    parser.add_argument("--turns", action="store_true", help="measure turned faces instead, 150 px in 1920 x 1280")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="count the correct expressions of turned images")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="images of --data (default: 100)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    before, detector = load(), RetinaFace(num_threads=1)
    if args.data:
        origin, head = f"{args.limit} validation images of {args.data.name}, drawn at random, in 960 x 720", ["turn"]
        cells = [cell for setting in SETTINGS[:2] for cell in (f"{setting}, correct", "core s")]
        rows: Iterator[list[str]] = label_rows(args.data, args.limit)
    else:
        sources = photographs(args.photos, detector) if args.photos else portraits(detector)
        origin = f"{len(sources)}, {'photographs' if args.photos else 'the bundled portrait in several versions'}"
        cells = [cell for setting in SETTINGS for cell in (str(setting), "error", "extra", "core s")]
        head = ["turn"] if args.turns else ["image", "face, px"]
        rows = turn_rows(detector, sources) if args.turns else size_rows(detector, sources, args.images, args.faces)
    lines = heading(
        "Detection of faces by size and turn",
        _command(args),
        before,
        "ddamfn",
        "onnxruntime",
        "numpy",
        "pillow",
    )
    lines += [
        f"- faces: {origin}; one thread",
        "- error: median of the landmarks' distance in distances between the eyes; extra: faces that are not there",
        "",
        f"| {' | '.join([*head, *cells])} |",
        "|" + "---|" * len([*head, *cells]),
    ]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    name = "detection-labels" if args.data else "detection-turns" if args.turns else "detection"
    print(f"\nwritten to {write_result(lines, args.output, name)}", file=sys.stderr)


def _command(args: argparse.Namespace) -> str:
    """Return the command line, with names in place of the folders of this machine."""
    names = {str(args.data): "ROOT", str(args.photos): "FOLDER", str(args.output): "OUTPUT"}
    return " ".join(["python benchmarks/detection.py", *(names.get(word, word) for word in sys.argv[1:])])


def size_rows(
    detector: RetinaFace, sources: Sequence[Source], images: Sequence[str], faces_px: Sequence[int]
) -> Iterator[list[str]]:
    """Yield a line for each size of image and face."""
    rng = np.random.default_rng(0)
    for name in images:
        width, height = (int(length) for length in name.split("x"))
        for face_px in faces_px:
            image, points = scene(sources, (width, height), face_px, rng)
            if points:
                yield [name, str(face_px), *(cell for tally in measure(detector, [(image, points)]) for cell in tally)]


def turn_rows(detector: RetinaFace, sources: Sequence[Source]) -> Iterator[list[str]]:
    """Yield a line for each turn of an image with one face."""
    rng = np.random.default_rng(0)
    for turn in TURNS:
        cases = []
        for source in sources:
            image, (points,) = scene([source], (1920, 1280), 150, rng)
            turned = Image.fromarray(image).rotate(turn, Image.Resampling.BICUBIC, expand=True)
            angle, center = np.radians(turn), np.array([960, 640])
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            cases.append((np.asarray(turned), [(points - center) @ rotation + np.array(turned.size) / 2]))
        yield [str(turn), *(cell for tally in measure(detector, cases) for cell in tally)]


def label_rows(root: Path, limit: int) -> Iterator[list[str]]:
    """Yield a line for each turn of a data set's validation images, enlarged three times in larger ones."""
    part = open_dataset(root).select("val")
    keep, targets = part.targets("majority")
    chosen = np.random.default_rng(0).choice(np.flatnonzero(keep), limit, replace=False)
    classes, recognizer = part.classes, Recognizer(num_threads=1)
    for turn in TURNS:
        row = [str(turn)]
        for setting in SETTINGS[:2]:
            correct, start = 0, time.process_time()
            for number in chosen:
                image = Image.fromarray(decode(part.read(part.samples[number])))
                image = image.resize((3 * image.width, 3 * image.height), Image.Resampling.BICUBIC)
                scene = Image.new("RGB", (960, 720), (120, 118, 116))
                scene.paste(image, (480 - image.width // 2, 360 - image.height // 2))
                turned = np.asarray(scene.rotate(turn, Image.Resampling.BICUBIC, fillcolor=(120, 118, 116)))
                (result,) = recognizer.classify([recognizer.find_faces(turned, detection=setting)])
                correct += len(result) > 0 and result[0].expression == classes[int(targets[number].argmax())]
            row += [f"{correct}/{limit}", f"{time.process_time() - start:.1f}"]
        yield row


def measure(
    detector: RetinaFace, cases: Sequence[tuple[NDArray[np.uint8], list[NDArray[np.float64]]]]
) -> Iterator[list[str]]:
    """Yield the cells of each setting."""
    for setting in SETTINGS:
        tally = Tally()
        for image, points in cases:
            start = time.process_time()
            faces = detector.detect(image, detection=setting)
            tally.add(faces, points, time.process_time() - start)
        yield tally.cells()


def scene(
    sources: Sequence[Source], size: tuple[int, int], face_px: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[NDArray[np.float64]]]:
    """Paste faces into a soft background, at most twelve and none over another; none where they do not fit."""
    width, height = size
    colors = rng.integers(80, 160, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(colors).resize(size, Image.Resampling.BICUBIC)
    crops = [source.scaled(face_px) for source in sources[:_MOST_FACES]]
    cell = max(max(crop.size) for crop, _ in crops)
    places = [(x, y) for y in range(0, height - cell + 1, cell) for x in range(0, width - cell + 1, cell)]
    if not places and len(sources) > 1:
        return np.asarray(image), []
    chosen = rng.permutation(len(places))[: len(crops)] if places else [0]
    points = []
    for (crop, landmarks), place in zip(crops, chosen, strict=False):
        corner = places[place] if places else (0, 0)
        image.paste(crop, corner)
        points.append(landmarks + corner)
    return np.asarray(image), points


def portraits(detector: RetinaFace) -> list[Source]:
    """Return versions of the bundled portrait: mirrored or not, tilted, darker or brighter, sharp or soft."""
    portrait = Image.fromarray(decode(resources.files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()))
    sources = []
    for number in range(_MOST_FACES):
        image = portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else portrait
        image = image.rotate((-12, 0, 12)[number % 3], Image.Resampling.BICUBIC, fillcolor=(120, 118, 116))
        image = ImageEnhance.Brightness(image).enhance((0.6, 1.0, 1.3, 0.8)[number % 4])
        image = image.filter(ImageFilter.GaussianBlur(number % 5 / 2))
        sources += _source(image, detector)
    return sources


def photographs(folder: Path, detector: RetinaFace) -> list[Source]:
    """Return the surest face of each photograph of a folder, with its surroundings."""
    sources = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sources += _source(Image.fromarray(decode(path)), detector)
    return sources


def _source(image: Image.Image, detector: RetinaFace) -> list[Source]:
    faces = detector.detect(np.asarray(image), min_detection_score=0.8, max_faces=1, detection=960)
    return [Source(image, face.landmarks.astype(np.float64), float(face.bbox[3] - face.bbox[1])) for face in faces]


def _error(face: Detection, points: NDArray[np.float64]) -> float:
    distance = np.linalg.norm(face.landmarks - points, axis=1).mean()
    return float(distance / np.linalg.norm(points[1] - points[0]))


if __name__ == "__main__":
    main()
