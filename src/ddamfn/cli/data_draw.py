"""`ddamfn data draw`: a small data set of drawn faces, to try training and evaluation without any photographs."""

import argparse

from ddamfn.cli.parser import positive_integer
from ddamfn.errors import UsageError

# Spelt out, since the writers' own table would import NumPy and Pillow for every --help; a test compares the two.
LAYOUTS = (
    "affectnet",
    "affectnet-manual",
    "ckplus",
    "fer2013",
    "ferplus",
    "ferplus-zip",
    "folder",
    "rafdb",
    "table",
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `draw` to those of `ddamfn data`."""
    parser = subparsers.add_parser(
        "draw",
        help="draw a small data set of cartoon faces",
        description="Draws faces with known expressions in the layout of a data set: for trying training and "
        "evaluation without photographs, and for tests. The same seed draws the same pictures.",
    )
    parser.add_argument("destination", metavar="DST", help="folder to make; it must be empty or not exist")
    parser.add_argument("--layout", choices=LAYOUTS, default="folder", help="whose files to imitate (%(default)s)")
    parser.add_argument(
        "--per-class",
        type=positive_integer,
        default=32,
        metavar="N",
        help="pictures a class in train, half as many in val and test (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which pictures (%(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw the data set and print its folder.

    Raises:
        UsageError: if the destination holds files already, or the seed is negative.
    """
    from pathlib import Path

    import numpy as np

    from ddamfn.data.synthetic import LAYOUTS as WRITERS

    destination = Path(args.destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination} is not an empty folder; name a new one, so that nothing is mixed up")
    if args.seed < 0:
        raise UsageError(f"the seed must not be negative, and {args.seed} is")
    print(WRITERS[args.layout](destination, args.per_class, np.random.default_rng(args.seed)))
    return 0
