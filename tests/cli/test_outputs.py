"""Where results go: endings, long names, tables for Excel, annotated files, and a standard output that takes none."""

import csv
import io
import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

_PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
_MAIN = "import sys; from ddamfn.cli import main; sys.exit(main())"


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(("name", "begins"), [("faces.txt", "expression"), ("faces", "expression"), ("f.JSON", "{")])
def test_the_ending_names_the_format(photos: Path, predict: Any, name: str, begins: str) -> None:
    assert predict("photos/face.jpg", "--output", name)[0] == 0
    assert Path(name).read_text().startswith(begins)


def test_a_named_format_goes_with_any_ending(photos: Path, predict: Any) -> None:
    assert predict("photos/face.jpg", "--format", "jsonl", "--output", "faces.data")[0] == 0
    assert json.loads(Path("faces.data").read_text())["width"] == 512
    assert predict("photos/face.jpg", "--output", "/dev/null")[0] == 0


def test_excel_is_told_that_the_letters_are_utf_8(photos: Path, predict: Any) -> None:
    assert predict("photos", "--format", "csv-excel", "--output", "faces.csv")[0] == 1
    content = Path("faces.csv").read_bytes()
    assert content.startswith("\ufeffsource,".encode())
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    plain = predict("photos", "--format", "csv")[1]
    assert not plain.startswith(b"\xef\xbb\xbf")
    assert rows == list(csv.DictReader(io.StringIO(plain.decode())))
    assert rows[4]["source"] == "photos/sub dir/hügel ☕.png"


def test_a_carriage_return_in_a_name_does_not_break_a_row(photos: Path, predict: Any) -> None:
    name = "photos/a\rb.jpg"
    Path(name).write_bytes(_PORTRAIT)
    out = predict(name, "--format", "csv")[1].decode()
    (row,) = csv.DictReader(io.StringIO(out, newline=""))
    assert row["source"] == name
    assert out.count("\r") == 1


def test_names_as_long_as_they_may_be(photos: Path, predict: Any) -> None:
    (photos / "sub dir").rename("aside")
    names = ["é" * 123 + ".jpg", "x" * 251 + ".jpg", "y" * 251 + ".bmp", "z" * 251 + ".bmp"]
    for name in names:
        with Image.open(io.BytesIO(_PORTRAIT)) as image:
            image.save(photos / name)
    status, out, err = predict(*(f"photos/{name}" for name in names), "--annotate", "marked", "--format", "json")
    assert status == 0, err
    assert len(json.loads(out)) == 4
    written = sorted(path.name for path in Path("marked").iterdir())
    assert {"é" * 123 + ".jpg", "x" * 251 + ".jpg"} < set(written)
    assert sum(name.endswith(".png") and name.startswith(("yyy", "zzz")) for name in written) == 2
    assert predict("photos/face.jpg", "--output", "o" * 250 + ".csv")[0] == 0
    assert Path("o" * 250 + ".csv").read_text().startswith("source")


@pytest.mark.parametrize("name", ["marked.png", "new/marked.JPG"])
def test_one_image_is_annotated_into_the_named_file(photos: Path, predict: Any, name: str) -> None:
    for _ in range(2):  # an older one is replaced
        assert predict("photos/face.jpg", "--annotate", name)[0] == 0
    with Image.open(name) as image:
        assert image.size == (512, 512)
    assert sorted(path.name for path in Path(name).parent.iterdir() if "marked" in path.name) == [Path(name).name]


def test_a_glob_of_one_image_and_standard_input_are_one_image(
    photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict("photos/fa*.jpg", "--annotate", "a.png")[0] == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(_PORTRAIT)))
    assert predict("-", "--annotate", "b.png")[0] == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_a_folder_may_be_called_like_an_image(photos: Path, predict: Any) -> None:
    Path("marked.png").mkdir()
    assert predict("photos/face.jpg", "--annotate", "marked.png")[0] == 0
    assert (Path("marked.png") / "face.jpg").is_file()


# ---------------------------------------------------------------- what is left out


def test_the_summary_counts_what_a_folder_leaves_out(photos: Path, predict: Any) -> None:
    for name in ("a.jxl", "b.jxl", "sub dir/c.cr3"):
        (photos / name).touch()
    os.mkfifo(photos / "pipe.jpg")
    status, out, err = predict("photos", "--format", "json")
    assert status == 1
    assert len(json.loads(out)) == 6
    assert "left out: 2 .jxl, 1 .cr3, 1 pipe" in err[-1]
    assert not any("left out" in line for line in predict("photos", "--quiet")[2])


@pytest.mark.parametrize(("name", "noun"), [("a.jxl", "djxl"), ("a.CR3", "darktable"), ("a.svg", "Inkscape")])
def test_a_named_file_of_a_known_kind_says_what_to_do(photos: Path, predict: Any, name: str, noun: str) -> None:
    (photos / name).write_bytes(b"something")
    status, out, err = predict(f"photos/{name}", "--format", "json")
    assert status == 1
    assert noun in json.loads(out)["error"]
    assert len(err) == 1
    assert noun in err[0]


def test_a_named_pipe_is_refused_at_once(photos: Path, predict: Any) -> None:
    os.mkfifo("pipe.jpg")
    status, _, err = predict("pipe.jpg")
    assert status == 1
    assert "pipe, not a file" in err[0]


def test_heic_is_read_out_of_the_box(photos: Path, predict: Any, heic: Any) -> None:
    import numpy as np

    with Image.open(io.BytesIO(_PORTRAIT)) as image:
        (photos / "IMG_1.HEIC").write_bytes(heic(np.asarray(image.convert("RGB"))))
    results = {result["source"]: result for result in json.loads(predict("photos", "--format", "json")[1])}
    found, expected = results["photos/IMG_1.HEIC"], results["photos/face.jpg"]
    assert (found["width"], found["height"], len(found["faces"])) == (512, 512, 1)
    assert found["faces"][0]["bbox"] == pytest.approx(expected["faces"][0]["bbox"], abs=2)


# ---------------------------------------------------------------- standard output


def _run(arguments: list[str], redirection: str, cwd: Path, unbuffered: str = "") -> tuple[int, list[str]]:
    """Run a command with redirected streams; return its status and the lines of standard error."""
    command = ["sh", "-c", f'exec "$0" -c "$@" {redirection}', sys.executable, _MAIN, *arguments]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr.splitlines()


_VERBS = {
    "predict": ["predict", "photos/face.jpg", "--weights"],
    "long": ["predict", *["photos/face.jpg"] * 5, "--format", "json", "--attention", "--quiet", "--weights"],
    "eval": ["eval", "--data", "set", "--split", "all", "--quiet", "--weights"],
    "demo": ["demo", "--weights"],
    "models": ["models", "--format", "json"],
    "check": ["data", "check", "set", "--quiet"],
    "version": ["--version"],
    "help": ["serve", "--help"],
}


@pytest.mark.parametrize(
    ("verb", "redirection", "unbuffered"),
    [
        *((verb, ">/dev/full", "") for verb in _VERBS),
        *((verb, ">/dev/full", "1") for verb in ("predict", "models")),
        *((verb, ">&-", "") for verb in ("predict", "models", "version")),
    ],
)
def test_a_standard_output_that_takes_nothing_is_one_line(
    verb: str, redirection: str, unbuffered: str, photos: Path, stand_in_weights: Path, tmp_path: Path
) -> None:
    if redirection == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "set" / "happiness").mkdir(parents=True)
    (tmp_path / "set" / "happiness" / "1.jpg").write_bytes(_PORTRAIT)
    arguments = [*_VERBS[verb], *([str(stand_in_weights)] if _VERBS[verb][-1] == "--weights" else [])]
    status, err = _run(arguments, redirection, tmp_path, unbuffered)
    assert status == 1, err
    assert len(err) == 1, err
    assert "standard output" in err[0]
    assert ("No space left" if redirection == ">/dev/full" else "closed") in err[0]


def test_what_goes_to_a_file_needs_no_standard_output(photos: Path, stand_in_weights: Path) -> None:
    arguments = ["predict", "photos/face.jpg", "--output", "faces.json", "--weights", str(stand_in_weights)]
    assert _run(arguments, ">&- 2>&- <&-", photos.parent) == (0, [])
    assert json.loads(Path("faces.json").read_text())["width"] == 512
