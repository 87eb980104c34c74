"""Collections on S3: a server of moto on this machine, and s3fs."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddamfn.distributed import BatchRecognizer
from ddamfn.distributed.places import fetch, images_below

s3fs = pytest.importorskip("s3fs", reason="needs the extra s3")
moto = pytest.importorskip("moto.server", reason="needs moto[server]")

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def bucket(drawn: Path) -> Iterator[Any]:
    """Start a server, and put the photographs into a bucket; credentials are in the environment."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        fs = s3fs.S3FileSystem()
        fs.mkdir("bucket")
        for path in drawn.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"bucket/photos/{path.relative_to(drawn)}", path.read_bytes())
        yield fs
        server.stop()


def contents(fs: Any, folder: str) -> dict[str, bytes]:
    return {path: fs.cat_file(path) for path in fs.find(folder)}


def test_a_bucket_is_read_into_a_bucket_and_gone_on_with(
    bucket: Any, photos: Path, predict: Any, rows_of: Any, tmp_path: Path
) -> None:
    words = ("s3://bucket/photos", "--output", "s3://bucket/faces", "--shard-images", "10")
    status, lines = predict(*words)
    assert status == 1, "of the file that is no image"
    assert any("26 images, 24 faces" in line and "left out: 1 .txt" in line for line in lines), lines
    whole = contents(bucket, "bucket/faces")
    assert len(whole) == 4, "three shards and the record, nothing else"

    bucket.get("bucket/faces", str(tmp_path / "copy"), recursive=True)
    assert predict("photos", "--output", "alone/")[0] == 1
    there, here = rows_of("copy"), rows_of("alone")
    assert [row[0] for row in there] == [f"s3://bucket/{row[0]}" for row in here]
    assert [row[1:-1] for row in there] == [row[1:-1] for row in here]

    lost = sorted(whole)[-2]
    bucket.rm_file(lost)
    status, lines = predict(*words)
    assert any("going on after 16 images" in line for line in lines), lines
    assert contents(bucket, "bucket/faces") == whole
    for written in [*whole.values(), "\n".join(lines).encode()]:
        assert KEY.encode() not in written
        assert SECRET.encode() not in written


def test_the_list_comes_in_pages(bucket: Any, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    whole = type(bucket).call_s3

    def small_pages(self: Any, method: str, **options: Any) -> Any:
        asked.append(options)
        return whole(self, method, MaxKeys=4, **options)

    monkeypatch.setattr(type(bucket), "call_s3", small_pages)
    left_out: Counter[str] = Counter()
    found = list(images_below("s3://bucket/photos", left_out))
    assert found == sorted(f"s3://bucket/photos/{path.relative_to(drawn)}" for path in drawn.rglob("*.[pj][np]g"))
    assert left_out == {".txt": 1}
    assert len(asked) == 7
    # Nothing is listed before it is asked for.
    asked.clear()
    assert next(images_below("s3://bucket/photos", left_out)) == found[0]
    assert len(asked) == 1


def test_one_object_may_be_named_and_a_missing_one_is_a_row(bucket: Any, stand_in_weights: Path) -> None:
    assert list(images_below("s3://bucket/photos/00.png", Counter())) == ["s3://bucket/photos/00.png"]
    faces = BatchRecognizer(stand_in_weights)({"path": ["s3://bucket/photos/00.png", "s3://bucket/gone.png"]})
    assert list(faces["error"]) == [None, "no such file or folder"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("s3://bucket/nothing", "--output", "faces/"), "no images"),
        (("s3://no-such-bucket/photos", "--output", "faces/"), "no such"),
        (("photos", "--output", "s3://no-such-bucket/faces"), "no such"),
    ],
)
def test_what_is_not_there_is_one_line(
    bucket: Any, photos: Path, predict: Any, words: tuple[str, ...], reason: str
) -> None:
    status, lines = predict(*words)
    assert status in (1, 2)
    assert len(lines) == 1, lines
    assert reason in lines[0]


def test_without_credentials_the_line_says_where_they_come_from(
    bucket: Any, photos: Path, predict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        status, lines = predict("s3://bucket/photos", "--output", "faces/")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert status == 1
    assert len(lines) == 1, lines
    assert "credentials are those of the environment" in lines[0]


def test_the_record_holds_no_place(bucket: Any) -> None:
    record = json.loads(fetch("s3://bucket/faces/_ddamfn.json"))
    assert "bucket" not in json.dumps(record)
