"""Argument parsing shared by the verbs: one-line errors and value types."""

import argparse
import math
import re
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers bad arguments with one line on standard error and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and leave with status 2."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Add `--kind`, the layout that `open_dataset` takes."""
    from ddamfn.data import KINDS

    parser.add_argument("--kind", choices=KINDS, help="layout of the data set (default: recognized)")


def positive_integer(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def seconds(text: str) -> float:
    """Read a number of seconds, at least 0.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return number


def moment(text: str) -> float:
    """Read a time in a video, as seconds, m:ss or h:mm:ss, each with or without a fraction.

    Returns:
        Seconds, at least 0.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write seconds, m:ss or h:mm:ss")
    hours, minutes, rest = match.groups()
    limits = (minutes is not None and float(rest) >= 60) or (hours is not None and int(minutes) >= 60)
    if limits:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: minutes and seconds after a colon go to 59")
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(rest)


def share(text: str) -> float:
    """Read a number above 0 and at most 1.

    Raises:
        argparse.ArgumentTypeError: if the text is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return number
