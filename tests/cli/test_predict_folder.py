"""Folders of shards: a run that is killed goes on, and what cannot be written so is refused."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ddamfn.files import exclusive

parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")

_MAIN = "import sys; from ddamfn.cli import main; sys.exit(main())"
_PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
WaitUntil = Callable[[Callable[[], object], str], None]


def shards(folder: str = "faces") -> dict[str, int]:
    """Return the shards of a folder and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in sorted(Path(folder).glob("part-*.parquet"))}


def test_a_folder_has_the_rows_of_a_file(photos: Path, predict: Any) -> None:
    assert predict("photos", "--output", "faces.parquet")[0] == 1
    status, out, lines = predict("photos", "--output", "faces/", "--shard-images", "4")
    assert (status, out) == (1, b"")
    assert any(re.search(r"6 images, 1 face, 1 without a face, 4 unreadable \(.* images/s\)", line) for line in lines)
    assert sum("broken.jpg" in line for line in lines) == 1
    assert len(shards()) == 2
    assert parquet.read_table("faces").to_pylist() == parquet.read_table("faces.parquet").to_pylist()


def test_only_what_is_missing_is_read(photos: Path, predict: Any) -> None:
    predict("photos", "--output", "faces/", "--shard-images", "2")
    before, table = shards(), parquet.read_table("faces").to_pylist()
    status, _, lines = predict("photos", "--output", "faces")
    assert status == 0
    assert any("going on after 6 images" in line for line in lines)
    assert shards() == before
    lost = list(before)[1]
    Path("faces", lost).unlink()
    (photos / "added.jpg").write_bytes(_PORTRAIT)
    _, _, lines = predict("photos", "--output", "faces")
    assert any("3 images" in line for line in lines), lines
    assert {name: when for name, when in shards().items() if name in before and name != lost} == {
        name: when for name, when in before.items() if name != lost
    }
    rows = parquet.read_table("faces").to_pylist()
    assert sorted(row["source"] for row in rows) == sorted([*(row["source"] for row in table), "photos/added.jpg"])


def test_a_killed_run_goes_on_where_it_was(
    photos: Path, predict: Any, stand_in_weights: Path, wait_until: WaitUntil
) -> None:
    for number in range(60):
        os.link(photos / "face.jpg", photos / f"{number:02}.jpg")
    words = ["predict", "photos", "--output", "faces/", "--shard-images", "3", "--quiet", "--detection", "320"]
    words += ["--weights", str(stand_in_weights)]
    process = subprocess.Popen([sys.executable, "-c", _MAIN, *words], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(shards()) >= 2, "no shard was written")
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = shards()
    assert 2 <= len(before) < 22, "it was killed on the way"
    for name in before:
        assert len({row["source"] for row in parquet.read_table(Path("faces", name)).to_pylist()}) == 3, "it is whole"
    assert predict(*words[1:])[0] == 1
    assert {name: shards()[name] for name in before} == before
    rows = parquet.read_table("faces").to_pylist()
    sources = [row["source"] for row in rows]
    assert len(sources) == len(set(sources)) == 66


def test_a_run_with_other_options_is_refused(photos: Path, predict: Any, calibrated_weights: Path) -> None:
    predict("photos", "--output", "faces/")
    before = shards()
    for words, name in (
        (("--detection", "full"), "detection"),
        (("--max-faces", "1"), "max faces"),
        (("--weights", str(calibrated_weights)), "weights"),
    ):
        status, _, lines = predict("photos", "--output", "faces/", *words)
        assert (status, len(lines)) == (2, 1), lines
        assert name in lines[0]
    assert predict("photos", "--output", "faces/", "--batch-size", "1")[0] == 0, "this changes no result"
    assert shards() == before


def test_a_second_run_keeps_out(photos: Path, predict: Any) -> None:
    with exclusive("faces/.lock") as is_ours:
        assert is_ours
        status, _, (line,) = predict("photos", "--output", "faces/")
    assert status == 2
    assert "another run" in line


def test_a_folder_that_cannot_be_made_is_one_line(photos: Path, predict: Any) -> None:
    Path("faces").touch()
    status, _, (line,) = predict("photos", "--output", "faces/")
    assert status == 1
    assert "cannot write faces/" in line


@pytest.mark.parametrize(
    ("module", "words", "install"),
    [
        ("pyarrow", ("--output", "faces/"), "ddamfn[parquet]"),
        ("ray", ("--output", "faces/", "--ray", "local"), "ddamfn[ray]"),
        ("fsspec", ("s3://bucket/photos", "--output", "faces/"), "ddamfn[s3]"),
        ("s3fs", ("--output", "s3://bucket/faces"), "ddamfn[s3]"),
    ],
)
def test_a_package_that_is_missing_is_named(
    photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch, module: str, words: tuple[str, ...], install: str
) -> None:
    pytest.importorskip("fsspec", reason="needs the extra s3")
    monkeypatch.setitem(sys.modules, module, None)
    status, _, (line,) = predict("photos", *words)
    assert status == 1
    assert f'pip install "{install}"' in line
    assert not Path("faces").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["photos", "--output", "faces/", "--format", "csv"], "Parquet"),
        (["photos", "--output", "faces/", "--annotate", "marked"], "--annotate"),
        (["photos", "--output", "faces/", "--attention"], "--attention"),
        (["photos", "--output", "faces/", "--resume"], "--resume"),
        (["photos", "--output", "faces/", "--track"], "videos"),
        (["clip.mp4", "--output", "faces/"], "videos"),
        (["-", "--output", "faces/"], "standard input"),
        (["photos", "--output", "photos"], "images themselves"),
        (["photos", "gone/", "--output", "faces/"], "'gone/'"),
        (["https://example.org/a.jpg", "--output", "faces/"], "web"),
        (["photos", "--output", "https://example.org/faces"], "web"),
        (["photos", "--output", "s3://me:secret@bucket/faces"], "password"),
        (["photos", "--output", "s3://bucket/faces.csv"], "address"),
        (["s3://bucket/photos", "--output", "faces.csv"], "address"),
        (["photos", "--output", "faces.csv", "--ray", "local"], "folder"),
        (["photos", "--output", "faces.csv", "--shard-images", "10"], "folder"),
        (["photos", "--shard-images", "0", "--output", "faces/"], "shard-images"),
    ],
)
def test_what_a_folder_cannot_take_is_one_line(photos: Path, predict: Any, words: list[str], reason: str) -> None:
    Path("clip.mp4").touch()
    status, _, lines = predict(*words)
    assert len(lines) == 1, lines
    assert reason in lines[0]
    assert "secret" not in lines[0]
    assert status == 2
    assert not Path("faces").exists()


def test_progress_tells_the_time_left(photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddamfn.cli.progress._SECONDS_BETWEEN_LINES", 0.0)
    for number in range(20):
        os.link(photos / "empty.jpg", photos / f"{number:02}.jpg")
    _, _, lines = predict("photos", "--output", "faces/", "--shard-images", "1")
    assert any(re.search(r"\d+ images, [\d.]+/s, about .* left of 26$", line) for line in lines), lines
