"""`ddamfn predict` on a video: every format, broken and missing files, options that do not fit, Ctrl-C."""

import argparse
import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli.args import moment

av = pytest.importorskip("av", reason="needs PyAV")


@pytest.fixture
def clip(write_video: Callable[..., Path], head: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `clip.mp4` of twelve frames, a face in all but the third, in the working folder."""
    frames = [np.full((112, 160, 3), 120, np.uint8) for _ in range(12)]
    for number, pixels in enumerate(frames):
        if number != 2:
            pixels[8:104, 2 * number : 2 * number + 96] = head
    monkeypatch.chdir(tmp_path)
    return write_video(tmp_path / "clip.mp4", frames)


def test_json_lines_hold_a_frame_each(clip: Path, predict: Any) -> None:
    status, out, err = predict("clip.mp4", "--format", "jsonl", "--attention")
    frames = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [frame["frame"] for frame in frames] == list(range(12))
    assert [frame["time_s"] for frame in frames] == [number / 10 for number in range(12)]
    assert [len(frame["faces"]) for frame in frames] == [1, 1, 0] + [1] * 9
    assert list(frames[0]) == ["source", "frame", "time_s", "width", "height", "faces"]
    assert (frames[0]["source"], frames[0]["width"], frames[0]["height"]) == ("clip.mp4", 160, 112)
    face = frames[0]["faces"][0]
    assert list(face)[:6] == ["track", "bbox", "score", "landmarks", "roll_deg", "expression"]
    assert {"confidence", "probabilities", "attention"} <= set(face)
    assert face["track"] is None
    assert err[-1].startswith("ddamfn: 12 frames to 1.10 s, 11 faces, 1 without a face (")


def test_csv_and_parquet_hold_the_same_rows(clip: Path, predict: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    status, out, err = predict("clip.mp4", "--format", "csv", "--track", "--quiet")
    rows = list(csv.DictReader(io.StringIO(out.decode())))
    assert (status, err) == (0, [])
    assert [row["frame"] for row in rows] == [str(number) for number in range(12)]
    assert [row["track"] for row in rows] == ["1", "1", "", *["1"] * 9]
    assert list(rows[0])[:5] == ["source", "frame", "time_s", "track", "face"]
    assert predict("clip.mp4", "--track", "--output", "out.parquet")[0] == 0
    table = parquet.read_table("out.parquet")
    assert table.column_names == list(rows[0])
    assert [str(table.schema.field(name).type) for name in ("frame", "time_s", "track")] == ["int64", "double", "int32"]
    for one, other in zip(table.to_pylist(), rows, strict=True):
        assert {name: "" if value is None else str(value) for name, value in one.items()} == other


def test_the_table_and_json_name_times(clip: Path, predict: Any) -> None:
    lines = predict("clip.mp4", "--start", "0:00.5", "--every", "2")[1].decode().splitlines()
    assert lines[0].split()[:4] == ["time", "track", "expression", "confidence"]
    assert [line.split()[0] for line in lines[1:]] == ["0.500s", "0.700s", "0.900s", "1.100s"]
    assert len(json.loads(predict("clip.mp4", "--end", ".3", "--format", "json")[1])) == 3


def test_smoothing_and_the_timeline_bring_tracks(clip: Path, predict: Any) -> None:
    def probabilities(*options: str) -> list[list[float]]:
        frames = map(json.loads, predict("clip.mp4", "--format", "jsonl", *options)[1].splitlines())
        return [list(face["probabilities"].values()) for frame in frames for face in frame["faces"]]

    raw, smooth = probabilities(), probabilities("--smooth", "1")
    assert probabilities("--track", "--smooth", "0") == raw
    assert smooth[0] == raw[0]
    assert np.abs(np.diff(smooth, axis=0)).sum() < 0.5 * np.abs(np.diff(raw, axis=0)).sum()
    out = predict("clip.mp4", "--format", "jsonl", "--timeline", "new/line.png")[1]
    assert json.loads(out.splitlines()[0])["faces"][0]["track"] == 1
    with Image.open("new/line.png") as image:
        assert (image.format, image.width) == ("PNG", 1600)
    assert [path.name for path in Path("new").iterdir()] == ["line.png"]


def test_the_annotated_video_has_the_frames_that_were_read(clip: Path, predict: Any) -> None:
    status, _, err = predict("clip.mp4", "--every", "2", "--annotate", "marked/a.mp4")
    assert status == 0
    assert not any("H.264" in line for line in err)
    with av.open("marked/a.mp4") as container:
        frames = list(container.decode(video=0))
    assert [round(frame.time, 3) for frame in frames] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert (frames[0].width, frames[0].height) == (480, 336)
    assert [path.name for path in Path("marked").iterdir()] == ["a.mp4"]


def test_without_h264_one_line_says_so(clip: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddamfn.video.annotated._ENCODERS", ("mpeg4",))
    status, _, err = predict("clip.mp4", "--end", "0.3", "--annotate", "a.mp4", "--quiet")
    assert status == 0
    assert err == ["ddamfn: a.mp4: this build of PyAV cannot write H.264, so it is mpeg4"]


def test_a_broken_tail_is_one_line_and_status_one(
    write_video: Callable[..., Path], rng: np.random.Generator, predict: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_video(Path("a.mkv"), (rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(30)))
    content = Path("a.mkv").read_bytes()
    Path("a.mkv").write_bytes(content[: len(content) // 2])
    status, out, err = predict("a.mkv", "--output", "a.jsonl", "--annotate", "b.mp4", "--timeline", "c.png", "--quiet")
    count = len([json.loads(line) for line in Path("a.jsonl").read_text().splitlines()])
    assert (status, out) == (1, b"")
    assert count > 5
    assert len(err) == 1
    assert err[0].startswith("ddamfn: a.mkv: breaks off at ")
    with av.open("b.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == count
    assert Path("c.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gone.mp4"], "gone.mp4: no such file"),
        (["empty.mkv"], "empty.mkv: the file is empty"),
        (["notes", "--every", "2"], "notes: not a video"),
        (["98"], "camera"),
    ],
)
def test_what_cannot_be_opened_is_one_line_and_leaves_older_files(
    clip: Path, predict: Any, arguments: list[str], named: str
) -> None:
    Path("empty.mkv").touch()
    Path("notes").write_text("no video\n")
    for name in ("out.csv", "a.mp4", "t.png"):
        Path(name).write_text("older")
    files = ["--output", "out.csv", "--annotate", "a.mp4", "--timeline", "t.png"]
    status, out, err = predict(*arguments, *files)
    assert (status, out, len(err)) == (1, b"", 1)
    assert named in err[0]
    assert {Path(name).read_text() for name in ("out.csv", "a.mp4", "t.png")} == {"older"}
    assert not list(Path().glob(".*.part"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["0", "photo.jpg"], "by itself"),
        (["photo.jpg", "--every", "2"], "--every"),
        (["photo.jpg", "--detect-every", "2"], "--detect-every"),
        (["photo.jpg", "--timeline", "t.png"], "--timeline"),
        ([".", "--track"], "--track"),
        (["-", "--smooth", "0"], "--smooth"),
        (["clip.mp4", "--every", "0"], "--every"),
        (["clip.mp4", "--smooth", "-1"], "--smooth"),
        (["clip.mp4", "--start", "1:60"], "--start"),
        (["clip.mp4", "--start", "soon"], "--start"),
        (["clip.mp4", "--start", "1:00:00"], "past the end"),
        (["clip.mp4", "--start", "1", "--end", "1"], "after the start"),
        (["clip.mp4", "--annotate", "folder"], "--annotate"),
        (["clip.mp4", "--annotate", "a.avi"], "--annotate"),
        (["clip.mp4", "--annotate", "./clip.mp4"], "--annotate"),
        (["clip.mp4", "--format", "csv", "--output", "clip.mp4"], "--output"),
        (["clip.mp4", "--output", "."], "--output"),
        (["clip.mp4", "--timeline", "t.pdf"], "--timeline"),
        (["clip.mp4", "--format", "csv", "--output", "t.png", "--timeline", "./t.png"], "one file"),
        (["clip.mp4", "--attention"], "--attention"),
        (["videos"], "glob"),
        (["0", "--start", "3"], "camera"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line_and_status_two(
    clip: Path, predict: Any, arguments: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddamfn.video.source._place", lambda av, number: ("clip.mp4", "mp4", {}))
    Path("photo.jpg").touch()
    Path("b.mkv").touch()
    Path("c.mkv").touch()
    Path("videos").mkdir()
    Path("videos/a.mp4").touch()
    content = clip.read_bytes()
    status, out, err = predict(*arguments)
    assert (status, out, len(err)) == (2, b"", 1)
    assert named in err[0]
    assert clip.read_bytes() == content


def test_a_glob_for_one_video_and_a_file_named_like_a_camera(clip: Path, predict: Any) -> None:
    assert len(predict("cl*.mp4", "--format", "jsonl")[1].splitlines()) == 12
    # An image called "0" is an image.
    Image.new("RGB", (32, 32)).save("0", format="PNG")
    assert json.loads(predict("0", "--format", "json")[1])["width"] == 32


def test_videos_in_a_folder_of_images_are_left_out(clip: Path, predict: Any) -> None:
    Image.new("RGB", (32, 32)).save("a.png")
    assert [json.loads(line)["source"] for line in predict(".", "--format", "jsonl")[1].splitlines()] == ["./a.png"]


def test_a_file_of_another_ending_is_read_as_a_video_if_an_option_says_so(clip: Path, predict: Any) -> None:
    clip.rename("recording")
    assert len(predict("recording", "--every", "1", "--format", "jsonl")[1].splitlines()) == 12
    frames = [Image.new("RGB", (64, 48), (gray, 0, 0)) for gray in (0, 100, 200)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:], duration=200)
    assert len(predict("moving.gif", "--every", "1", "--format", "jsonl")[1].splitlines()) == 3


def test_without_pyav_the_extra_is_named(clip: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, err = predict("clip.mp4")
    assert status == 1
    assert err == ['ddamfn: error: Video needs av: pip install "ddamfn[video]"']


# The tenth frame's result waits for the signal, so that the run is surely interrupted in the middle. What is started in
# the background of a shell script ignores the signal, and hands that on.
_INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from ddamfn.cli import main, writers
add = writers.Tally.add
def wait_after_ten(tally, faces):
    add(tally, faces)
    if tally.items == 10:
        print("ten", flush=True)
        time.sleep(240)
writers.Tally.add = wait_after_ten
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("ending", "number", "status"),
    [("jsonl", signal.SIGINT, 130), ("csv", signal.SIGINT, 130), ("parquet", signal.SIGTERM, 143)],
)
def test_an_interrupted_run_leaves_complete_files(
    clip: Path, stand_in_weights: Path, ending: str, number: int, status: int
) -> None:
    files = ["--output", f"out.{ending}", "--annotate", "out.mp4", "--timeline", "out.png"]
    command = [sys.executable, "-c", _INTERRUPTED, "predict", "clip.mp4", "--weights", str(stand_in_weights), *files]
    process = subprocess.Popen(command, cwd=clip.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ten\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert b"Traceback" not in err
    assert len(_read(clip.parent / f"out.{ending}")) == 10
    with av.open(str(clip.parent / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10
    with Image.open(clip.parent / "out.png") as image:
        image.load()
    assert not [path.name for path in clip.parent.iterdir() if "part" in path.suffix]


def _read(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return list(pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist())
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text())))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), (".5", 0.5), ("1:30", 90), ("0:07.25", 7.25), ("1:02:03.5", 3723.5), ("100:00", 6000)],
)
def test_times_are_read_as_players_write_them(text: str, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:60:00", "1:2:3:4", "nan", "inf", "1e3", "1:-5", "soon", "٣"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        moment(text)
