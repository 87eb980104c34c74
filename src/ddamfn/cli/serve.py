"""`ddamfn serve`: the expressions in images over HTTP, with a page to try it."""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from ddamfn.cli.args import add_class_prior, add_provider, port, positive_integer
from ddamfn.errors import UsageError

_EPILOG = """\
GET / is a page for people; POST /v1/predict takes one image, as a form's field "file" or as the body itself, and
answers as "ddamfn predict --format json" does; /openapi.json describes the rest. Images are read in memory and never
written or logged. Requests that arrive together are classified together, by one process: its threads fill the cores and
share the networks, where more processes would each load their own. SIGTERM or Ctrl-C lets it finish open requests.

Without --host only this machine reaches it, and only under the names localhost and 127.0.0.1: a proxy on this machine
must ask for one of these. Elsewhere a token is needed; it travels unencrypted: put a server that speaks TLS in front.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "serve",
        description="Serves the expressions in images over HTTP, with a page to try it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="0 for any that is free (default: 8000)")
    parser.add_argument("--token-file", metavar="FILE", help="clients must send the token in FILE as bearer token")
    parser.add_argument(
        "--workers", type=positive_integer, metavar="N", help="threads that find faces (default: one per core)"
    )
    parser.add_argument(
        "--max-upload-mb", type=positive_integer, default=20, metavar="N", help="largest request, in MiB (default: 20)"
    )
    parser.add_argument("--insecure", action="store_true", help="let others than this machine ask without a token")
    parser.add_argument("--weights", metavar="NAME_OR_PATH", help="bundled weights or an .onnx file")
    add_class_prior(parser, "images whose request does not say so")
    add_provider(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; return 0."""
    # A service manager's way to end a server is no failure. While it runs, the server takes the signal by itself, and
    # raises it once more when it has answered what had begun.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)
    from ddamfn.serve import LOOPBACK_HOSTS, Settings, is_loopback
    from ddamfn.serve import run as serve

    token = None if args.token_file is None else _token(Path(args.token_file))
    loopback = is_loopback(args.host)
    if not loopback and token is None and not args.insecure:
        raise UsageError(f"others reach {args.host}: name a --token-file, or let anybody connect with --insecure")
    own = {} if args.workers is None else {"workers": args.workers}
    settings = Settings(
        weights=args.weights,
        max_upload_bytes=args.max_upload_mb * 2**20,
        token=token,
        class_prior=args.class_prior,
        providers=args.provider,
        hosts=(*LOOPBACK_HOSTS, _as_in_url(args.host)) if loopback else None,
        **own,
    )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    serve(settings, args.host, args.port, _announce)
    return 0


def _announce(url: str) -> None:
    print(f"ddamfn serves {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)


def _as_in_url(host: str) -> str:
    return f"[{host.lower()}]" if ":" in host else host.lower()


def _token(path: Path) -> str:
    """Read the token, and warn if other users can read it too."""
    try:
        token = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII"
        raise UsageError(f"cannot read the token file {path}: {reason}") from None
    if not token or not all(letter.isprintable() and letter != " " for letter in token):
        raise UsageError(f"{path} must hold one token, without spaces, on one line")
    if os.name == "posix" and mode & 0o077:
        print(f"ddamfn: warning: others can read {path}: chmod 600 it", file=sys.stderr)
    return token
