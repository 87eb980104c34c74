"""Files that are never half written."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddamfn.files import (
    append_json_line,
    atomic_writer,
    csv_lines,
    exclusive,
    fitting_name,
    open_regular,
    partial_path,
    read_json_lines,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_takes_the_place_of_the_old_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "file.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new", durable=False)
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file.bin"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with atomic_writer(path, shared=True) as one, atomic_writer(path, shared=True) as other:
        one.write(b"first" * 1000)
        other.write(b"second")
    assert path.read_bytes() == b"first" * 1000, "that of the one that ends last"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyError), atomic_writer(path) as stream:
        stream.write({b"half": b"half"}[b"whole"])
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 249, "x" * 250])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"old")
    write_bytes(tmp_path / name, b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert names(tmp_path) == [name]
    assert len(os.fsencode(partial_path(tmp_path / name).name)) <= 255


def test_a_name_with_an_ending_is_cut_where_it_would_be_too_long() -> None:
    assert fitting_name("a.bmp", ".png") == "a.bmp.png"
    one, other = (fitting_name("é" * 126 + letter, ".png") for letter in "ab")
    assert one != other
    assert len(os.fsencode(one)) <= 255
    assert one.endswith(".png")


def test_only_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"abc"
    os.mkfifo(tmp_path / "pipe")
    for path, noun in ((tmp_path / "pipe", "a pipe"), (os.devnull, "a device")):
        with pytest.raises(OSError, match=noun):
            open_regular(path)


def test_csv_is_read_back_whatever_is_in_a_field() -> None:
    rows = [["a\rb", "c,d", 'e"f'], ["", "g\nh", "i\r\nj"]]
    text = csv_lines(rows)
    assert text == '"a\rb","c,d","e""f"\n,"g\nh","i\r\nj"\n'
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows
    assert csv_lines([["plain", 1, None]]) == "plain,1,\n"


def test_json_keeps_letters_and_ends_in_a_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Gesichtsausdrücke", "n": 3})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "ü" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "Gesichtsausdrücke", "n": 3}


def test_lines_come_back_and_torn_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"n": 1})
    with path.open("ab") as stream:
        stream.write(b'{"n": 2, "lo\xff')
    assert read_json_lines(path) == [{"n": 1}]
    append_json_line(path, {"n": 3})
    assert read_json_lines(path) == [{"n": 1}, {"n": 3}]
    with path.open("ab") as stream:
        stream.write(b"[1]\n7\n")
    assert read_json_lines(path) == [{"n": 1}, {"n": 3}]


def test_a_file_keeps_its_permissions_and_no_link_is_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "other"
    write_bytes(path, b"1")
    path.chmod(0o600)
    other.write_bytes(b"somebody's")
    partial_path(path).symlink_to(other)
    write_bytes(path, b"2")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"2", 0o600)
    assert other.read_bytes() == b"somebody's"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "other"]


def test_a_line_that_differs_from_its_checksum_is_left_out(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", [{"n": 1, "share": 0.1}, {"n": 2, "name": "é"}]
    for row in rows:
        append_json_line(path, row, checked=True)
    assert read_json_lines(path) == rows
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace("0.1", "0.3") + lines[1])
    assert read_json_lines(path) == rows[1:]


def test_digests_of_bytes_and_file_agree(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "a") == digest


def test_a_second_process_is_kept_out_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    code = (
        "import sys; from ddamfn.files import exclusive\n"
        f"with exclusive({str(path)!r}) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with exclusive(path) as mine:
            assert not mine
        other.kill()
    with exclusive(path) as mine:
        assert mine
