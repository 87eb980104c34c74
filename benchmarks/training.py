"""Images a second of training, on the device at hand, by side of the images.

    python benchmarks/training.py [--quick] [--no-compile] [--recipe NAME] [--batch-size 64] [--device cpu]

Two tables. The training loop itself, with the recipe's augmentation, moving average and checkpoints, plain and
compiled, with the seconds that compiling took. And the step of the network alone in several ways (order of memory,
precision, sharpness-aware, compiled, captured as CUDA graphs), in turns. Random images cost what images cost.
Compiling for a CPU needs a C++ compiler and takes minutes: --quick measures one side and few ways, --no-compile leaves
compiled ways out. Writes docs/benchmarks/<date>-<commit>-training.md.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, cores, heading, load, write_result

from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput, create_model
from ddamfn.objectives import DDAMFNObjective
from ddamfn.train import Optimizer, Phase, Run, fit, recipe
from ddamfn.train.loop import Trainer
from ddamfn.train.optim import build_optimizer
from ddamfn.train.run_folder import RunFolder
from ddamfn.train.tensorset import TensorSplit

SIDES_PX = (48, 64, 112)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of making a step; `compiled` is torch.compile's mode, None for none."""

    name: str
    channels_last: bool = True
    bfloat16: bool = False
    sam: bool = False
    compiled: str | None = None


CPU_WAYS = (
    Way(name="plain", channels_last=False),
    Way(name="channels last"),
    Way(name="channels last, compiled", compiled="default"),
    Way(name="channels last, bfloat16", bfloat16=True),
    Way(name="channels last, bfloat16, compiled", bfloat16=True, compiled="default"),
    Way(name="channels last, SAM", sam=True),
    Way(name="channels last, SAM, compiled", sam=True, compiled="default"),
)
_FAST = {"bfloat16": True, "channels_last": True}
CUDA_WAYS = (
    Way(name="plain", channels_last=False),
    Way(name="channels last"),
    Way(name="bfloat16", channels_last=False, bfloat16=True),
    Way(name="channels last, bfloat16", **_FAST),
    Way(name="channels last, bfloat16, compiled", **_FAST, compiled="default"),
    # The mode captures the compiled step as CUDA graphs, which spares the launches of its kernels.
    Way(name="channels last, bfloat16, compiled, CUDA graphs", **_FAST, compiled="reduce-overhead"),
    Way(name="channels last, bfloat16, SAM", **_FAST, sam=True),
    Way(name="channels last, bfloat16, SAM, compiled, CUDA graphs", **_FAST, sam=True, compiled="reduce-overhead"),
)
QUICK_CPU_WAYS, QUICK_CUDA_WAYS = CPU_WAYS[:3], (CUDA_WAYS[0], *CUDA_WAYS[3:6])


def main() -> None:
    """Measure every side, and write the tables."""
    args = parse_arguments()
    torch.set_num_threads(args.num_threads)
    device, before, run = torch.device(args.device), load(), recipe(args.recipe)
    command = " ".join(["python benchmarks/training.py", *sys.argv[1:]])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.num_threads} threads"
    sides = SIDES_PX[:1] if args.quick else SIDES_PX
    with tempfile.TemporaryDirectory() as cache:
        # Without what earlier runs compiled, so that the seconds of compiling are those of a new machine.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        # The loop comes first, alone: its peak of memory is that of training, not of several networks side by side.
        loop = loop_table(run, args, sides, device)
        steps = step_table(run, args, sides, device)
    lines = [
        *heading("Training speed", command, before, "ddamfn", "torch", "kornia", "numpy"),
        f"- device: {name}",
        f"- recipe {args.recipe}: {run.model.name}, {run.optimizer.name}, batch {args.batch_size}",
        "",
        *loop,
        "",
        *steps,
    ]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'training')}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", default="ddamfn_ferplus_cpu")
    parser.add_argument("--images", type=int, help="of an epoch of the loop (default: 512, quick: 128)")
    parser.add_argument("--batch-size", type=int, help="images a step (default: 64, quick: 32)")
    parser.add_argument("--rounds", type=int, help="turns of each way (default: 3, quick: 2)")
    parser.add_argument("--quick", action="store_true", help="one side and few ways, in less than four minutes")
    parser.add_argument("--no-compile", action="store_true", help="leave compiled ways out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--num-threads", type=int, default=cores(), help="threads of the CPU (default: all cores)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    defaults = (
        {"images": 128, "batch_size": 32, "rounds": 2} if args.quick else {"images": 512, "batch_size": 64, "rounds": 3}
    )
    for option, value in defaults.items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    args.turn_seconds = 1.0 if args.quick else 2.0
    if args.images < args.batch_size:
        parser.error(f"--images {args.images} is less than one step of --batch-size {args.batch_size}")
    return args


# ---------------------------------------------------------------- the step alone


def step_table(run: Run, args: argparse.Namespace, sides: Sequence[int], device: torch.device) -> list[str]:
    """Images a second of forward, backward and update, in several ways."""
    everything = CUDA_WAYS if device.type == "cuda" else CPU_WAYS
    quick = QUICK_CUDA_WAYS if device.type == "cuda" else QUICK_CPU_WAYS
    ways = [way for way in (quick if args.quick else everything) if not (args.no_compile and way.compiled)]
    lines = [
        "## The step of the network alone",
        "",
        "Forward, backward and update with the published loss, without augmentation, images a second: median and "
        f'range of {args.rounds} turns, and how many times the plain step. "First step" holds the compilation, except '
        "of code that the loop above has compiled before.",
        "",
        "| side | way | images/s | range | times plain | first step, s |",
        "|---|---|---|---|---|---|",
    ]
    for side_px in sides:
        steps, firsts = [], []
        for way in ways:
            step = make_step(run, way, args.batch_size, side_px, device)
            firsts.append(seconds(step, device))
            for _ in range(2):
                step()
            steps.append(step)
        # In turns, so that whatever else the machine does meets all of them.
        turns = [[rate(step, args, device) for step in steps] for _ in range(args.rounds)]
        medians = [statistics.median(rates) for rates in zip(*turns, strict=True)]
        for way, rates, median, first in zip(ways, zip(*turns, strict=True), medians, firsts, strict=True):
            spread, times = f"{min(rates):.1f} to {max(rates):.1f}", f"{median / medians[0]:.2f}"
            lines.append(f"| {side_px} px | {way.name} | {median:.1f} | {spread} | {times} | {first:.1f} |")
            print(lines[-1], file=sys.stderr)
    return lines


def make_step(run: Run, way: Way, batch_size: int, side_px: int, device: torch.device) -> Callable[[], None]:
    """Return a function that makes one step of a new network in that way."""
    torch.manual_seed(0)
    order = torch.channels_last if way.channels_last else torch.contiguous_format
    network = create_model(run.model.name, num_classes=len(EXPRESSIONS), **run.model.options)
    network.to(device, memory_format=order)  # type: ignore[call-overload]
    # So small that random labels never end in a loss that is no number.
    optimizer = build_optimizer(calm(run.optimizer, way.sam), network.parameters())
    split = random_split(batch_size, device)
    settings = replace(run, compile=False, objective=DDAMFNObjective())
    criterion = Trainer(settings, split, split, RunFolder(Path())).criterion
    images = torch.randn(batch_size, 3, side_px, side_px, device=device).contiguous(memory_format=order)
    called: Callable[..., ModelOutput] = network
    if way.compiled is not None:
        called = torch.compile(network, dynamic=False, mode=way.compiled)

    def backward() -> None:
        # CUDA graphs write every step's tensors to the same place; here the ones before are no longer needed.
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
            output = called(images)
        criterion(output, split.targets).total.backward()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward()
        if way.sam:
            optimizer.first_step(zero_grad=True)  # type: ignore[attr-defined]
            backward()
            optimizer.second_step(zero_grad=True)  # type: ignore[attr-defined]
        else:
            optimizer.step()

    return step


def calm(optimizer: Optimizer, sam: bool) -> Optimizer:
    """The recipe's optimizer with hardly any learning rate, sharpness-aware or not."""
    return replace(optimizer, lr=1e-6, sam_rho=0.05 if sam else None)


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """How long one step takes."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def rate(step: Callable[[], None], args: argparse.Namespace, device: torch.device) -> float:
    """Images a second of one turn."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < args.turn_seconds:
        times.append(seconds(step, device))
    return len(times) * int(args.batch_size) / sum(times)


# ---------------------------------------------------------------- the loop


class Silent:
    """A reporter that only remembers the rows."""

    def __init__(self) -> None:
        """Begin without a row."""
        self.rows: list[dict[str, Any]] = []

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Say nothing."""

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Say nothing."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(row)


def loop_table(run: Run, args: argparse.Namespace, sides: Sequence[int], device: torch.device) -> list[str]:
    """Images a second of the training loop, plain and compiled: the second epoch of two."""
    train, valid = random_split(args.images, device), random_split(64, device)
    plain = {side_px: two_epochs(run, False, side_px, args.batch_size, train, valid) for side_px in sides}
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mb()
    lines = [
        "## The loop",
        "",
        f"With the recipe's augmentation and moving average; the second of two epochs of {args.images} images, "
        "validation not counted. The first epoch's additional seconds are those of compiling.",
        "",
        "| side | loop | images/s | ms an image | minutes for 25,000 images | compiling, s |",
        "|---|---|---|---|---|---|",
    ]
    for side_px in sides:
        compiled = None if args.no_compile else two_epochs(run, True, side_px, args.batch_size, train, valid)
        for name, rows in (("plain", plain[side_px]), ("compiled", compiled)):
            if rows is None:
                continue
            speed, extra = rows[1]["images_per_second"], rows[0]["seconds"] - rows[1]["seconds"]
            cells = (f"{speed:.1f}", f"{1e3 / speed:.2f}", f"{25_000 / speed / 60:.1f}")
            lines.append(
                f"| {side_px} px | {name} | {' | '.join(cells)} | {'-' if rows is not compiled else f'{extra:.0f}'} |"
            )
            print(lines[-1], file=sys.stderr)
    return [*lines, "", f"Peak memory of the plain loop: {peak:.0f} MB{' on the device' * (device.type == 'cuda')}."]


def two_epochs(
    run: Run, compiled: bool, side_px: int, batch_size: int, train: TensorSplit, valid: TensorSplit
) -> list[dict[str, Any]]:
    """The rows of a run of two epochs at one size."""
    calmed = replace(
        run,
        data=replace(run.data, alignment=replace(run.data.alignment, side_px=SIDES_PX[-1])),
        phases=(Phase(epochs=2, side_px=side_px, batch_size=batch_size),),
        optimizer=calm(run.optimizer, run.optimizer.sam_rho is not None),
        compile=compiled,
    )
    reporter = Silent()
    with tempfile.TemporaryDirectory() as folder:
        fit(calmed, train, valid, Path(folder) / "run", reporter)
    return reporter.rows


def random_split(count: int, device: torch.device) -> TensorSplit:
    """So many gray random images of the largest size, all classes in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, SIDES_PX[-1], SIDES_PX[-1]), generator=generator, dtype=torch.uint8)
    targets = torch.eye(len(EXPRESSIONS))[torch.arange(count) % len(EXPRESSIONS)]
    return TensorSplit(images.to(device), targets.to(device), tuple(map(str, range(count))), EXPRESSIONS)


def peak_mb() -> float:
    """This process's peak of memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
