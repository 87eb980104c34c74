"""Nothing leaves the machine: each verb in a process with a home of its own, under strace where it can be used.

Without strace a hook sees the sockets of Python code alone, and files are found by what is left in home and temporary
folder: that is enough for what ONNX Runtime and OpenVINO write before they send anything.
"""

import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddamfn import read_video
from ddamfn.errors import UnreadableVideo
from ddamfn.synthetic import write_synthetic_folder

_STRACE = [
    *("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "300"),
    *("-e", "trace=connect,bind,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat", "-o"),
]
WaitUntil = Callable[[Callable[[], object], str], None]
CLASSES = ("neutral", "happiness", "surprise")

# In place of strace: what Python code connects to or looks up, in a file of a process each.
_HOOK = """
import os, sys
def look(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind"):
        with open(os.path.join(os.environ["CALLS"], str(os.getpid())), "a") as file:
            file.write(f"{event} {arguments[1:] if event in ('socket.connect', 'socket.bind') else arguments}\\n")
sys.addaudithook(look)
"""


@cache
def _can_trace() -> bool:
    """Tell whether strace is installed and allowed."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*_STRACE, os.devnull, sys.executable, "-c", ""], capture_output=True).returncode == 0


@dataclass(frozen=True)
class Place:
    """Folders of a watched process, and what it may write into."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def command(self) -> list[str]:
        return [*_STRACE, str(self.root / "trace")] if _can_trace() else []

    @property
    def environment(self) -> dict[str, str]:
        """Environment with a home of its own, and nothing that says where caches are or what may be reported."""
        own = ("XDG_", "RAY_", "HF_", "ORT_", "MPL", "TORCHINDUCTOR_", "DO_NOT_TRACK", "GIT_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own) and name != "CI"}
        paths = os.pathsep.join(part for part in (str(self.root / "hook"), os.environ.get("PYTHONPATH")) if part)
        folders = {"HOME": "home", "TMPDIR": "tmp", "CALLS": "calls"}
        return (
            kept
            | {name: str(self.root / folder) for name, folder in folders.items()}
            | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        )

    def run(self, code: str, *arguments: str) -> None:
        """Run code to its end."""
        words = [*self.command, sys.executable, "-c", code, *arguments]
        done = subprocess.run(words, env=self.environment, cwd=self.out, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    def check(self, *kept: str) -> None:
        """Fail if anything was looked up, connected to, or written beside outputs, cache and `kept` (below `root`)."""
        allowed = [self.root / folder for folder in ("out", "home/.cache/ddamfn", "calls", *kept)]
        left = [
            path
            for folder in ("home", "tmp")
            for path in (self.root / folder).rglob("*")
            if not any(path.is_relative_to(place) or place.is_relative_to(path) for place in allowed)
        ]
        assert left == []
        calls = [line for file in (self.root / "calls").iterdir() for line in file.read_text().splitlines()]
        assert [line for line in calls if not re.search(r"'(127\.[\d.]+|::1|localhost)'|b?'[/\\]", line)] == []
        if self.command:
            lines = (self.root / "trace").read_text(errors="replace").splitlines()
            assert list(_strangers(lines)) == []
            # Temporary files are written and deleted.
            places = [*allowed, self.root / "tmp", self.root / "home" / ".cache", Path("/dev"), Path("/proc")]
            assert [path for path in _written(lines) if not any(path.is_relative_to(place) for place in places)] == []


def _strangers(lines: Sequence[str]) -> Iterator[str]:
    """Yield the calls that look up a name, or speak or listen to more than this machine."""
    for line in lines:
        addresses = re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line)
        outside = [a for pair in addresses for a in pair if a and not re.match(r"127\.|::1$|::ffff:127\.", a)]
        if outside or re.search(r"htons\(53\)|systemd/resolve", line):
            yield line


def _written(lines: Sequence[str]) -> Iterator[Path]:
    """Yield the files and folders that were opened for writing, or made."""
    for line in lines:
        opened = re.search(r'open(?:at\((?:AT_FDCWD|\d+)<([^>]*)>, |\()"([^"]*)", (O_[A-Z_|]+)', line)
        made = re.search(r'mkdir(?:at\((?:AT_FDCWD|\d+)<([^>]*)>, |\()"([^"]*)"', line)
        if " = -1 " in line or not (made or (opened and re.search("O_WRONLY|O_RDWR|O_CREAT", opened[3]))):
            continue
        folder, name = (made or opened).groups()[:2]
        if folder or name.startswith("/"):
            yield Path(folder or "/", name)


@pytest.fixture
def place() -> Iterator[Place]:
    # Not below pytest's own folder: Ray's sockets must not have names of more than 107 bytes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root = Path(name).resolve()
        for folder in ("home", "tmp", "calls", "out", "hook"):
            (root / folder).mkdir()
        (root / "hook" / "sitecustomize.py").write_text(_HOOK)
        yield Place(root)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few synthetic faces of three classes, as class folders."""
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    return write_synthetic_folder(folder, 6, np.random.default_rng(1), 64, CLASSES)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "portrait.jpg"
    path.write_bytes(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    return path


# Each argument is a command line; an empty verb is left out.
VERBS = """
import shlex, sys
from ddamfn.cli import main
for line in sys.argv[1:]:
    assert main(shlex.split(line)) == 0, line
"""


def test_reading_images_and_data_sets(place: Place, portrait: Path, drawn: Path, stand_in_weights: Path) -> None:
    weights = f"--weights {stand_in_weights}"
    place.run(
        VERBS,
        f"predict {portrait} --annotate marked --output faces.csv",
        f"predict {portrait} --output faces.csv --resume",
        *([f"predict {portrait} --output faces/"] if find_spec("pyarrow") else []),
        f"demo {weights}",
        "models",
        "data draw mine --per-class 1",
        f"data check {drawn} --quiet",
        f"data prepare {drawn} prepared --workers 2 --quiet",
        f"eval --data {drawn} --split val {weights} --output scores --quiet",
    )
    assert (place.out / "marked" / "portrait.jpg").exists()
    place.check()


def test_reading_a_video(place: Place, write_video: Callable[..., Path], head: np.ndarray) -> None:
    video = write_video(place.root / "film.mp4", [head] * 4)
    place.run(VERBS, f"predict {video} --annotate marked.mp4 --output faces.json")
    place.check()


def test_a_playlist_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    asked: list[str] = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/part.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n"
        for name, text in {"list.m3u8": playlist, "list.ffconcat": f"ffconcat version 1.0\nfile {url}\n"}.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(UnreadableVideo):
                list(read_video(tmp_path / name))
        server.shutdown()
    assert asked == []


def status(url: str, image: bytes | None = None) -> int:
    """Ask the server, and return the status of its answer."""
    request = urllib.request.Request(url, image, {"Content-Type": "image/jpeg"} if image else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_serving(place: Place, portrait: Path, stand_in_weights: Path, wait_until: WaitUntil) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    words = [*place.command, sys.executable, "-c", VERBS, f"serve --port 0 --weights {stand_in_weights}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    server = subprocess.Popen(words, env=place.environment, cwd=place.out, start_new_session=True, **pipes)
    try:
        assert server.stdout is not None
        lines: list[str] = []
        while not (found := re.search(r"http://[\d.:]+", "".join(lines))):
            lines.append(server.stdout.readline())
            assert lines[-1], "".join(lines)
        url = found[0]
        wait_until(lambda: status(f"{url}/readyz") == 200, "the server never loaded its networks")
        assert status(f"{url}/v1/predict", portrait.read_bytes()) == 200
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # strace lets signals pass, but hands none on
        server.communicate()
    place.check()


TRAINED = """
import sys
from pathlib import Path
import torch
from torch import Tensor, nn
from ddamfn.cli import main
from ddamfn.export import export_onnx, formats
from ddamfn.export.formats import Source, convert
from ddamfn.files import sha256_file
from ddamfn.models import ModelOutput, ddamfn, registry
from ddamfn.preparation import preparing
from ddamfn.weights import Card, WEIGHT_FORMATS, read_card, write_card

class Tiny(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.widen, self.dense = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 1)
        self.classifier = nn.Linear(64 * 49, num_classes)

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.dense(torch.relu(self.widen(nn.functional.avg_pool2d(images, 16))))
        attention = torch.sigmoid(features).unflatten(1, (2, 32))
        return ModelOutput(self.classifier(features.flatten(1)), features, attention)

if __name__ == "__main__":
    data, portrait, card, thin = sys.argv[1:]
    published = ddamfn.STAGES
    exec(thin)
    # Processes that prepare images are watched in the test of reading: each would import PyTorch here.
    preparing._default_workers = lambda: 1
    common = ["--data", data, "--runs", "runs", "--set", "data.alignment.side_px=32", "--device", "cpu", "--quiet"]
    common += ["--set", 'phases=[{"epochs":1,"side_px":32,"batch_size":18}]']
    assert main(["train", "ddamfn_quick", *common, "--num-threads", "1"]) == 0
    ddamfn.STAGES = published
    # Ray's processes have the published network, so this one is small.
    network = ["--set", 'model={"name":"mobilefacenet"}', "--set", "objective.name=cross_entropy"]
    study = ["study", "seeds", "--seeds", "1", "--recipe", "ddamfn_quick", "--output", "report", "--ray", "local"]
    assert main([*study, *common, *network]) == 0
    assert main(["explain", portrait, "--output", "explained", "--random", "1", "--quiet"]) == 0
    registry._BUILDERS["tiny"], formats._CALIBRATION_FACES = Tiny, 8
    network, path = Tiny(8).eval(), Path("tiny.onnx")
    export_onnx(network, path)
    plain = read_card(card).to_dict()
    plain["architecture"] |= {"name": "tiny", "options": {}}
    write_card(Card.from_dict({**plain, "name": "tiny", "file": path.name, "sha256": sha256_file(path)}), "tiny.json")
    for kind in WEIGHT_FORMATS:
        convert(Source(path, read_card("tiny.json"), network), kind, "exported", force=True, least_faces=4)
"""


@pytest.mark.slow
def test_training_explanations_every_format_and_a_study_on_a_ray_cluster_of_its_own(
    place: Place, drawn: Path, portrait: Path, stand_in_weights: Path, thin_trunk: SimpleNamespace
) -> None:
    """In one process, since what all of them import takes longer than most of them."""
    for name in ("torch", "onnxscript", "openvino", "huggingface_hub", "captum", "ray"):
        pytest.importorskip(name, reason=f"needs {name}")
    script = place.root / "trained.py"
    script.write_text(TRAINED)
    place.run(
        f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')",
        *map(str, (drawn, portrait, stand_in_weights.with_suffix(".json"), thin_trunk.code)),
    )
    assert len(list((place.out / "exported").iterdir())) >= 5
    assert list((place.out / "runs").glob("*/results.jsonl"))
    # Ray keeps the logs of its processes where temporary files are.
    place.check("tmp/ray")
