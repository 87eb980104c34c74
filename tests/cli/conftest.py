"""A folder with a face and with everything that goes wrong, and `ddamfn predict` to run on it."""

import struct
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli import main

_PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


def _bomb() -> bytes:
    """Return a PNG of 100 bytes that claims 2.5 thousand million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a face, a landscape, and everything that goes wrong, below the working folder."""
    y, x = np.mgrid[:240, :320]
    hills = np.where((y > 150 + 30 * np.sin(x / 40))[..., None], (60, 120, 50), (140, 180, 230)).astype(np.uint8)
    folder = tmp_path / "photos"
    (folder / "sub dir").mkdir(parents=True)
    (folder / "face.jpg").write_bytes(_PORTRAIT)
    Image.fromarray(hills).save(folder / "sub dir" / "hügel ☕.png")
    (folder / "broken.jpg").write_bytes(_PORTRAIT[: len(_PORTRAIT) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image\n")
    (folder / "bomb.png").write_bytes(_bomb())
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def predict(stand_in_weights: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run the verb and return exit status, standard output and the lines on standard error."""

    def call(*arguments: str) -> tuple[int, bytes, list[str]]:
        try:
            status = main(["predict", "--weights", str(stand_in_weights), *arguments])
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        out, err = capsysbinary.readouterr()
        return status, out, err.decode().splitlines()

    return call
