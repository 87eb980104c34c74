"""Servers on real sockets, in threads of the test, and images to send to them."""

import io
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra serve")

from ddamfn.recognizer import Recognizer
from ddamfn.serve import Settings, address, bind, make_server

PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
# Only a failing test waits this long: a busy machine may need many seconds for what takes a blink elsewhere.
PATIENCE_S = 90.0


@pytest.fixture(scope="session")
def portrait() -> bytes:
    """Return the bundled portrait's bytes: one face."""
    return PORTRAIT


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    """Return images with one face each, all different: the portrait darker, mirrored, smaller."""
    image = Image.open(io.BytesIO(PORTRAIT)).convert("RGB")
    made = [image.resize((side, side)) for side in (512, 384, 300)]
    made += [resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT).point(lambda value: value * 0.7) for resized in made]
    return [png(resized) for resized in made]


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """Return a PNG of 100 bytes that claims 2.5 thousand million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def noise() -> bytes:
    """Return a PNG of more than two megabytes, without a face."""
    return png(Image.fromarray(np.random.default_rng(3).integers(0, 256, (900, 900, 3), dtype=np.uint8)))


@pytest.fixture(scope="session")
def recognizer(stand_in_weights: Path) -> Recognizer:
    """Return what the servers must agree with."""
    return Recognizer(stand_in_weights, num_threads=1)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Keep servers from finding faces until the event is set."""
    go, find_faces = threading.Event(), Recognizer.find_faces

    def gated(*arguments: Any, **options: Any) -> Any:
        assert go.wait(PATIENCE_S)
        return find_faces(*arguments, **options)

    monkeypatch.setattr(Recognizer, "find_faces", gated)
    yield go
    go.set()


class Running:
    """A server in a thread, and a client for it."""

    def __init__(self, settings: Settings, *, last_requests_s: int = 5) -> None:
        self.server = make_server(settings, last_requests_s=last_requests_s)
        self._listener = bind("127.0.0.1", 0)
        self.url = address(self._listener)
        self.port = int(self.url.rpartition(":")[2])
        # What the environment says of proxies is not for this machine's own address.
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()

    def wait_until_ready(self) -> None:
        self.wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def metric(self, name: str) -> float:
        """Return a metric's value, summed over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert values, f"no metric {name}"
        return sum(map(float, values))

    def wait_for_metric(self, name: str, value: float) -> None:
        self.wait_for(lambda: self.metric(name) == value)

    def predict(self, content: bytes, **arguments: Any) -> httpx.Response:
        return self.client.post("/v1/predict", files={"file": ("photo.jpg", content)}, **arguments)

    @staticmethod
    def expect(answer: httpx.Response, status: int, words: str = "") -> None:
        """Check that an answer is a refusal, in the shape that all have."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem.keys() == {"type", "title", "status", "detail"}
        assert problem["status"] == status
        assert words in problem["detail"]

    @staticmethod
    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.02)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._listener.close()
        assert not self._thread.is_alive()


Serve = Callable[..., Running]


@pytest.fixture
def serve(stand_in_weights: Path) -> Iterator[Serve]:
    """Start servers with settings of one's own; they end with the test."""
    started: list[Running] = []

    def start(*, ready: bool = True, last_requests_s: int = 5, **settings: Any) -> Running:
        chosen = replace(Settings(stand_in_weights, workers=2), **settings)
        running = Running(chosen, last_requests_s=last_requests_s)
        started.append(running)
        if ready and settings.get("token") is None:
            running.wait_until_ready()
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="module")
def running(calibrated_weights: Path) -> Iterator[Running]:
    """Return a server with the default settings, for all tests of a file."""
    running = Running(Settings(calibrated_weights, workers=2))
    running.wait_until_ready()
    yield running
    running.stop()


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
