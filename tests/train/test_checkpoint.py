"""Checkpoints that the disk refuses, or that are damaged: one line that names the file, and the one before intact."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ddamfn.errors import TrainingError
from ddamfn.train.run_folder import load_network, load_state, replace_file, save_network, save_state

STATE = {"epoch": 3, "best": {"valid": {"accuracy": 0.5}}, "last": None, "sums": torch.arange(5.0)}
BIG = {"network": torch.zeros(50_000)}


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
    save_network(weights, tmp_path / "a.safetensors")
    loaded = load_network(tmp_path / "a.safetensors")
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize("kind", ["state", "network"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "checkpoint"
    save = save_state if kind == "state" else save_network
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


def test_a_disk_that_is_full_only_when_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Delayed allocation: the system takes the bytes and finds no room for them later.
    replace_file(tmp_path / "a", b"before")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(TrainingError, match="No space left on device"):
        replace_file(tmp_path / "a", b"after")
    assert (tmp_path / "a").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrainingError, match="cannot be written"):
        replace_file(tmp_path / "file" / "state.pt", b"x")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state(STATE, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=rf"^{path}: cannot be read .*; delete it to begin the run anew$"):
        load_state(path)
    (tmp_path / "a.safetensors").write_bytes(b"{")
    for name in ("a.safetensors", "missing.safetensors"):
        with pytest.raises(TrainingError, match=f"{name}: no readable weights"):
            load_network(tmp_path / name)
