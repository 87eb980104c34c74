"""Many clients, slow, broken and hostile ones: none holds up the others, and nothing of an image stays behind."""

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

_JPEG = {"Content-Type": "image/jpeg"}
_FORM = {"Content-Type": "multipart/form-data; boundary=b"}


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
    running.expect(running.client.post("/v1/predict", content=dribble(), headers=_JPEG), 408, "slowly")
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
        running.wait_for(lambda: running.metric("ddamfn_queue_images") == 0)
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
        running.wait_for(lambda: running.metric("ddamfn_queue_images") == 2)
        refused = running.predict(portrait)
        running.expect(refused, 429, "later")
        assert int(refused.headers["retry-after"]) >= 1
        assert running.client.get("/healthz").status_code == 200
        go.set()
        assert [answer.result().status_code for answer in inside] == [200, 200]
    assert running.predict(portrait).status_code == 200


def test_bodies_together_hold_a_bounded_number_of_bytes(serve: Any, portrait: bytes) -> None:
    running = serve(buffered_bytes=len(portrait) - 1)
    running.expect(running.predict(portrait), 429, "too many uploads")
    assert running.metric("ddamfn_body_bytes") == 0


def test_one_image_that_fails_spoils_no_other_in_its_batch(
    serve: Any, images: list[bytes], monkeypatch: pytest.MonkeyPatch
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
        answers = list(clients.map(running.predict, images[:3]))
    assert [answer.status_code for answer in answers] == [200, 200, 500]
    assert max(sizes) > 1


def test_nothing_of_a_image_reaches_a_disk_or_the_log(
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
    """Send random bytes, damaged images and damaged forms: the answer is a result or a problem, never status 500."""
    kind = data.draw(st.sampled_from(["bytes", "image", "form", "head"]))
    body, headers = data.draw(st.binary(max_size=300)), dict(_JPEG)
    if kind == "image":
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
