"""Throughput, latency and memory of `ddamfn serve` under load, on the loopback interface.

    python benchmarks/serve.py [--connections 1 8 32 128] [--seconds 20] [--requests 10000] [--workers N] [--quick]

Starts a server in its own process. At each level so many connections send the bundled portrait for some seconds, each
its next request after the last response; after a 429 a connection waits. Then the server's memory is recorded during
many mixed requests (two sizes, forms, attention maps, damaged files). The client uses the same cores. Writes
docs/benchmarks/<date>-<commit>-serve.md.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from machine import ROOT, heading, load, write_result
from PIL import Image

CONNECTIONS = (1, 8, 32, 128)
SAMPLES = 10
MEMORY_CONNECTIONS = 8


@dataclass
class Level:
    """The result for one number of connections.

    Attributes:
        connections: their number.
        seconds: from the first request to the last response.
        latencies: seconds of each request with status 200, sorted.
        statuses: number of responses by status; "failed" for broken connections.
        cpu_s: CPU seconds that the server used.
    """

    connections: int
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def row(self) -> str:
        """Return the row of the table."""
        others = ", ".join(
            f"{count:,} x {status}" for status, count in sorted(self.statuses.items()) if status != "200"
        )
        answered = len(self.latencies)
        cells = [self.connections, f"{answered:,}", others or "none", f"{answered / self.seconds:.1f}"]
        if answered:
            cells += [f"{1e3 * value:.0f}" for value in (*self._percentiles(), self.latencies[-1])]
            cells.append(f"{1e3 * self.cpu_s / answered:.1f}")
        return f"| {' | '.join(map(str, cells))} |"

    def _percentiles(self) -> tuple[float, ...]:
        last = len(self.latencies) - 1
        return tuple(self.latencies[round(share * last)] for share in (0.5, 0.95, 0.99))


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS)
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of each level")
    parser.add_argument(
        "--requests", type=int, default=10_000, help="number of mixed requests while memory is recorded"
    )
    parser.add_argument("--workers", type=int, help="the server's threads (default: its own)")
    parser.add_argument("--weights", help="name or path")
    parser.add_argument("--note", action="append", default=[], help="line to add to the heading")
    parser.add_argument("--quick", action="store_true", help="3 s per level and 200 requests")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks", help="folder of the result")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.requests = min(args.seconds, 3.0), min(args.requests, 200)
    before = load()
    with server(args) as url:
        levels, memory, statuses = asyncio.run(measure(args, url))
    path = write_result(report(args, levels, memory, statuses, before), args.output, "serve")
    print(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def server(args: argparse.Namespace) -> Iterator[str]:
    """Run a server and stop it."""
    program = "import sys; from ddamfn.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", "--port", "0"]
    command += [] if args.workers is None else ["--workers", str(args.workers)]
    command += [] if args.weights is None else ["--weights", args.weights]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if not line.startswith("ddamfn serves "):
            sys.exit(line.strip())
        yield line.split()[2]
    finally:
        process.terminate()
        if process.wait(60) != 0:
            print(f"the server ended with status {process.returncode}", file=sys.stderr)


async def measure(args: argparse.Namespace, url: str) -> tuple[list[Level], list[tuple[int, float]], Counter[str]]:
    """Run all levels, then the mixed requests."""
    client = Client(url)
    while (await client.get("/readyz"))[0] != "200":
        await asyncio.sleep(0.1)
    portrait = resources.files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
    request = client.post("/v1/predict", portrait, "image/jpeg")
    await run_level(client, Level(2), itertools.repeat(request), lambda level: sum(level.statuses.values()) < 20)
    levels = []
    for connections in args.connections:
        deadline = time.perf_counter() + args.seconds
        level = Level(connections)
        used = await client.metric("process_cpu_seconds_total")
        await run_level(client, level, itertools.repeat(request), lambda _, end=deadline: time.perf_counter() < end)
        level.cpu_s = await client.metric("process_cpu_seconds_total") - used
        levels.append(level)
        print(level.row(), file=sys.stderr)
    return levels, *await watch_memory(client, portrait, args.requests)


async def run_level(
    client: "Client", level: Level, requests: Iterator[bytes], goes_on: Callable[[Level], bool]
) -> None:
    """Keep a level's connections busy while `goes_on` is true."""

    async def connection() -> None:
        async with client.connected() as exchange:
            while goes_on(level):
                began = time.perf_counter()
                status, _ = await exchange(next(requests))
                level.statuses[status] += 1
                if status == "200":
                    level.latencies.append(time.perf_counter() - began)
                elif status == "429":
                    await asyncio.sleep(1)

    began = time.perf_counter()
    for result in await asyncio.gather(*(connection() for _ in range(level.connections)), return_exceptions=True):
        if isinstance(result, Exception):
            level.statuses["failed"] += 1
            print(f"{type(result).__name__}: {result}", file=sys.stderr)
    level.seconds = time.perf_counter() - began
    level.latencies.sort()


async def watch_memory(
    client: "Client", portrait: bytes, requests: int
) -> tuple[list[tuple[int, float]], Counter[str]]:
    """Send mixed requests, and record the server's memory in MB at the start and after each tenth of them."""
    mixed = itertools.cycle(mixture(client, portrait))
    samples, statuses, sent = [(0, await client.memory_mb())], Counter[str](), 0
    for row in range(1, SAMPLES + 1):
        wanted = requests * row // SAMPLES - sent
        level, taken = Level(MEMORY_CONNECTIONS), itertools.count()
        await run_level(client, level, mixed, lambda _, count=taken, most=wanted: next(count) < most)
        sent += sum(level.statuses.values())
        statuses += level.statuses
        samples.append((sent, await client.memory_mb()))
        print(f"{sent:,} requests, {samples[-1][1]:.0f} MB", file=sys.stderr)
    return samples, statuses


def mixture(client: "Client", portrait: bytes) -> list[bytes]:
    """Return requests of every kind: large and small, body and form, with maps, damaged, not an image, batch of two."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(portrait)).convert("RGB").resize((200, 200)).save(stream, "PNG")
    small = stream.getvalue()
    return [
        client.post("/v1/predict", portrait, "image/jpeg"),
        client.post("/v1/predict?attention=true", *form(small)),
        client.post("/v1/predict", portrait[: len(portrait) // 2], "image/jpeg"),
        client.post("/v1/predict/batch", *form(small, small)),
        client.post("/v1/predict", b"no image", "application/octet-stream"),
    ]


def form(*contents: bytes) -> tuple[bytes, str]:
    """Return a multipart form of files and its media type."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join(head + content + b"\r\n" for content in contents) + b"--b--\r\n", "multipart/form-data; boundary=b"


class Client:
    """A minimal HTTP client: a general one would use too much of the cores that are measured."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)

    def post(self, path: str, body: bytes, media_type: str) -> bytes:
        """Return a request's bytes."""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body

    async def get(self, path: str) -> tuple[str, bytes]:
        """Return status and body of a GET request."""
        async with self.connected() as exchange:
            return await exchange(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def metric(self, name: str) -> float:
        """Return the value of one of the server's metrics."""
        _, body = await self.get("/metrics")
        lines = (line.split() for line in body.decode().splitlines())
        return next(float(line[1]) for line in lines if line[0] == name)

    async def memory_mb(self) -> float:
        """Return the server's resident memory in MB."""
        return await self.metric("process_resident_memory_bytes") / 1e6

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Callable[[bytes], "asyncio.Future[tuple[str, bytes]]"]]:
        """Open a connection; yield a function that sends a request and returns status and body."""
        reader, writer = await asyncio.open_connection(self._host, self._port)

        async def exchange(request: bytes) -> tuple[str, bytes]:
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:"))
            return head.split()[1], await reader.readexactly(int(length))

        try:
            yield exchange
        finally:
            writer.close()


def report(
    args: argparse.Namespace,
    levels: list[Level],
    memory: list[tuple[int, float]],
    statuses: Counter[str],
    before: float,
) -> list[str]:
    """Return the result as Markdown."""
    responses = ", ".join(f"{count:,} x {name}" for name, count in sorted(statuses.items()))
    command = " ".join(["python benchmarks/serve.py", *sys.argv[1:]])
    lines = heading("The server under load", command, before, "ddamfn", "onnxruntime", "fastapi", "uvicorn", "pillow")
    lines += [f"- {note}" for note in args.note]
    lines += [
        "- server and load generator share the machine's cores; connections stay open; the bundled portrait, one face",
        f"- {args.seconds:g} s per level after 20 warm-up requests; after a 429 a connection waits one second",
        "",
        "| connections | answered | refused or failed | responses/s | p50 ms | p95 ms | p99 ms | max ms | CPU ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(level.row() for level in levels),
        "",
        "CPU ms: the CPU time of the server per response with status 200, including that for refusals.",
        "",
        f"## Memory over {memory[-1][0]:,} requests",
        "",
        f"Alternating over {MEMORY_CONNECTIONS} connections: a portrait, a form with maps, half an image (400), a "
        f"batch of two, not an image (400). Responses: {responses}.",
        "",
        "| requests | resident memory of the server |",
        "|---|---|",
        *(f"| {sent:,} | {size:.0f} MB |" for sent, size in memory),
        "",
        f"From the second sample to the last: {memory[-1][1] - memory[1][1]:+.0f} MB; mean of all after the first "
        f"{statistics.mean(size for _, size in memory[1:]):.0f} MB.",
    ]
    return lines


if __name__ == "__main__":
    main()
