"""Arguments shared by the verbs: one-line errors, value types, and options."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ddamfn.errors import UsageError
from ddamfn.files import is_address

if TYPE_CHECKING:
    from ddamfn.faces import DetectionMode
    from ddamfn.weights import ClassPrior

_Number = TypeVar("_Number", int, float)

# Arguments of any verb that name a file or folder; images and videos have a message of their own.
_PLACES = ("annotate", "data", "destination", "output", "root", "runs", "source", "timeline", "weights")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports bad arguments in one line on standard error and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        """Print the error and where to find help, and exit with status 2."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def refuse_addresses(args: argparse.Namespace) -> None:
    """Raise UsageError for an address where a file or folder is named: nothing is fetched over a network, nor sent.

    A verb that may write to an address names the argument in `may_be_addresses`, and checks it by itself.
    """
    for name in _PLACES:
        value = None if name in getattr(args, "may_be_addresses", ()) else getattr(args, name, None)
        if isinstance(value, (str, os.PathLike)) and is_address(os.fspath(value)):
            raise UsageError(f"{os.fspath(value)!r} is an address, and only files and folders of this machine are used")


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Add `--kind`, the layout that `open_dataset` takes."""
    from ddamfn.data import KINDS

    parser.add_argument("--kind", choices=KINDS, help="layout of the data set (default: recognized)")


def positive_integer(text: str) -> int:
    """Parse an integer of at least 1."""
    return _number(text, int, lambda number: number >= 1, "a whole number of at least 1")


def seconds(text: str) -> float:
    """Parse a number of seconds, at least 0."""
    return _number(text, float, lambda number: 0 <= number < math.inf, "a number of seconds of at least 0")


def share(text: str) -> float:
    """Parse a number above 0 and at most 1."""
    return _number(text, float, lambda number: 0 < number <= 1, "a number above 0 and at most 1")


def detection(text: str) -> "DetectionMode":
    """Parse how closely to look for faces: "auto", "full" or a number of pixels."""
    from ddamfn.faces.search import check_detection

    value: DetectionMode = int(text) if text.isdecimal() else text  # type: ignore[assignment]
    try:
        check_detection(value)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def class_prior(text: str) -> "ClassPrior":
    """Parse an expected mix of expressions: "training", "uniform", or shares such as "neutral=.3,happiness=.4"."""
    from ddamfn.weights.prior import parse_class_prior

    try:
        return parse_class_prior(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_class_prior(parser: argparse.ArgumentParser, what: str = "the images") -> None:
    """Add `--class-prior`, the mix of expressions that is expected."""
    parser.add_argument(
        "--class-prior",
        type=class_prior,
        default="training",
        metavar="training|uniform|NAME=SHARE,...",
        help=f"how common the expressions are in {what}: as in the training images, equally common, or these shares "
        "from 0 to 1, the others dividing the rest (default: training)",
    )


def add_provider(parser: argparse.ArgumentParser) -> None:
    """Add `--provider`, where both networks run."""
    parser.add_argument(
        "--provider",
        action="append",
        metavar="NAME",
        help="execution provider of ONNX Runtime for both networks: cpu, cuda, coreml, openvino, ...; named several "
        "times, the most wanted first (default: cpu)",
    )


def port(text: str) -> int:
    """Parse the number of a TCP port, 0 for any free one."""
    return _number(text, int, lambda number: 0 <= number <= 65535, "a port: 0 to 65535")


def moment(text: str) -> float:
    """Parse a time in a video (seconds, m:ss or h:mm:ss, with or without a fraction) to seconds."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write seconds, m:ss or h:mm:ss")
    hours, minutes, rest = match.groups()
    if (minutes is not None and float(rest) >= 60) or (hours is not None and int(minutes) >= 60):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: minutes and seconds after a colon go to 59")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(rest)


def _number(text: str, kind: Callable[[str], _Number], accepts: Callable[[_Number], bool], wanted: str) -> _Number:
    """Parse a number, or refuse the text in one line."""
    try:
        number = kind(text)
    except ValueError:
        pass
    else:
        if accepts(number):
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
