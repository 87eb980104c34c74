"""Forms to files: what comes out is what was put in, in memory alone, under a name that is safe to repeat."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from ddamfn.serve.body import Upload, clean_name, parse_form
from ddamfn.serve.problems import Problem

_FILES = st.lists(st.binary(max_size=200), min_size=1, max_size=4)
_END = b"--b0undary--\r\n"


def _form(contents: list[bytes], *, field: str = "file") -> bytes:
    parts = [
        f'--b0undary\r\nContent-Disposition: form-data; name="{field}"; filename="{row}.PNG"\r\n'
        f"Content-Type: IMAGE/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for row, content in enumerate(contents)
    ]
    return b"".join(parts) + _END


def _parse(body: bytes, *, chunk: int = 65_536) -> list[Upload]:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]

    headers = Headers({"content-type": "multipart/form-data; boundary=b0undary"})
    return asyncio.run(parse_form(headers, chunks(), 4))


@settings(deadline=None)
@given(contents=_FILES, chunk=st.integers(1, 300))
def test_files_come_out_as_they_went_in(contents: list[bytes], chunk: int) -> None:
    uploads = _parse(_form(contents), chunk=chunk)
    assert [upload.content for upload in uploads] == contents
    assert [upload.name for upload in uploads] == [f"{row}.PNG" for row in range(len(contents))]
    assert all(upload.media_type == "image/png" and upload.is_supported for upload in uploads)


@settings(deadline=None)
@given(body=st.binary(max_size=400))
def test_whatever_is_no_form_is_a_problem(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        _parse(body)
    assert caught.value.status == 400


def test_a_form_cut_off_in_its_second_file_is_a_problem() -> None:
    with pytest.raises(Problem, match="middle"):
        _parse(_form([b"whole", b"half"]).removesuffix(b"\r\n" + _END))


def test_other_fields_are_skipped_but_not_without_end() -> None:
    text = b'--b0undary\r\nContent-Disposition: form-data; name="note"\r\n\r\n' + b"typed" * 2**20 + b"\r\n"
    other = _form([b"x"] * 10, field="comment").removesuffix(_END)
    assert [upload.content for upload in _parse(text + other + _form([b"y"]))] == [b"y"]
    for body, words in ((_form([b"x"] * 50, field="comment"), "parts"), (_form([b"x"] * 5), "4 files")):
        with pytest.raises(Problem, match=words) as caught:
            _parse(body)
        assert caught.value.status == 413


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\me.png", "me.png"),
        ("grüße ☕.png", "grüße ☕.png"),
        ("a\r\nX-Evil: 1\x1b[31m.png", "aX-Evil: 1[31m.png"),
        ("\ud800\x9b.png", ".png"),
        ("", "upload"),
        ("dir/", "upload"),
    ],
)
def test_names_are_made_safe(raw: str, name: str) -> None:
    assert clean_name(raw) == name


@pytest.mark.parametrize(("sent", "name"), [("grüße ☕.png".encode(), "grüße ☕.png"), (b"\xff.png", "ÿ.png")])
def test_names_are_read_as_utf_8_or_latin_1(sent: bytes, name: str) -> None:
    (upload,) = _parse(_form([b"x"]).replace(b"0.PNG", sent))
    assert upload.name == name


@settings(deadline=None)
@given(raw=st.text(max_size=600))
def test_every_name_is_one_printable_line(raw: str) -> None:
    name = clean_name(raw)
    assert 0 < len(name) <= 255
    assert name.isprintable()
    assert "/" not in name
    assert "\\" not in name
