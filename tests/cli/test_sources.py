"""What the command line's arguments stand for."""

import argparse
import glob
import os
import socket
from pathlib import Path

import pytest

from ddamfn.cli.io import Sources, base_folder
from ddamfn.cli.videos import find_videos
from ddamfn.errors import UsageError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a tree of empty files below the working folder."""
    names = ["b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub dir/ü ☕.webp", "sub dir/deep/x.tiff", ".cache/y.jpg"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "empty.jpg").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_a_folder_is_walked_to_the_bottom_in_order(photos: Path) -> None:
    expected = ["photos/a.png", "photos/b.JPG", "photos/sub dir/deep/x.tiff", "photos/sub dir/ü ☕.webp"]
    sources = Sources(["photos"])
    assert list(sources) == expected
    assert list(sources) == expected, "it can be walked again"
    assert sources.count() == 4
    assert not sources.single
    assert base_folder(["photos"]) == str(photos)


def test_named_files_are_always_tried(photos: Path) -> None:
    sources = Sources(["photos/notes.txt", "gone.jpg"])
    assert list(sources) == ["photos/notes.txt", "gone.jpg"]
    assert base_folder(["photos/notes.txt", "gone.jpg"]) == str(photos.parent)
    assert Sources(["gone.jpg"]).single


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["photos/a.png"]),
        ("photos/?.*", ["photos/a.png", "photos/b.JPG"]),
        ("ph*s", ["photos/a.png", "photos/b.JPG", "photos/sub dir/deep/x.tiff", "photos/sub dir/ü ☕.webp"]),
        ("photos/**/*.tiff", ["photos/sub dir/deep/x.tiff"]),
        ("photos/sub*/**", ["photos/sub dir/deep/x.tiff", "photos/sub dir/ü ☕.webp"]),
    ],
)
def test_globs_are_expanded_in_order(photos: Path, pattern: str, expected: list[str]) -> None:
    sources = Sources([pattern])
    assert list(sources) == expected
    assert not sources.single
    assert str(photos).startswith(base_folder([pattern]))


def test_a_file_whose_name_looks_like_a_glob_is_itself(photos: Path) -> None:
    (photos / "a[1].png").touch()
    sources = Sources(["photos/a[1].png"])
    assert list(sources) == ["photos/a[1].png"]
    assert sources.single


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "*.gif"], r"no file matches '\*\.gif'"),
        (["photos/empty.jpg"], "no images in the folder"),
        (["-", "-"], "once"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_arguments_without_images_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sources(arguments)


def test_standard_input_must_be_piped(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(UsageError, match="nothing is piped in"):
        Sources(["-"])


def test_the_folder_of_results_and_linked_folders_are_left_out(photos: Path) -> None:
    (photos / "marked").mkdir()
    (photos / "marked" / "a.png").touch()
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    assert sum("marked" in path for path in Sources(["photos"], skip="photos/marked")) == 0
    assert sum("marked" in path for path in Sources(["photos"])) == 1
    assert not any("loop" in path for path in Sources(["photos"]))


def test_a_folder_that_cannot_be_listed_stands_for_itself(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "photos/sub dir/deep" in list(Sources(["photos"]))


def test_what_a_walk_leaves_out_is_counted_by_ending(photos: Path) -> None:
    for name in ("a.jxl", "sub dir/b.JXL", "c.cr3", "d.mp4", "README", ".DS_Store"):
        (photos / name).touch()
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    sources = Sources(["photos"])
    assert sources.count() == 4
    expected = "left out: 2 .jxl, 1 .cr3, 1 .mp4, 1 .txt, 1 linked folder, 1 nameless kind"
    assert sources.left_out == expected
    assert list(sources)
    assert sources.left_out == expected, "it is counted anew"
    for number in range(9):
        (photos / f"x.kind{number}").touch()
    assert sources.count() == 4
    assert sources.left_out.endswith("7 of other endings")
    sources = Sources(["photos/a.png"])
    assert list(sources)
    assert sources.left_out == ""


def test_pipes_sockets_and_devices_are_left_out(photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(photos / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("photos/s.jpg")
    (photos / "link.jpg").symlink_to("/dev/null")
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    (photos / "good.jpg").symlink_to("a.png")
    sources = Sources(["photos"])
    assert {"photos/gone.jpg", "photos/good.jpg"} <= set(sources)
    assert sources.left_out == "left out: 2 pipes, 1 .txt, 1 device, 1 socket"


def test_a_folder_of_what_is_not_read_says_so(tmp_path: Path) -> None:
    for name in ("a.jxl", "b.jxl", "c.nef"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"no images in the folder .*left out: 2 \.jxl, 1 \.nef"):
        Sources([str(tmp_path)])


def test_heic_is_an_image_of_a_folder(photos: Path) -> None:
    (photos / "IMG_0001.HEIC").touch()
    assert "photos/IMG_0001.HEIC" in list(Sources(["photos"]))


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "s3://bucket/photos/", "rtsp://camera/1"])
def test_an_address_is_told_what_is_read(address: str) -> None:
    with pytest.raises(UsageError, match=r"address.*nothing is fetched"):
        Sources([address])


def test_a_file_whose_name_looks_like_an_address_is_itself(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "s3:").mkdir()
    (photos / "s3:" / "a.png").touch()
    monkeypatch.chdir(photos)
    assert list(Sources(["s3://a.png"])) == ["s3://a.png"]


def test_without_standard_input_nothing_is_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="nothing is piped in"):
        Sources(["-"])


@pytest.mark.parametrize("pattern", ["photos/*", "photos/c*", "photos/clip.[mM]p4"])
def test_a_quoted_glob_names_what_the_shell_would_have_named(photos: Path, pattern: str) -> None:
    (photos / "clip.mp4").touch()
    expanded = sorted(glob.glob(pattern))
    quoted, by_shell = (_videos_of(sources, every=2) for sources in ([pattern], expanded))
    assert quoted == by_shell


def _videos_of(sources: list[str], **options: object) -> object:
    """Return what `find_videos` finds, or the error's text."""
    unset = dict.fromkeys(("every", "detect_every", "start", "end", "track", "smooth", "timeline"))
    try:
        return find_videos(argparse.Namespace(sources=sources, **(unset | options)))
    except UsageError as error:
        return str(error)
