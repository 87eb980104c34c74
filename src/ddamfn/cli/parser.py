"""Argument parsing whose complaints are one line, and the kinds of values that several verbs take."""

import argparse
import sys
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers bad arguments with one line on standard error and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and leave with status 2."""
        print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


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
