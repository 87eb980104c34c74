"""The server: images over HTTP, answered as `ddamfn predict --format json`. Needs `pip install "ddamfn[serve]"`."""

from ddamfn.errors import MissingExtra

try:
    from ddamfn.serve.app import create_app
    from ddamfn.serve.server import address, bind, is_loopback, make_server, run
except ModuleNotFoundError as error:
    _missing = {"fastapi", "h11", "prometheus_client", "pydantic", "python_multipart", "starlette", "uvicorn"}
    if (error.name or "").partition(".")[0] not in _missing:
        raise
    raise MissingExtra("serve", str(error.name), "The server") from error

from ddamfn.serve.settings import LOOPBACK_HOSTS, Settings

__all__ = ["LOOPBACK_HOSTS", "Settings", "address", "bind", "create_app", "is_loopback", "make_server", "run"]
