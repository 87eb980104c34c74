"""Pictures a second of training, on the device at hand, by side of the pictures.

    python benchmarks/training.py [--recipe ddamfn_ferplus_cpu] [--batch 64] [--rounds 3] [--device cpu|cuda]

Two tables: the step alone in several ways (order of memory, precision, sharpness-aware, compiled), measured in turns;
and the training loop itself with the recipe's augmentation, moving average and checkpoints. Random pixels cost what
pictures cost. Writes docs/benchmarks/<date>-<commit>-training.md.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, cores, heading, load, write_result
from torch import Tensor

from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput, create_model
from ddamfn.train import Optimiser, Phase, Run, fit, recipe
from ddamfn.train.optim import build_optimiser
from ddamfn.train.tensorset import TensorSplit

SIDES_PX = (48, 64, 112)
_LEAST_SECONDS = 2.0
"""How long a way is measured each time it has its turn."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of making a step."""

    name: str
    channels_last: bool = True
    bfloat16: bool = False
    sam: bool = False
    compiled: bool = False


CPU_WAYS = (
    Way(name="plain", channels_last=False),
    Way(name="channels last"),
    Way(name="channels last, bfloat16", bfloat16=True),
    Way(name="channels last, SAM", sam=True),
)
CUDA_WAYS = (
    Way(name="plain", channels_last=False),
    Way(name="channels last"),
    Way(name="bfloat16", channels_last=False, bfloat16=True),
    Way(name="channels last, bfloat16", bfloat16=True),
    Way(name="channels last, bfloat16, compiled", bfloat16=True, compiled=True),
    Way(name="channels last, bfloat16, SAM", bfloat16=True, sam=True),
)


def main() -> None:
    """Measure every side, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", default="ddamfn_ferplus_cpu")
    parser.add_argument("--pictures", type=int, default=512, help="of an epoch of the loop (default: 512)")
    parser.add_argument("--batch", type=int, default=64, help="pictures a step (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (default: 3)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of the CPU (default: all cores)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, before, run = torch.device(args.device), load(), recipe(args.recipe)
    command = " ".join(["python benchmarks/training.py", *sys.argv[1:]])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} threads"
    # The loop comes first, alone: its peak of memory is that of training, not of several networks side by side.
    loop = loop_table(run, args.batch, args.pictures, device)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mb()
    lines = [
        *heading("Training speed", command, before, "ddamfn", "torch", "kornia", "numpy"),
        f"- device: {name}",
        f"- recipe {args.recipe}: {run.model.name}, {run.optimiser.name}, batch {args.batch}",
        "",
        *step_table(run, args.batch, args.rounds, device),
        "",
        *loop,
        "",
        f"Peak memory of the loop: {peak:.0f} MB{' on the device' if device.type == 'cuda' else ''}.",
    ]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'training')}", file=sys.stderr)


# ---------------------------------------------------------------- the step alone


def step_table(run: Run, batch_size: int, rounds: int, device: torch.device) -> list[str]:
    """Pictures a second of forward, backward and update, in several ways."""
    ways = CUDA_WAYS if device.type == "cuda" else CPU_WAYS
    lines = [
        "## One step",
        "",
        f"Forward, backward and update without augmentation, pictures a second: median and range of {rounds} turns.",
        "",
        "| side | " + " | ".join(way.name for way in ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for side_px in SIDES_PX:
        steps = [make_step(run, way, batch_size, side_px, device) for way in ways]
        # In turns, so that whatever else the machine does meets all of them.
        turns = [[rate(step, batch_size, device) for step in steps] for _ in range(rounds)]
        cells = [f"{statistics.median(r):.1f} ({min(r):.1f} to {max(r):.1f})" for r in zip(*turns, strict=True)]
        lines.append(f"| {side_px} px | " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr)
    return lines


def make_step(run: Run, way: Way, batch_size: int, side_px: int, device: torch.device) -> Callable[[], None]:
    """Return a function that makes one step of a new network in that way; its first steps are done."""
    torch.manual_seed(0)
    order = torch.channels_last if way.channels_last else torch.contiguous_format
    network = create_model(run.model.name, num_classes=len(EXPRESSIONS), **run.model.options)
    network.to(device, memory_format=order)  # type: ignore[call-overload]
    # So small that random labels never end in a loss that is no number.
    optimiser = build_optimiser(calm(run.optimiser, way.sam), network.parameters())
    criterion = run.objective.create_criterion(classes=EXPRESSIONS, num_pictures=batch_size).to(device)
    images = torch.randn(batch_size, 3, side_px, side_px, device=device).contiguous(memory_format=order)
    targets = torch.eye(len(EXPRESSIONS), device=device)[torch.arange(batch_size) % len(EXPRESSIONS)]
    called: Callable[[Tensor], ModelOutput] = torch.compile(network) if way.compiled else network

    def backward() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
            output = called(images)
        criterion(output, targets).total.backward()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        backward()
        if way.sam:
            optimiser.first_step(zero_grad=True)  # type: ignore[attr-defined]
            backward()
            optimiser.second_step(zero_grad=True)  # type: ignore[attr-defined]
        else:
            optimiser.step()

    for _ in range(3):
        step()
    return step


def calm(optimiser: Optimiser, sam: bool) -> Optimiser:
    """The recipe's optimiser with hardly any learning rate, sharpness-aware or not."""
    return replace(optimiser, lr=1e-6, sam_rho=0.05 if sam else None)


def rate(step: Callable[[], None], batch_size: int, device: torch.device) -> float:
    """Pictures a second of one turn."""
    count, start = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - start < _LEAST_SECONDS:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += 1
    return count * batch_size / (time.perf_counter() - start)


# ---------------------------------------------------------------- the loop


class Silent:
    """A reporter that only remembers the rows."""

    def __init__(self) -> None:
        """Begin without a row."""
        self.rows: list[dict[str, Any]] = []

    def epoch_started(self, epoch: int, epochs: int, pictures: int, done: int, side_px: int) -> None:
        """Say nothing."""

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Say nothing."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(row)


def loop_table(run: Run, batch_size: int, pictures: int, device: torch.device) -> list[str]:
    """Pictures a second of the training loop, the second epoch of two."""
    train, valid = random_split(pictures, device), random_split(64, device)
    lines = [
        "## The loop",
        "",
        f"With the recipe's augmentation and moving average; the second of two epochs of {pictures} pictures, "
        "validation not counted.",
        "",
        "| side | pictures/s | ms a picture | minutes for 25,000 pictures |",
        "|---|---|---|---|",
    ]
    for side_px in SIDES_PX:
        speed = second_epoch(run, side_px, batch_size, train, valid)["pictures_per_second"]
        lines.append(f"| {side_px} px | {speed:.1f} | {1e3 / speed:.2f} | {25_000 / speed / 60:.1f} |")
        print(lines[-1], file=sys.stderr)
    return lines


def second_epoch(run: Run, side_px: int, batch_size: int, train: TensorSplit, valid: TensorSplit) -> dict[str, Any]:
    """The second epoch's row of a run at one size."""
    calmed = replace(
        run,
        phases=(Phase(epochs=2, side_px=side_px, batch_size=batch_size),),
        optimiser=calm(run.optimiser, run.optimiser.sam_rho is not None),
    )
    reporter = Silent()
    with tempfile.TemporaryDirectory() as folder:
        fit(calmed, train, valid, Path(folder) / "run", reporter)
    return reporter.rows[1]


def random_split(count: int, device: torch.device) -> TensorSplit:
    """So many grey random pictures of 112 px, all classes in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 112, 112), generator=generator, dtype=torch.uint8)
    targets = torch.eye(len(EXPRESSIONS))[torch.arange(count) % len(EXPRESSIONS)]
    return TensorSplit(images.to(device), targets.to(device), tuple(map(str, range(count))), EXPRESSIONS)


def peak_mb() -> float:
    """This process's peak of memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
