"""Reads photographs with one package, in that package's environment; started by `benchmarks/peers.py`.

    python benchmarks/peer_worker.py PEER [--threads N] [--modules FOLDER] [--chromium PATH]

It prints a line of JSON once all is loaded, `{"note": ...}`, with the version of the browser if there is one. Then each
line of standard input is a list of files, and each line of output the faces of each file:
`{"box": [x1, y1, x2, y2], "expression": name}`. It runs in the environments of the packages, and so needs the standard
library alone.
"""

import argparse
import functools
import http.server
import itertools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What one package answers about files, in their order.
Read = Callable[[list[str]], list[list[dict[str, Any]]]]

_PAGE = "peers.html"
_CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def main() -> None:
    """Answer each line of standard input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("peer", choices=["ddamfn", "fer", "deepface", "human", "face-api"])
    parser.add_argument("--threads", type=int, default=1, help="of ddamfn (default: 1)")
    parser.add_argument("--modules", type=Path, help="node_modules of a package of npm")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    # Libraries print to standard output as they like: only this file's answers may arrive there.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with ExitStack() as stack:
        if args.modules:
            read, note = stack.enter_context(in_browser(args.peer, args.modules, args.chromium))
        else:
            read, note = {"fer": fer, "deepface": deepface}.get(args.peer, lambda: ddamfn(args.threads))()
        print(json.dumps({"note": note}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(read(json.loads(line))), file=answers, flush=True)


def ddamfn(threads: int) -> tuple[Read, str]:
    """Read with this package."""
    from ddamfn import Recognizer

    recognizer = Recognizer(num_threads=threads)

    def read(paths: list[str]) -> list[list[dict[str, Any]]]:
        results = recognizer.predict_many(paths)
        return [[{"box": face.bbox.xyxy, "expression": face.expression} for face in result] for result in results]

    return read, ""


def fer() -> tuple[Read, str]:
    """Read with fer, its default detector."""
    import cv2
    from fer.fer import FER

    detector = FER()

    def faces(path: str) -> list[dict[str, Any]]:
        found = detector.detect_emotions(cv2.imread(path))
        return [{"box": _corners(*face["box"]), "expression": _best(face["emotions"])} for face in found]

    return lambda paths: [faces(path) for path in paths], ""


def deepface() -> tuple[Read, str]:
    """Read with deepface, if its weights are on this machine: it would fetch them from a repository."""
    home = Path(os.environ.get("DEEPFACE_HOME", Path.home())) / ".deepface" / "weights"
    spec = find_spec("deepface")
    shipped = Path(spec.origin).parent if spec and spec.origin else home
    name = "facial_expression_model_weights.*"
    if not any(home.glob(name)) and not any(shipped.rglob(name)):
        sys.exit("its package has no weights: it fetches them from GitHub or a hub when it first runs")
    from deepface import DeepFace

    def faces(path: str) -> list[dict[str, Any]]:
        found = DeepFace.analyze(path, actions=["emotion"], enforce_detection=False, silent=True)
        # Without a face it answers the whole image, with a confidence of zero.
        return [
            {
                "box": _corners(*(face["region"][key] for key in ("x", "y", "w", "h"))),
                "expression": face["dominant_emotion"],
            }
            for face in found
            if face["face_confidence"] > 0
        ]

    return lambda paths: [faces(path) for path in paths], ""


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [float(x), float(y), float(x + width), float(y + height)]


def _best(scores: dict[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])


@contextmanager
def in_browser(peer: str, modules: Path, chromium: str) -> Iterator[tuple[Read, str]]:
    """Read with a package of npm, in headless Chromium with the backend WASM."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as started:
        root, profile = Path(scratch) / "served", Path(scratch) / "profile"
        (root / "images").mkdir(parents=True)
        (root / "modules").symlink_to(modules.resolve())
        (root / _PAGE).symlink_to(Path(__file__).resolve().with_name(_PAGE))
        with _served(root) as url:
            context = started.chromium.launch_persistent_context(
                profile, executable_path=chromium, headless=True, args=list(_CHROMIUM)
            )
            page, numbers = context.new_page(), itertools.count()
            page.on("pageerror", lambda error: print(error, file=sys.stderr))
            page.goto(f"{url}/{_PAGE}?peer={peer}")
            backend = page.evaluate("backend()")

            def read(paths: list[str]) -> list[list[dict[str, Any]]]:
                found = []
                for path in paths:
                    link = root / "images" / f"{next(numbers)}.jpg"  # a new name each time: nothing is kept decoded
                    link.symlink_to(path)
                    found.append(page.evaluate("url => read(url)", f"{url}/images/{link.name}"))
                return found

            version = context.browser.version if context.browser else "of unknown version"
            yield read, f"Chromium {version}, backend {backend}"
            context.close()


@contextmanager
def _served(root: Path) -> Iterator[str]:
    """Serve a folder on this machine alone."""
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    # The system's table of types may lack these, and a browser then refuses them.
    extensions_map = {  # noqa: RUF012 - the name and type are the base class's
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    main()
