"""The folder of a run: whose it is, what a torn line, a second process, a full disk or damage does to it."""

import json
import logging
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddamfn.errors import ConfigError, TrainingError
from ddamfn.train import Run, run_folder
from ddamfn.train.config import to_dict
from ddamfn.train.run_folder import (
    RunFolder,
    commit,
    environment,
    load_state,
    load_weights_file,
    replace_file,
    save_state,
    save_weights_file,
)

STATE = {"epoch": 3, "best": {"valid": {"accuracy": 0.5}}, "last": None, "sums": torch.arange(5.0)}
BIG = {"network": torch.zeros(50_000)}
PLACE = {"torch": "2", "threads": 1, "data": {"train": {"n": 3, "sha256": "a"}}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "mine")


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run()


def test_beginning_writes_what_was_asked_and_where(folder: RunFolder, run: Run) -> None:
    folder.begin(run, PLACE, resume=False)
    assert json.loads(folder.config.read_text()) == json.loads(json.dumps(to_dict(run)))
    assert json.loads(folder.environment.read_text()) == PLACE


def test_a_run_is_not_overwritten(folder: RunFolder, run: Run) -> None:
    folder.begin(run, PLACE, resume=False)
    with pytest.raises(ConfigError, match="holds a run already; add --resume to go on, or choose another --name"):
        folder.begin(run, PLACE, resume=False)
    folder.begin(run, PLACE, resume=True)


def test_another_run_is_not_resumed(folder: RunFolder, run: Run, make_run: Callable[..., Run]) -> None:
    folder.begin(run, PLACE, resume=False)
    other = make_run(optimizer__lr=0.5, seed=4)
    with pytest.raises(ConfigError, match=r"another run than the one asked, different in optimizer\.lr, seed; "):
        folder.begin(other, PLACE, resume=True)


def test_a_run_is_not_resumed_on_other_images(folder: RunFolder, run: Run) -> None:
    folder.begin(run, PLACE, resume=False)
    other = {**PLACE, "data": {"train": {"n": 3, "sha256": "b"}}}
    with pytest.raises(ConfigError, match="was trained on other images; resume with the same --data"):
        folder.begin(run, other, resume=True)


def test_another_machine_is_only_remarked(folder: RunFolder, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    folder.begin(run, PLACE, resume=False)
    with caplog.at_level(logging.WARNING):
        folder.begin(run, PLACE, resume=True)
        assert not caplog.records
        folder.begin(run, {**PLACE, "torch": "3", "new": "4"}, resume=True)
    assert "another torch than before" in caplog.text


def test_a_run_from_before_images_were_recorded_goes_on(folder: RunFolder, run: Run) -> None:
    folder.begin(run, {"torch": "2"}, resume=False)
    folder.begin(run, PLACE, resume=True)


def test_a_damaged_configuration_is_named(folder: RunFolder, run: Run) -> None:
    folder.begin(run, PLACE, resume=False)
    folder.config.write_text("{")
    with pytest.raises(TrainingError, match=r"config\.json: cannot be read"):
        folder.begin(run, PLACE, resume=True)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match="file/mine: cannot be written"), RunFolder(tmp_path / "file/mine").lock():
        pass


def test_two_runs_do_not_train_in_one_folder(folder: RunFolder) -> None:
    pytest.importorskip("fcntl", reason="needs locks of the system")
    # The system's lock belongs to the open file, so a second one in this process stands for another process.
    with folder.lock():
        expected = f"{folder.path}: another process is training there; choose another --name"
        with pytest.raises(ConfigError) as caught, RunFolder(folder.path).lock():
            pass
        assert str(caught.value) == expected
    with RunFolder(folder.path).lock():
        pass


def test_rows_come_back_without_a_torn_line(folder: RunFolder) -> None:
    assert folder.rows() == []
    folder.path.mkdir(parents=True)
    folder.append({"epoch": 1})
    folder.append({"epoch": 2})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 3, "va')
    assert folder.rows() == [{"epoch": 1}, {"epoch": 2}]
    folder.forget_after(1)
    folder.append({"epoch": 2, "again": True})
    assert folder.rows() == [{"epoch": 1}, {"epoch": 2, "again": True}]


def test_a_row_that_cannot_be_written_is_told(folder: RunFolder) -> None:
    folder.metrics.mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: cannot be written"):
        folder.append({"epoch": 1})


def test_the_command_line_is_recorded_and_may_differ_when_resumed(
    folder: RunFolder, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    argv = ["ddamfn", "train", "ddamfn_quick"]
    folder.begin(run, environment(torch.device("cpu"), {}, argv), resume=False)
    assert json.loads(folder.environment.read_text())["argv"] == argv
    with caplog.at_level(logging.WARNING):
        folder.begin(run, environment(torch.device("cpu"), {}, [*argv, "--resume"]), resume=True)
    assert "argv" not in caplog.text


def test_the_environment_names_versions_and_images() -> None:
    place = environment(torch.device("cpu"), PLACE["data"])
    assert place["argv"] is None
    assert place["torch"] == torch.__version__
    assert place["threads"] == torch.get_num_threads()
    assert place["data"] == PLACE["data"]
    assert all(
        place[name] for name in ("ddamfn", "python", "kornia", "numpy", "pytorch_optimizer", "platform", "device")
    )
    assert json.loads(json.dumps(place)) == place


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_looking_for_the_commit_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def run(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(env.get("GIT_OPTIONAL_LOCKS"))
        return subprocess.CompletedProcess(command, 0, "abc", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert commit() == "abc+changes"
    assert set(seen) == {"0"}


def test_the_commit_is_that_of_the_package_s_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code = tmp_path / "train" / "run_folder.py"
    code.parent.mkdir()
    code.write_text("a = 1\n")
    monkeypatch.setattr(run_folder, "__file__", str(code))
    assert commit() is None
    git("init", "-q")
    (tmp_path / "other").write_text("")
    git("add", "other")
    git("commit", "-qm", "x")
    # Installed somewhere inside a repository that it is no part of.
    assert commit() is None
    git("add", ".")
    git("commit", "-qm", "y")
    first = commit()
    assert first is not None
    assert len(first) == 12
    code.write_text("a = 2\n")
    assert commit() == f"{first}+changes"


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse larger files, as it refuses any on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "state.pt"
    save_state(STATE, path)
    loaded = load_state(path)
    assert {**loaded, "sums": None} == {**STATE, "sums": None}
    assert torch.equal(loaded["sums"], STATE["sums"])
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


def test_a_network_comes_back_whatever_its_memory_looks_like(tmp_path: Path) -> None:
    base = torch.rand(2, 3, 4, 4)
    weights = {
        "last": base.to(memory_format=torch.channels_last),
        "view": base[0],
        "same": base,
        "count": torch.tensor(3),
    }
    save_weights_file(weights, tmp_path / "a.safetensors")
    loaded = load_weights_file(tmp_path / "a.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", ["state", "network"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "checkpoint"
    save = save_state if kind == "state" else save_weights_file
    save({"network": torch.ones(3)}, path)
    before = path.read_bytes()
    with largest_file(20_000), pytest.raises(TrainingError) as caught:
        save(BIG, path)
    assert str(caught.value) == (
        f"{path}: cannot be written (File too large); the one before is whole; make room, then resume the run"
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_without_a_checkpoint_before_is_told(tmp_path: Path) -> None:
    with largest_file(20_000), pytest.raises(TrainingError, match="there was none before"):
        save_state(BIG, tmp_path / "state.pt")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match="cannot be written"):
        replace_file(tmp_path / "file" / "state.pt", b"x")


def test_a_flipped_bit_never_changes_what_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    weights = {"a": torch.arange(400.0).reshape(20, 20), "b": torch.ones(3, dtype=torch.int64)}
    state, best = tmp_path / "state.pt", tmp_path / "best.safetensors"
    save_state({"network": weights, "epoch": 3}, state)
    save_weights_file(weights, best)
    readers: list[tuple[Path, Any]] = [(state, lambda p: load_state(p)["network"]), (best, load_weights_file)]
    for path, read in readers:
        whole, refused = path.read_bytes(), 0
        for place in rng.integers(0, len(whole), 60).tolist():
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            try:
                found = read(path)
            except TrainingError:
                refused += 1
                continue
            # Padding, and the archive's own notes, may be damaged without harm.
            assert found.keys() == weights.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
        assert refused > 20


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(STATE, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=rf"^{path}: cannot be read .*; delete it to begin the run anew$"):
        load_state(path)
    (tmp_path / "a.safetensors").write_bytes(b"{")
    for name in ("a.safetensors", "missing.safetensors"):
        with pytest.raises(TrainingError, match=f"{name}: no readable weights"):
            load_weights_file(tmp_path / name)
