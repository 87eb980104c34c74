"""What the server refuses, and how: always one problem, never a picture's content, and never anybody else's time."""

import contextlib
import logging
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddamfn.recognizer import Recognizer
from ddamfn.serve.batching import Pipeline

_JPEG = {"Content-Type": "image/jpeg"}
_FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def _is_problem(answer: Any, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert words in problem["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "query", "status", "words"),
    [
        (b"", _JPEG, "", 400, "empty"),
        (b"not a picture", _JPEG, "", 400, "not a picture"),
        (b"text", {"Content-Type": "text/plain"}, "", 415, "multipart/form-data"),
        (b"{}", {"Content-Type": "application/json"}, "", 415, "image/*"),
        (b"x", _JPEG | {"Content-Encoding": "gzip"}, "", 415, "Content-Encoding"),
        (b"x", {"Content-Type": "multipart/form-data"}, "", 400, "boundary"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=" + "b" * 500}, "", 400, "not the form"),
        (b"nonsense", _FORM, "", 400, "not the form"),
        (b"--b--\r\n", _FORM, "", 400, "no file"),
        (b"", _FORM, "", 400, "middle"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntyped\r\n--b--\r\n', _FORM, "", 400, "no file"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhalf', _FORM, "", 400, "middle"),
        (b"x", _JPEG, "?min_score=0", 400, "min_score"),
        (b"x", _JPEG, "?min_score=nan", 400, "min_score"),
        (b"x", _JPEG, "?max_faces=0", 400, "max_faces"),
        (b"x", _JPEG, "?max_faces=many", 400, "max_faces"),
        (b"x", _JPEG, "?abstain=1.5", 400, "abstain"),
        (b"x", _JPEG, "?attention=perhaps", 400, "attention"),
    ],
)
def test_what_is_wrong_is_named(
    running: Any, body: bytes, headers: dict[str, str], query: str, status: int, words: str
) -> None:
    _is_problem(running.client.post(f"/v1/predict{query}", content=body, headers=headers), status, words)


def test_addresses_and_methods_that_do_not_exist_are_problems_too(running: Any) -> None:
    _is_problem(running.client.get("/nothing/here"), 404, "/openapi.json")
    answer = running.client.put("/v1/predict", content=b"x")
    _is_problem(answer, 405, "POST")
    assert answer.headers["allow"] == "POST"


def test_a_form_holds_one_picture_and_a_batch_a_bounded_number(serve: Any, portrait: bytes) -> None:
    running = serve(queue=3)
    part = ("file", ("a.jpg", portrait))
    _is_problem(running.client.post("/v1/predict", files=[part, part]), 400, "/v1/predict/batch")
    _is_problem(running.client.post("/v1/predict/batch", content=portrait, headers=_JPEG), 415, "multipart")
    assert len(running.client.post("/v1/predict/batch", files=[part] * 3).json()) == 3
    _is_problem(running.client.post("/v1/predict/batch", files=[part] * 4), 413, "at most 3 files")


def test_too_many_bytes_are_refused_also_without_a_declared_length(serve: Any) -> None:
    running = serve(max_upload_bytes=100_000)
    _is_problem(running.client.post("/v1/predict", content=b"x" * 100_001, headers=_JPEG), 413, "100,000 bytes")
    parts = (b"x" * 50_000 for _ in range(100))
    _is_problem(running.client.post("/v1/predict", content=parts, headers=_JPEG), 413, "100,000 bytes")
    assert running.metric("ddamfn_body_bytes") == 0


def test_a_body_without_end_is_cut_off(serve: Any) -> None:
    running = serve(max_upload_bytes=100_000)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk, sent = b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n", 0
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(head)
        with contextlib.suppress(OSError):
            while sent < 2**30:
                connection.sendall(chunk)
                sent += len(chunk)
    assert 100_000 < sent < 100 * 2**20


def test_too_many_pixels_are_refused_before_they_are_decoded(
    serve: Any, bomb: bytes, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(max_pixels=512 * 512 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    _is_problem(running.predict(bomb), 413, "too large")
    _is_problem(running.predict(portrait), 413, "512 x 512 is more than 262,143 pixels")


def test_a_slow_client_is_refused_and_holds_nobody_up(serve: Any, portrait: bytes) -> None:
    running = serve(body_idle_s=1.0, workers=1)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(40)]
    for connection in slow:
        connection.sendall(head + b"a few bytes")
    assert running.predict(portrait).status_code == 200
    for connection in slow:
        connection.settimeout(20)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        connection.close()
    assert running.metric("ddamfn_body_bytes") == 0


def test_a_body_must_not_take_for_ever_even_if_it_never_stops(serve: Any) -> None:
    running = serve(body_idle_s=5.0, body_total_s=0.5)

    def dribble() -> Any:
        for _ in range(100):
            time.sleep(0.1)
            yield b"x"

    began = time.monotonic()
    _is_problem(running.client.post("/v1/predict", content=dribble(), headers=_JPEG), 408, "slowly")
    assert time.monotonic() - began < 8


def test_clients_that_go_away_leave_nothing_behind(
    serve: Any, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(workers=1, queue=4)
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(portrait)}\r\n\r\n".encode()
    found = threading.Event()
    find_faces = Recognizer.find_faces

    def blocked(*arguments: Any, **options: Any) -> Any:
        found.wait(20)
        return find_faces(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Recognizer, "find_faces", blocked)
        for body in (portrait, portrait, portrait, portrait[:1000]):
            connection = socket.create_connection(("127.0.0.1", running.port))
            connection.sendall(head + body)
            time.sleep(0.05)
            connection.close()
        _wait_for(lambda: running.metric("ddamfn_queue_pictures") == 0)
        found.set()
    assert running.predict(portrait).status_code == 200
    assert running.metric("ddamfn_body_bytes") == 0
    assert 'status="gone"' in running.client.get("/metrics").text


def test_a_full_queue_refuses_with_the_time_to_come_back(
    serve: Any, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(workers=1, queue=2)
    go = threading.Event()
    find_faces = Recognizer.find_faces

    def blocked(*arguments: Any, **options: Any) -> Any:
        go.wait(20)
        return find_faces(*arguments, **options)

    monkeypatch.setattr(Recognizer, "find_faces", blocked)
    with ThreadPoolExecutor(2) as clients:
        inside = [clients.submit(running.predict, portrait) for _ in range(2)]
        _wait_for(lambda: running.metric("ddamfn_queue_pictures") == 2)
        refused = running.predict(portrait)
        _is_problem(refused, 429, "later")
        assert int(refused.headers["retry-after"]) >= 1
        assert running.client.get("/healthz").status_code == 200
        go.set()
        assert [answer.result().status_code for answer in inside] == [200, 200]
    assert running.predict(portrait).status_code == 200


def test_bodies_together_hold_a_bounded_number_of_bytes(serve: Any, portrait: bytes) -> None:
    running = serve(buffered_bytes=len(portrait) - 1)
    _is_problem(running.predict(portrait), 429, "too many uploads")
    assert running.metric("ddamfn_body_bytes") == 0


def test_a_server_that_starts_says_so(serve: Any, portrait: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    load = Pipeline.load

    def slowly(self: Pipeline) -> None:
        go.wait(20)
        load(self)

    monkeypatch.setattr(Pipeline, "load", slowly)
    running = serve(ready=False)
    assert running.client.get("/healthz").status_code == 200
    for answer in (running.client.get("/readyz"), running.predict(portrait)):
        _is_problem(answer, 503, "starting")
        assert answer.headers["retry-after"] == "1"
    assert running.client.get("/v1/models").status_code == 200
    go.set()
    running.wait_until_ready()
    assert running.predict(portrait).status_code == 200


def test_the_token_is_asked_for_before_anything_is_read(serve: Any, portrait: bytes) -> None:
    running = serve(token="a-secret")
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic a-secret"}):
        for answer in (running.predict(portrait, headers=headers), running.client.get("/metrics", headers=headers)):
            _is_problem(answer, 401, "Bearer")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert running.client.get("/v1/nothing").status_code == 401
    for path in ("/", "/healthz", "/openapi.json"):
        assert running.client.get(path).status_code == 200
    running.client.headers["Authorization"] = "Bearer a-secret"
    running.wait_until_ready()
    assert running.predict(portrait).status_code == 200
    described = running.client.get("/openapi.json").json()
    assert described["paths"]["/v1/predict"]["post"]["security"] == [{"token": []}]


def test_other_names_than_this_machines_are_not_answered(running: Any, serve: Any) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1].evil"):
        _is_problem(running.client.get("/healthz", headers={"Host": host}), 421, "localhost")
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
        _is_problem(answer, 500, "its log")
        _wait_for(lambda: "ValueError in " in caplog.text)
    assert "somebody" not in caplog.text
    assert "photo.jpg" not in caplog.text


def test_one_picture_that_fails_spoils_no_other_in_its_batch(
    serve: Any, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = serve(batch_wait_s=1.0, workers=2)
    classify, sizes = Recognizer.classify, []

    def picky(self: Recognizer, found: Any) -> Any:
        sizes.append(len(found))
        if any(entry.result.width == 300 for entry in found):
            raise RuntimeError("not this one")
        return classify(self, found)

    monkeypatch.setattr(Recognizer, "classify", picky)
    with ThreadPoolExecutor(3) as clients:
        answers = list(clients.map(running.predict, pictures[:3]))
    assert [answer.status_code for answer in answers] == [200, 200, 500]
    assert max(sizes) > 1


def test_nothing_of_a_picture_reaches_a_disk_or_the_log(
    serve: Any, noise: bytes, portrait: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()
    written: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        # An audit hook stays for the life of the process, so it must cost nothing later.
        if watching and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            written.append(str(arguments[0]))
        elif watching and event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir"):
            written.append(event)

    sys.addaudithook(watch)
    assert len(noise) > 2 * 2**20
    with caplog.at_level(logging.DEBUG):
        assert running.predict(noise).status_code == 200
        running.client.post("/v1/predict", content=noise, headers=_JPEG)
        running.client.post("/v1/predict/batch", files=[("file", ("secret-name.png", noise))] * 2)
        assert running.predict(portrait + noise).status_code == 200
    watching = False
    assert written == []
    assert "secret-name" not in caplog.text.replace("httpx", "")


def test_what_is_no_http_is_answered_and_hung_up_on(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    monkeypatch.setattr("ddamfn.serve.protocol._HEAD_S", 0.3)
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert _read_all(connection) == b""


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_upload_breaks_the_server(running: Any, portrait: bytes, data: st.DataObject) -> None:
    """Send random bytes, damaged pictures and damaged forms: the answer is a result or a problem, never status 500."""
    kind = data.draw(st.sampled_from(["bytes", "picture", "form", "head"]))
    body, headers = data.draw(st.binary(max_size=300)), dict(_JPEG)
    if kind == "picture":
        content = bytearray(portrait[: data.draw(st.integers(1, len(portrait)))])
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, min(len(content), 2000) - 1))] = data.draw(st.integers(0, 255))
        body = bytes(content)
    elif kind == "form":
        pieces = [b"--b\r\n", b"--b--\r\n", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="file"', body]
        pieces += [b'; filename="x"', b"Content-Type: image/png", b":", b"\x00", portrait[:500]]
        body, headers = b"".join(data.draw(st.lists(st.sampled_from(pieces), max_size=14))), dict(_FORM)
    elif kind == "head":
        headers["Content-Type"] = data.draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
    answer = running.client.post("/v1/predict", content=body, headers=headers)
    assert answer.status_code in (200, 400, 413, 415)
    assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def _wait_for(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
