"""`ddamfn demo`: the whole pipeline on a bundled portrait."""

import argparse
import sys
from importlib.resources import files
from pathlib import Path

from ddamfn.cli.io import check_output, write_errors
from ddamfn.cli.models import accuracy

_IMAGE = "ddamfn-demo.png"
_CREDIT = "portrait: NASA astronaut Eileen Collins, NASA Great Images database, public domain"
_BAR_LETTERS = 40


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "demo",
        description="Reads a bundled portrait (NASA, public domain), prints its expression, and writes the annotated "
        "image with the network's attention maps.",
    )
    parser.add_argument("--output", default=_IMAGE, metavar="FILE", help=f"the image (default: {_IMAGE})")
    parser.add_argument("--weights", metavar="NAME_OR_PATH", help="bundled weights or an .onnx file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the portrait, print the results, write the image."""
    from dataclasses import replace

    from ddamfn.cli.writers import make_writer
    from ddamfn.recognizer import Recognizer
    from ddamfn.results import row_columns

    check_output(args, "image")
    recognizer = Recognizer(args.weights)
    result = recognizer.predict(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    writer = make_writer("table", sys.stdout.buffer, row_columns(recognizer.card.labels))
    writer.write(replace(result, source="astronaut.jpg"))
    target = Path(args.output)
    with write_errors(target):
        result.save(target, attention=True)
    print()
    for name, value in result.faces[0].probabilities.items() if result.faces else ():
        print(f"{name:<12}{value:>10.1%}  {'#' * round(value * _BAR_LETTERS)}".rstrip())
    print(f"\nannotated image: {target}")
    print(f"weights: {recognizer.card.name}, accuracy {accuracy(recognizer.card)}")
    print(_CREDIT)
    return 0
