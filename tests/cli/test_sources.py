"""What the command line's arguments stand for."""

from pathlib import Path

import pytest

from ddamfn.cli.io import Sources, base_folder
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
