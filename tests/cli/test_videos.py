"""Videos among other sources: found by content, read in turn, their rows beside those of images."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="needs PyAV")

_VIDEOS = {"b.mp4": 3, "d": 2, "e.divx": 4}


@pytest.fixture
def cam(write_video: Callable[..., Path], head: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `cam/` with two images and three videos, two of which have no ending that tells."""
    folder = tmp_path / "cam"
    folder.mkdir()
    pixels = np.full((112, 160, 3), 120, np.uint8)
    pixels[8:104, 30:126] = head
    Image.fromarray(pixels).save(folder / "a.png")
    Image.new("RGB", (64, 48), "gray").save(folder / "c.jpg")
    write_video(folder / "b.mp4", [pixels] * 3)
    write_video(folder / "d", [pixels] * 2, kind="matroska")
    write_video(folder / "e.divx", [pixels] * 4, codec="mpeg4", kind="avi")
    monkeypatch.chdir(tmp_path)
    return folder


def expected() -> list[tuple[str, int | None]]:
    """Return source and frame of every result, in order."""
    results: list[tuple[str, int | None]] = []
    for name in ("a.png", "b.mp4", "c.jpg", "d", "e.divx"):
        numbers = range(_VIDEOS[name]) if name in _VIDEOS else [None]
        results += [(f"cam/{name}", number) for number in numbers]
    return results


@pytest.mark.parametrize("quoted", [False, True])
def test_images_and_videos_are_read_in_turn(cam: Path, predict: Any, quoted: bool) -> None:
    sources = ["cam/*"] if quoted else [f"cam/{name}" for name in sorted(os.listdir(cam))]
    status, out, err = predict(*sources, "--format", "jsonl", "--track")
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(result["source"], result.get("frame")) for result in results] == expected()
    assert [len(result["faces"]) for result in results] == [
        0 if result["source"] == "cam/c.jpg" else 1 for result in results
    ]
    assert [result["faces"][0].get("track") for result in results if result["faces"]] == [None] + [1] * 9
    assert any("cam/d: 2 frames" in line for line in err)
    assert "2 images" in err[-1]
    assert "3 videos" in err[-1]


def test_tables_hold_both(cam: Path, predict: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = list(csv.DictReader(io.StringIO(predict("cam/*", "--format", "csv")[1].decode())))
    assert [(row["source"], int(row["frame"]) if row["frame"] else None) for row in rows] == expected()
    assert list(rows[0])[:5] == ["source", "frame", "time_s", "track", "face"]
    assert list(rows[0])[-1] == "error"
    predict("cam/*", "--output", "out.parquet", "--quiet")
    table = parquet.read_table("out.parquet")
    assert table.column_names == list(rows[0])
    assert table.column("frame").to_pylist() == [number for _, number in expected()]
    lines = predict("cam/*", "--track")[1].decode().splitlines()
    assert sum("cam/b.mp4 0.100s track 1" in line for line in lines) == 1
    assert sum(line.endswith("cam/a.png") for line in lines) == 1
    assert len(json.loads(predict("cam/*", "--format", "json")[1])) == len(expected())


def test_options_for_videos_go_to_the_videos(cam: Path, predict: Any) -> None:
    results = map(json.loads, predict("cam/*", "--format", "jsonl", "--every", "2")[1].splitlines())
    assert [result.get("frame") for result in results] == [None, 0, 2, None, 0, 0, 2]


def test_each_is_annotated_in_the_folder(cam: Path, predict: Any) -> None:
    assert predict("cam/*", "--annotate", "marked", "--quiet")[::2] == (0, [])
    assert sorted(path.name for path in Path("marked").iterdir()) == ["a.png", "b.mp4", "c.jpg", "d.mp4", "e.divx.mp4"]
    for name, count in (("b.mp4", 3), ("d.mp4", 2), ("e.divx.mp4", 4)):
        with av.open(f"marked/{name}") as container:
            assert sum(1 for _ in container.decode(video=0)) == count


def test_what_cannot_be_read_is_one_row_and_the_others_go_on(cam: Path, predict: Any) -> None:
    (cam / "b.mp4").write_bytes(b"no video\n" * 50)
    status, out, err = predict("cam/*", "gone.mkv", "--format", "jsonl", "--quiet")
    results = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [result["source"] for result in results if result.get("error")] == ["cam/b.mp4", "gone.mkv"]
    assert len(results) == len(expected()) - 2 + 1
    assert len(err) == 2
    assert "gone.mkv: no such file" in err[1]


def test_without_pyav_the_images_are_read(cam: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    status, out, err = predict("cam/*", "--format", "jsonl", "--quiet")
    assert status == 1
    assert [bool(json.loads(line).get("error")) for line in out.splitlines()] == [False, True, False, True, True]
    assert all("ddamfn[video]" in line for line in err)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["0", "cam/a.png"], "by itself"),
        (["cam/*", "--timeline", "t.png"], "--timeline"),
        (["cam/b.mp4", "cam/d", "--annotate", "marked.mp4"], "folder"),
        (["cam/a.png", "cam/c.jpg", "--every", "2"], "--every"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(cam: Path, predict: Any, arguments: list[str], named: str) -> None:
    status, out, err = predict(*arguments)
    assert (status, out, len(err)) == (2, b"", 1)
    assert named in err[0]


def test_one_video_of_any_name_is_a_video(cam: Path, predict: Any) -> None:
    (cam / "d").rename("recording.jpg")
    for name in ("cam/e.divx", "recording.jpg"):
        lines = predict(name, "--format", "jsonl")[1].splitlines()
        assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
        assert len(lines) > 1
