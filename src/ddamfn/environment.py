"""What the libraries below this package are told by environment variables: to report nothing, and where to keep things.

What the user has set stays as it is.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",  # read when ONNX Runtime is imported; its function to the same end does not suffice
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def report_nothing() -> None:
    """Tell libraries not to report how they are used; before their import. OpenVINO cannot be told: see `export`."""
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)


def cache_folder() -> Path:
    """The folder for what can be made again: `$XDG_CACHE_HOME/ddamfn`, or `~/.cache/ddamfn`.

    Raises:
        RuntimeError: if XDG_CACHE_HOME is not set and the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ddamfn"


def share_cache() -> None:
    """Give matplotlib and PyTorch places in this package's cache, which they make once they need them.

    For processes of this package alone, before these libraries are imported: in a caller's process they are the
    caller's.
    """
    try:
        folder = cache_folder()
    except RuntimeError:
        return
    if not _can_be_made(folder):
        import logging  # `import ddamfn` should cost nothing

        # matplotlib then takes a folder of temporary files, which it deletes, and would say so at every run.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
    else:
        os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "torchinductor"))


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a block and for the processes that are started in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _can_be_made(folder: Path) -> bool:
    """Tell whether a folder is there and can be written, or can be made."""
    present = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return present.is_dir() and os.access(present, os.W_OK | os.X_OK)
