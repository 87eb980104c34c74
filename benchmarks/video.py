"""Frames per second on a 720p clip with one face, the time of each stage, and the peak memory on files of any length.

    python benchmarks/video.py [--part speed] [--weights NAME_OR_PATH] [--rounds 3] [--frames 300] [--minutes 1 10 60]

The files are generated: the bundled portrait moves over a synthetic background; long files repeat ten seconds without
re-encoding. Each run is a process of its own. Writes docs/benchmarks/<date>-<commit>-video.md, with --part
-video-speed.md or -video-memory.md.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import av
import numpy as np
from machine import ROOT, cores, heading, load, write_result
from PIL import Image

RATE = 25
LONG_LOOP_S = 10
# Small, so that an hour is read in minutes; the memory kept per frame does not depend on the size.
LONG_SIZE = (320, 180)
STAGE_FRAMES = 24
DETECT_EVERY = 5

Line = tuple[int, bool, int]
"""One row: cores, whether the video is annotated, and how many frames there are to a whole look."""


def main() -> None:
    """Generate the files, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each line (default: 3)")
    parser.add_argument("--frames", type=int, default=300, help="of the 720p clip (default: 300)")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60], help="lengths for the peak memory")
    parser.add_argument("--every", type=int, default=25, help="read each Nth frame of the long files (default: 25)")
    parser.add_argument("--part", choices=("speed", "memory"), help="measure only this")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.frames <= STAGE_FRAMES:
        parser.error(f"--frames must be more than {STAGE_FRAMES}")
    if args.child is not None:
        print(json.dumps(child(**json.loads(args.child))))
        return
    before = load()
    with tempfile.TemporaryDirectory() as folder:
        lines = begin(args, before)
        if args.part != "memory":
            clip = write_clip(Path(folder) / "clip.mp4", 1280, 720, args.frames)
            stages = run_child(what="stages", path=str(clip), weights=args.weights)
            lines += [*report_speed(args, stages, speeds(args, clip)), ""]
        if args.part != "speed":
            lines += report_memory(args, Path(folder))
    print("\n".join(lines))
    kind = "video" if args.part is None else f"video-{args.part}"
    print(f"\nwritten to {write_result(lines, args.output, kind)}", file=sys.stderr)


# ---------------------------------------------------------------- files


def frames(width: int, height: int, count: int, swing: float) -> Iterator[np.ndarray]:
    """Yield the portrait moving over a synthetic background, with period `LONG_LOOP_S`; `swing` is a share."""
    content = resources.files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
    side = height * 7 // 10
    portrait = np.asarray(Image.open(io.BytesIO(content)).convert("RGB").resize((side, side)))
    y, x = np.mgrid[:height, :width]
    ground = np.stack([90 + x * 60 // width, 110 + y * 40 // height, np.full_like(x, 130)], axis=-1).astype(np.uint8)
    for number in range(count):
        pixels = ground.copy()
        turn = 2 * np.pi * number / (RATE * LONG_LOOP_S)
        left = round((width - side) * (0.5 + swing * np.sin(turn)))
        top = round((height - side) * (0.5 + swing * np.cos(turn)))
        pixels[top : top + side, left : left + side] = portrait
        yield pixels


def write_clip(path: Path, width: int, height: int, count: int, swing: float = 0.25) -> Path:
    """Encode frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames(width, height, count, swing):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode(None))
    return path


def repeat(clip: Path, path: Path, seconds: float) -> Path:
    """Repeat a clip's packets up to a length."""
    with av.open(str(path), "w") as new:
        with av.open(str(clip)) as old:
            stream = new.add_stream_from_template(old.streams.video[0])
        for loop in range(max(1, round(seconds / LONG_LOOP_S))):
            with av.open(str(clip)) as old:
                source = old.streams.video[0]
                shift = round(Fraction(loop * LONG_LOOP_S) / source.time_base)
                for packet in old.demux(source):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        new.mux(packet)
    return path


# ---------------------------------------------------------------- one process each


def run_child(**work: Any) -> dict[str, Any]:
    """Run one measurement in a new process, and add the process's peak memory in MB."""
    process = subprocess.Popen([sys.executable, __file__, "--child", json.dumps(work)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{work} failed")
    measured: dict[str, Any] = json.loads(output)
    return measured | {"peak_mb": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)}


def child(what: str, **work: Any) -> dict[str, Any]:
    """Run one measurement."""
    jobs: dict[str, Callable[..., dict[str, Any]]] = {"stages": stage_times, "speed": speed, "predict": predict}
    return jobs[what](**work)


def stage_times(path: str, weights: str | None) -> dict[str, Any]:
    """Return CPU and wall time of each stage in ms per frame, alone and on one thread."""
    from ddamfn.recognizer import Recognizer
    from ddamfn.results import ImageResult
    from ddamfn.video import AnnotatedVideo, FrameResult
    from ddamfn.video.pixels import upright_rgb

    recognizer = Recognizer(weights, num_threads=1)
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        decoded = container.decode(video=0)
        next(decoded)
        raw: list[Any] = []
        times = {"decode": timed(lambda: raw.extend(next(decoded) for _ in range(STAGE_FRAMES)))}
    images: list[np.ndarray] = []
    times["to upright RGB"] = timed(lambda: images.extend(upright_rgb(frame) for frame in raw))
    recognizer.find_faces(images[0])
    found: list[Any] = []
    times["find and align faces"] = timed(
        lambda: found.extend(recognizer.find_faces(image, keep_image=True) for image in images)
    )
    results: list[ImageResult] = []
    times["classify, in eights"] = timed(
        lambda: [results.extend(recognizer.classify(found[start : start + 8])) for start in range(0, len(found), 8)]
    )
    numbered = [FrameResult(result, index, index / RATE, (1,)) for index, result in enumerate(results)]
    with tempfile.TemporaryDirectory() as folder, AnnotatedVideo(Path(folder) / "a.mp4", RATE) as video:
        video.write(numbered[0])
        times["draw and encode (--annotate)"] = timed(lambda: [video.write(frame) for frame in numbered[1:]])
    return {"times": times, "faces": sum(len(result.faces) for result in results) / len(results)}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall time in ms per frame."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    spent = time.process_time() - processor, time.perf_counter() - clock
    return 1e3 * spent[0] / STAGE_FRAMES, 1e3 * spent[1] / STAGE_FRAMES


def speed(path: str, weights: str | None, cores: int, annotate: bool, detect_every: int) -> dict[str, Any]:
    """Return frames per second of `read_video` on a number of cores, and CPU time per frame."""
    from ddamfn.recognizer import Recognizer
    from ddamfn.video import AnnotatedVideo, read_video

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    recognizer = Recognizer(weights, num_threads=1)
    # Warm up: the first run of a network is slower.
    recognizer.predict(np.zeros((720, 1280, 3), np.uint8))
    count = faces = 0
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = time.perf_counter(), time.process_time()
        video = AnnotatedVideo(Path(folder) / "a.mp4", RATE) if annotate else None
        for frame in read_video(path, recognizer, workers=cores, keep_images=annotate, detect_every=detect_every):
            count, faces = count + 1, faces + len(frame.faces)
            if video is not None:
                video.write(frame)
        if video is not None:
            video.close()
        spent, used = time.perf_counter() - clock, time.process_time() - processor
    return {"rate": count / spent, "processor_ms": 1e3 * used / count, "frames": count, "faces": faces}


def predict(path: str, weights: str | None, every: int) -> dict[str, Any]:
    """Run the command with all of its outputs."""
    from ddamfn.cli import main as command

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "faces.jsonl"
        options = ["--every", str(every), "--output", str(results), "--timeline", f"{folder}/line.png"]
        options += ["--annotate", f"{folder}/a.mp4", "--quiet", *(["--weights", weights] if weights else [])]
        start = time.perf_counter()
        status = command(["predict", path, *options])
        spent = time.perf_counter() - start
        with results.open(encoding="utf-8") as lines:
            tracks = [face["track"] for line in lines for face in json.loads(line)["faces"]]
    return {"status": status, "seconds": spent, "faces": len(tracks), "tracks": len(set(tracks))}


# ---------------------------------------------------------------- tables


def speeds(args: argparse.Namespace, clip: Path) -> dict[Line, list[dict[str, Any]]]:
    """Return all rounds of every row, alternating, so that other load does not affect one row alone."""
    kinds = ((False, 1), (True, 1), (False, DETECT_EVERY))
    lines: list[Line] = [(number, *kind) for number in range(1, cores() + 1) for kind in kinds]
    measured: dict[Line, list[dict[str, Any]]] = {line: [] for line in lines}
    for number in range(args.rounds):
        for line in lines:
            how = dict(zip(("cores", "annotate", "detect_every"), line, strict=True))
            one = run_child(what="speed", path=str(clip), weights=args.weights, **how)
            measured[line].append(one | {"load": load()})
            print(f"round {number + 1} of {args.rounds}, {line[0]} cores: {one['rate']:.1f} frames/s", file=sys.stderr)
    return measured


def begin(args: argparse.Namespace, before: float) -> list[str]:
    """Return the heading as Markdown."""
    from ddamfn.weights import find_weights

    command = " ".join(["python benchmarks/video.py", *sys.argv[1:]])
    lines = heading("Reading a video", command, before, "ddamfn", "av", "onnxruntime", "numpy", "pillow")
    return [*lines, f"- weights: {find_weights(args.weights)[1].name}", ""]


def report_speed(
    args: argparse.Namespace,
    stages: dict[str, Any],
    measured: dict[Line, list[dict[str, Any]]],
) -> list[str]:
    """Return stages and frames per second as Markdown."""
    lines = [
        f"Clip: {args.frames} frames of 1280 x 720, H.264, {stages['faces']:.2f} faces per frame, every frame read.",
        "",
        f"Each stage alone on one thread, over {STAGE_FRAMES} frames. CPU time does not include other processes.",
        "",
        "| stage | CPU, ms per frame | wall, ms per frame |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {used:.2f} | {spent:.2f} |" for name, (used, spent) in stages["times"].items()]
    lines += [
        "",
        f"`read_video` with tracks and smoothing, {args.rounds} runs per row, each in its own process, pinned to the "
        "cores. Load is the load average, this process included: above the number of cores, frames/s are those of a "
        "busy machine. The last column is computed from CPU time for idle cores.",
        "",
        "| cores | annotated video | whole looks | frames/s | deviation | best | load | CPU, ms per frame "
        "| faces per frame | on idle cores |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (number, annotate, detect_every), runs in measured.items():
        rates = [run["rate"] for run in runs]
        used = statistics.mean(run["processor_ms"] for run in runs)
        deviation = statistics.stdev(rates) if len(rates) > 1 else 0.0
        lines.append(
            f"| {number} | {'written' if annotate else 'no'} | every {detect_every} "
            f"| {statistics.mean(rates):.1f} | {deviation:.1f} "
            f"| {max(rates):.1f} | {statistics.mean(run['load'] for run in runs):.1f} | {used:.1f} "
            f"| {runs[0]['faces'] / runs[0]['frames']:.2f} "
            f"| {1e3 * number / used:.1f} frames/s |"
        )
    return lines


def report_memory(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return peak memory as Markdown."""
    loop = write_clip(folder / "loop.mp4", *LONG_SIZE, RATE * LONG_LOOP_S, swing=0.02)
    lines = [
        f"`ddamfn predict --every {args.every} --output faces.jsonl --annotate a.mp4 --timeline line.png` on files of "
        f"{LONG_SIZE[0]} x {LONG_SIZE[1]} at {RATE} frames/s that repeat {LONG_LOOP_S} s:",
        "",
        "| length | frames decoded | faces | tracks | seconds | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for minutes in args.minutes:
        path = repeat(loop, folder / "long.mp4", 60 * minutes)
        run = run_child(what="predict", path=str(path), weights=args.weights, every=args.every)
        if run["status"]:
            raise SystemExit(f"the run over {minutes:g} minutes ended with status {run['status']}")
        decoded = max(1, round(60 * minutes / LONG_LOOP_S)) * LONG_LOOP_S * RATE
        lines.append(
            f"| {minutes:g} min | {decoded:,} | {run['faces']:,} | {run['tracks']} | {run['seconds']:.0f} "
            f"| {run['peak_mb']:.0f} MB |"
        )
        print(lines[-1], file=sys.stderr)
    return lines


if __name__ == "__main__":
    main()
