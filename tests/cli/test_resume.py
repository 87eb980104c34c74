"""CSV and JSON lines that a killed run has left are gone on with, wherever they are torn."""

import os
from pathlib import Path
from typing import Any

import pytest

_KINDS = [("csv", ()), ("csv-excel", ("--format", "csv-excel")), ("jsonl", ())]


@pytest.fixture
def few(photos: Path) -> Path:
    """Return the folder with one name that CSV must quote, and another that is not UTF-8."""
    os.link(photos / "empty.jpg", photos / 'line\nbreak, "quoted".jpg')
    os.link(photos / "text.jpg", os.fsencode(str(photos / "x")) + b"\xff.jpg")
    return photos


@pytest.mark.parametrize(("kind", "options"), _KINDS, ids=[kind for kind, _ in _KINDS])
def test_a_file_torn_anywhere_becomes_the_whole_one(
    few: Path, predict: Any, kind: str, options: tuple[str, ...]
) -> None:
    name = f"faces.{kind.removesuffix('-excel')}"
    words = ("photos", "--output", name, "--detection", "160", *options)
    assert predict(*words)[0] == 1
    path = Path(name)
    whole = path.read_bytes()
    lines = [number + 1 for number, byte in enumerate(whole) if byte == ord("\n")]
    places = {0, 1, lines[0] - 1, *lines, *range(lines[0], len(whole), len(whole) // 6), len(whole) - 1}
    for place in sorted(places):
        path.write_bytes(whole[:place])
        predict(*words, "--resume")
        assert path.read_bytes() == whole, f"torn at byte {place}"


def test_finished_images_are_not_read_again(few: Path, predict: Any) -> None:
    words = ("photos", "--output", "faces.csv", "--resume")
    assert predict(*words)[0] == 1
    whole = Path("faces.csv").read_bytes()
    for path in few.glob("*.*"):
        path.unlink()
    # Only the last image's rows may be torn, and are written anew.
    (few / "sub dir" / "hügel ☕.png").touch()
    (few / "x.jpg").write_bytes(b"\0")
    status, _, lines = predict(*words)
    assert status == 1
    assert any("going on after 7 images" in line for line in lines), lines
    assert Path("faces.csv").read_bytes().startswith(whole[: whole.rindex(b"photos/")])


def test_what_a_killed_run_left_beside_its_place_is_taken(few: Path, predict: Any) -> None:
    assert predict("photos", "--output", "faces.jsonl")[0] == 1
    whole = Path("faces.jsonl").read_bytes()
    Path("faces.jsonl").rename(".faces.jsonl.part")
    _, _, lines = predict("photos", "--output", "faces.jsonl", "--resume")
    assert any("going on after 7 images" in line for line in lines), lines
    assert Path("faces.jsonl").read_bytes() == whole
    assert not Path(".faces.jsonl.part").exists()


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("f.csv", b"source,face\n", "columns"),
        ("f.csv", b"notes", "columns"),
        ("f.csv", b"\xef\xbb\xbfsource,face", "columns"),
        ("f.jsonl", b"notes", "JSON lines"),
        ("f.jsonl", b'{"name": 1}\n', "JSON lines"),
        ("f.jsonl", b"[1]\n", "JSON lines"),
        ("f.jsonl", b'{"source": "a.mp4", "frame": 0, "faces": []}\n', "other"),
        ("f.jsonl", b'{"source": "a", "faces": [{"probabilities": {"joy": 1}}]}\n', "other"),
    ],
)
def test_a_file_of_another_kind_is_refused_and_kept(
    photos: Path, predict: Any, name: str, content: bytes, word: str
) -> None:
    Path(name).write_bytes(content)
    status, _, (line,) = predict("photos", "--output", name, "--resume")
    assert status == 2
    assert word in line
    assert Path(name).read_bytes() == content


def test_a_damaged_row_is_refused(photos: Path, predict: Any) -> None:
    predict("photos", "--output", "faces.csv")
    head, _, rows = Path("faces.csv").read_bytes().partition(b"\n")
    Path("faces.csv").write_bytes(head + b"\na,b\n" + rows)
    status, _, (line,) = predict("photos", "--output", "faces.csv", "--resume")
    assert status == 2
    assert "damaged" in line


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["photos"], "--output"),
        (["photos", "--output", "f.parquet"], "folder"),
        (["photos", "--output", "f.json"], "folder"),
        (["photos", "clip.mp4", "--output", "f.csv"], "videos"),
        (["clip.mp4", "--output", "f.csv"], "videos"),
        (["-", "--output", "f.csv"], "'-'"),
        (["photos", "--output", "/dev/null", "--format", "csv"], "no file"),
    ],
)
def test_what_cannot_be_gone_on_with_is_one_line(photos: Path, predict: Any, words: list[str], reason: str) -> None:
    Path("clip.mp4").touch()
    status, _, lines = predict(*words, "--resume")
    assert (status, len(lines)) == (2, 1), lines
    assert reason in lines[0]
