"""Train on class folders of your own, export the network, and get an .onnx file that `ddamfn predict` takes.

The folder holds train/happiness/1.jpg and so on; with no val folder a tenth of train is held out to choose the epoch.
This is `ddamfn train` and `ddamfn export` as Python, for whoever wants to change the run in ways that `--set` cannot.
Needs pip install "ddamfn[train]".

python examples/train_on_folder.py faces mine --epochs 8
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ddamfn.export.weights import export_run
from ddamfn.train import fit, load_splits, open_prepared, recipe
from ddamfn.train.run_folder import read_run


class Lines:
    """Reports the progress of the run: a line per epoch."""

    def epoch_started(self, *_: object) -> None:
        """Say nothing."""

    def step_done(self, *_: object) -> None:
        """Say nothing."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Print the epoch's result."""
        valid = row["valid"]
        print(f"epoch {row['epoch']}: loss {row['train']['loss']:.3f}, validation {valid['correct']}/{valid['n']}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the folder that the arguments name."""
    parser = argparse.ArgumentParser(description="Trains on class folders and exports the network.")
    parser.add_argument("faces", type=Path, help="folder with train/<expression>/ inside")
    parser.add_argument("name", help="of the weights; NAME.onnx and NAME.json are written here")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--gate-faces", type=int, default=1000, help="how many faces the export is checked on")
    args = parser.parse_args(arguments)

    run = recipe("ddamfn_quick")
    run = replace(run, phases=(replace(run.phases[0], epochs=args.epochs),))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Detects and aligns every face once; the next run on the same folder begins at once.
    prepared = open_prepared(args.faces, run.data.alignment)
    train, valid = load_splits(prepared, run, device)
    print(f"{len(train)} images to learn from, {len(valid)} to select on, classes: {', '.join(train.classes)}")
    outcome = fit(run, train, valid, args.runs / args.name, Lines())
    print(f"best epoch {outcome.best['epoch']}, validation accuracy {outcome.best['valid']['accuracy']:.3f}")
    # With the data at hand the confidence is calibrated on the validation images.
    exported = export_run(read_run(outcome.folder), args.name, Path(), prepared=prepared, least_faces=args.gate_faces)
    print(f"{exported.path}: same predictions as the network on {exported.comparison.faces}")


# Preparing starts processes, and each of them reads this file anew: without this line they would all train.
if __name__ == "__main__":
    main()
