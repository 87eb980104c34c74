"""What schemathesis must know to send valid requests: an image is not just any bytes."""

import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _image(color: tuple[int, int, int], side: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), color).save(stream, format=kind)
    return stream.getvalue()


IMAGES = st.builds(
    _image, st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 64), st.sampled_from(["PNG", "JPEG", "WEBP"])
)
for media_type in ("application/octet-stream", "image/*"):
    schemathesis.openapi.media_type(media_type, IMAGES)
schemathesis.openapi.format("binary", IMAGES)


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Drop raw bodies that are no images after all: the description cannot say that they must be."""
    if not isinstance(body, bytes):
        return True
    try:
        Image.open(io.BytesIO(body)).close()
    except OSError:
        return False
    return True


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """Drop a class prior beside a precision: the description says in words that they do not go together."""
    return not query or "class_prior" not in query or "min_precision" not in query
