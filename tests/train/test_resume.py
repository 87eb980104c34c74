"""Runs that are killed, really and at any moment, end with the same bits as one that was not.

All is done by one process that has imported PyTorch and forks a child for each try: a kill then costs tenths of a
second instead of the seconds of an import.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

SETTINGS = [
    'model.options={"num_heads":2,"mixed_kernels":false,"coordinate_attention":false}',
    "data.alignment.side_px=64",
    'phases=[{"epochs":1,"side_px":32,"batch_size":16},{"epochs":1,"side_px":40,"batch_size":16}]',
    "checkpoint_steps=1",
    "ema=0.5",
]

FORKER = """
import json, os, random, signal, sys, traceback
import kornia.augmentation, torch
import torch._dynamo  # as the optimizers do at their first step
import ddamfn.cli.train, ddamfn.train
from ddamfn.cli import main
from ddamfn.train.run_folder import RunFolder

root, runs, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
exec(sys.argv[4])
torch.set_num_threads(1)
ddamfn.cli.train.draw_curves = lambda folder: None

def train(name, prelude=lambda: None):
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            prelude()
            arguments = ["train", "ddamfn_quick", "--data", root, "--runs", runs, "--name", name, "--resume", "--quiet"]
            status = main(arguments + ["--num-threads", "1"] + [part for s in settings for part in ("--set", s)])
        except BaseException:
            traceback.print_exc()
            status = 99
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(moment, files=True):
    # Moments are before and after each file is moved to its place, and in and after each line of metrics.jsonl.
    passed = 0
    def come():
        nonlocal passed
        passed += 1
        return passed == moment
    replace, append = os.replace, RunFolder.append
    def replacing(source, target):
        if come():
            die()
        replace(source, target)
        if come():
            die()
    def appending(self, row):
        if come():
            with self.metrics.open("a") as file:
                file.write(json.dumps(row)[:40])
            die()
        append(self, row)
        if come():
            die()
    RunFolder.append = appending
    if files:
        os.replace = replacing

def until_done(tries):
    # The last try is not disturbed.
    statuses = []
    for one in tries:
        statuses.append(one())
        if statuses[-1] not in (-signal.SIGKILL, -signal.SIGPROF):
            break
    return statuses

def at_moments(name, moments, files):
    for moment in moments:
        yield lambda: train(name, lambda: die_at(moment, files))
    yield lambda: train(name)

def at_times(name, times):
    # Counted in processor time, which a busy machine does not stretch; the system then ends a process as by SIGKILL.
    for seconds in times:
        yield lambda: train(name, lambda: signal.setitimer(signal.ITIMER_PROF, seconds))
    yield lambda: train(name)

def children_s():
    return os.times().children_user + os.times().children_system

start = children_s()
statuses = {"whole": [train("whole")]}
duration = children_s() - start
chance = random.Random(7)
statuses["files"] = until_done(at_moments("files", (1, 2, 3, 4, 6, 9), True))
statuses["lines"] = until_done(at_moments("lines", (1, 1, 3, 2), False))
statuses["times"] = until_done(at_times("times", [chance.uniform(0.1, 0.7) * duration for _ in range(2)]))
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def killed(
    drawn_root: Path, thin_trunk: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[int]]]:
    """Folder of four runs, and how every try ended: undisturbed, killed at files, in lines, and at random times."""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-c", FORKER, str(drawn_root), str(runs), json.dumps(SETTINGS), thin_trunk.code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses: dict[str, list[int]] = json.loads(done.stdout)
    assert statuses["whole"] == [0], done.stderr
    return runs, statuses


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, but for what the clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_second")} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["files", "lines", "times"])
def test_a_killed_run_ends_like_one_that_was_not(killed: tuple[Path, dict[str, list[int]]], name: str) -> None:
    runs, statuses = killed
    *tries, last = statuses[name]
    assert tries == [-signal.SIGPROF if name == "times" else -signal.SIGKILL] * len(tries)
    assert len(tries) >= {"files": 6, "lines": 3, "times": 1}[name]
    assert last == 0
    assert len(rows(runs / "whole")) == 2
    assert rows(runs / name) == rows(runs / "whole")
    for weights in ("best", "last"):
        path = f"checkpoints/{weights}.safetensors"
        assert (runs / name / path).read_bytes() == (runs / "whole" / path).read_bytes()
    assert (runs / name / "config.json").read_bytes() == (runs / "whole" / "config.json").read_bytes()


@pytest.mark.slow
def test_nothing_unfinished_lies_about(killed: tuple[Path, dict[str, list[int]]]) -> None:
    runs, _ = killed
    for name in ("files", "lines", "times"):
        names = {path.relative_to(runs / name).as_posix() for path in (runs / name).rglob("*")}
        whole = {path.relative_to(runs / "whole").as_posix() for path in (runs / "whole").rglob("*")}
        assert {name for name in names - whole if not name.endswith(".part")} == set()
        assert whole <= names
