"""The page in Chromium: images come in, faces are chosen, results are shown and saved, whatever goes wrong."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from ddamfn.recognizer import Recognizer
from ddamfn.results import UNCERTAIN, row_columns

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
Files = dict[str, Path]
Words = Callable[..., str]


def expect(found: Any) -> Any:
    return sync_api.expect(found)


def read(page: Any, *paths: Path) -> None:
    """Choose files and wait until all are read."""
    page.set_input_files("#files", list(paths))
    expect(page.locator("#progress")).to_have_text(re.compile(rf"^{len(paths)}\b.*\b{len(paths)}\b"))


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def told(page: Any) -> Any:
    return page.get_by_role("status")


def test_a_chosen_image_is_boxed_and_its_face_described(page: Any, files: Files, recognizer: Recognizer) -> None:
    expect(page.locator("#workspace")).to_be_hidden()
    read(page, files["portrait.jpg"])
    (face,) = recognizer.predict(files["portrait.jpg"]).faces
    button = page.locator(".face")
    expect(button).to_have_count(1)
    name = button.get_attribute("aria-label")
    assert re.search(rf"\b1\b.*\b{face.expression}\b", name)
    expect(told(page)).to_contain_text("portrait.jpg")
    expect(told(page)).to_contain_text(name)
    # The box stands where the face is, in the image as it is shown.
    frame, box = page.locator("#frame").bounding_box(), button.bounding_box()
    scale = 512 / frame["width"]
    placed = [(box["x"] - frame["x"]) * scale, (box["y"] - frame["y"]) * scale, box["width"] * scale]
    assert placed == pytest.approx([face.bbox.x1, face.bbox.y1, face.bbox.width], abs=1.5)
    bars = page.locator("#bars li")
    assert bars.locator(".name").all_inner_texts() == list(face.probabilities)
    widths = [float(fill["width"]) for fill in (bar.bounding_box() for bar in bars.locator(".bar").all())]
    filled = [fill.evaluate("fill => parseFloat(fill.style.width)") for fill in bars.locator(".fill").all()]
    assert filled == pytest.approx([100 * p for p in face.probabilities.values()], abs=0.01)
    assert min(widths) > 60


def test_several_images_have_thumbnails_and_keep_what_is_wrong_to_themselves(
    page: Any, files: Files, words: Words
) -> None:
    names = ("portrait.jpg", "two, faces", "none", "broken.jpg", "notes.txt", "zero.jpg")
    read(page, *(files[name] for name in names))
    thumbs = page.locator("#strip").get_by_role("radio")
    expect(thumbs).to_have_count(6)
    states = [thumb.get_attribute("aria-label").rpartition(", ")[2] for thumb in thumbs.all()]
    assert states == [*(words(page, "faces", number) for number in (1, 2, 0)), *3 * [words(page, "failed")]]
    expected = {
        2: ("noFace", "clearer", True),
        3: ("unreadable", "damaged", True),
        4: ("unreadable", "text/plain", False),
        5: ("empty", "0 bytes", False),
    }
    for index, (kind, detail, shown) in expected.items():
        thumbs.nth(index).click()
        expect(page.locator("#message-title")).to_have_text(words(page, f"{kind}Title"))
        expect(page.locator("#message")).to_contain_text(detail)
        expect(page.locator("#frame")).to_be_visible(visible=shown)
        expect(page.locator("#face")).to_be_hidden()
    page.click("#remove")
    expect(thumbs).to_have_count(5)
    assert page.evaluate("() => document.activeElement.getAttribute('aria-checked')") == "true"
    page.click("#remove-all")
    expect(page.locator("#workspace")).to_be_hidden()


def test_the_whole_way_goes_by_keyboard(page: Any, files: Files, recognizer: Recognizer, words: Words) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab does not lead to {selector}")

    with page.expect_file_chooser() as chooser:
        tab_to("#choose")
        page.keyboard.press("Enter")
    chooser.value.set_files([files["two, faces"], files["none"]])
    expect(page.locator("#progress")).to_have_text(re.compile(r"^2\b.*\b2\b"))
    tab_to(".thumb")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#message-title")).to_have_text(words(page, "noFaceTitle"))
    page.keyboard.press("Home")
    expect(page.locator("#face-title")).to_have_text(words(page, "faceTitle", 1, 2))
    tab_to(".face")
    result = recognizer.predict(files["two, faces"])
    from_left = sorted(range(2), key=lambda index: result.faces[index].bbox.x1)
    for key, index in (("Home", from_left[0]), ("ArrowRight", from_left[1]), ("ArrowRight", from_left[0])):
        page.keyboard.press(key)
        expect(page.locator("#face-title")).to_have_text(words(page, "faceTitle", index + 1, 2))
    tab_to(".tile")
    page.keyboard.press("End")
    expect(page.locator(".tile[aria-checked=true]")).to_have_attribute("data-choice", "both")
    tab_to("#opacity")
    page.keyboard.press("End")
    expect(page.locator("#heat")).to_have_attribute("opacity", "1")
    tab_to("#save-csv")
    with page.expect_download():
        page.keyboard.press("Enter")
    page.locator(".thumb").first.focus()
    page.keyboard.press("Delete")
    expect(page.locator("#caption")).to_contain_text("none.png")
    assert page.evaluate("() => document.activeElement.id") == "remove"


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_images_are_pasted_and_dropped(page: Any, files: Files, way: str, words: Words) -> None:
    page.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
            const event = way === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [way, list(files["none"].read_bytes())],
    )
    name = "pasted-1.png" if way == "paste" else "image.png"
    expect(page.locator("#caption")).to_have_text(words(page, "caption", name, 320, 200, words(page, "faces", 0)))


def test_the_camera_starts_by_a_button_alone_and_stops_with_the_photo(page: Any) -> None:
    track = "() => window.track?.readyState ?? document.querySelector('video').srcObject"
    view = page.locator("#camera-view")
    page.click("#camera-open")
    expect(page.locator("#camera-consent")).to_contain_text("sent")
    assert page.evaluate(track) is None
    page.click("#camera-start")
    expect(view).to_be_visible()
    page.evaluate("() => { window.track = document.querySelector('video').srcObject.getTracks()[0]; }")
    assert page.evaluate(track) == "live"
    page.click("#camera-stop")
    assert page.evaluate(track) == "ended"
    expect(view).to_be_hidden()
    page.click("#camera-start")
    page.evaluate("() => new Promise((done) => { document.querySelector('video').requestVideoFrameCallback(done); })")
    page.evaluate("() => { window.track = document.querySelector('video').srcObject.getTracks()[0]; }")
    page.click("#camera-take")
    expect(page.locator("#camera")).to_be_hidden()
    expect(view).to_have_js_property("srcObject", None)
    assert page.evaluate(track) == "ended"
    expect(page.locator("#caption")).to_contain_text("camera-1.jpg")
    expect(page.locator(".face")).to_have_count(1)
    page.click("#camera-open")
    page.click("#camera-start")
    expect(view).to_be_visible()
    page.evaluate("() => { window.track = document.querySelector('video').srcObject.getTracks()[0]; }")
    page.keyboard.press("Escape")
    expect(view).to_have_js_property("srcObject", None)
    assert page.evaluate(track) == "ended"


@pytest.mark.parametrize("name", ["turned.jpg", "turned.webp"])
def test_an_image_that_is_stored_turned_is_shown_upright(
    page: Any, files: Files, recognizer: Recognizer, words: Words, name: str
) -> None:
    read(page, files[name])
    expect(page.locator("#caption")).to_have_text(words(page, "caption", name, 400, 512, words(page, "faces", 1)))
    expect(page.locator("#message")).to_be_hidden()
    # The answer may be there before the image is turned, and what is not shown is not saved.
    expect(page.locator("#image")).to_have_js_property("naturalWidth", 400)
    expect(page.locator("#frame")).not_to_have_class(re.compile("unshown"))
    _, content = saved(page, "#save-image")
    upright = Image.fromarray(recognizer.predict(files[name]).image).convert("RGB")
    drawn = Image.open(io.BytesIO(content)).convert("RGB")
    assert drawn.size == upright.size
    # Away from the box and its label it is the image that was read.
    below = (0, 260, 400, 512)
    assert np.mean(np.asarray(ImageChops.difference(drawn.crop(below), upright.crop(below)))) < 6


def test_saved_json_and_csv_are_those_of_the_command_line(page: Any, files: Files, recognizer: Recognizer) -> None:
    paths = [files[name] for name in ("two, faces", "none", "broken.jpg")]
    read(page, *paths)
    name, content = saved(page, "#save-json")
    assert name == "expressions.json"
    *answered, failed = json.loads(content)
    results = [recognizer.predict(path) for path in paths[:2]]
    for found, result, path in zip(answered, results, paths, strict=False):
        assert found == json.loads(json.dumps(result.to_dict(attention=True))) | {"source": path.name}
    assert "damaged" in failed["error"]
    assert failed["faces"] == []
    name, content = saved(page, "#save-csv")
    assert name == "expressions.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    assert list(rows[0]) == row_columns(recognizer.card.labels)
    assert [row["source"] for row in rows] == ["two, faces.png", "two, faces.png", "none.png", "broken.jpg"]
    for row, expected in zip(rows, results[0].to_rows(), strict=False):
        for column in set(row) - {"source", "expression", "error"}:
            assert float(row[column]) == float(expected[column]), column
    assert rows[2]["face"] == rows[2]["error"] == ""
    assert rows[3]["error"] == failed["error"]


def test_the_saved_image_is_the_whole_one_with_boxes_and_the_map(page: Any, files: Files) -> None:
    read(page, files["portrait.jpg"])
    drawn = []
    for choice in ("none", "both"):
        page.click(f".tile[data-choice={choice}]")
        name, content = saved(page, "#save-image")
        assert name == "portrait-annotated.jpg"
        drawn.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=float))
    original = np.asarray(Image.open(files["portrait.jpg"]).convert("RGB"), dtype=float)
    plain, mapped = drawn
    assert plain.shape == mapped.shape == original.shape
    eyes = np.s_[90:120, 195:255]
    assert np.abs(plain[eyes] - original[eyes]).mean() < 6
    assert np.abs(mapped[eyes] - original[eyes]).mean() > 20
    assert np.abs(plain[:, 177:180][60:170] - original[:, 177:180][60:170]).mean() > 20


def test_another_mix_of_expressions_changes_the_probabilities(page: Any, files: Files, words: Words) -> None:
    read(page, files["portrait.jpg"])
    options = page.locator("#prior option").all_inner_texts()
    assert options == [words(page, "priorTraining"), words(page, "priorUniform")]
    before = page.locator("#confidence").text_content()
    with page.expect_request(lambda request: "class_prior=uniform" in request.url):
        page.select_option("#prior", "uniform")
    expect(page.locator("#confidence")).not_to_have_text(before)
    # What was measured under one mix promises nothing under another.
    expect(page.locator("#precision-block")).to_be_hidden()
    page.select_option("#prior", "training")
    expect(page.locator("#confidence")).to_have_text(before)
    expect(page.locator("#precision-block")).to_be_visible()


def test_answers_are_withheld_on_request(page: Any, files: Files, words: Words) -> None:
    read(page, files["portrait.jpg"])
    options = page.locator("#precision option").all_inner_texts()
    assert options == [words(page, "precisionOff"), "80%", "85%", "90%"]
    likeliest = page.locator("#answer").text_content()
    page.select_option("#precision", "0.9")
    expect(page.locator("#answer")).to_have_text(UNCERTAIN)
    expect(page.locator("#withheld")).to_contain_text(likeliest)
    assert page.locator(".face").get_attribute("aria-label") == words(page, "faceLabel", 1, UNCERTAIN, "")
    page.select_option("#precision", "")
    expect(page.locator("#answer")).to_have_text(likeliest)
    page.click("#remove")
    expect(page.locator("#workspace")).to_be_hidden()
    read(page, files["none"])
    expect(page.locator("#message-title")).to_have_text(words(page, "noFaceTitle"))
    expect(page.locator(".face")).to_have_count(0)
