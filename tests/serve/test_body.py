"""Forms to files: what comes out is what was put in, under a name that is safe to repeat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddamfn.serve.body import clean_name, parse_form
from ddamfn.serve.problems import Problem

_FILES = st.lists(st.binary(max_size=200), min_size=1, max_size=4)


def _form(contents: list[bytes], *, field: str = "file") -> bytes:
    parts = [
        f'--b0undary\r\nContent-Disposition: form-data; name="{field}"; filename="{row}.PNG"\r\n'
        f"Content-Type: IMAGE/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for row, content in enumerate(contents)
    ]
    return b"".join(parts) + b"--b0undary--\r\n"


@given(contents=_FILES)
def test_files_come_out_as_they_went_in(contents: list[bytes]) -> None:
    uploads = parse_form(_form(contents), b"b0undary", 4)
    assert [upload.content for upload in uploads] == contents
    assert [upload.name for upload in uploads] == [f"{row}.PNG" for row in range(len(contents))]
    assert all(upload.media_type == "image/png" and upload.is_supported for upload in uploads)


@given(body=st.binary(max_size=400))
def test_whatever_is_no_form_is_a_problem(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        parse_form(body, b"b0undary", 4)
    assert caught.value.status == 400


def test_other_fields_are_skipped_but_not_without_end() -> None:
    other = _form([b"x"] * 10, field="comment").removesuffix(b"--b0undary--\r\n")
    assert [upload.content for upload in parse_form(other + _form([b"y"]), b"b0undary", 4)] == [b"y"]
    with pytest.raises(Problem) as caught:
        parse_form(_form([b"x"] * 50, field="comment"), b"b0undary", 4)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"a.jpg", "a.jpg"),
        (b"../../etc/passwd", "passwd"),
        (b"C:\\images\\me.png", "me.png"),
        ("grüße ☕.png".encode(), "grüße ☕.png"),
        (b"a\r\nX-Evil: 1\x1b[31m.png", "aX-Evil: 1[31m.png"),
        (b"\xff.png", "\ufffd.png"),
        (b"", "upload"),
        (b"dir/", "upload"),
    ],
)
def test_names_are_made_safe(raw: bytes, name: str) -> None:
    assert clean_name(raw) == name


@given(raw=st.binary(max_size=600))
def test_every_name_is_one_printable_line(raw: bytes) -> None:
    name = clean_name(raw)
    assert 0 < len(name) <= 255
    assert name.isprintable()
    assert "/" not in name
    assert "\\" not in name
