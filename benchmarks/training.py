"""Pictures a second of the training loop itself, by side of the pictures, on the device at hand.

    python benchmarks/training.py [--recipe ddamfn_ferplus_cpu] [--pictures 512] [--device cpu|cuda] [--threads N]

Trains on random pixels, which cost what pictures cost: two epochs a size, of which the second counts. Augmentation,
optimiser, moving average and checkpoints are the recipe's. Writes docs/benchmarks/<date>-<commit>-training.md.
"""

import argparse
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from machine import ROOT, cores, heading, load, write_result

from ddamfn.labels import EXPRESSIONS
from ddamfn.train import Phase, Run, fit, recipe
from ddamfn.train.tensorset import TensorSplit

SIDES_PX = (48, 64, 112)


class Silent:
    """A reporter that only remembers the rows."""

    def __init__(self) -> None:
        """Begin without a row."""
        self.rows: list[dict[str, Any]] = []

    def epoch_started(self, epoch: int, epochs: int, pictures: int, side_px: int) -> None:
        """Say nothing."""

    def step_done(self, pictures: int, loss: float | None, accuracy: float | None) -> None:
        """Say nothing."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(row)


def random_split(count: int, device: torch.device) -> TensorSplit:
    """So many grey random pictures of 112 px, all classes in turn."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 112, 112), generator=generator, dtype=torch.uint8)
    targets = torch.eye(len(EXPRESSIONS))[torch.arange(count) % len(EXPRESSIONS)]
    return TensorSplit(images.to(device), targets.to(device), tuple(map(str, range(count))), EXPRESSIONS)


def measure(run: Run, side_px: int, batch_size: int, train: TensorSplit, valid: TensorSplit) -> dict[str, Any]:
    """The second epoch's row of a run at one size."""
    # The recipe's learning rate may be meant for another size; random pictures must not end in a loss that is no
    # number.
    calm = replace(run, phases=(Phase(epochs=2, side_px=side_px, batch_size=batch_size, lr_factor=0.01),))
    reporter = Silent()
    with tempfile.TemporaryDirectory() as folder:
        fit(calm, train, valid, Path(folder) / "run", reporter)
    return reporter.rows[1]


def main() -> None:
    """Measure every size, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", default="ddamfn_ferplus_cpu")
    parser.add_argument("--pictures", type=int, default=512, help="an epoch (default: 512)")
    parser.add_argument("--batch", type=int, default=64, help="pictures a step (default: 64)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device, before, run = torch.device(args.device), load(), recipe(args.recipe)
    train, valid = random_split(args.pictures, device), random_split(64, device)
    command = " ".join(["python benchmarks/training.py", *sys.argv[1:]])
    lines = heading("Training speed", command, before, "ddamfn", "torch", "kornia", "numpy")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} threads"
    lines += [
        f"- device: {name}",
        f"- recipe {args.recipe}: {run.model.name}, batch {args.batch}, {args.pictures} random pictures an epoch",
        "- the second of two epochs, validation not counted",
        "",
        "| side | pictures/s | ms a picture | minutes for 25,000 pictures |",
        "|---|---|---|---|",
    ]
    for side_px in SIDES_PX:
        rate = measure(run, side_px, args.batch, train, valid)["pictures_per_second"]
        lines.append(f"| {side_px} px | {rate:.1f} | {1e3 / rate:.2f} | {25_000 / rate / 60:.1f} |")
        print(lines[-1], file=sys.stderr)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mb()
    lines += ["", f"Peak memory: {peak:.0f} MB{' on the device' if device.type == 'cuda' else ''}."]
    print("\n".join(lines))
    print(f"\nwritten to {write_result(lines, args.output, 'training')}", file=sys.stderr)


def peak_mb() -> float:
    """This process's peak of memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
