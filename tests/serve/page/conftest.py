"""Debian's Chromium with a camera that sees the portrait, and pages that may do nothing forbidden."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.synthetic import synthetic_face

CHROMIUM = shutil.which("chromium")

Open = Callable[..., Any]
Words = Callable[..., str]
# Only a failing test waits this long: a busy machine may need many seconds for what takes a blink elsewhere.
_PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def browser(portrait: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a browser for all tests of a file; its camera shows the portrait."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api.expect.set_options(timeout=_PATIENCE_MS)
    camera = tmp_path_factory.mktemp("camera") / "portrait.mjpeg"
    frame = io.BytesIO()
    Image.open(io.BytesIO(portrait)).convert("RGB").resize((480, 480)).save(frame, "JPEG")
    camera.write_bytes(frame.getvalue() * 3)
    arguments = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Tab:
    """A page in a context of its own, which notes what it asks for and what goes wrong."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(
            **({"locale": "en-GB", "viewport": {"width": 1280, "height": 900}} | options)
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(_PATIENCE_MS)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text) if _is_fault(message) else None)

    def check(self, url: str) -> None:
        """Fail if the page has asked anybody but the server, broken a policy or raised an error."""
        assert self.asked
        assert [address for address in self.asked if not address.startswith((url, "blob:", "data:"))] == []
        assert self.faults == []


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open the page of a server in a tab of its own, which is checked at the end."""
    opened: list[tuple[Tab, str]] = []

    def open_at(url: str, **options: Any) -> Any:
        tab = Tab(browser, **options)
        tab.page.goto(url)
        opened.append((tab, url))
        return tab.page

    yield open_at
    for tab, url in opened:
        tab.context.close()
        tab.check(url)


@pytest.fixture(scope="module")
def shared_tab(browser: Any) -> Iterator[Tab]:
    """Return a tab for all tests of a file: a new one takes longer than most of them."""
    tab = Tab(browser)
    yield tab
    tab.context.close()


def _is_fault(message: Any) -> bool:
    # Refusals are answers like any other, but the browser logs them.
    return message.type in ("error", "warning") and not message.text.startswith("Failed to load resource")


@pytest.fixture
def page(shared_tab: Tab, running: Any) -> Iterator[Any]:
    """Return the page of the server that a file shares, loaded anew, in English, 1280 px wide."""
    shared_tab.asked.clear()
    shared_tab.faults.clear()
    shared_tab.page.goto(running.url)
    yield shared_tab.page
    shared_tab.page.unroute_all()
    # What a page leaves by itself ends before the next test.
    shared_tab.page.goto("about:blank")
    shared_tab.check(running.url)


@pytest.fixture(scope="session")
def words() -> Words:
    """Return a page's text by its key, in the language that the page speaks."""
    asked = "async ([key, values]) => (await import('/texts.js')).text(key, ...values)"

    def look_up(page: Any, key: str, *values: Any) -> str:
        return str(page.evaluate(asked, [key, list(values)]))

    return look_up


@pytest.fixture(scope="session")
def files(portrait: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return images by name: one face, two faces, none; one stored turned; and files that are no images."""
    folder = tmp_path_factory.mktemp("files")
    image = Image.open(io.BytesIO(portrait)).convert("RGB")
    two = Image.new("RGB", (900, 420), (196, 204, 210))
    generator = np.random.default_rng(5)
    for left, label in ((20, "happiness"), (460, "surprise")):
        two.paste(Image.fromarray(synthetic_face(label, generator, 400, head=0.7)[0]), (left, 10))
    two.save(folder / "two, faces.png")
    Image.new("RGB", (320, 200), (90, 120, 150)).save(folder / "none.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("turned.jpg", "turned.webp"):
        image.crop((60, 0, 460, 512)).transpose(Image.Transpose.ROTATE_90).save(folder / name, exif=turned)
    (folder / "portrait.jpg").write_bytes(portrait)
    (folder / "broken.jpg").write_bytes(portrait[:9000])
    (folder / "notes.txt").write_text("no image")
    (folder / "zero.jpg").touch()
    return {path.name.partition(".")[0] if path.suffix == ".png" else path.name: path for path in folder.iterdir()}
