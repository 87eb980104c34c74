"""What the server refuses, and how: always as one problem that says what to do."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from ddamfn.errors import UsageError
from ddamfn.recognizer import Recognizer
from ddamfn.serve import Settings, create_app
from ddamfn.serve.batching import Batcher

_JPEG = {"Content-Type": "image/jpeg"}
_FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("body", "headers", "query", "status", "words"),
    [
        (b"", _JPEG, "", 400, "empty"),
        (b"text", _JPEG, "", 400, "JPEG"),
        (b"text", {"Content-Type": "text/plain"}, "", 415, "multipart/form-data"),
        (b"{}", {"Content-Type": "application/json"}, "", 415, "image/*"),
        (b"x", _JPEG | {"Content-Encoding": "gzip"}, "", 415, "Content-Encoding"),
        (b"x", {"Content-Type": "multipart/form-data"}, "", 400, "boundary"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=" + "b" * 500}, "", 400, "form"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=b; charset=undefined"}, "", 400, "form"),
        (b"nonsense", _FORM, "", 400, "form"),
        (b"--b--\r\n", _FORM, "", 400, "no file"),
        (b"", _FORM, "", 400, "middle"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntyped\r\n--b--\r\n', _FORM, "", 400, "no file"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf', _FORM, "", 400, "middle"),
        (b"x", _JPEG, "?min_detection_score=0", 400, "min_detection_score"),
        (b"x", _JPEG, "?min_detection_score=nan", 400, "min_detection_score"),
        (b"x", _JPEG, "?max_faces=0", 400, "max_faces"),
        (b"x", _JPEG, "?max_faces=many", 400, "max_faces"),
        (b"x", _JPEG, "?min_precision=1.5", 400, "min_precision"),
        (b"x", _JPEG, "?attention=perhaps", 400, "attention"),
    ],
)
def test_what_is_wrong_is_named(
    running: Any, body: bytes, headers: dict[str, str], query: str, status: int, words: str
) -> None:
    running.expect(running.client.post(f"/v1/predict{query}", content=body, headers=headers), status, words)


def test_addresses_and_methods_that_do_not_exist_are_problems_too(running: Any) -> None:
    running.expect(running.client.get("/nothing/here"), 404, "/openapi.json")
    answer = running.client.put("/v1/predict", content=b"x")
    running.expect(answer, 405, "POST")
    assert answer.headers["allow"] == "POST"


def test_a_form_holds_one_image_and_a_batch_a_bounded_number(serve: Any, portrait: bytes) -> None:
    running = serve(queue=3)
    part = ("file", ("a.jpg", portrait))
    running.expect(running.client.post("/v1/predict", files=[part, part]), 400, "/v1/predict/batch")
    running.expect(running.client.post("/v1/predict/batch", content=portrait, headers=_JPEG), 415, "multipart")
    assert len(running.client.post("/v1/predict/batch", files=[part] * 3).json()) == 3
    running.expect(running.client.post("/v1/predict/batch", files=[part] * 4), 413, "3 files")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://HOST"}, 200),
    ],
)
def test_a_page_of_another_site_makes_no_work(
    running: Any, portrait: bytes, headers: dict[str, str], status: int
) -> None:
    host = running.url.removeprefix("http://")
    sent = {name: value.replace("HOST", host) for name, value in headers.items()}
    answer = running.predict(portrait, headers=sent)
    assert answer.status_code == status
    if status == 403:
        running.expect(answer, 403, "another site")


def test_too_many_bytes_are_refused_also_without_a_declared_length(serve: Any) -> None:
    running = serve(max_upload_bytes=100_000)
    running.expect(running.client.post("/v1/predict", content=b"x" * 100_001, headers=_JPEG), 413, "100,000 bytes")
    parts = (b"x" * 50_000 for _ in range(100))
    running.expect(running.client.post("/v1/predict", content=parts, headers=_JPEG), 413, "100,000 bytes")
    assert running.metric("ddamfn_body_bytes") == 0


def test_too_many_pixels_are_refused_before_they_are_decoded(
    serve: Any, bomb: bytes, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(max_pixels=512 * 512 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    running.expect(running.predict(bomb), 413, "pixels")
    running.expect(running.predict(portrait), 413, "262,143")


def test_a_server_that_starts_says_so(serve: Any, portrait: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    load = Batcher.load

    def slowly(self: Batcher) -> None:
        go.wait(90)
        load(self)

    monkeypatch.setattr(Batcher, "load", slowly)
    running = serve(ready=False)
    assert running.client.get("/healthz").status_code == 200
    for answer in (running.client.get("/readyz"), running.predict(portrait)):
        running.expect(answer, 503, "starting")
        assert answer.headers["retry-after"] == "1"
    assert running.client.get("/v1/models").status_code == 200
    go.set()
    running.wait_until_ready()
    assert running.predict(portrait).status_code == 200


def test_the_token_is_asked_for_before_anything_is_read(serve: Any, portrait: bytes) -> None:
    running = serve(token="a-secret")
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic a-secret"}):
        for answer in (running.predict(portrait, headers=headers), running.client.get("/metrics", headers=headers)):
            running.expect(answer, 401, "Bearer")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert running.client.get("/v1/nothing").status_code == 401
    for path in ("/", "/healthz"):
        assert running.client.get(path).status_code == 200
    running.expect(running.client.get("/openapi.json"), 401, "Bearer")
    running.client.headers["Authorization"] = "Bearer a-secret"
    running.wait_until_ready()
    assert running.predict(portrait).status_code == 200
    described = running.client.get("/openapi.json").json()
    assert described["paths"]["/v1/predict"]["post"]["security"] == [{"token": []}]


def test_other_names_than_this_machines_are_not_answered(running: Any, serve: Any) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1].evil"):
        running.expect(running.client.get("/healthz", headers={"Host": host}), 421, "localhost")
    for host in ("localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8000"):
        assert running.client.get("/healthz", headers={"Host": host}).status_code == 200
    assert serve(hosts=None).client.get("/healthz", headers={"Host": "a.example"}).status_code == 200


def test_an_error_in_the_server_is_a_problem_and_its_message_is_not_logged(
    serve: Any, portrait: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("pixels of somebody's face")

    monkeypatch.setattr(Recognizer, "find_faces", fail)
    with caplog.at_level(logging.DEBUG):
        answer = running.predict(portrait)
        running.expect(answer, 500, "its log")
        running.wait_for(lambda: "ValueError in " in caplog.text)
    assert "somebody" not in caplog.text
    assert "photo.jpg" not in caplog.text


def test_weights_that_cannot_take_the_server_s_mix_are_refused_at_the_start(stand_in_weights: Path) -> None:
    with pytest.raises(UsageError, match="class prior"):
        create_app(Settings(stand_in_weights, class_prior="uniform"))
