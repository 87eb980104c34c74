"""The command line: one file a verb, and each verb only parses, calls and prints.

Importing this package costs next to nothing; NumPy, ONNX Runtime and PyTorch are imported when a verb runs that needs
them.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ddamfn import __version__
from ddamfn.cli import data, demo, eval, explain, export, models, predict, serve, study, train
from ddamfn.cli.args import Parser
from ddamfn.errors import DdamfnError, UsageError

_VERBS = (predict, demo, models, eval, data, train, study, export, explain, serve)

# One line, so no wrapping: some who read help never open the model card.
_LAW = (
    "EU AI Act, Article 5(1)(f): inferring emotions at work or in education is forbidden, but for medicine and safety."
)


def build_parser() -> Parser:
    """Return the whole command line's parser; each verb sets `run`, the function that carries it out."""
    parser = Parser(
        prog="ddamfn",
        description="Reads facial expressions from photographs, offline.",
        epilog=_LAW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ddamfn {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for verb in _VERBS:
        verb.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0 if all went well, 1 if something could not be done, 2 for arguments that make no sense, 130
        after Ctrl-C, 141 if the reader of a pipe went away.
    """
    # A file name may hold what the terminal's encoding has no letters for; that is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    args = parser.parse_args(argv)
    args.argv = list(sys.argv[1:] if argv is None else argv)
    if not hasattr(args, "run"):
        parser.print_help()
        return 0
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except DdamfnError as error:
        print(f"ddamfn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python would complain once more when it flushes the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status
