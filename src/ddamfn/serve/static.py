"""The page's own files: whatever lies in the package's folder `page`, under its plain name, and nothing else."""

from http import HTTPStatus
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = files("ddamfn").joinpath("serve", "page")
_INDEX = "index.html"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def page_routes() -> list[Route]:
    """Return the routes of `/` and of the page's files."""
    return [Route("/", _answer, methods=["GET"]), Route("/{name}", _answer, methods=["GET"])]


def _answer(request: Request) -> Response:
    name = request.path_params.get("name", _INDEX)
    # The name is compared with those in the folder and never joined to a path, so no name leads out of it.
    for entry in _FOLDER.iterdir() if _FOLDER.is_dir() else ():
        media_type = _MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        if entry.name == name and media_type is not None:
            return Response(entry.read_bytes(), headers={"Cache-Control": "no-cache"}, media_type=media_type)
    raise HTTPException(HTTPStatus.NOT_FOUND)
