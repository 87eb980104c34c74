"""Processes that die: the run itself, killed at any moment, and a worker, killed by its image."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data import Dataset, open_dataset
from ddamfn.errors import UsageError
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare
from ddamfn.synthetic import write_synthetic_ferplus

# Every image takes a while, so that there is time to kill the run even on a busy machine.
SCRIPT = """
import dataclasses, sys, time
from ddamfn.data import open_dataset
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare
class Slow:
    def __init__(self, images):
        self.images = images
    def read(self, location):
        time.sleep(0.02)
        return self.images.read(location)
if __name__ == "__main__":
    dataset = open_dataset(sys.argv[1])
    dataset = dataclasses.replace(dataset, images=Slow(dataset.images))
    prepare(dataset, sys.argv[2], Alignment("ddamfn_frontal"), workers=int(sys.argv[3]))
"""

MURDERER = """
import os, signal
class Deadly:
    def __init__(self, images, deadly):
        self.images, self.deadly = images, deadly
    def read(self, location):
        if location in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images.read(location)
class Unwelcome:
    def __setstate__(self, state):
        os._exit(3)
    def __getstate__(self):
        return {"x": 1}
    def read(self, location):
        return b""
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_ferplus(tmp_path_factory.mktemp("ferplus") / "set", 4, np.random.default_rng(3))


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    prepare(open_dataset(root), out, Alignment("ddamfn_frontal"), workers=1)
    return content(out)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows(out: Path) -> int:
    manifest = out / "manifest.csv"
    return manifest.read_bytes().count(b"\n") - 1 if manifest.exists() else -1


def living(group: int) -> Iterator[int]:
    """Yield the processes of a group that are not zombies."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(pgrp) == group and state != "Z":
                yield int(entry.name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see orphaned processes")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_and_still_the_same_bytes(
    root: Path, whole: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(root), str(out), str(workers)]
    total = len(open_dataset(root).samples)
    seen = -1
    for least in (0, 5, 30):
        process = subprocess.Popen(command, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while rows(out) < max(least, seen) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
        finally:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"
        deadline = time.monotonic() + 20
        while orphans := list(living(process.pid)):
            assert time.monotonic() < deadline, f"workers {orphans} outlive their parent"
            time.sleep(0.02)
        assert seen <= rows(out) < total
        seen = rows(out)
    # What a kill in the middle of a write would leave: half a line, and a crop that nobody wrote down.
    with (out / "manifest.csv").open("a") as manifest:
        manifest.write("FER2013Train/fer00000")
    assert subprocess.run(command, check=False).returncode == 0
    assert content(out) == whole


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "murderer_images.py").write_text(MURDERER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import murderer_images  # type: ignore[import-not-found]

    return murderer_images


def test_a_image_that_kills_its_worker_is_marked(
    root: Path, whole: dict[str, bytes], tmp_path: Path, deadly: object
) -> None:
    dataset = open_dataset(root)
    victims = [dataset.samples[2].location, dataset.samples[40].location]
    images = deadly.Deadly(dataset.images, victims)  # type: ignore[attr-defined]
    dataset = Dataset(dataset.card, dataset.samples, images, dataset.note)
    prepared = prepare(dataset, tmp_path / "out", Alignment("ddamfn_frontal"), workers=2)
    marked = [row.key for row in prepared.manifest() if row.outcome.error]
    assert marked == [dataset.samples[2].key, dataset.samples[40].key]
    expected = whole["manifest.csv"].decode().splitlines()
    lines = (tmp_path / "out" / "manifest.csv").read_text().splitlines()
    assert [i - 1 for i, (a, b) in enumerate(zip(lines, expected, strict=True)) if a != b] == [2, 40]
    assert all("crashed" in lines[i + 1] for i in (2, 40))


def test_workers_that_cannot_start_are_not_the_images_fault(root: Path, tmp_path: Path, deadly: object) -> None:
    dataset = open_dataset(root)
    images = deadly.Unwelcome()  # type: ignore[attr-defined]
    dataset = Dataset(dataset.card, dataset.samples, images, dataset.note)
    with pytest.raises(UsageError, match="worker processes cannot start"):
        prepare(dataset, tmp_path / "out", Alignment("arcface"), workers=2)


def test_interrupting_leaves_a_run_that_goes_on(root: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    dataset, out = open_dataset(root), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, out, Alignment("ddamfn_frontal"), workers=2, progress=interrupt)
    assert rows(out) == 9
    calls: list[int] = []
    prepare(dataset, out, Alignment("ddamfn_frontal"), workers=1, progress=lambda done, total: calls.append(done))
    assert calls[0] == 9
    assert content(out) == whole
