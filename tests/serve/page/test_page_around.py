"""What surrounds the page: a server that is gone, busy or locked; narrow and dark screens; assistive technology."""

import base64
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.drawing.palette import expression_color, heat_colors, stretch
from ddamfn.labels import EXPRESSIONS
from ddamfn.recognizer import Recognizer
from ddamfn.results import UNCERTAIN

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
Files = dict[str, Path]
Words = Callable[..., str]


def expect(found: Any) -> Any:
    return sync_api.expect(found)


def choose(page: Any, *paths: Path) -> None:
    page.set_input_files("#files", list(paths))


def expect_all_read(page: Any, number: int) -> None:
    expect(page.locator("#progress")).to_have_text(re.compile(rf"^{number}\b.*\b{number}\b"))


def test_a_server_that_is_gone_is_told(serve: Any, open_page: Any, files: Files, words: Words) -> None:
    server = serve()
    page = open_page(server.url)
    expect(page.locator("#weights-text")).not_to_be_empty()
    server.stop()
    choose(page, files["portrait.jpg"])
    expect(page.get_by_role("alert")).to_contain_text(words(page, "goneTitle"))
    expect(page.locator("#message-title")).to_have_text(words(page, "goneTitle"))
    expect(page.locator("#image")).to_be_visible()


def test_images_wait_for_a_server_that_comes_back(page: Any, files: Files) -> None:
    expect(page.locator("#weights-text")).not_to_be_empty()
    for address in ("**/v1/*", "**/healthz"):
        page.route(address, lambda route: route.abort())
    choose(page, files["portrait.jpg"], files["none"])
    expect(page.locator('.thumb[data-state="failed"]')).to_have_count(2)
    page.unroute_all()
    page.click("#banner-retry")
    expect(page.locator(".face")).to_have_count(1)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator('.thumb[data-state="done"]')).to_have_count(2)


def test_too_large_and_too_many_pixels_are_told(
    serve: Any, open_page: Any, files: Files, words: Words, bomb: bytes, tmp_path: Path
) -> None:
    page = open_page(serve(max_upload_bytes=100_000).url)
    (tmp_path / "bomb.png").write_bytes(bomb)
    expect(page.locator("#weights-text")).not_to_be_empty()
    for path in (files["portrait.jpg"], tmp_path / "bomb.png"):
        choose(page, path)
        expect(page.locator("#message-title")).to_have_text(words(page, "tooLargeTitle"))
        for limit in ("0.1 MB", "64 megapixels"):
            expect(page.locator("#message-text")).to_contain_text(limit)


def test_a_full_queue_is_waited_for(serve: Any, open_page: Any, files: Files, gate: threading.Event) -> None:
    page = open_page(serve(queue=1).url)
    with page.expect_response(lambda response: response.status == 429):
        choose(page, *6 * [files["portrait.jpg"]])
    gate.set()
    expect_all_read(page, 6)
    expect(page.locator('.thumb[data-state="done"]')).to_have_count(6)


def test_a_token_is_asked_for_once_and_again_if_it_is_wrong(
    serve: Any, open_page: Any, files: Files, words: Words
) -> None:
    page = open_page(serve(token="right", ready=False).url)
    dialog = page.get_by_role("dialog", name="Token")
    for token in ("wrong", "令牌", "right"):
        expect(page.locator("#token-wrong")).to_be_visible(visible=token != "wrong")
        page.get_by_label("Token", exact=True).last.fill(token)
        page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    choose(page, files["portrait.jpg"], files["none"])
    expect_all_read(page, 2)
    assert page.evaluate("() => localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.reload()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    choose(page, files["none"])
    expect(dialog).to_be_visible()
    page.click("#token-cancel")
    expect(page.locator("#message-title")).to_have_text(words(page, "tokenNeededTitle"))
    page.click("#retry")
    page.get_by_label("Token", exact=True).last.fill("right")
    page.keyboard.press("Enter")
    expect(page.locator("#message-title")).to_have_text(words(page, "noFaceTitle"))
    expect(page.locator("#save-csv")).to_be_enabled()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_the_page_fits_and_is_accessible(open_page: Any, running: Any, files: Files, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = open_page(
        running.url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce",
        bypass_csp=True,
    )  # fmt: skip

    def check(state: str) -> None:
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, state
        found = axe.Axe().run(page).response["violations"]
        serious = [
            (rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], state

    expect(page.locator("#weights-text")).not_to_be_empty()
    check("empty")
    choose(page, files["two, faces"], files["broken.jpg"])
    expect_all_read(page, 2)
    page.click(".tile[data-choice=both]")
    check("two faces")
    page.locator(".thumb").last.click()
    page.click("#language")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    check("refused, in Chinese")
    page.click("#camera-open")
    check("camera")


def test_the_page_speaks_the_browsers_language_and_the_other(
    open_page: Any, running: Any, files: Files, words: Words
) -> None:
    page = open_page(running.url, locale="zh-CN")
    expect(page.locator("#choose")).to_contain_text("选择")
    choose(page, files["none"])
    expect(page.locator("#message-title")).to_contain_text("人脸")
    page.get_by_role("button", name="English").click()
    expect(page.locator("#message-title")).to_have_text(words(page, "noFaceTitle"))
    assert "undefined" not in page.locator("body").inner_text()


def test_maps_and_colors_are_those_of_the_command_line(page: Any, files: Files, rng: np.random.Generator) -> None:
    names = [*EXPRESSIONS, UNCERTAIN, "another"]
    told = page.evaluate("async (names) => names.map((await import('/palette.js')).expressionColor)", names)
    assert [tuple(bytes.fromhex(color[1:])) for color in told] == [expression_color(name) for name in names]
    values = np.linspace(0, 1, 40)
    heat = page.evaluate("async (values) => values.map((await import('/palette.js')).heatColor)", values.tolist())
    assert np.abs(np.array(heat) - heat_colors(values)).max() <= 0.5 + 1e-9
    attention = rng.uniform(size=(7, 7)).astype(np.float32)
    for given in (attention, np.full((7, 7), 0.4, dtype=np.float32)):
        enlarged = page.evaluate("async (map) => [...(await import('/attention.js')).enlarge(map, 56)]", given.tolist())
        assert np.abs(np.array(enlarged).reshape(56, 56) - stretch(given, 56)).max() < 1e-3


def test_the_map_lies_where_the_face_was_cut_out(page: Any, files: Files, recognizer: Recognizer) -> None:
    choose(page, files["portrait.jpg"])
    expect_all_read(page, 1)
    (face,) = recognizer.predict(files["portrait.jpg"]).faces
    # The tile shows the crop that the network saw.
    address = page.locator(".tile[data-choice=none] canvas").evaluate("canvas => canvas.toDataURL()")
    content = base64.b64decode(address.partition(",")[2])
    drawn = Image.open(io.BytesIO(content)).convert("RGB").resize((112, 112))
    inner = np.s_[8:104, 8:104]
    assert np.abs(np.asarray(drawn, dtype=float) - face.aligned)[inner].mean() < 6
    # The overlay's corners, taken through the alignment, are the crop's corners.
    page.click(".tile[data-choice='0']")
    numbers = re.findall(r"[-\d.e]+", page.locator("#heat").get_attribute("transform").removeprefix("matrix"))
    a, b, c, d, e, f = map(float, numbers)
    corners = np.array([[a, c, e], [b, d, f]]) @ np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    back = face.matrix @ np.vstack([corners, np.ones(4)])
    assert np.allclose(back, np.array([[0, 112, 0, 112], [0, 0, 112, 112]]), atol=0.01)


def test_the_page_says_how_good_the_weights_are(page: Any) -> None:
    expect(page.locator("#weights-text")).to_contain_text("stand-in")
    recalls = {"happiness": 0.9, "fear": 0.12, "disgust": 0.0}
    score = {"accuracy": 0.7567, "n": 3137, "dataset": "ferplus", "per_class_recall": recalls}
    page.evaluate("async (model) => (await import('/about.js')).describe(model)", {"name": "w", "scores": [score]})
    expect(page.locator("#weights-text")).to_have_text(re.compile(r"^w\b.*75\.7%.*3,137.*FERPlus"))
    expect(page.locator("#weights-weak")).to_have_text(re.compile(r"fear\b.*12%.*disgust\b.*\b0%"))
    expect(page.locator("#weights-weak")).not_to_contain_text("happiness")


@pytest.mark.parametrize(
    ("error", "told"),
    [("NotAllowedError", "cameraDenied"), ("NotFoundError", "cameraMissing")],
)
def test_a_camera_that_cannot_be_had_is_told(page: Any, words: Words, error: str, told: str) -> None:
    page.evaluate(
        "(name) => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', name); }; }", error
    )
    page.click("#camera-open")
    page.click("#camera-start")
    expect(page.locator("#camera-problem")).to_have_text(words(page, told))
    expect(page.locator("#camera-start")).to_be_visible()


def test_labels_stay_inside_and_clear_of_each_other(page: Any, rng: np.random.Generator) -> None:
    lefts, tops = rng.uniform(0, 500, 30), rng.uniform(0, 300, 30)
    boxes = np.stack([lefts, tops, lefts + rng.uniform(20, 90, 30), tops + rng.uniform(20, 90, 30)], axis=1)
    marks = [{"box": box.tolist(), "extents": [[90, 20], [50, 20]]} for box in boxes]
    found = page.evaluate("async (marks) => (await import('/labels.js')).placeLabels(marks, [600, 400], 4, 7)", marks)
    places = np.array([label["place"] for label in found if label])
    assert found[7] is not None
    assert len(places) > 10
    assert places.min() >= 0
    assert (places[:, 2:] <= [600, 400]).all()
    for index, (x1, y1, x2, y2) in enumerate(places):
        others = np.delete(places, index, axis=0)
        apart = (others[:, 0] >= x2) | (others[:, 2] <= x1) | (others[:, 1] >= y2) | (others[:, 3] <= y1)
        assert apart.all()
