"""Time of a collection through a Ray cluster of this machine, beside one process with as many threads.

    python benchmarks/distributed.py [--small 20000] [--large 500] [--workers 1 2] [--shard-images 250]

The images are drawn: small ones of 320 x 240 with a face, and photographs of 4000 x 3000 as in `benchmarks/folder.py`.
A hundred different files of each kind, at most, are linked under many names. The ways alternate, and each is counted
from its first batch to its last, with the start of its workers and the loading of their networks; CPU time is that of
all processes. Writes docs/benchmarks/<date>-<commit>-distributed.md.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from detection import portraits, scene
from folder import draw
from machine import ROOT, heading, load, write_result
from PIL import Image

from ddamfn.distributed import BatchRecognizer
from ddamfn.distributed.cluster import THIS_MACHINE, RayExecutor, connect
from ddamfn.distributed.finished import Finished
from ddamfn.distributed.shards import Done, OneProcess, ShardTask, batches_of, do_batches
from ddamfn.faces import RetinaFace

_DIFFERENT = 100
_BATCHES = 20
_GOAL = 0.15


@dataclass(frozen=True)
class Spent:
    """What a way took."""

    wall_s: float
    cpu_s: float
    done: tuple[Done, ...]


def main() -> None:
    """Draw the images, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", type=int, default=20_000, help="images of 320 x 240 (default: 20000)")
    parser.add_argument("--large", type=int, default=500, help="images of 4000 x 3000 (default: 500)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default: 1 2)")
    parser.add_argument(
        "--shard-images", type=int, default=250, metavar="N", help="images per shard at most (default: 250)"
    )
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    command = " ".join(["python benchmarks/distributed.py", *sys.argv[1:]])
    packages = ("ddamfn", "onnxruntime", "ray", "pyarrow", "numpy", "pillow")
    lines = heading("A collection through a Ray cluster of this machine", command, load(), *packages)
    with tempfile.TemporaryDirectory() as name:
        kinds = {"small": small(Path(name, "small"), args.small), "large": large(Path(name, "large"), args.large)}
        for kind, paths in kinds.items():
            if paths:
                lines += [f"## {len(paths):,} {kind} images", "", *table(paths, Path(name, "out", kind), args), ""]
    lines += [f"The goal is at most {_GOAL:.0%} more CPU time and wall time than one process."]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'distributed')}", file=sys.stderr)


def small(folder: Path, count: int) -> list[str]:
    """Write images with a face each."""
    folder.mkdir()
    rng, sources, paths = np.random.default_rng(0), portraits(RetinaFace(num_threads=1)), []
    for number in range(min(count, _DIFFERENT)):
        pixels, _ = scene([sources[number % len(sources)]], (320, 240), int(rng.integers(60, 120)), rng)
        paths.append(folder / f"{number:03}.jpg")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1], quality=90)
    return linked(paths, folder, count)


def large(folder: Path, count: int) -> list[str]:
    """Write photographs with faces."""
    folder.mkdir()
    drawn = draw(folder, min(count, _DIFFERENT), (4000, 3000))
    return linked([path for path, _ in drawn], folder, count)


def linked(paths: Sequence[Path], folder: Path, count: int) -> list[str]:
    """Return so many names of the same files."""
    names = list(map(str, paths))
    for number in range(len(paths), count):
        names.append(str(folder / f"{number:06}.jpg"))
        os.link(paths[number % len(paths)], names[-1])
    return names


def table(paths: Sequence[str], out: Path, args: argparse.Namespace) -> list[str]:
    """Return a row for each number of workers: one process, the cluster, and what that costs."""
    lines = [
        "| cores | way | images/s | CPU, ms per image | more wall time | more CPU time |",
        "|---|---|---|---|---|---|",
    ]
    for workers in args.workers:
        alone = measure(paths, out / f"alone-{workers}", args, workers, on_ray=False)
        spread = measure(paths, out / f"ray-{workers}", args, workers, on_ray=True)
        for name, spent in (("one process", alone), ("Ray", spread)):
            more = [f"{spent.wall_s / alone.wall_s - 1:+.1%}", f"{spent.cpu_s / alone.cpu_s - 1:+.1%}"]
            lines.append(
                f"| {workers} | {name} | {len(paths) / spent.wall_s:.1f} | {1e3 * spent.cpu_s / len(paths):.1f} "
                f"| {' | '.join(more if spent is spread else ['', ''])} |"
            )
        same = rows(out / f"alone-{workers}") == rows(out / f"ray-{workers}")
        lines[-1] += "" if same else " (other rows!)"
    return lines


def measure(paths: Sequence[str], out: Path, args: argparse.Namespace, workers: int, *, on_ray: bool) -> Spent:
    """Read all images into a folder of shards."""
    task = ShardTask(BatchRecognizer(args.weights, num_threads=1 if on_ray else workers), str(out), "")
    if on_ray:
        ray = connect(THIS_MACHINE, num_cpus=workers)
    clock, processor = time.perf_counter(), cpu_s()
    executor = RayExecutor(THIS_MACHINE, task) if on_ray else OneProcess(task, lambda: None)
    # Of few images, too, each worker gets many batches.
    size = max(1, min(args.shard_images, len(paths) // _BATCHES))
    done = tuple(do_batches(batches_of(paths, Finished(), size), executor))
    spent = Spent(time.perf_counter() - clock, cpu_s() - processor, done)
    if on_ray:
        ray.shutdown()
    failed = [one.failure for one in done if one.failure is not None]
    if failed:
        raise SystemExit(f"a batch failed: {failed[0]}")
    return spent


def rows(folder: Path) -> list[tuple[object, ...]]:
    """Return a folder's rows, sorted."""
    found = pyarrow.parquet.read_table(folder).to_pylist()
    return sorted((tuple(row.values()) for row in found), key=lambda row: (row[0], row[1] or 0))


def cpu_s() -> float:
    """Return the CPU time of this process and all below it, those that have ended included."""
    ticks, parents = dict[int, int](), dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(path.parent.name)
        parents[number], ticks[number] = int(fields[1]), sum(map(int, fields[11:15]))
    below = {os.getpid()}
    while found := {number for number, parent in parents.items() if parent in below and number not in below}:
        below |= found
    return sum(ticks.get(number, 0) for number in below) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
