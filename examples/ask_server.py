"""Ask a running `ddamfn serve` to read images, with nothing but Python's standard library.

ddamfn serve
python examples/ask_server.py photo.jpg
"""

import argparse
import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


def ask(server: str, image: str, token: str | None = None, **options: Any) -> dict[str, Any]:
    """Return what the server reads in an image, in the form of `ddamfn predict --format json`.

    Args:
        server: its address, such as `http://127.0.0.1:8000`.
        image: path of the image.
        token: the bearer token, if the server wants one.
        options: `attention=True`, `min_precision=0.9`, `min_detection_score=0.7`, `max_faces=3`.

    Raises:
        HTTPError: the server refused; the body says why, as problem details (RFC 9457).
    """
    query = urlencode({name: str(value).lower() for name, value in options.items()})
    headers = {"Content-Type": mimetypes.guess_type(image)[0] or "application/octet-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = Request(f"{server}/v1/predict?{query}", Path(image).read_bytes(), headers)
    with urlopen(request) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print every face of the images that the arguments name."""
    parser = argparse.ArgumentParser(description="Asks a server to read images.")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--token")
    args = parser.parse_args(arguments)
    for image in args.images:
        try:
            faces = ask(args.server, image, args.token)["faces"]
        except HTTPError as error:
            print(f"{image}: {json.load(error)['detail']}")
            continue
        print(f"{image}: " + (", ".join(f"{f['expression']} {f['confidence']:.0%}" for f in faces) or "no face"))


if __name__ == "__main__":
    main()
