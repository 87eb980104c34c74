"""Take the documents' screenshots of the server's page, with Debian's Chromium.

    python tools/docs/screenshots.py

Starts `ddamfn serve`, opens the bundled portrait and synthetic faces, and writes page-light.png, page-dark.png and
page-narrow.png into docs/. Needs the extra "dev" and a font with Chinese characters, for page-narrow.png.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from ddamfn.synthetic import synthetic_face

DOCS = Path(__file__).resolve().parents[2] / "docs"
_COLORS = 255
_SEED = 3


def main() -> int:
    """Write the images; return 0."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("needs Chromium: apt-get install chromium")
    if not _has_chinese_font():
        sys.exit("needs a font that has Chinese: apt-get install fontconfig fonts-noto-cjk")
    with _served() as url, tempfile.TemporaryDirectory() as scratch, sync_playwright() as started:
        paths = _images(Path(scratch))
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        light = _open(browser, url, paths, width=1280, height=860)
        light.locator(".tile[data-choice=both]").click()
        _save(light, "page-light.png", "#workspace")
        dark = _open(browser, url, paths, width=1280, height=860, color_scheme="dark")
        dark.locator(".thumb").nth(1).click()
        dark.locator(".face").first.click()
        dark.locator(".tile[data-choice='0']").click()
        _save(dark, "page-dark.png", "#workspace")
        narrow = _open(browser, url, paths[:1], width=360, height=780, locale="zh-CN", device_scale_factor=1.5)
        _save(narrow, "page-narrow.png", "#tiles")
        browser.close()
    return 0


def _has_chinese_font() -> bool:
    listing = shutil.which("fc-list")
    found = listing and subprocess.run([listing, ":lang=zh-cn"], capture_output=True, text=True, check=True).stdout
    return bool(found)


@contextmanager
def _served() -> Iterator[str]:
    """Run a server on a free port while the block lasts; yield its address."""
    command = [Path(sys.executable).with_name("ddamfn"), "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = re.search(r"http://\S+", server.stderr.readline())
        if found is None:
            sys.exit("the server did not start")
        try:
            yield found.group(0)
        finally:
            server.terminate()


def _images(folder: Path) -> list[Path]:
    """Write the portrait and two images with synthetic faces."""
    generator = np.random.default_rng(_SEED)
    portrait = folder / "astronaut.jpg"
    portrait.write_bytes(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    for name, labels in (("drawn.png", ("happiness", "surprise", "anger")), ("sad.png", ("sadness",))):
        sheet = Image.new("RGB", (480 * len(labels), 480))
        for place, label in enumerate(labels):
            face, _ = synthetic_face(label, generator, 480, head=0.66)
            sheet.paste(Image.fromarray(face), (480 * place, 0))
        sheet.save(folder / name)
    return [portrait, folder / "drawn.png", folder / "sad.png"]


def _open(browser: Any, url: str, paths: list[Path], *, width: int, height: int, **options: Any) -> Any:
    settings = {"locale": "en-GB", "reduced_motion": "reduce", "viewport": {"width": width, "height": height}}
    page = browser.new_context(**(settings | options)).new_page()
    page.goto(url)
    expect(page.locator("#weights-text")).not_to_be_empty()
    page.set_input_files("#files", paths)
    done = page.locator(".thumb[data-state=done]")
    expect(done).to_have_count(len(paths), timeout=60_000)
    expect(page.locator(".thumb canvas")).to_have_count(len(paths))
    return page


def _save(page: Any, name: str, last: str) -> None:
    """Write the page down to the lower edge of `last`, with few colors to keep the file small."""
    page.mouse.move(0, 0)
    edge = page.locator(last).bounding_box()
    whole = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": edge["y"] + edge["height"] + 8}
    seen = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=whole))).convert("RGB")
    seen.quantize(_COLORS, dither=Image.Dither.FLOYDSTEINBERG).save(DOCS / name, optimize=True)
    sys.stdout.write(f"{name}: {(DOCS / name).stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    sys.exit(main())
