"""Images per second of training on this machine's device, by image size.

    python benchmarks/training.py [--quick] [--no-compile] [--recipe NAME] [--batch-size 64] [--device cpu]

Two tables: the training loop with the recipe's augmentation, moving average and checkpoints, plain and compiled, with
the compilation time; and the step of the network alone in several variants (memory format, precision, SAM, compiled,
CUDA graphs). Images are random, which takes the same time. Compiling for a CPU needs a C++ compiler and takes minutes:
--quick measures one size and few variants, --no-compile skips the compiled ones. Writes
docs/benchmarks/<date>-<commit>-training.md.
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
from ddamfn.models import ModelOutput, create_network
from ddamfn.objectives import DDAMFNObjective
from ddamfn.train import Optimizer, Phase, Run, fit, recipe
from ddamfn.train.loop import Trainer
from ddamfn.train.optim import build_optimizer
from ddamfn.train.run_folder import RunFolder
from ddamfn.train.tensorset import TensorSplit

SIDES_PX = (48, 64, 112)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant of the training step; `compiled` is the mode of torch.compile, or None."""

    name: str
    channels_last: bool = True
    bfloat16: bool = False
    sam: bool = False
    compiled: str | None = None


CPU_VARIANTS = (
    Variant(name="plain", channels_last=False),
    Variant(name="channels last"),
    Variant(name="channels last, compiled", compiled="default"),
    Variant(name="channels last, bfloat16", bfloat16=True),
    Variant(name="channels last, bfloat16, compiled", bfloat16=True, compiled="default"),
    Variant(name="channels last, SAM", sam=True),
    Variant(name="channels last, SAM, compiled", sam=True, compiled="default"),
)
_FAST = {"bfloat16": True, "channels_last": True}
CUDA_VARIANTS = (
    Variant(name="plain", channels_last=False),
    Variant(name="channels last"),
    Variant(name="bfloat16", channels_last=False, bfloat16=True),
    Variant(name="channels last, bfloat16", **_FAST),
    Variant(name="channels last, bfloat16, compiled", **_FAST, compiled="default"),
    # This mode captures the compiled step as CUDA graphs, which saves kernel launches.
    Variant(name="channels last, bfloat16, compiled, CUDA graphs", **_FAST, compiled="reduce-overhead"),
    Variant(name="channels last, bfloat16, SAM", **_FAST, sam=True),
    Variant(name="channels last, bfloat16, SAM, compiled, CUDA graphs", **_FAST, sam=True, compiled="reduce-overhead"),
)
QUICK_CPU_VARIANTS, QUICK_CUDA_VARIANTS = CPU_VARIANTS[:3], (CUDA_VARIANTS[0], *CUDA_VARIANTS[3:6])


def main() -> None:
    """Measure every size, and write the tables."""
    args = parse_arguments()
    torch.set_num_threads(args.num_threads)
    device, before, run = torch.device(args.device), load(), recipe(args.recipe)
    command = " ".join(["python benchmarks/training.py", *sys.argv[1:]])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.num_threads} threads"
    sides = SIDES_PX[:1] if args.quick else SIDES_PX
    with tempfile.TemporaryDirectory() as cache:
        # An empty cache, so that the compilation time is that of a new machine.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        # The loop first, alone: its peak memory is that of training, not of several networks at once.
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
    parser.add_argument("--images", type=int, help="images per epoch of the loop (default: 512, quick: 128)")
    parser.add_argument("--batch-size", type=int, help="images per step (default: 64, quick: 32)")
    parser.add_argument("--rounds", type=int, help="rounds of each variant (default: 3, quick: 2)")
    parser.add_argument("--quick", action="store_true", help="one size and few variants, in less than four minutes")
    parser.add_argument("--no-compile", action="store_true", help="skip compiled variants")
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
    args.round_seconds = 1.0 if args.quick else 2.0
    if args.images < args.batch_size:
        parser.error(f"--images {args.images} is less than one step of --batch-size {args.batch_size}")
    return args


# ---------------------------------------------------------------- the step alone


def step_table(run: Run, args: argparse.Namespace, sides: Sequence[int], device: torch.device) -> list[str]:
    """Return images per second of forward, backward and update, for several variants."""
    everything = CUDA_VARIANTS if device.type == "cuda" else CPU_VARIANTS
    quick = QUICK_CUDA_VARIANTS if device.type == "cuda" else QUICK_CPU_VARIANTS
    variants = [
        variant for variant in (quick if args.quick else everything) if not (args.no_compile and variant.compiled)
    ]
    lines = [
        "## The step of the network alone",
        "",
        "Forward, backward and update with the published loss, without augmentation: median and range of "
        f'{args.rounds} rounds in images per second, and relative to the plain step. "First step" includes '
        "compilation, except of code that the loop above has already compiled.",
        "",
        "| side | variant | images/s | range | times plain | first step, s |",
        "|---|---|---|---|---|---|",
    ]
    for side_px in sides:
        steps, firsts = [], []
        for variant in variants:
            step = make_step(run, variant, args.batch_size, side_px, device)
            firsts.append(seconds(step, device))
            for _ in range(2):
                step()
            steps.append(step)
        # Alternating, so that other load on the machine affects all of them.
        rounds = [[rate(step, args, device) for step in steps] for _ in range(args.rounds)]
        medians = [statistics.median(rates) for rates in zip(*rounds, strict=True)]
        for variant, rates, median, first in zip(variants, zip(*rounds, strict=True), medians, firsts, strict=True):
            spread, times = f"{min(rates):.1f} to {max(rates):.1f}", f"{median / medians[0]:.2f}"
            lines.append(f"| {side_px} px | {variant.name} | {median:.1f} | {spread} | {times} | {first:.1f} |")
            print(lines[-1], file=sys.stderr)
    return lines


def make_step(run: Run, variant: Variant, batch_size: int, side_px: int, device: torch.device) -> Callable[[], None]:
    """Return a function that makes one step of a new network."""
    torch.manual_seed(0)
    order = torch.channels_last if variant.channels_last else torch.contiguous_format
    network = create_network(run.model.name, num_classes=len(EXPRESSIONS), **run.model.options)
    network.to(device, memory_format=order)  # type: ignore[call-overload]
    # So small that random labels never make the loss NaN.
    optimizer = build_optimizer(calm(run.optimizer, variant.sam), network.parameters())
    split = random_split(batch_size, device)
    settings = replace(run, compile=False, objective=DDAMFNObjective())
    criterion = Trainer(settings, split, split, RunFolder(Path())).criterion
    images = torch.randn(batch_size, 3, side_px, side_px, device=device).contiguous(memory_format=order)
    called: Callable[..., ModelOutput] = network
    if variant.compiled is not None:
        called = torch.compile(network, dynamic=False, mode=variant.compiled)

    def backward() -> None:
        # CUDA graphs reuse the memory of every step's tensors; here the earlier ones are no longer needed.
        if device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bfloat16):
            output = called(images)
        criterion(output, split.targets).total.backward()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward()
        if variant.sam:
            optimizer.first_step(zero_grad=True)  # type: ignore[attr-defined]
            backward()
            optimizer.second_step(zero_grad=True)  # type: ignore[attr-defined]
        else:
            optimizer.step()

    return step


def calm(optimizer: Optimizer, sam: bool) -> Optimizer:
    """Return the recipe's optimizer with a tiny learning rate, with or without SAM."""
    return replace(optimizer, lr=1e-6, sam_rho=0.05 if sam else None)


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Return the duration of one step."""
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def rate(step: Callable[[], None], args: argparse.Namespace, device: torch.device) -> float:
    """Return images per second of one round."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < args.round_seconds:
        times.append(seconds(step, device))
    return len(times) * int(args.batch_size) / sum(times)


# ---------------------------------------------------------------- the loop


class Silent:
    """A reporter that only keeps the rows."""

    def __init__(self) -> None:
        """Start without rows."""
        self.rows: list[dict[str, Any]] = []

    def epoch_started(self, epoch: int, epochs: int, images: int, done: int, side_px: int) -> None:
        """Do nothing."""

    def step_done(self, images: int, loss: float | None, accuracy: float | None) -> None:
        """Do nothing."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(row)


def loop_table(run: Run, args: argparse.Namespace, sides: Sequence[int], device: torch.device) -> list[str]:
    """Return images per second of the training loop, plain and compiled: the second epoch of two."""
    train, valid = random_split(args.images, device), random_split(64, device)
    plain = {side_px: two_epochs(run, False, side_px, args.batch_size, train, valid) for side_px in sides}
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mb()
    lines = [
        "## The loop",
        "",
        f"With the recipe's augmentation and moving average; the second of two epochs of {args.images} images, "
        "without validation. The compilation time is what the first epoch took longer.",
        "",
        "| side | loop | images/s | ms per image | minutes for 25,000 images | compilation, s |",
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
    """Return the rows of a run of two epochs at one size."""
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
    """Return random grayscale images of the largest size, all classes in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, SIDES_PX[-1], SIDES_PX[-1]), generator=generator, dtype=torch.uint8)
    targets = torch.eye(len(EXPRESSIONS))[torch.arange(count) % len(EXPRESSIONS)]
    return TensorSplit(images.to(device), targets.to(device), tuple(map(str, range(count))), EXPRESSIONS)


def peak_mb() -> float:
    """Return this process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
