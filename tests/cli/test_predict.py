"""`ddamfn predict`: what it writes in each format, what it does with files that are no images, its exit status."""

import csv
import fcntl
import io
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddamfn.cli import main
from ddamfn.labels import EXPRESSIONS

_PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()


_ORDER = ["bomb.png", "broken.jpg", "empty.jpg", "face.jpg", "sub dir/hügel ☕.png", "text.jpg"]
_BAD = {"photos/bomb.png", "photos/broken.jpg", "photos/empty.jpg", "photos/text.jpg"}


def test_one_image_is_one_json_object(photos: Path, predict: Any) -> None:
    status, out, err = predict("photos/face.jpg", "--format", "json")
    result = json.loads(out)
    assert (status, err) == (0, [])
    assert list(result) == ["source", "width", "height", "faces"]
    assert (result["source"], result["width"], result["height"]) == ("photos/face.jpg", 512, 512)
    (face,) = result["faces"]
    assert list(face) == ["bbox", "score", "landmarks", "roll_deg", "expression", "confidence", "probabilities"]
    assert len(face["bbox"]) == 4
    assert [len(point) for point in face["landmarks"]] == [2] * 5
    assert list(face["probabilities"]) == list(EXPRESSIONS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_folder_goes_on_past_bad_files_and_ends_with_one(photos: Path, predict: Any) -> None:
    status, out, err = predict("photos", "--format", "json", "--quiet")
    results = json.loads(out)
    assert status == 1
    assert [result["source"] for result in results] == [f"photos/{name}" for name in _ORDER]
    assert {result["source"] for result in results if "error" in result} == _BAD
    assert all(result["faces"] == [] and result["width"] is None for result in results if "error" in result)
    assert len(results[3]["faces"]) == 1
    assert (results[4]["faces"], results[4]["width"]) == ([], 320)
    # One line for each bad file, naming it.
    assert len(err) == len(_BAD)
    assert all(any(source in line for line in err) for source in _BAD)


def test_the_provider_is_chosen_or_refused_in_one_line(photos: Path, predict: Any) -> None:
    chosen = predict("photos/face.jpg", "--format", "json", "--provider", "cpu")
    assert chosen == predict("photos/face.jpg", "--format", "json")
    status, out, err = predict("photos/face.jpg", "--provider", "tpu")
    assert (status, out, len(err)) == (2, b"", 1)
    assert "cpu" in err[0]


def test_shrinking_on_load_can_be_left_out(photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(
        "ddamfn.recognizer.Recognizer.__init__", lambda self, *_, **options: made.append(options) or 1 / 0
    )
    for options in ((), ("--no-shrink-on-load",)):
        with pytest.raises(ZeroDivisionError):
            predict("photos/face.jpg", *options)
    assert [options["shrink_on_load"] for options in made] == [True, False]


def test_json_lines_hold_the_same_as_json(photos: Path, predict: Any) -> None:
    listed = json.loads(predict("photos", "--format", "json")[1])
    lines = predict("photos", "--format", "jsonl")[1].splitlines()
    assert [json.loads(line) for line in lines] == listed


def test_csv_and_parquet_hold_the_same_rows(photos: Path, predict: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    status, out, _ = predict("photos", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out.decode())))
    assert status == 1
    assert [row["source"] for row in rows] == [f"photos/{name}" for name in _ORDER]
    assert {row["source"] for row in rows if row["error"]} == _BAD
    face = rows[3]
    assert face["face"] == "0"
    assert face["expression"] in EXPRESSIONS
    assert float(face["confidence"]) == max(float(face[f"p_{name}"]) for name in EXPRESSIONS)
    assert rows[4]["face"] == rows[4]["expression"] == rows[4]["error"] == ""

    assert predict("photos", "--output", "out.parquet")[0] == 1
    table = parquet.read_table("out.parquet").to_pylist()
    assert [list(row) for row in table] == [list(row) for row in rows]
    for typed, text in zip(table, rows, strict=True):
        assert {name: "" if value is None else str(value) for name, value in typed.items()} == text


def test_the_table_has_a_line_for_each_image(photos: Path, predict: Any) -> None:
    lines = predict("photos")[1].decode().splitlines()
    assert lines[0].split()[:3] == ["expression", "confidence", "face"]
    assert len(lines) == 1 + len(_ORDER)
    assert sum(line.startswith("error") for line in lines) == len(_BAD)
    assert lines[5].startswith("no face")
    assert lines[5].endswith("photos/sub dir/hügel ☕.png")


def test_a_summary_stands_on_standard_error_unless_quiet(photos: Path, predict: Any) -> None:
    assert "6 images, 1 face, 1 without a face, 4 unreadable" in predict("photos")[2][-1]
    assert len(predict("photos", "--quiet")[2]) == len(_BAD)


def test_the_same_image_gives_the_same_bytes(photos: Path, predict: Any) -> None:
    alone = predict("photos/face.jpg", "--format", "jsonl", "--attention")[1]
    assert predict("photos/face.jpg", "--format", "jsonl", "--attention")[1] == alone
    assert alone in predict("photos", "--format", "jsonl", "--attention", "--batch-size", "1")[1]
    assert json.loads(alone)["faces"][0]["attention"][1][6][6] > 0


def test_standard_input_is_a_image(photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, status in ((_PORTRAIT, 0), (b"", 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        found, out, err = predict("-", "--format", "json")
        assert found == status
        assert json.loads(out)["source"] == "-"
        assert len(err) == status


def test_a_file_without_permission_is_an_error_of_its_own(
    photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    # Taking the right to read away would not stop root, as whom tests often run.
    def refuse(path: Path, mode: str = "r", **options: Any) -> Any:
        if path.name == "face.jpg":
            raise PermissionError(13, "Permission denied")
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    status, out, err = predict("photos/face.jpg", "photos/sub dir", "--format", "jsonl", "--quiet")
    first, second = (json.loads(line) for line in out.splitlines())
    assert status == 1
    assert "Permission denied" in first["error"]
    assert "error" not in second
    assert len(err) == 1


def test_a_missing_file_is_an_error_of_its_own(photos: Path, predict: Any) -> None:
    status, out, err = predict("gone.jpg", "photos/face.jpg", "--format", "json", "--quiet")
    assert status == 1
    assert [result.get("error") for result in json.loads(out)] == ["no such file", None]
    assert err == ["ddamfn: gone.jpg: no such file"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["*.nothing"], "*.nothing"),
        (["photos", "--min-detection-score", "0"], "--min-detection-score"),
        (["photos", "--max-faces", "none"], "--max-faces"),
        (["photos", "--batch-size", "0"], "--batch-size"),
        (["photos", "--format", "xml"], "--format"),
        (["photos", "--output", "faces.xlsx"], ".xlsx"),
        (["photos", "--output", "faces.tsv"], ".tsv"),
        (["photos", "--output", "s3://bucket/faces.csv"], "address"),
        (["photos", "--annotate", "s3://bucket/marked"], "address"),
        (["photos", "https://example.org/a.jpg"], "https://example.org/a.jpg"),
        (["s3://bucket/a.jpg"], "address"),
        (["rtsp://camera/1", "--track"], "address"),
        (["photos", "--annotate", "marked.png"], "marked.png"),
        (["photos/face.jpg", "photos/sub dir", "--annotate", "marked.jpg"], "marked.jpg"),
        (["photos/face.jpg", "--annotate", "photos/face.jpg"], "--annotate"),
        (["photos/face.jpg", "--annotate", "marked.tiff"], ".png"),
        (["photos/face.jpg", "--annotate", "marked.mp4"], ".png"),
        (["photos/face.jpg", "--annotate", "marked.pdf"], ".png"),
        (["photos", "--attention"], "--attention"),
        (["photos", "--output", "photos"], "--output"),
        (["photos/face.jpg", "--output", "photos/../photos/face.jpg"], "--output"),
        (["photos", "--annotate", "photos"], "--annotate"),
        (["photos", "--annotate", "photos/face.jpg"], "--annotate"),
        (["photos", "--nonsense"], "--nonsense"),
        ([], "SOURCE"),
    ],
)
def test_bad_arguments_are_one_line_and_status_two(
    photos: Path, predict: Any, arguments: list[str], named: str
) -> None:
    status, out, err = predict(*arguments)
    assert status == 2
    assert out == b""
    assert len(err) == 1
    assert named in err[0]
    assert (photos / "face.jpg").read_bytes() == _PORTRAIT


def test_unknown_weights_are_one_line_and_leave_an_older_output(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out.csv").write_text("older")
    assert main(["predict", "photos", "--weights", "nothing", "--output", "out.csv"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert Path("out.csv").read_text() == "older"


def test_the_output_file_replaces_an_older_one_and_leaves_nothing_else(photos: Path, predict: Any) -> None:
    Path("out.json").write_text("older")
    Path("link.json").symlink_to("out.json")
    status, out, _ = predict("photos/face.jpg", "--output", "link.json")
    assert (status, out) == (0, b"")
    assert json.loads(Path("out.json").read_text())["width"] == 512
    assert Path("link.json").is_symlink()
    assert predict("photos/face.jpg", "--output", "new folder/out.csv")[0] == 0
    assert sorted(path.name for path in Path("new folder").iterdir()) == ["out.csv"]
    assert not list(Path().glob(".*.part"))


def test_a_full_disk_is_one_line(photos: Path, predict: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    status, _, err = predict("photos/face.jpg", "--output", "/dev/full")
    assert status == 1
    assert err == ["ddamfn: error: cannot write /dev/full: No space left on device"]


def test_parquet_without_its_package_says_what_to_install(
    photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = predict("photos/face.jpg", "--output", "out.parquet")
    assert status == 1
    assert err == ['ddamfn: error: Parquet needs pyarrow: pip install "ddamfn[parquet]"']
    assert not list(Path().glob("*out.parquet*"))


def test_annotated_images_mirror_the_folder(photos: Path, predict: Any) -> None:
    Image.open(io.BytesIO(_PORTRAIT)).save(photos / "sub dir" / "face.bmp")
    assert predict("photos", "--annotate", "photos/marked", "--attention")[0] == 1
    marked = photos / "marked"
    written = sorted(str(path.relative_to(marked)) for path in marked.rglob("*") if path.is_file())
    assert written == ["face.jpg", "sub dir/face.bmp.png", "sub dir/hügel ☕.png"]
    with Image.open(marked / "face.jpg") as image:
        assert image.format == "JPEG"
        assert image.width > 512
    with Image.open(marked / "sub dir" / "hügel ☕.png") as image:
        assert image.width % 320 == 0
    # A second run does not take the first one's images for sources.
    assert len(json.loads(predict("photos", "--format", "json", "--annotate", "photos/marked")[1])) == 7


def test_names_that_would_break_a_line_are_escaped(photos: Path, predict: Any) -> None:
    name = b"photos/two\nlines\x1b[31m\xff.jpg"
    with open(name, "wb") as file:
        file.write(b"text")
    status, out, err = predict(os.fsdecode(name))
    assert status == 1
    assert len(out.splitlines()) == 2
    assert len(err) == 1
    assert "\x1b" not in err[0]
    result = json.loads(predict(os.fsdecode(name), "--format", "json")[1])
    assert result["source"] == os.fsdecode(name)


# What is started in the background of a shell script ignores the signal, and hands that on.
_INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from ddamfn.cli import main; sys.exit(main())"
)


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_an_interrupted_run_leaves_readable_results(
    photos: Path, stand_in_weights: Path, ending: str, wait_until: Any
) -> None:
    many = photos.parent / "many"
    many.mkdir()
    for index in range(3):
        (many / f"{index}.jpg").write_bytes(_PORTRAIT)
    # Standard input, to which no more is written, holds the run up, so that it is surely interrupted in the middle.
    command = [sys.executable, "-c", _INTERRUPTIBLE, "predict", "many", "-"]
    options = ["--weights", str(stand_in_weights), "--batch-size", "1", "--output", f"out.{ending}"]
    reading, writing = os.pipe()
    process = subprocess.Popen([*command, *options], cwd=photos.parent, stdin=reading, stderr=subprocess.PIPE)
    os.write(writing, _PORTRAIT[:100])
    wait_until(lambda: _bytes_in(reading) == 0, "the run never came to standard input")
    process.send_signal(signal.SIGINT)
    # A signal that comes just before the system call does not end the read: the pipe's end then does.
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert len(_read(photos.parent / f"out.{ending}")) == 3


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet", "txt"])
def test_a_run_that_is_stopped_before_its_first_result_keeps_the_older_file(
    photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    output = Path(f"out.{ending}")
    output.write_bytes(b"older")
    with monkeypatch.context() as patch:
        patch.setattr("ddamfn.recognizer.Recognizer.find_faces", stopped)
        assert predict("photos", "--output", str(output))[0] == 130
    assert output.read_bytes() == b"older"
    assert not list(Path().glob(".*.part"))
    # A run that ends by itself replaces it, also without a face.
    assert predict("photos/face.jpg", "--output", str(output))[0] == 0
    assert output.read_bytes() != b"older"


def _bytes_in(pipe: int) -> int:
    """Count the bytes that nobody has read from a pipe yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(count)


def _read(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        return list(pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist())
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text())))
    text = path.read_text()
    return list(json.loads(text)) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
