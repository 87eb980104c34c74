"""The state of an image: another one for another image, in files, archives and rows of a csv file."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.data.dataset import FileImages, ZipImages
from ddamfn.data.fer2013 import open_fer2013


def test_a_file_has_a_state_of_its_content_while_it_is_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, path = FileImages(tmp_path), tmp_path / "a.png"
    assert images.state("a.png") == ""
    path.write_bytes(b"one")
    young = images.state("a.png")
    path.write_bytes(b"two")
    assert images.state("a.png") != young
    path.write_bytes(b"one")
    assert images.state("a.png") == young
    monkeypatch.setattr("ddamfn.data.dataset._CLOCK_NS", 0)
    old = images.state("a.png")
    assert old == images.state("a.png") != young
    os.utime(path, (1e9, 1e9))
    assert images.state("a.png") != old


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_has_none_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    images = FileImages(tmp_path)
    assert [images.state(name) for name in ("pipe.png", "folder.png")] == ["", ""]


def test_a_member_of_an_archive_has_its_checksum(tmp_path: Path) -> None:
    def pack(content: bytes) -> str:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr("a.png", content)
        return ZipImages(tmp_path).state("set.zip/a.png")

    first = pack(b"one")
    assert pack(b"two") != first == pack(b"one")
    images = ZipImages(tmp_path)
    assert [images.state(location) for location in ("set.zip/b.png", "other.zip/a.png")] == ["", ""]


def test_a_row_of_fer2013_has_its_own(own_layout: Callable[[str], Path]) -> None:
    root = own_layout("fer2013")
    dataset = open_fer2013(root)
    states = [dataset.images.state(sample.location) for sample in dataset.samples]
    assert len(set(states)) == len(states)
    lines = (root / "fer2013.csv").read_text().splitlines()
    lines[3] = lines[3].replace(" ", "  ", 1)
    (root / "fer2013.csv").write_text("\n".join(lines) + "\n")
    changed = open_fer2013(root)
    again = [changed.images.state(sample.location) for sample in changed.samples]
    assert [i for i, (one, other) in enumerate(zip(states, again, strict=True)) if one != other] == [2]
    (root / "fer2013.csv").unlink()
    assert changed.images.state(0) == ""
