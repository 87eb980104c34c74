"""Files that are never half written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddamfn.files import (
    append_json_line,
    atomic_writer,
    exclusive,
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


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyError), atomic_writer(path) as stream:
        stream.write({b"half": b"half"}[b"whole"])
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


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
