"""What the server answers when all is well: what the command line answers, whatever comes at the same time."""

import io
import json
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.recognizer import Recognizer


def _expected(recognizer: Recognizer, content: bytes, *, attention: bool = False) -> dict[str, Any]:
    plain = recognizer.predict(content).to_dict(attention=attention) | {"source": "photo.jpg"}
    return dict(json.loads(json.dumps(plain)))


def _near(one: Any, other: Any) -> bool:
    """Whether two answers are the same, numbers to 1e-5."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_near(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_near, one, other))
    return bool(abs(one - other) <= 1e-5) if isinstance(one, float) else bool(one == other)


@pytest.mark.parametrize("attention", [False, True])
def test_the_answer_is_the_command_lines(
    running: Any, recognizer: Recognizer, portrait: bytes, attention: bool
) -> None:
    answer = running.predict(portrait, params={"attention": attention})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == _expected(recognizer, portrait, attention=attention)
    assert len(answer.json()["faces"]) == 1


@pytest.mark.parametrize("media_type", [None, "image/jpeg", "application/octet-stream", "image/x-made-up"])
def test_the_body_may_be_the_image_itself(
    running: Any, recognizer: Recognizer, portrait: bytes, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = running.client.post("/v1/predict", content=portrait, headers=headers)
    assert answer.json() == _expected(recognizer, portrait) | {"source": "upload"}


def test_heic_is_read(running: Any, portrait: bytes, heic: Any) -> None:
    image = np.asarray(Image.open(io.BytesIO(portrait)).convert("RGB"))
    answer = running.client.post("/v1/predict", content=heic(image), headers={"Content-Type": "image/heic"})
    assert answer.status_code == 200
    assert len(answer.json()["faces"]) == 1


def test_no_jpeg_is_decoded_smaller_for_the_server_s_limit(running: Any, portrait: bytes) -> None:
    frame = portrait.index(b"\xff\xc0") + 5
    claim = portrait[:frame] + struct.pack(">HH", 12_000, 16_000) + portrait[frame + 4 :]
    assert running.predict(claim).status_code == 413


def test_options_are_the_command_lines(running: Any, calibrated_weights: Path, portrait: bytes) -> None:
    image = np.asarray(Image.open(io.BytesIO(portrait)).convert("RGB"))
    stream = io.BytesIO()
    Image.fromarray(np.concatenate([image, image[:, ::-1]], axis=1)).save(stream, "PNG")
    pair = stream.getvalue()
    assert len(running.predict(pair).json()["faces"]) == 2
    assert len(running.predict(pair, params={"max_faces": 1}).json()["faces"]) == 1
    assert running.predict(pair, params={"min_detection_score": 1}).json()["faces"] == []
    said = {
        face["expression"]
        for min_precision in (None, 0.9)
        for face in running.predict(
            portrait, params={} if min_precision is None else {"min_precision": min_precision}
        ).json()["faces"]
    }
    threshold = Recognizer(calibrated_weights, num_threads=1, min_precision=0.9).threshold
    assert threshold == 0.999
    assert "uncertain" in said
    assert len(said) == 2
    refused = running.predict(portrait, params={"min_precision": 0.99})
    assert refused.status_code == 400
    assert "0.9" in refused.json()["detail"]


def test_the_expected_mix_is_the_request_s_or_the_server_s(
    running: Any, serve: Any, calibrated_weights: Path, portrait: bytes
) -> None:
    def read(server: Any, **params: object) -> Any:
        return server.predict(portrait, params=params).json()

    uniform = Recognizer(calibrated_weights, num_threads=1, class_prior="uniform").predict(portrait)
    named = Recognizer(calibrated_weights, num_threads=1, class_prior={"neutral": 0.1}).predict(portrait)
    other = serve(weights=calibrated_weights, class_prior="uniform")
    for server, params, result in (
        (running, {"class_prior": "uniform"}, uniform),
        (other, {}, uniform),
        (running, {"class_prior": "neutral=.1"}, named),
        (other, {"class_prior": "neutral=.1"}, named),
    ):
        assert read(server, **params)["faces"] == result.to_dict()["faces"]
    assert read(other, class_prior="training") == read(running)
    other.expect(other.predict(portrait, params={"min_precision": 0.9}), 400, "class_prior=training")
    assert read(other, min_precision=0.9, class_prior="training") == read(running, min_precision=0.9)
    for wrong in ("even", "neutral=2", "joyless=.1"):
        running.expect(running.predict(portrait, params={"class_prior": wrong}), 400, "class prior")
    refused = running.predict(portrait, params={"class_prior": "uniform", "min_precision": 0.9})
    running.expect(refused, 400, "min_precision")
    # Where the page could not keep a precision, it does not offer one.
    told = other.client.get("/v1/models").json()["models"][0]
    assert (told["can_abstain"], told["highest_precision"], told["class_prior"]) == (False, None, "uniform")


def test_images_at_once_are_classified_together_and_answered_alike(
    serve: Any, recognizer: Recognizer, images: list[bytes], gate: threading.Event
) -> None:
    gate.set()
    alone = [_expected(recognizer, image, attention=True) for image in images]
    gate.clear()
    # Nobody is waited for so long: a batch is complete when it has eight, or no other image is being searched.
    running = serve(batch_wait_s=90.0, batch_size=8)
    order = list(range(len(images))) * 4
    with ThreadPoolExecutor(len(order)) as clients:
        asked = [clients.submit(running.predict, images[row], params={"attention": True}) for row in order]
        running.wait_for_metric("ddamfn_queue_images", len(order))
        gate.set()
        answers = [answer.result().json() for answer in asked]
    assert all(_near(answer, alone[row]) for answer, row in zip(answers, order, strict=True))
    assert all(len(answer["faces"]) == 1 for answer in answers)
    assert running.metric("ddamfn_batch_faces_sum") == len(order)
    assert running.metric("ddamfn_batch_faces_count") < len(order) / 2


def test_a_batch_is_answered_in_order_and_bad_files_in_their_place(
    running: Any, recognizer: Recognizer, portrait: bytes, bomb: bytes
) -> None:
    parts = [("one.jpg", portrait), ("notes.txt", b"text", "text/plain"), ("b.png", bomb), ("two.jpg", portrait[:999])]
    answer = running.client.post("/v1/predict/batch", files=[("file", part) for part in (*parts, parts[0])])
    assert answer.status_code == 200
    results = answer.json()
    assert [result["source"] for result in results] == ["one.jpg", "notes.txt", "b.png", "two.jpg", "one.jpg"]
    assert results[0] == results[4] == _expected(recognizer, portrait) | {"source": "one.jpg"}
    assert "image/*" in results[1]["error"]
    assert "too large" in results[2]["error"]
    assert "damaged" in results[3]["error"]
    assert all("error" not in results[row] and results[row]["width"] == 512 for row in (0, 4))
    assert all(results[row]["width"] is None and results[row]["faces"] == [] for row in (1, 2, 3))


def test_the_card_and_the_limits_are_told(running: Any) -> None:
    told = running.client.get("/v1/models").json()
    assert [model["name"] for model in told["models"]] == ["stand-in"]
    assert told["models"][0]["can_abstain"] is True
    assert np.shape(told["models"][0]["alignment"]["points"]) == (1, 5, 2)
    assert told["limits"] == {
        "max_upload_bytes": 20 * 2**20,
        "max_pixels": 64_000_000,
        "max_images": 64,
        "max_faces": 128,
    }


def test_the_server_says_how_it_is(running: Any, portrait: bytes) -> None:
    assert running.client.get("/healthz").json() == {"status": "alive"}
    assert running.client.get("/readyz").json() == {"status": "ready"}
    before = {name: running.metric(f"ddamfn_{name}_total") for name in ("faces", "images", "requests")}
    secret = "a name that nobody must read.jpg"
    running.client.post("/v1/predict", files={"file": (secret, portrait)})
    running.client.get("/made/up")
    text = running.client.get("/metrics").text
    assert running.metric("ddamfn_faces_total") == before["faces"] + 1
    assert running.metric("ddamfn_images_total") == before["images"] + 1
    assert running.metric("ddamfn_requests_total") > before["requests"] + 2
    assert running.metric("ddamfn_queue_images") == 0
    assert running.metric("ddamfn_ready") == 1
    assert 'path="/v1/predict",status="200"' in text
    assert 'path="other",status="404"' in text
    assert "nobody" not in text
    assert "made/up" not in text


def test_the_page_and_its_files_are_served_and_nothing_else(running: Any) -> None:
    folder = files("ddamfn").joinpath("serve", "page")
    for entry in folder.iterdir():
        if entry.name.endswith((".html", ".js", ".css", ".svg")):
            answer = running.client.get(f"/{entry.name}")
            assert answer.status_code == 200
            assert answer.content == entry.read_bytes()
            assert answer.headers["cache-control"] == "no-cache"
    assert running.client.get("/").content == folder.joinpath("index.html").read_bytes()
    assert running.client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert running.client.get("/").headers["content-type"] != running.client.get("/icon.svg").headers["content-type"]
    for name in ("/app.py", "/..%2fapp.py", "/%2e%2e/settings.py", "/index.html/", "/docs", "/redoc", "/.hidden"):
        assert running.client.get(name).status_code == 404, name
    assert running.client.head("/").content == b""


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/nothing", "/v1/predict"])
def test_every_answer_carries_the_security_headers(running: Any, path: str) -> None:
    headers = running.client.get(path, headers={"Origin": "https://elsewhere.example"}).headers
    policy = headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["permissions-policy"].startswith("camera=(self)")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_interface_is_described_with_examples(running: Any) -> None:
    described = running.client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    operation = described["paths"]["/v1/predict"]["post"]
    assert operation["responses"]["200"]["content"]["application/json"]["example"]["faces"]
    assert set(operation["responses"]) >= {"200", "400", "401", "408", "413", "415", "429", "503"}
    assert "422" not in operation["responses"]
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream", "image/*"}
    min_precision = next(entry for entry in operation["parameters"] if entry["name"] == "min_precision")
    assert min_precision["schema"]["maximum"] == 0.9


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/models", "/metrics", "/openapi.json"])
def test_head_is_get_without_the_body(running: Any, path: str) -> None:
    head, whole = running.client.head(path), running.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert running.client.head("/v1/predict").status_code == 405
