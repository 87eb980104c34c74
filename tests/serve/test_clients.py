"""Many clients, slow, broken and hostile ones: none holds up the others, and nothing of an image stays behind."""

import contextlib
import logging
import os
import select
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
_PATIENCE_S = 90


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
    running = serve(body_idle_s=1.5, workers=1)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(40)]
    for connection in slow:
        connection.sendall(head + b"a few bytes")
    assert running.predict(portrait).status_code == 200
    for connection in slow:
        connection.settimeout(_PATIENCE_S)
        answer = _read_all(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in answer
        connection.close()
    assert running.metric("ddamfn_body_bytes") == 0


def test_a_body_must_not_take_for_ever_even_if_it_never_stops(serve: Any) -> None:
    running = serve(body_idle_s=_PATIENCE_S, body_total_s=0.5)
    deadline = time.monotonic() + _PATIENCE_S
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        while not select.select([connection], [], [], 0.05)[0]:
            assert time.monotonic() < deadline, "it goes on taking bytes"
            connection.sendall(b"x")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"slowly" in answer


def test_clients_that_go_away_leave_nothing_behind(serve: Any, portrait: bytes, gate: threading.Event) -> None:
    running = serve(workers=1, queue=4)
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(portrait)}\r\n\r\n".encode()
    connections = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(4)]
    for connection, body in zip(connections, [*3 * [portrait], portrait[:1000]], strict=True):
        connection.sendall(head + body)
    running.wait_for_metric("ddamfn_queue_images", 3)
    running.wait_for_metric("ddamfn_body_bytes", 3 * len(portrait) + 1000)
    for connection in connections:
        connection.close()
    running.wait_for_metric("ddamfn_queue_images", 0)
    running.wait_for_metric("ddamfn_body_bytes", 0)
    gate.set()
    assert running.predict(portrait).status_code == 200
    gone = 'ddamfn_requests_total{method="POST",path="/v1/predict",status="gone"} 4.0'
    running.wait_for(lambda: gone in running.client.get("/metrics").text)


def test_a_full_queue_refuses_with_the_time_to_come_back(serve: Any, portrait: bytes, gate: threading.Event) -> None:
    running = serve(workers=1, queue=2)
    with ThreadPoolExecutor(2) as clients:
        inside = [clients.submit(running.predict, portrait) for _ in range(2)]
        running.wait_for_metric("ddamfn_queue_images", 2)
        refused = running.predict(portrait)
        running.expect(refused, 429, "later")
        assert int(refused.headers["retry-after"]) >= 1
        assert running.client.get("/healthz").status_code == 200
        gate.set()
        assert [answer.result().status_code for answer in inside] == [200, 200]
    assert running.predict(portrait).status_code == 200


def test_bodies_together_hold_a_bounded_number_of_bytes(serve: Any, portrait: bytes) -> None:
    running = serve(buffered_bytes=len(portrait) - 1)
    running.expect(running.predict(portrait), 429, "uploads")
    assert running.metric("ddamfn_body_bytes") == 0


def test_one_image_that_fails_spoils_no_other_in_its_batch(
    serve: Any, images: list[bytes], gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is waited for so long: a batch is complete when no other image is being searched.
    running = serve(batch_wait_s=_PATIENCE_S)
    classify, sizes = Recognizer.classify, []

    def picky(self: Recognizer, found: Any) -> Any:
        sizes.append(len(found))
        if any(entry.result.width == 300 for entry in found):
            raise RuntimeError("not this one")
        return classify(self, found)

    monkeypatch.setattr(Recognizer, "classify", picky)
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(running.predict, image) for image in images[:3]]
        running.wait_for_metric("ddamfn_queue_images", 3)
        gate.set()
        assert [answer.result().status_code for answer in answers] == [200, 200, 500]
    assert max(sizes) > 1


def test_nothing_of_an_image_reaches_a_disk_or_the_log(
    serve: Any, noise: bytes, portrait: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    running = serve()
    written: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        # An audit hook stays for the life of the process, so it must cost nothing later.
        if watching and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(arguments[0]))
        elif watching and event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir"):
            written.append(event)

    sys.addaudithook(watch)
    # Whatever follows an image's last byte is not decoded.
    large = portrait + noise * (15 * 10**6 // len(noise) + 1)
    assert len(large) > 15 * 10**6
    with caplog.at_level(logging.DEBUG):
        assert running.predict(large).status_code == 200
        assert running.client.post("/v1/predict", content=large, headers=_JPEG).status_code == 200
        batch = running.client.post("/v1/predict/batch", files=[("file", ("secret-name.png", large[: 3 * 10**6]))] * 2)
        assert batch.status_code == 200
    watching = False
    assert written == []
    assert "secret-name" not in caplog.text.replace("httpx", "")


def test_what_is_no_http_is_answered_and_hung_up_on(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        answer = _read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    monkeypatch.setattr("ddamfn.serve.server._HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.settimeout(_PATIENCE_S)
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
    """Receive until the server closes; head and body may come one after the other."""
    received = b""
    # What the server had not read any more when it closed resets the connection after the answer.
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received
