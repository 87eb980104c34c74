"""The cache of prepared sets: never stale, made again only as far as it must be, and by one process at a time."""

import csv
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.cli import main
from ddamfn.data import open_dataset
from ddamfn.errors import DataError
from ddamfn.faces import Alignment
from ddamfn.preparation import Prepared, cached, load_prepared, open_prepared, prepare
from ddamfn.preparation.cached import cached_sets, sets_folder
from ddamfn.synthetic import write_synthetic_folder

ALIGNMENT = Alignment("ddamfn_frontal", side_px=32)
WaitUntil = Callable[[Callable[[], object], str], None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What is a moment old counts as young otherwise, and how long a moment is depends on the machine.
    monkeypatch.setattr("ddamfn.data.dataset._CLOCK_NS", 0)
    # The processes that would detect faces side by side start slower than a dozen images are done.
    monkeypatch.setattr("ddamfn.preparation.preparing.num_cores", lambda: 1)


@pytest.fixture
def root(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Images of noise, all of one size and time, in a table that lists one more than there are."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{number}.bmp")
        os.utime(folder / f"{number}.bmp", (1e9, 1e9))
    write_table(folder, {f"{number}.bmp": ("anger", "fear")[number % 2] for number in range(7)})
    return folder


@pytest.fixture(params=["by times", "by digests"])
def _states(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at images by size and times, or, as if they were young, by content."""
    if request.param == "by digests":
        monkeypatch.setattr("ddamfn.data.dataset._CLOCK_NS", 3600 * 10**9)


def write_table(root: Path, labels: dict[str, str]) -> None:
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *labels.items()])


def opened(root: Path) -> tuple[Prepared, str]:
    """Open a set, and return it with the line that tells where its images are from."""
    lines: list[str] = []
    prepared = open_prepared(root, ALIGNMENT, tell=lines.append)
    (line,) = lines
    return prepared, line.removeprefix("prepared images: ")


def known(number: int) -> str:
    return f"{number} from {sets_folder()}"


def content(folder: Path) -> dict[str, bytes]:
    """What a set holds, but for its card and the times of its images."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name == "manifest.csv" or path.suffix == ".npy"
    }


def check_fresh(prepared: Prepared, root: Path, tmp_path: Path) -> None:
    """Make sure that a set is bit for bit what is prepared without any cache."""
    fresh = prepare(open_dataset(root), tmp_path / f"fresh-{time.time_ns()}", ALIGNMENT, workers=1)
    assert content(prepared.folder) == content(fresh.folder)
    assert prepared.counts == fresh.counts


def crop(prepared: Prepared, key: str) -> np.ndarray:
    split = prepared.split("all")
    return split.crops[split.keys.index(key)]


def test_a_set_is_prepared_once(root: Path, tmp_path: Path) -> None:
    first, line = opened(root)
    assert line == "7 prepared anew"
    check_fresh(first, root, tmp_path)
    second, line = opened(root)
    assert line.startswith("7 from ")
    assert content(second.folder) == content(first.folder)


@pytest.mark.usefixtures("_states")
def test_a_restored_file_is_read(root: Path, tmp_path: Path) -> None:
    before, _ = opened(root)
    assert before.counts["all"]["unreadable"] == 1
    shutil.copy(root / "0.bmp", root / "6.bmp")
    after, line = opened(root)
    # Its content is that of another image, whose crop is taken.
    assert line == known(7)
    assert after.counts["all"]["unreadable"] == 0
    assert (crop(after, "6.bmp") == crop(after, "0.bmp")).all()
    check_fresh(after, root, tmp_path)


@pytest.mark.usefixtures("_states")
def test_swapped_images_are_seen_though_sizes_and_times_are_equal(root: Path, tmp_path: Path) -> None:
    before, _ = opened(root)
    (root / "0.bmp").rename(root / "spare")
    (root / "1.bmp").rename(root / "0.bmp")
    (root / "spare").rename(root / "1.bmp")
    after, line = opened(root)
    assert line == f"{known(6)}, 1 prepared anew"  # the missing one is looked for again
    assert (crop(after, "0.bmp") == crop(before, "1.bmp")).all()
    assert (crop(after, "1.bmp") == crop(before, "0.bmp")).all()
    check_fresh(after, root, tmp_path)


@pytest.mark.usefixtures("_states")
def test_a_changed_image_is_prepared_anew(root: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    before, _ = opened(root)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / "2.bmp")
    os.utime(root / "2.bmp", (1e9, 1e9))
    after, line = opened(root)
    assert line == f"{known(5)}, 2 prepared anew"
    assert (crop(after, "2.bmp") != crop(before, "2.bmp")).any()
    check_fresh(after, root, tmp_path)


def test_changed_labels_and_added_images_cost_what_is_new(root: Path, tmp_path: Path) -> None:
    opened(root)
    Image.new("RGB", (50, 40), "green").save(root / "new.bmp")
    (root / "4.bmp").rename(root / "moved.bmp")
    write_table(root, {"new.bmp": "sad", "moved.bmp": "anger", "0.bmp": "fear", "1.bmp": "fear"})
    after, line = opened(root)
    assert line == f"{known(3)}, 1 prepared anew"
    assert [row.label for row in after.manifest()] == ["sadness", "anger", "fear", "fear"]
    check_fresh(after, root, tmp_path)


@pytest.mark.usefixtures("_states")
def test_a_copy_with_other_times_is_not_prepared_again(root: Path) -> None:
    (root / "6.bmp").write_bytes((root / "5.bmp").read_bytes())
    opened(root)
    for path in root.glob("*.bmp"):
        path.write_bytes(path.read_bytes())
    assert opened(root)[1] == known(7)


def test_found_faces_stay_as_they_were_found(tmp_path: Path) -> None:
    root = write_synthetic_folder(tmp_path / "faces", 2, np.random.default_rng(1), 64, ("neutral", "happiness"))
    first, _ = opened(root)
    assert sum(counts["found"] for counts in first.counts.values()) > 0
    # In another split all images have another place.
    image = min((root / "train" / "happiness").iterdir())
    image.rename(root / "val" / "neutral" / "0.png")
    second, line = opened(root)
    assert "anew" not in line
    check_fresh(second, root, tmp_path)


@pytest.mark.parametrize("harm", ["format", "no card", "torn card", "list", "array", "manifest"])
def test_a_set_that_cannot_be_used_renews_itself(root: Path, tmp_path: Path, harm: str) -> None:
    folder = opened(root)[0].folder
    card = json.loads((folder / "prepared.json").read_text())
    if harm == "format":
        (folder / "prepared.json").write_text(json.dumps({**card, "format": 1}))
    elif harm == "no card":
        (folder / "prepared.json").unlink()
    elif harm == "torn card":
        (folder / "prepared.json").write_text("{")
    elif harm == "list":
        (folder / "prepared.json").write_text("[]")
    elif harm == "array":
        np.save(folder / "all.npy", np.zeros((2, 32, 32, 3), np.uint8))
    else:
        (folder / "manifest.csv").unlink()
    again, line = opened(root)
    assert line == "7 prepared anew"
    check_fresh(again, root, tmp_path)


def test_crops_that_are_gone_are_not_taken(root: Path, tmp_path: Path) -> None:
    folder = opened(root)[0].folder
    np.save(folder / "all.npy", np.zeros((2, 32, 32, 3), np.uint8))
    (folder / "all.npy").write_bytes((folder / "all.npy").read_bytes()[:100])
    (root / "0.bmp").unlink()
    again, line = opened(root)
    assert line == "7 prepared anew"
    check_fresh(again, root, tmp_path)


def test_sets_of_the_cache_before_this_one_are_not_in_the_way(root: Path) -> None:
    place = opened(root)[0].folder.name.rpartition("-")[0]
    old = sets_folder() / place
    old.mkdir()
    (old / "prepared.json").write_text(json.dumps({"format": 1, "complete": True}))
    os.utime(old / "prepared.json", (1e9, 1e9))
    (root / "0.bmp").unlink()
    assert opened(root)[1] == f"{known(5)}, 2 prepared anew"
    assert not old.exists()


def test_other_code_and_other_decoders_look_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(root)
    monkeypatch.setattr(cached, "_decoders", lambda: ["pillow 99"])
    assert opened(root)[1] == f"{known(6)}, 1 prepared anew"
    monkeypatch.setattr(cached, "_program", lambda: "other")
    assert opened(root)[1] == "7 prepared anew"


def test_a_stopped_preparation_goes_on_though_images_change(root: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_prepared(root, ALIGNMENT, stop)
    assert [one.images for one in cached_sets()] == [0]
    (root / "1.bmp").write_bytes((root / "5.bmp").read_bytes())
    after, line = opened(root)
    assert line == f"{known(3)}, 4 prepared anew"
    check_fresh(after, root, tmp_path)
    assert [one.folder for one in cached_sets()] == [after.folder]


def test_the_set_before_a_change_stays_for_a_day(root: Path) -> None:
    def change(number: int) -> Path:
        (root / "0.bmp").write_bytes((root / f"{number}.bmp").read_bytes())
        return opened(root)[0].folder

    first, second = opened(root)[0].folder, change(1)
    assert {one.folder for one in cached_sets()} == {first, second}
    os.utime(first / "prepared.json", (1e9, 1e9))
    third = change(2)
    assert {one.folder for one in cached_sets()} == {second, third}
    os.utime(second / "prepared.json", (1e9, 1e9))
    os.utime(third / "prepared.json", (1e9, 1e9))
    fourth = change(3)
    assert {one.folder for one in cached_sets()} == {fourth}


def test_what_was_computed_from_crops_is_taken_along(root: Path) -> None:
    before, _ = opened(root)
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(before.folder / "all.identity-x.npy", values)
    write_table(root, {"5.bmp": "fear", "new.bmp": "fear", "2.bmp": "anger"})
    after, _ = opened(root)
    taken = np.load(after.folder / "all.identity-x.npy")
    assert (taken[[0, 2]] == values[[5, 2]]).all()
    assert np.isnan(taken[1]).all()


def test_a_second_process_waits_for_the_first(root: Path, wait_until: WaitUntil) -> None:
    told: list[list[str]] = [[], []]
    folders: list[Path] = []

    def hold(done: int, total: int) -> None:
        if done == 1 and not told[1]:
            other.start()
            wait_until(lambda: told[1], "the second never said that it waits")

    def second() -> None:
        folders.append(open_prepared(root, ALIGNMENT, tell=told[1].append).folder)

    other = threading.Thread(target=second)
    first = open_prepared(root, ALIGNMENT, hold, tell=told[0].append)
    other.join()
    assert folders == [first.folder]
    assert told[0] == ["prepared images: 7 prepared anew"]
    assert "another process" in told[1][0]
    assert told[1][1:] == [f"prepared images: {known(7)}"]


def test_a_cache_that_cannot_be_written_is_told_in_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        open_prepared(root, ALIGNMENT)
    assert cached_sets() == []


def test_the_command_lists_and_clears(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "cache"]) == 0
    assert ": 0 prepared sets" in capsys.readouterr().out
    other = shutil.copytree(root, tmp_path / "other")
    names = [opened(place)[0].folder.name for place in (root, other)]
    assert main(["data", "cache"]) == 0
    out = capsys.readouterr().out
    assert ": 2 prepared sets" in out
    for place, name in zip((root, other), names, strict=True):
        assert name in out
        assert f"{place}: 7 images of 32 px, ddamfn_frontal, margin 0\n" in out
    assert main(["data", "cache", "--clear", "holiday"]) == 2
    assert "no prepared set 'holiday'" in capsys.readouterr().err
    assert main(["data", "cache", "--clear", names[0]]) == 0
    assert [one.folder.name for one in cached_sets()] == names[1:]
    assert main(["data", "cache", "--clear", str(other)]) == 0
    assert cached_sets() == []
    opened(other)
    assert main(["data", "cache", "--clear"]) == 0
    assert cached_sets() == []
    assert opened(root)[1] == "7 prepared anew"


def test_what_is_being_made_is_not_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def clear(done: int, total: int) -> None:
        if done == 2:
            seen.append(main(["data", "cache", "--clear"]))

    prepared = open_prepared(root, ALIGNMENT, clear)
    assert seen == [1]
    assert "another process is making it" in capsys.readouterr().err
    assert load_prepared(prepared.folder).counts == prepared.counts


def test_a_set_of_one_s_own_is_not_mixed_with_changed_images(root: Path, tmp_path: Path) -> None:
    first = prepare(open_dataset(root), tmp_path / "own", ALIGNMENT, workers=1)
    assert prepare(open_dataset(root), first.folder, ALIGNMENT, workers=1) == first
    (root / "3.bmp").write_bytes((root / "4.bmp").read_bytes())
    with pytest.raises(DataError, match=r"1 of its images changed, 3\.bmp among them"):
        prepare(open_dataset(root), first.folder, ALIGNMENT, workers=1)
