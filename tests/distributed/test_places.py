"""Addresses of any file system, on the one that fsspec keeps in memory."""

import builtins
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ddamfn.distributed.places import check_address, fetch, images_below, open_folder
from ddamfn.errors import MissingExtra, PlaceError, UsageError

fsspec = pytest.importorskip("fsspec", reason="needs the extra s3")


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return an empty file system in memory."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def test_images_below_an_address_come_by_name_without_hidden_ones(memory: Any) -> None:
    for name in ("b.JPG", "a/z.png", "a/.hidden.png", ".cache/x.png", "a/y [1] ü?.webp", "c.txt", "README"):
        memory.pipe_file(f"/photos/{name}", b"x")
    left_out: Counter[str] = Counter()
    found = ["memory://photos/a/y [1] ü?.webp", "memory://photos/a/z.png", "memory://photos/b.JPG"]
    for address in ("memory://photos", "memory://photos/"):
        left_out.clear()
        assert list(images_below(address, left_out)) == found
        assert left_out == {".txt": 1, "nameless kind": 1}
    assert [fetch(address) for address in found] == [b"x"] * 3
    assert list(images_below("memory://photos/c.txt", Counter())) == ["memory://photos/c.txt"], "a named file is tried"


def test_a_folder_holds_whole_files_only(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder("memory://faces")
    assert folder.names() == []
    folder.write("part", b"content")
    assert (folder.names(), folder.read("part")) == (["part"], b"content")

    def breaks(*_: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(memory, "mv", breaks)
    with pytest.raises(PlaceError, match=r"memory://faces/other: no answer"):
        folder.write("other", b"content")
    assert "other" not in folder.names()


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("https://example.org/photos", "web"),
        ("HTTP://example.org/photos", "web"),
        ("sftp://me:secret@host/photos", "password"),
        ("zip://a.jpg::s3://bucket/photos.zip", "chain"),
    ],
)
def test_addresses_that_are_refused(address: str, word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        check_address(address)
    assert "secret" not in str(caught.value)


def test_an_account_in_an_address_is_no_password() -> None:
    check_address("abfs://container@account.dfs.core.windows.net/photos")


def test_errors_quote_nothing_of_the_library_s(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        pass

    for error, reason in [
        (NoCredentialsError("secret"), "credentials"),
        (PermissionError("secret"), "credentials"),
        (RuntimeError("GET /photos?sig=secret"), "RuntimeError"),
        (TimeoutError("secret"), "no answer"),
    ]:

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(memory, "cat_file", fail)
        memory.pipe_file("/photos/a.png", b"x")
        with pytest.raises(PlaceError, match=reason) as caught:
            fetch("memory://photos/a.png")
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_a_file_that_is_too_large_is_not_fetched(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddamfn.distributed.places._MOST_BYTES", 3)
    memory.pipe_file("/photos/a.png", b"four")
    with pytest.raises(PlaceError, match="larger"):
        fetch("memory://photos/a.png")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(*names: str) -> None:
        def load(name: str, *arguments: Any, **options: Any) -> Any:
            if name.split(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", load)
        for module in [m for m in __import__("sys").modules if m.split(".")[0] in names]:
            monkeypatch.delitem(__import__("sys").modules, module)

    without("gcsfs")
    with pytest.raises(UsageError, match="pip install gcsfs"):
        open_folder("gs://bucket/photos")
    without("s3fs")
    with pytest.raises(MissingExtra, match=r"pip install \"ddamfn\[s3\]\""):
        open_folder("s3://bucket/photos")
    without("fsspec")
    with pytest.raises(MissingExtra, match=r"pip install \"ddamfn\[s3\]\""):
        open_folder("sftp://host/photos")
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no file system"):
        open_folder("nowhere://host/photos")
