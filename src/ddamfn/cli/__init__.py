"""The command line: one file per verb, which only parses, calls and prints.

Only the requested verb is imported; NumPy, ONNX Runtime and PyTorch are imported when it needs them.
"""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ddamfn import __version__
from ddamfn.cli.args import Parser, refuse_addresses
from ddamfn.environment import share_cache
from ddamfn.errors import DdamfnError, UsageError

# Each verb is the module of that name here, with `add_parser(subparsers)`.
VERBS = {
    "predict": "read the expressions in images, a video or a camera",
    "demo": "read a bundled portrait and draw what the network saw",
    "models": "list weights and networks",
    "eval": "score weights on a data set",
    "data": "check, prepare or draw a data set",
    "train": "train a network from a recipe",
    "study": "reproduce the published tables",
    "export": "turn a training run into weights, or weights into another format",
    "explain": "show where the network looked, and measure whether that means anything",
    "serve": "read images over HTTP",
}
"""The verbs and a line of help for each, in the order of `ddamfn --help`."""

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

# One line, so no wrapping: some who read help never open the model card.
_LAW = (
    "EU AI Act, Article 5(1)(f): inferring emotions at work or in education is forbidden, but for medicine and safety."
)


def build_parser(verb: str | None = None) -> Parser:
    """Return the command line's parser, with the arguments of one verb and the names of all others."""
    parser = Parser(
        prog="ddamfn",
        description="Reads facial expressions from photographs, offline.",
        epilog=_LAW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ddamfn {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, help_line in VERBS.items():
        if name == verb:
            import_module(f"{__name__}.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=help_line)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 (failure), 2 (wrong arguments), 130 (Ctrl-C) or 141 (closed pipe)."""
    _open_closed_streams()
    share_cache()
    # A file name may hold what the terminal's encoding has no letters for; that is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except DdamfnError as error:
        _drop_output()
        print(f"ddamfn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141


def _run(argv: Sequence[str]) -> int:
    """Parse the arguments and run the verb; what cannot be printed is an error, as what cannot be written is."""
    try:
        # The whole command line's options leave no verb to run, so a verb can only stand first.
        parser = build_parser(argv[0] if argv else None)
        args = parser.parse_args(argv)
        args.argv = list(argv)
        if not hasattr(args, "run"):
            parser.print_help()
            return 0
        refuse_addresses(args)
        status: int = args.run(args)
    except SystemExit:
        _flush()  # after --help and --version
        raise
    except OSError as error:
        # Most files are named by their own readers and writers; one that is not is named here.
        if isinstance(error.filename, str | bytes) and not isinstance(error, BrokenPipeError):
            raise DdamfnError(f"{os.fsdecode(error.filename)}: {error.strerror or error}") from error
        if error.errno in _OUTPUT_ERRORS:
            raise _unwritable(error) from error
        raise
    _flush()
    return status


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> DdamfnError:
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror or error
    return DdamfnError(f"cannot write standard output: {reason}")


def _drop_output() -> None:
    """Let what cannot be printed go: Python would complain once more when it flushes it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # a stand-in of a test has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Stand in for a stream that was closed before the start, such as by `>&-`, whose number a file would take."""
    if sys.stdout is None:
        # Open for reading alone, so that whatever is printed fails as it does on any closed stream.
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
