"""Processes that die: the run itself, killed at any moment, and a worker, killed by its image."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data import Dataset, open_dataset
from ddamfn.errors import UsageError
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare
from ddamfn.preparation.sources import read_sources
from ddamfn.synthetic import write_synthetic_ferplus

WaitUntil = Callable[[Callable[[], object], str], None]

# Every image takes a while, and those after so many rows of the manifest are held back, so that the run cannot end
# before it is killed however busy the machine is.
SCRIPT = """
import dataclasses, pathlib, sys, time
from ddamfn.data import open_dataset
from ddamfn.faces import Alignment
from ddamfn.preparation import prepare
from ddamfn.preparation.sources import read_sources
class Slow:
    def __init__(self, images, manifest, most):
        self.images, self.manifest, self.most = images, manifest, most
    def read(self, location):
        time.sleep(0.005)
        while self.manifest.exists() and self.manifest.read_bytes().count(b"\\n") > self.most:
            time.sleep(0.02)
        return self.images.read(location)
    def state(self, location):
        return self.images.state(location)
if __name__ == "__main__":
    dataset = open_dataset(sys.argv[1])
    manifest = pathlib.Path(sys.argv[2]) / "manifest.csv"
    dataset = dataclasses.replace(dataset, images=Slow(dataset.images, manifest, int(sys.argv[4])))
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
    def state(self, location):
        return self.images.state(location)
class Unwelcome:
    def __setstate__(self, state):
        os._exit(3)
    def __getstate__(self):
        return {"x": 1}
    def read(self, location):
        return b""
    def state(self, location):
        return ""
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_ferplus(tmp_path_factory.mktemp("ferplus") / "set", 3, np.random.default_rng(3))


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("whole") / "out"
    prepare(open_dataset(root), out, Alignment("ddamfn_frontal"), workers=1)
    return content(out)


def content(folder: Path) -> dict[str, object]:
    # How an image's state is told depends on how young it is.
    made_of = [(source.key, source.sha256, source.marks) for source in read_sources(folder)]
    others = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "sources.csv"}
    return {**others, "sources.csv": made_of}


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


def kill_after(least: int, out: Path, command: list[str], wait_until: WaitUntil) -> None:
    """Start a run and kill it once it has written so many rows; wait until its workers are gone as well."""
    process = subprocess.Popen([*command, str(least + 20)], start_new_session=True)
    try:
        wait_until(lambda: rows(out) >= least or process.poll() is not None, f"it never wrote {least} rows")
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"
    wait_until(lambda: not list(living(process.pid)), "workers outlive their parent")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see orphaned processes")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_and_still_the_same_bytes(
    root: Path,
    whole: dict[str, object],
    tmp_path: Path,
    workers: int,
    wait_until: WaitUntil,
) -> None:
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(root), str(out), str(workers)]
    total = len(open_dataset(root).samples)
    seen = -1
    for least in (0, 5, 15):
        kill_after(max(least, seen), out, command, wait_until)
        assert seen <= rows(out) < total
        seen = rows(out)
    # What a kill in the middle of a write would leave: half a line, and a crop that nobody wrote down.
    with (out / "manifest.csv").open("a") as manifest:
        manifest.write("FER2013Train/fer00000")
    assert subprocess.run([*command, str(total)], check=False).returncode == 0
    assert content(out) == whole


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "murderer_images.py").write_text(MURDERER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import murderer_images  # type: ignore[import-not-found]

    return murderer_images


def test_a_image_that_kills_its_worker_is_marked(
    root: Path, whole: dict[str, object], tmp_path: Path, deadly: object
) -> None:
    dataset = open_dataset(root)
    victims = [dataset.samples[2].location, dataset.samples[30].location]
    images = deadly.Deadly(dataset.images, victims)  # type: ignore[attr-defined]
    dataset = Dataset(dataset.card, dataset.samples, images, dataset.note)
    prepared = prepare(dataset, tmp_path / "out", Alignment("ddamfn_frontal"), workers=2)
    marked = [row.key for row in prepared.manifest() if row.outcome.error]
    assert marked == [dataset.samples[2].key, dataset.samples[30].key]
    expected = whole["manifest.csv"].decode().splitlines()
    lines = (tmp_path / "out" / "manifest.csv").read_text().splitlines()
    assert [i - 1 for i, (a, b) in enumerate(zip(lines, expected, strict=True)) if a != b] == [2, 30]
    assert all("crashed" in lines[i + 1] for i in (2, 30))


def test_workers_that_cannot_start_are_not_the_images_fault(root: Path, tmp_path: Path, deadly: object) -> None:
    dataset = open_dataset(root)
    images = deadly.Unwelcome()  # type: ignore[attr-defined]
    dataset = Dataset(dataset.card, dataset.samples, images, dataset.note)
    with pytest.raises(UsageError, match="worker processes cannot start"):
        prepare(dataset, tmp_path / "out", Alignment("arcface"), workers=2)


def test_interrupting_leaves_a_run_that_goes_on(root: Path, whole: dict[str, object], tmp_path: Path) -> None:
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
