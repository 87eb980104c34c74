"""Time of each stage from a photograph to an expression, compared with the same network in eager PyTorch.

    python benchmarks/inference.py [--weights NAME_OR_PATH] [--rounds 5] [--seconds 4] [--num-threads N]

Each side runs in its own process, and the two alternate, so that their threads do not compete and each has its own peak
memory. Writes docs/benchmarks/<date>-<commit>-inference.md.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, cores, heading, load, write_result

BATCHES = (1, 16)
SIDES = ("onnxruntime", "eager")
BY = {"decode": "Pillow", "detect": "ONNX Runtime", "align": "NumPy, Pillow", "classify": "ONNX Runtime"}
_LEAST_CALLS = 5


def main() -> None:
    """Measure both sides alternately, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", help="bundled weights or an .onnx file")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="time per stage and round (default: 4)")
    parser.add_argument("--num-threads", type=int, default=cores(), help="threads of each side (default: all cores)")
    parser.add_argument("--provider", default="cpu", help="execution provider of ONNX Runtime (default: cpu)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side is not None:
        print(json.dumps(measure_side(args)))
        return
    before = load()
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(args.rounds):
        for side in SIDES:
            rounds[side].append(run_side(side))
            print(f"round {number + 1} of {args.rounds}, {side}", file=sys.stderr)
    lines = report(args, rounds, before)
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'inference')}", file=sys.stderr)


def run_side(side: str) -> dict[str, Any]:
    """Measure one side in a new process with this process's arguments."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def measure_side(args: argparse.Namespace) -> dict[str, Any]:
    """Return times in ms per call by stage and batch, and this process's peak memory in MB."""
    stages = onnxruntime_stages(args) if args.side == "onnxruntime" else eager_stages(args)
    times = {name: timed(call, args.seconds) for name, call in stages.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"times": times, "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10)}


def timed(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Return mean, deviation and median in ms, and number, of the calls that fit into a time; two calls warm up."""
    call()
    call()
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(spent) < _LEAST_CALLS:
        start = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - start))
    return {
        "mean": statistics.mean(spent),
        "deviation": statistics.stdev(spent),
        "median": statistics.median(spent),
        "calls": len(spent),
    }


def photograph() -> bytes:
    """Return the bundled portrait."""
    return resources.files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


def onnxruntime_stages(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return the stages of `ddamfn predict`."""
    from ddamfn.classifier import Classifier
    from ddamfn.faces import Alignment, RetinaFace, align, decode

    classifier = Classifier(args.weights, args.num_threads, providers=args.provider)
    detector = RetinaFace(args.num_threads, providers=args.provider)
    content = photograph()
    image = decode(content)
    face = detector.detect(image)[0]
    entry = classifier.card.alignment
    alignment = Alignment(entry["template"], entry["margin"], entry["side_px"])
    crop = align(image, face.landmarks, alignment).pixels
    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(content),
        "detect": lambda: detector.detect(image),
        "align": lambda: align(image, face.landmarks, alignment),
    }
    for batch in BATCHES:
        crops = np.repeat(crop[None], batch, axis=0)
        stages[f"classify {batch}"] = partial(classifier.classify, crops)
    return stages


def eager_stages(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return the classify stage with the PyTorch network; its weights are random, which takes the same time."""
    import torch

    from ddamfn.classifier import preprocessing_of
    from ddamfn.faces import normalize, preprocess
    from ddamfn.models import create_network
    from ddamfn.weights import find_weights

    torch.set_num_threads(args.num_threads)
    _, card = find_weights(args.weights)
    made = card.architecture
    heads = {"num_heads": made["num_heads"]} if made["num_heads"] else {}
    network = create_network(made["name"], num_classes=made["num_classes"], **heads).eval()
    preprocessing, side = preprocessing_of(card), card.input_side_px

    def classify(crops: np.ndarray) -> object:
        pixels = torch.from_numpy(normalize(preprocess(crops, preprocessing), card.mean, card.std))
        with torch.inference_mode():
            output = network(pixels)
            return output.logits.numpy(), output.attention.mean(dim=2).numpy()

    generator = np.random.default_rng(0)
    stages: dict[str, Callable[[], object]] = {}
    for batch in BATCHES:
        crops = generator.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
        stages[f"classify {batch}"] = partial(classify, crops)
    return stages


def report(args: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]], before: float) -> list[str]:
    """Return the result as Markdown."""
    from ddamfn.faces import decode
    from ddamfn.weights import find_weights

    path, card = find_weights(args.weights)
    height, width = decode(photograph()).shape[:2]
    command = " ".join(["python benchmarks/inference.py", *sys.argv[1:]])
    packages = ("ddamfn", "onnxruntime", "torch", "numpy", "pillow")
    lines = heading("From a photograph to an expression", command, before, *packages)
    lines += [
        f"- weights: {card.name}, {card.architecture['name']}, {path.stat().st_size / 1e6:.1f} MB, {card.precision}",
        f"- photograph: the bundled portrait, {width} x {height}, one face; {args.num_threads} threads on each side",
        f"- {args.rounds} rounds of {args.seconds:g} s per stage; the two sides alternate, each in its own process",
        "",
        "Means and deviations are over the rounds; the time per face is the time of a call divided by its faces.",
        "",
        "| stage | by | faces per call | ms per face | deviation of rounds | faces/s | calls |",
        "|---|---|---|---|---|---|---|",
    ]
    means: dict[tuple[str, str], float] = {}
    for side in SIDES:
        for stage in rounds[side][0]["times"]:
            faces = int(stage.split()[1]) if " " in stage else 1
            per_face = [turn["times"][stage]["mean"] / faces for turn in rounds[side]]
            calls = sum(turn["times"][stage]["calls"] for turn in rounds[side])
            mean = means[side, stage] = statistics.mean(per_face)
            deviation = statistics.stdev(per_face) if len(per_face) > 1 else 0.0
            name = "PyTorch eager" if side == "eager" else BY[stage.split()[0]]
            lines.append(
                f"| {stage.split()[0]} | {name} | {faces} | {mean:.3f} | {deviation:.3f} | {1e3 / mean:.1f} | {calls} |"
            )
    lines += ["", "| classify, faces per call | PyTorch eager / ONNX Runtime |", "|---|---|"]
    for batch in BATCHES:
        ratio = means["eager", f"classify {batch}"] / means["onnxruntime", f"classify {batch}"]
        lines.append(f"| {batch} | {ratio:.2f} times |")
    lines += ["", "| side | peak memory |", "|---|---|"]
    for side, name in zip(SIDES, ("all stages with ONNX Runtime", "classify with PyTorch eager"), strict=True):
        lines.append(f"| {name} | {max(turn['peak_mb'] for turn in rounds[side]):.0f} MB |")
    return lines


if __name__ == "__main__":
    main()
