"""Time of a folder of photographs, from files to expressions, beside Pillow's decoding of the same files.

    python benchmarks/folder.py [--images 12] [--size 4000 3000] [--rounds 3] [--weights NAME_OR_PATH]

The photographs are drawn: three versions of the bundled portrait each, in a soft background with noise. The lines
alternate in one process, and CPU time counts this process alone. A second table tells what shrinking on load changes in
the faces, beside what cutting one row and one column off the image changes. Writes
docs/benchmarks/<date>-<commit>-folder.md.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from detection import portraits, scene
from machine import ROOT, cores, heading, load, write_result
from numpy.typing import NDArray
from PIL import Image

from ddamfn.faces import RetinaFace, decode
from ddamfn.recognizer import Recognizer
from ddamfn.results import Face

FACE_HEIGHTS = (0.062, 0.08)  # least and most, in parts of the longer side
_FACES, _QUALITY, _NOISE = 3, 90, 4


def main() -> None:
    """Draw the photographs, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=12, help="photographs (default: 12)")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("W", "H"), help="of each")
    parser.add_argument(
        "--faces",
        type=float,
        nargs=2,
        default=FACE_HEIGHTS,
        metavar=("LOW", "HIGH"),
        help="height of the faces, in parts of the longer side; smaller ones are looked at again (default: 0.062 0.08)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each line (default: 3)")
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(Path(folder), args.images, tuple(args.size), tuple(args.faces))
        paths = [path for path, _ in drawn]
        size = statistics.mean(path.stat().st_size for path in paths) / 1e6
        command = " ".join(["python benchmarks/folder.py", *sys.argv[1:]])
        lines = heading("Reading a folder of photographs", command, before, "ddamfn", "onnxruntime", "numpy", "pillow")
        width, height = args.size
        faces = f"{_FACES} faces of {args.faces[0]:.1%} to {args.faces[1]:.1%} of its longer side"
        lines += [f"- {len(paths)} JPEGs of {width} x {height}, {size:.1f} MB each, with {faces}", ""]
        lines += [*speed_table(paths, args.weights, args.rounds), "", *change_table(paths, args.weights)]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'folder')}", file=sys.stderr)


def draw(
    folder: Path, count: int, size: tuple[int, int], faces: tuple[float, float] = FACE_HEIGHTS
) -> list[tuple[Path, list[NDArray[np.float64]]]]:
    """Write photographs with faces of `faces` parts of the longer side; return them with the faces' landmarks."""
    rng, drawn = np.random.default_rng(0), []
    sources = portraits(RetinaFace(num_threads=1))
    for number in range(count):
        chosen = [sources[(number * _FACES + k) % len(sources)] for k in range(_FACES)]
        pixels, points = scene(chosen, size, int(max(size) * rng.uniform(*faces)), rng)
        grain = rng.normal(0, _NOISE, (*pixels.shape[:2], 1))
        path = folder / f"{number:03}.jpg"
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(path, quality=_QUALITY)
        drawn.append((path, points))
    return drawn


def speed_table(paths: Sequence[Path], weights: str | None, rounds: int) -> list[str]:
    """Return CPU time and throughput of each way to read all files."""
    ways: dict[str, Callable[[], object]] = {"Pillow decodes, one thread": lambda: [bare(path) for path in paths]}
    for threads in dict.fromkeys((1, cores())):
        for shrinks in (True, False):
            recognizer = Recognizer(weights, num_threads=threads, shrink_on_load=shrinks)
            name = f"predict_many, {threads} thread{'s' if threads > 1 else ''}"
            name += "" if shrinks else ", shrink_on_load=False"
            ways[name] = lambda recognizer=recognizer: list(recognizer.predict_many(paths))
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way()
            used = time.process_time() - processor, time.perf_counter() - clock
            spent[name] += [used] if number >= 0 else []  # the first round warms up
    base = min(used for used, _ in spent[next(iter(ways))])
    lines = ["| way | CPU, ms per image | times Pillow's decoding | images/s, best |", "|---|---|---|---|"]
    for name, runs in spent.items():
        used, clock = min(used for used, _ in runs), min(clock for _, clock in runs)
        rate = len(paths) / clock
        lines.append(f"| {name} | {1e3 * used / len(paths):.0f} | {used / base:.2f} | {rate:.1f} |")
    return lines


def bare(path: Path) -> None:
    """Decode one file as Pillow does."""
    with Image.open(path) as image:
        image.load()


def change_table(paths: Sequence[Path], weights: str | None) -> list[str]:
    """Return by how much the same faces differ from those of the whole image."""
    whole = Recognizer(weights, num_threads=1, shrink_on_load=False)
    shrinking = Recognizer(weights, num_threads=1)
    shrunk, cut = Changes(), Changes()
    for path in paths:
        faces = whole.predict(path).faces
        shrunk.add(faces, shrinking.predict(path).faces, 0)
        pixels: NDArray[np.uint8] = np.ascontiguousarray(decode(io.BytesIO(path.read_bytes()))[1:, 1:])
        cut.add(faces, whole.predict(pixels).faces, 1)
    return [
        "Differences from the faces of the whole image: landmarks, the farther of x and y, in pixels of the image; "
        "probabilities, the largest difference of an expression's.",
        "",
        "| what | faces lost | landmarks, median | 95 % | probabilities, median | 95 % | other expressions |",
        "|---|---|---|---|---|---|---|",
        shrunk.row("shrunk on load"),
        cut.row("one row and one column cut off"),
    ]


class Changes:
    """Collects differences between the same faces in two readings of an image."""

    def __init__(self) -> None:
        self._pixels: list[float] = []
        self._shares: list[float] = []
        self._lost = self._flipped = 0

    def add(self, faces: Sequence[Face], others: Sequence[Face], offset_px: int) -> None:
        """Match faces by their places; `offset_px` is what was cut off the others' image."""
        for face in faces:
            points, near = face.landmarks.to_numpy(), []
            for other in others:
                away = float(np.abs(other.landmarks.to_numpy() + offset_px - points).max())
                near.append((away, other))
            away, other = min(near, key=lambda entry: entry[0], default=(np.inf, None))
            if other is None or away > face.bbox.width / 4:
                self._lost += 1
                continue
            self._pixels.append(away)
            self._shares.append(max(abs(other.probabilities[name] - p) for name, p in face.probabilities.items()))
            self._flipped += face.expression != other.expression

    def row(self, name: str) -> str:
        """Return one row of the table."""
        pixels, shares = ([*np.percentile(values, (50, 95))] for values in (self._pixels, self._shares))
        return (
            f"| {name} | {self._lost} of {self._lost + len(self._pixels)} | {pixels[0]:.2f} | {pixels[1]:.2f} "
            f"| {shares[0]:.4f} | {shares[1]:.4f} | {self._flipped} |"
        )


if __name__ == "__main__":
    main()
