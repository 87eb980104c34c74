"""The server as a process: signals, sockets, and what the command line refuses."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ddamfn.cli import main
from ddamfn.errors import DdamfnError, UsageError
from ddamfn.serve import Settings, address, bind, is_loopback

# What is started in the background of a shell script ignores the signal, and hands that on.
_INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from ddamfn.cli import main; sys.exit(main())"
)


_PATIENCE_S = 90


class _Process:
    """`ddamfn serve` on a free port."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", _INTERRUPTIBLE, "serve"]
        self.process = subprocess.Popen([*command, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found is not None, line
        self.port = int(found[1])
        self._url = found[0]
        _wait_for(lambda: self.get("/readyz").status_code == 200)

    def get(self, path: str) -> httpx.Response:
        # A connection of its own each time, so that a server that ends need not wait for this client.
        return httpx.get(self._url + path, trust_env=False, timeout=_PATIENCE_S)


@pytest.fixture
def process(stand_in_weights: Path) -> Iterator[_Process]:
    started = _Process("--weights", str(stand_in_weights), "--workers", "1")
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_the_server_finish_what_it_has(
    process: _Process, portrait: bytes, number: signal.Signals, status: int
) -> None:
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(portrait)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.sendall(head + portrait[:1000])
        _wait_for(lambda: "ddamfn_body_bytes 1000.0\n" in process.get("/metrics").text)
        process.process.send_signal(number)
        _wait_until_refused(process.port)
        connection.sendall(portrait[1000:])
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"expression":' in answer
    assert process.process.wait(_PATIENCE_S) == status
    assert process.process.stderr is not None
    assert process.process.stderr.read() == ""


def _wait_until_refused(port: int) -> None:
    def refused() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as connection:
                connection.settimeout(0.2)
                with suppress(TimeoutError):
                    connection.recv(1)
        except ConnectionError:  # refused or reset, as the system likes
            return True
        return False

    _wait_for(refused)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_a_damaged_network_ends_the_server_with_one_line(stand_in_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "stand-in.onnx").write_bytes(b"damaged")
    (tmp_path / "stand-in.json").write_bytes(stand_in_weights.with_suffix(".json").read_bytes())
    command = [
        sys.executable,
        "-c",
        "import sys; from ddamfn.cli import main; sys.exit(main())",
        "serve",
        "--port",
        "0",
    ]
    done = subprocess.run(
        [*command, "--weights", str(tmp_path / "stand-in.onnx")],
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * _PATIENCE_S,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ddamfn: error: ")
    assert "sha256" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.fixture(autouse=True)
def _sigterm_as_before() -> Iterator[None]:
    """Take back what the verb, run in this process, does with the signal."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    status = main(["serve", "--port", "0", *arguments])
    return status, capsys.readouterr().err.splitlines()


def test_others_are_not_let_in_without_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("0.0.0.0", "::"):
        status, lines = _refused(capsys, "--host", host)
        assert status == 2
        assert len(lines) == 1
        assert "--token-file" in lines[0]
        assert "--insecure" in lines[0]


def test_the_token_file_is_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr("ddamfn.serve.run", lambda settings, *_: served.append(settings))
    path = tmp_path / "token"
    for content, words in ((None, "cannot read"), (b"", "one token"), (b"two words", "one token"), (b"\xff", "ASCII")):
        if content is not None:
            path.write_bytes(content)
        status, lines = _refused(capsys, "--token-file", str(path))
        assert status == 2
        assert len(lines) == 1
        assert words in lines[0]
    path.write_text("secret\n")
    path.chmod(0o644)
    status, lines = _refused(capsys, "--token-file", str(path), "--host", "127.0.0.1")
    assert status == 0
    assert "chmod 600" in lines[0]
    path.chmod(0o600)
    status, lines = _refused(capsys, "--token-file", str(path), "--host", "0.0.0.0", "--max-upload-mb", "3")
    assert status == 0
    assert lines == []
    assert [settings.token for settings in served] == ["secret", "secret"]
    assert served[0].hosts is not None
    assert served[1].hosts is None
    for host, named in (("127.9.9.9", "127.9.9.9"), ("::1", "[::1]"), ("localhost", "localhost")):
        _refused(capsys, "--host", host)
        assert named in (served.pop().hosts or ())
    assert served[1].max_upload_bytes == 3 * 2**20
    assert "secret" not in repr(served[0])


def test_the_expected_mix_reaches_the_server_or_is_refused(
    capsys: pytest.CaptureFixture[str], stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, lines = _refused(capsys, "--weights", str(stand_in_weights), "--class-prior", "uniform")
    assert (status, len(lines)) == (2, 1)
    assert "class prior" in lines[0]
    served: list[Settings] = []
    monkeypatch.setattr("ddamfn.serve.run", lambda settings, *_: served.append(settings))
    for arguments in ((), ("--class-prior", "neutral=.2,fear=.1", "--provider", "cuda", "--provider", "cpu")):
        assert _refused(capsys, *arguments) == (0, [])
    assert [settings.class_prior for settings in served] == ["training", {"neutral": 0.2, "fear": 0.1}]
    assert [settings.providers for settings in served] == [None, ["cuda", "cpu"]]


def test_no_answer_waits_for_an_acknowledgment() -> None:
    async def flag() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            seen.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with bind("127.0.0.1", 0) as listener:
            async with await asyncio.start_server(connected, sock=listener):
                with socket.create_connection(listener.getsockname()):
                    return await seen

    assert asyncio.run(flag()) != 0


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = address(listener).rpartition(":")[2]
        assert main(["serve", "--port", port]) == 1
    error = capsys.readouterr().err
    assert "--port" in error
    assert len(error.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--port", "70000"])
    with pytest.raises(UsageError, match="host"):
        bind("no.such.host.invalid", 0)
    with pytest.raises(DdamfnError, match="listen"):
        bind("192.0.2.1", 0)


def test_a_missing_extra_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ddamfn.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve"]) == 1
    error = capsys.readouterr().err
    assert "fastapi" in error
    assert "ddamfn[serve]" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_told_from_what_others_reach(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_client_that_never_ends_does_not_keep_the_server(serve: Any) -> None:
    running = serve(last_requests_s=1, body_idle_s=600.0, body_total_s=600.0)
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
        running.wait_for_metric("ddamfn_body_bytes", 4)
        running.stop()


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"queue": 0}, {"token": ""}, {"body_idle_s": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)


def test_the_server_needs_no_pytorch(stand_in_weights: Path) -> None:
    code = (
        "import sys; from ddamfn.serve import Settings, create_app; "
        f"create_app(Settings({os.fspath(stand_in_weights)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=2 * _PATIENCE_S).returncode == 0
